"""Texts of well-known corpora: fetched once, checked, and made of the files that were downloaded."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import zipfile
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from corpus_entries import TEXT, cached, digest, entry, unpinned
from file_server import FileServer, server

from textgen.corpus.fetching import fetched_text
from textgen.corpus.fetching.catalogue import CatalogueEntry
from textgen.corpus.fetching.fetched_text import FetchedText, fetch
from textgen.errors import CorpusError, TextgenError
from textgen.storage import locks
from textgen.storage.locks import is_locked, locked

__all__ = ["entry", "server", "unpinned"]


def test_a_text_is_fetched_once(entry: CatalogueEntry, server: FileServer, tmp_path: Path) -> None:
    sizes: list[tuple[int, int | None]] = []
    path, fetched = fetch(entry, progress=lambda done, total: sizes.append((done, total)))
    assert path == tmp_path / "cache" / "corpora" / "moon.txt"
    assert path.read_bytes() == TEXT
    assert fetched == FetchedText("moon", "The moon", "", "CC0", [*entry.urls], digest(TEXT), len(TEXT), "published")
    assert cached(tmp_path) == ["moon.txt", "moon.txt.json"]
    assert sizes[0] == (0, len(TEXT))
    assert sizes[-1] == (len(TEXT), len(TEXT))
    assert fetch(entry) == (path, fetched)
    assert server.asked == [("/moon.txt", "")]


def test_a_damaged_text_is_fetched_again(entry: CatalogueEntry, server: FileServer) -> None:
    path, fetched = fetch(entry)
    path.write_bytes(b"x")
    said: list[str] = []
    assert fetch(entry, said.append) == (path, fetched)
    assert said == [f"{path} is damaged: downloading it again."]
    assert path.read_bytes() == TEXT


def test_the_first_download_decides_where_no_checksum_is_known(
    unpinned: CatalogueEntry, server: FileServer, tmp_path: Path
) -> None:
    path, fetched = fetch(unpinned)
    assert fetched.checked == "first download"
    path.unlink()
    assert fetch(unpinned) == (path, fetched)
    path.unlink()
    server.files["/moon.txt"] = b"Another text."
    with pytest.raises(CorpusError, match=r"moon differs from its first download: .*delete .*moon\.txt\.json and"):
        fetch(unpinned)
    assert cached(tmp_path) == ["moon.txt.json"]
    path.with_name("moon.txt.json").unlink()
    assert fetch(unpinned)[1].sha256 == digest(b"Another text.")


def test_a_damaged_record_is_made_again(unpinned: CatalogueEntry, server: FileServer) -> None:
    server.files["/moon.txt"] = TEXT[:1000]
    path, fetched = fetch(unpinned)
    record = path.with_name("moon.txt.json")
    sound = json.loads(record.read_bytes())
    odd = [{**sound, name: value} for name in sound for value in (None, 5.5, [5], {"a": 1})]
    for damaged in (b"", b"[]", b'{"name": 1}', b"[" * 100_000, *(json.dumps(values).encode() for values in odd)):
        record.write_bytes(damaged)
        path.write_bytes(b"x")  # so that it is fetched again, and compared
        assert fetch(unpinned) == (path, fetched)


@pytest.mark.parametrize("planted", ["moon.txt", "moon.txt.json", "part", "tag"])
def test_a_link_in_the_cache_is_never_written_through(unpinned: CatalogueEntry, tmp_path: Path, planted: str) -> None:
    path, _ = fetch(unpinned)
    key = hashlib.sha256("\n".join(unpinned.urls).encode()).hexdigest()[:32]
    downloads = path.parent / "downloads" / key
    downloads.mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    link = {"part": downloads / "moon.txt.part", "tag": downloads / "moon.txt.part.tag"}.get(
        planted, path.parent / planted
    )
    path.unlink()
    link.unlink(missing_ok=True)
    link.symlink_to(victim)
    with suppress(TextgenError):
        assert fetch(unpinned)[0].read_bytes() == TEXT
    assert victim.read_bytes() == b"mine"


def test_a_download_that_cannot_be_read_is_told_as_such(entry: CatalogueEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    path, _ = fetch(entry)
    monkeypatch.setattr(fetched_text, "open_file", broken)
    path.unlink()
    with pytest.raises(CorpusError, match=r"Cannot read .*: Input/output error\. Fetch the text again"):
        fetch(entry)
    path.touch()
    with pytest.raises(CorpusError, match=r"Cannot read .*: Input/output error\. Fetch the text again"):
        fetched_text.copy_text(path, path.with_name("copy.txt"))
    assert not path.with_name("copy.txt").exists()


@pytest.mark.parametrize("does_finish", [True, False])
def test_a_text_that_another_process_fetches_is_waited_for(
    entry: CatalogueEntry, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does_finish: bool
) -> None:
    said, naps, other = list[str](), list[float](), ExitStack()
    key = hashlib.sha256("\n".join(entry.urls).encode()).hexdigest()[:32]
    downloads = tmp_path / "cache" / "corpora" / "downloads" / key
    downloads.mkdir(parents=True)
    other.enter_context(locked(downloads))
    monkeypatch.setattr("textgen.storage.locks.LOCK_SECONDS", 0.0)

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            other.close()
            if does_finish:
                fetch(entry)

    monkeypatch.setattr("textgen.storage.locks.time.sleep", nap)
    assert fetch(entry, said.append)[0].read_bytes() == TEXT
    assert said == [f"Another process is writing to {downloads}: waiting for it to end."]
    assert (len(naps) >= 3, len(server.asked)) == (True, 1)
    assert cached(tmp_path) == ["moon.txt", "moon.txt.json"]
    assert list((tmp_path / "cache" / "corpora" / "downloads").iterdir()) == []


def test_downloads_are_removed_while_nobody_else_can_use_them(
    entry: CatalogueEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, remove = list[bool | None](), shutil.rmtree

    def watched(path: Path, **how: Any) -> None:
        held.append(is_locked(path))
        remove(path, **how)

    monkeypatch.setattr(shutil, "rmtree", watched)
    assert fetch(entry)[0].read_bytes() == TEXT
    assert held == [True]


def test_who_waited_while_another_process_fetched_the_text_takes_it(
    entry: CatalogueEntry, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked_late(path: Path) -> AbstractContextManager[bool]:
        monkeypatch.setattr(locks, "locked", locked)
        fetch(entry)  # as another process does
        return locked(path)

    monkeypatch.setattr(locks, "locked", locked_late)
    path, fetched = fetch(entry)
    assert (path.read_bytes(), fetched.name) == (TEXT, "moon")
    assert len(server.asked) == 1


# === Texts that are made of files ===


def archive(**members: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as files:
        for name, content in members.items():
            files.writestr(name, content)
    return data.getvalue()


@pytest.fixture
def zipped(server: FileServer) -> CatalogueEntry:
    server.files["/texts.zip"] = archive(train=TEXT, valid=b"Held out.\n")
    urls = (f"{server.url}/texts.zip",)
    return CatalogueEntry(
        "moon-train", "The moon", "CC0", urls, 1, "member", digest(server.files["/texts.zip"]), "train"
    )


def test_texts_of_an_archive_are_fetched_with_one_download(zipped: CatalogueEntry, server: FileServer) -> None:
    assert fetch(zipped)[0].read_bytes() == TEXT
    assert fetch(replace(zipped, name="moon-valid", member="valid"))[0].read_bytes() == b"Held out.\n"
    assert len(server.asked) == 1


def test_the_checksum_of_a_text_in_an_archive_is_checked(
    zipped: CatalogueEntry, server: FileServer, tmp_path: Path
) -> None:
    sha1 = hashlib.sha1(TEXT).hexdigest()
    known = replace(zipped, checksum="", text_checksum=f"sha1:{sha1}")
    assert fetch(known)[1].checked == "published"
    with pytest.raises(CorpusError, match=rf"moon-valid is not the file that is known: its sha1 .* {sha1[:16]}"):
        fetch(replace(known, name="moon-valid", member="valid"))
    assert cached(tmp_path) == ["moon-train.txt", "moon-train.txt.json"]


@pytest.mark.parametrize("data", [b"no archive", archive(other=TEXT)])
def test_a_damaged_archive_is_told(zipped: CatalogueEntry, server: FileServer, tmp_path: Path, data: bytes) -> None:
    server.files["/texts.zip"] = data
    with pytest.raises(CorpusError, match="The archive of moon-train is damaged"):
        fetch(replace(zipped, checksum=""))
    assert cached(tmp_path) == []


def poems(*titles: str) -> bytes:
    return json.dumps([{"title": title, "paragraphs": ["秦川雄帝宅，", "函谷壯皇居。"]} for title in titles]).encode()


def test_poems_become_blocks(server: FileServer, tmp_path: Path) -> None:
    server.files |= {"/0.json": poems("一", "二"), "/1.json": poems("三") + b"\n"}
    entry = CatalogueEntry("poems", "Poems", "MIT", (f"{server.url}/0.json", f"{server.url}/1.json"), 1, "poems")
    verse = "秦川雄帝宅，\n函谷壯皇居。\n"
    assert fetch(entry)[0].read_text("utf-8") == f"一\n{verse}\n二\n{verse}\n三\n{verse}"
    assert cached(tmp_path) == ["poems.txt", "poems.txt.json"]


def test_of_many_files_those_that_came_are_not_fetched_again(server: FileServer) -> None:
    server.files["/0.json"] = poems("一")
    entry = CatalogueEntry("poems", "Poems", "MIT", (f"{server.url}/0.json", f"{server.url}/1.json"), 1, "poems")
    with pytest.raises(CorpusError, match="404"):
        fetch(entry)
    server.files["/1.json"] = poems("二")
    fetch(entry)
    assert [path for path, _ in server.asked] == ["/0.json", "/1.json", "/1.json"]


def test_what_is_no_list_of_poems_is_told(server: FileServer, tmp_path: Path) -> None:
    entry = CatalogueEntry("poems", "Poems", "MIT", (f"{server.url}/0.json",), 1, "poems")
    for data in (b"<html>", b'[{"title": "x"}]', b"[3]"):
        server.files["/0.json"] = data
        with pytest.raises(CorpusError, match=r"0\.json does not hold poems"):
            fetch(entry)
        assert cached(tmp_path) == []


def test_whether_the_cache_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetched_text.has_lasting_cache()
    monkeypatch.delenv("TEXTGEN_CACHE")
    monkeypatch.setattr("textgen.storage.cache_folder._is_usable", lambda folder: False)
    assert not fetched_text.has_lasting_cache()


def test_a_member_that_is_too_large_is_refused(zipped: CatalogueEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetched_text, "MAX_FILE_BYTES", len(TEXT) - 1)
    with pytest.raises(CorpusError, match=r"archive of moon-train is damaged: train is too large\."):
        fetch(zipped)


def test_a_copy_is_complete_or_absent(entry: CatalogueEntry, tmp_path: Path) -> None:
    path, _ = fetch(entry)
    fetched_text.copy_text(path, tmp_path / "copy.txt")
    assert (tmp_path / "copy.txt").read_bytes() == TEXT
    with pytest.raises(TextgenError, match="Cannot write"):
        fetched_text.copy_text(path, tmp_path / "missing" / "copy.txt")
    assert os.listdir(tmp_path / "cache") == ["corpora"]
