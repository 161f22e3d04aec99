"""textgen corpus list and fetch: the path on standard output, everything else on standard error."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from file_server import FileServer, server
from loaded_modules import modules_after
from processes import child_process
from rich.console import Console

from textgen.cli import output, textgen
from textgen.corpus.fetching import catalogue
from textgen.corpus.fetching.catalogue import CatalogueEntry, entries

__all__ = ["server"]

TEXT = b"The moon rose over the river.\n" * 100
BOOK = (
    "Title: Moons\r\nAuthor: A. Writer\r\n[eBook #{}]\r\n*** START OF THE PROJECT GUTENBERG EBOOK MOONS ***\r\n"
    "The moon.\r\n*** END OF THE PROJECT GUTENBERG EBOOK MOONS ***\r\n"
)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(textgen, ["corpus", *arguments], catch_exceptions=False, prog_name="textgen")


@pytest.fixture
def moon(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> CatalogueEntry:
    server.files["/moon.txt"] = TEXT
    checksum = hashlib.sha256(TEXT).hexdigest()
    entry = CatalogueEntry("moon", "The moon", "CC0", (f"{server.url}/moon.txt",), len(TEXT), checksum=checksum)
    monkeypatch.setattr(catalogue, "_ENTRIES", (entry,))
    return entry


def test_the_path_is_the_output(moon: CatalogueEntry, tmp_path: Path) -> None:
    result = run("fetch", "moon")
    assert result.exit_code == 0
    path = tmp_path / "cache" / "corpora" / "moon.txt"
    assert result.stdout == f"{path}\n"
    assert path.read_bytes() == TEXT
    notes = ["The moon", "Licence: CC0.", f"SHA-256 {moon.checksum} (checked against the published checksum)."]
    assert result.stderr.splitlines() == notes
    assert run("stats", result.stdout.strip()).exit_code == 0


def test_the_text_is_also_written_where_it_is_wanted(moon: CatalogueEntry, tmp_path: Path) -> None:
    out = tmp_path / "own.txt"
    assert run("fetch", "moon", "--out", str(out)).stdout == f"{out}\n"
    assert out.read_bytes() == TEXT
    result = run("fetch", "moon", "--out", str(tmp_path / "missing" / "own.txt"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no folder" in result.stderr


def test_the_cursor_is_not_hidden_under_the_bar(moon: CatalogueEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(output, "console", lambda: Console(file=out, force_terminal=True, width=80))
    assert run("fetch", "moon").exit_code == 0
    before, _, _ = out.getvalue().partition("moon")  # its bar
    assert before.rindex("\x1b[?25h") > before.rindex("\x1b[?25l")


def test_json_holds_what_is_known(moon: CatalogueEntry, tmp_path: Path) -> None:
    values = json.loads(run("fetch", "moon", "--json").stdout)
    assert values["path"] == str(tmp_path / "cache" / "corpora" / "moon.txt")
    assert (values["licence"], values["sha256"], values["bytes"]) == ("CC0", moon.checksum, len(TEXT))
    assert values["checked"] == "published"


def test_a_book_is_fetched_by_its_number(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "GUTENBERG", f"{server.url}/{{0}}/pg{{0}}.txt")
    server.files["/7/pg7.txt"] = BOOK.format(7).encode()
    result = run("fetch", "gutenberg:7")
    assert Path(result.stdout.strip()).read_text() == "The moon.\n"
    assert "Moons, by A. Writer\nLicence: public domain in the USA" in result.stderr
    assert "(recorded at the first download, since none is published)." in result.stderr
    missing = run("fetch", "gutenberg:8")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "Error: Project Gutenberg has no plain text of a book 8: look up the number" in missing.stderr


def test_errors_are_a_line_and_give_no_path(moon: CatalogueEntry, server: FileServer) -> None:
    server.files["/moon.txt"] = b"Log in first."
    for name, message in (("moon", "is not the file that is known"), ("sun", "There is no corpus 'sun' to fetch.")):
        result = run("fetch", name)
        assert (result.exit_code, result.stdout) == (1, "")
        assert message in result.stderr
        assert "Traceback" not in result.stderr


def test_without_a_cache_a_file_must_be_named(
    moon: CatalogueEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEXTGEN_CACHE")
    monkeypatch.setattr("textgen.storage.cache_folder._is_usable", lambda folder: False)
    assert "or use --out FILE." in run("fetch", "moon").stderr
    assert run("fetch", "moon", "--out", str(tmp_path / "own.txt")).exit_code == 0


def test_all_corpora_are_listed_with_their_licence() -> None:
    lines = run("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", *(entry.name for entry in entries()), "gutenberg:NUMBER"]
    assert lines[1].endswith("   1.1 MB  tiny Shakespeare, from char-rnn (public domain)")
    values = json.loads(run("list", "--json").stdout)
    assert [value["name"] for value in values] == [entry.name for entry in entries()]
    assert values[0]["is_pinned"]


def test_ctrl_c_ends_a_download_without_a_trace(server: FileServer, tmp_path: Path) -> None:
    server.files["/moon.txt"] = TEXT
    server.stalls_after = 1000
    code = (
        "from textgen.corpus.fetching import catalogue\nfrom textgen.corpus.fetching.catalogue import CatalogueEntry\n"
        f"catalogue._ENTRIES = (CatalogueEntry('moon', 'The moon', 'CC0', ('{server.url}/moon.txt',), 1),)\n"
        "from textgen.cli import textgen\ntextgen(['corpus', 'fetch', 'moon'])\n"
    )
    with child_process([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not server.asked and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    assert b"Interrupted." in err
    assert not list((tmp_path / "cache" / "corpora").glob("*.txt"))


def test_listing_loads_neither_pooch_nor_tensorflow() -> None:
    code = "from textgen.cli import textgen\ntry: textgen(['corpus', 'list'])\nexcept SystemExit: pass"
    assert not {"pooch", "requests", "tensorflow", "numpy"} & modules_after(code)


def test_a_title_in_the_file_cannot_control_the_terminal(moon: CatalogueEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_ENTRIES", (replace(moon, title="The \x1b[31mmoon"),))
    assert "The \\x1b[31mmoon\n" in run("fetch", "moon").stderr
