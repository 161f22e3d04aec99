"""The well-known corpora that can be fetched."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from textgen.corpus.fetching.catalogue import CatalogueEntry, entries, find_entry
from textgen.errors import CorpusError

PAGE = Path(__file__).parents[3] / "corpora" / "README.md"


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_an_entry_is_complete(entry: CatalogueEntry) -> None:
    assert find_entry(entry.name) is entry
    assert entry.title
    assert entry.licence
    assert entry.size > 0
    assert all(url.startswith("https://") for url in entry.urls)
    assert re.fullmatch("[0-9a-f]{64}|", entry.checksum)
    assert re.fullmatch("sha1:[0-9a-f]{40}|", entry.text_checksum)
    assert bool(entry.member) == (entry.kind == "member")
    assert entry.is_pinned or entry.name == "chinese-poetry"
    assert f"`{entry.name}`" in PAGE.read_text("utf-8")


def test_no_two_texts_have_the_same_file() -> None:
    names = [entry.file_name for entry in (*entries(), find_entry("gutenberg:11"), find_entry("gutenberg:1342"))]
    assert len(set(names)) == len(names)


def test_books_are_found_by_number() -> None:
    assert find_entry("gutenberg:00011") == find_entry("gutenberg:11")
    assert find_entry("gutenberg:11").file_name == "gutenberg-11.txt"
    assert not find_entry("gutenberg:11").is_pinned


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tinyshakespear", r"no corpus 'tinyshakespear' to fetch\. Did you mean tinyshakespeare\?"),
        ("klingon", r"There are: tinyshakespeare, .*, gutenberg:NUMBER\."),
        ("gutenberg", "names no book of Project Gutenberg"),
        ("gutenberg:0", "names no book"),
        ("gutenberg:../x", "names no book"),
        ("gutenberg:12345678", "names no book"),
        ("../tinyshakespeare", "no corpus"),
        ("", "no corpus"),
    ],
)
def test_unknown_names_are_told_in_a_line(name: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        find_entry(name)
