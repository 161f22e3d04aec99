"""Corpora from a server: whole, broken off, damaged, refused; and what is kept of them."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import socket
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from file_server import FileServer, server

from textgen.corpus import download
from textgen.corpus.catalogue import Entry
from textgen.corpus.download import CHUNK_BYTES, Fetched, fetch
from textgen.errors import CorpusError, TextgenError
from textgen.storage import locks
from textgen.storage.locks import is_locked, locked

__all__ = ["server"]

TEXT = "".join(f"{number}. The moon rose over the river.\n" for number in range(20_000)).encode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def entry(server: FileServer) -> Entry:
    """A text whose checksum is known."""
    server.files["/moon.txt"] = TEXT
    server.tags["/moon.txt"] = '"first"'
    return Entry("moon", "The moon", "CC0", (f"{server.url}/moon.txt",), len(TEXT), checksum=digest(TEXT))


@pytest.fixture
def unpinned(entry: Entry) -> Entry:
    return replace(entry, checksum="")


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def cached(tmp_path: Path) -> list[str]:
    return files_in(tmp_path / "cache" / "corpora")


def test_a_text_is_fetched_once(entry: Entry, server: FileServer, tmp_path: Path) -> None:
    sizes: list[tuple[int, int | None]] = []
    path, fetched = fetch(entry, progress=lambda done, total: sizes.append((done, total)))
    assert path == tmp_path / "cache" / "corpora" / "moon.txt"
    assert path.read_bytes() == TEXT
    assert fetched == Fetched("moon", "The moon", "", "CC0", [*entry.urls], digest(TEXT), len(TEXT), "published")
    assert cached(tmp_path) == ["moon.txt", "moon.txt.json"]
    assert sizes[0] == (0, len(TEXT))
    assert sizes[-1] == (len(TEXT), len(TEXT))
    assert fetch(entry) == (path, fetched)
    assert server.asked == [("/moon.txt", "")]


def test_a_damaged_text_is_fetched_again(entry: Entry, server: FileServer) -> None:
    path, fetched = fetch(entry)
    path.write_bytes(b"x")
    said: list[str] = []
    assert fetch(entry, said.append) == (path, fetched)
    assert said == [f"{path} is damaged: downloading it again."]
    assert path.read_bytes() == TEXT


def test_redirects_are_followed(entry: Entry, server: FileServer) -> None:
    server.redirects["/old"] = "/moon.txt"
    assert fetch(replace(entry, urls=(f"{server.url}/old",)))[0].read_bytes() == TEXT


@pytest.mark.parametrize("is_pinned", [True, False])
def test_a_broken_connection_is_taken_up_where_it_broke(
    entry: Entry, unpinned: Entry, server: FileServer, is_pinned: bool
) -> None:
    server.breaks = [CHUNK_BYTES * 10 + 7, CHUNK_BYTES * 20]
    said: list[str] = []
    path, fetched = fetch(entry if is_pinned else unpinned, said.append)
    assert path.read_bytes() == TEXT
    assert fetched.sha256 == digest(TEXT)
    assert [wanted for _, wanted in server.asked] == ["", "bytes=81920-", "bytes=245760-"]
    assert said[0] == "The connection broke after 81,920 bytes: going on."


def test_a_server_without_ranges_is_asked_for_all_of_it(entry: Entry, server: FileServer) -> None:
    server.has_ranges = False
    server.breaks = [100_000]
    assert fetch(entry)[0].read_bytes() == TEXT
    assert len(server.asked) == 2


def test_a_connection_that_always_breaks_ends_in_a_line_and_the_next_call_goes_on(
    entry: Entry, server: FileServer, tmp_path: Path
) -> None:
    server.breaks = [CHUNK_BYTES, 0, CHUNK_BYTES]
    with pytest.raises(CorpusError, match=r"Cannot reach 127\.0\.0\.1, or the connection broke: .* is kept"):
        fetch(entry)
    assert [Path(name).name for name in cached(tmp_path)] == ["moon.txt.part", "moon.txt.part.tag"]
    server.breaks.clear()
    assert fetch(entry)[0].read_bytes() == TEXT
    assert server.asked[-1][1] == "bytes=8192-"
    assert cached(tmp_path) == ["moon.txt", "moon.txt.json"]


def test_an_interrupted_download_goes_on(entry: Entry, server: FileServer, tmp_path: Path) -> None:
    def interrupt(done: int, total: int | None) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(entry, progress=interrupt)
    assert not (tmp_path / "cache" / "corpora" / "moon.txt").exists()
    assert fetch(entry)[0].read_bytes() == TEXT
    assert int(server.asked[-1][1].removeprefix("bytes=").rstrip("-")) > 100_000


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(unpinned: Entry, server: FileServer) -> None:
    server.breaks = [CHUNK_BYTES, 0]
    with pytest.raises(CorpusError):
        fetch(unpinned)
    server.files["/moon.txt"] = TEXT.replace(b"moon", b"star")
    server.tags["/moon.txt"] = '"second"'
    assert fetch(unpinned)[0].read_bytes() == TEXT.replace(b"moon", b"star")


def test_a_part_that_does_not_fit_is_thrown_away(entry: Entry, server: FileServer) -> None:
    del server.tags["/moon.txt"]
    server.files["/moon.txt"] = TEXT.replace(b"moon", b"star")
    server.breaks = [CHUNK_BYTES, 0]
    with pytest.raises(CorpusError):
        fetch(entry)
    server.files["/moon.txt"] = TEXT
    said: list[str] = []
    assert fetch(entry, said.append)[0].read_bytes() == TEXT
    assert said == ["What was left of an earlier download of moon.txt does not fit: downloading all of it."]


def test_a_part_without_a_tag_is_not_trusted_without_a_checksum(unpinned: Entry, server: FileServer) -> None:
    server.tags["/moon.txt"] = 'W/"weak"'
    server.breaks = [CHUNK_BYTES]
    assert fetch(unpinned)[0].read_bytes() == TEXT
    assert [wanted for _, wanted in server.asked] == ["", ""]


def test_a_part_that_is_too_long_is_thrown_away(entry: Entry, server: FileServer) -> None:
    server.breaks = [len(TEXT) - 1, 0]
    with pytest.raises(CorpusError):
        fetch(entry)
    server.files["/moon.txt"] = TEXT[:1000]
    assert fetch(replace(entry, checksum=digest(TEXT[:1000])))[0].read_bytes() == TEXT[:1000]


def test_a_wrong_checksum_is_told_and_nothing_is_kept(entry: Entry, server: FileServer, tmp_path: Path) -> None:
    server.files["/moon.txt"] = b"Log in first."
    with pytest.raises(CorpusError, match=r"moon\.txt is not the file that is known: its sha256 is .* Nothing of it"):
        fetch(entry)
    assert cached(tmp_path) == []


def test_the_first_download_decides_where_no_checksum_is_known(
    unpinned: Entry, server: FileServer, tmp_path: Path
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


def test_a_damaged_record_is_made_again(unpinned: Entry, server: FileServer) -> None:
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
def test_a_link_in_the_cache_is_never_written_through(unpinned: Entry, tmp_path: Path, planted: str) -> None:
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


def test_certificates_that_are_not_there_are_no_full_disk(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/bundle.pem")
    with pytest.raises(CorpusError, match=r"Cannot ask corpora\.example: .*bundle.* Check REQUESTS_CA_BUNDLE"):
        fetch(replace(entry, urls=("https://corpora.example/moon.txt",)))


def test_a_download_that_cannot_be_read_is_told_as_such(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    path, _ = fetch(entry)
    monkeypatch.setattr(download, "open_file", broken)
    path.unlink()
    with pytest.raises(CorpusError, match=r"Cannot read .*: Input/output error\. Fetch the text again"):
        fetch(entry)
    path.touch()
    with pytest.raises(CorpusError, match=r"Cannot read .*: Input/output error\. Fetch the text again"):
        download.copy_text(path, path.with_name("copy.txt"))
    assert not path.with_name("copy.txt").exists()


@pytest.mark.parametrize(("status", "message"), [(404, "404 Not Found"), (503, "503 Service Unavailable")])
def test_an_error_of_the_server_is_told(entry: Entry, server: FileServer, status: int, message: str) -> None:
    server.files.clear()
    server.status = status
    with pytest.raises(CorpusError, match=rf"Cannot download .*moon\.txt: the server says {message}\. Try again"):
        fetch(entry)


def test_no_network_is_told_in_a_line_and_leaves_nothing(entry: Entry, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    for host in (f"127.0.0.1:{port}", "no.such.host.invalid"):
        with pytest.raises(CorpusError, match=r"Cannot reach .*: check the network, and set HTTPS_PROXY") as raised:
            fetch(replace(entry, urls=(f"http://{host}/moon.txt",)))
        assert "\n" not in str(raised.value)
        assert "is kept" not in str(raised.value)  # nothing has come
    assert not list(tmp_path.rglob("downloads/*"))


def test_a_server_that_does_not_answer_is_given_up(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", (0.2, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/moon.txt"
        with pytest.raises(CorpusError, match=r"127\.0\.0\.1 does not answer\. Try again later\."):
            fetch(replace(entry, urls=(url,)))


def test_the_proxy_of_the_environment_is_used(
    entry: Entry, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://corpora.example/moon.txt"
    server.files[url] = TEXT
    monkeypatch.setenv("HTTP_PROXY", server.url)
    assert fetch(replace(entry, urls=(url,)))[0].read_bytes() == TEXT
    assert server.asked == [(url, "")]


def test_a_proxy_that_is_not_there_is_told(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused.getsockname()[1]}")
    with pytest.raises(CorpusError, match=r"example through the proxy http://127\.0\.0\.1:\d+: check HTTPS_PROXY"):
        fetch(replace(entry, urls=("http://corpora.example/moon.txt",)))


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        ("socks5://user:secret@127.0.0.1:1080", r"proxy socks5://127\.0\.0\.1:1080: .* pip install pysocks\."),
        ("http://", r"proxy http://, which is not of the form http://HOST:PORT: correct HTTPS_PROXY"),
        ("http://user:secret@host:port", r"proxy http://host:port, which is not of the form"),
        ("user:secret@host:port", r"proxy host:port, which is not of the form"),
        ("strange://user:secret@host:1", r"proxy strange://host:1, which is not of the form"),
        ("http://[secret@host", r"proxy http://host, which is not of the form"),
    ],
)
@pytest.mark.parametrize("is_pinned", [True, False])
def test_a_proxy_that_is_none_is_no_wrong_checksum(
    entry: Entry, unpinned: Entry, monkeypatch: pytest.MonkeyPatch, proxy: str, message: str, is_pinned: bool
) -> None:
    if proxy.startswith("socks") and find_spec("socks"):
        pytest.skip("PySocks is installed")
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(CorpusError, match=f"Cannot reach corpora.example through the {message}") as info:
        fetch(replace(entry if is_pinned else unpinned, urls=("http://corpora.example/moon.txt",)))
    assert "secret" not in str(info.value)


def test_a_redirect_to_nowhere_is_no_wrong_checksum(entry: Entry, server: FileServer) -> None:
    server.redirects["/moon.txt"] = "strange://corpora.example/moon.txt"
    with pytest.raises(CorpusError, match=r"Cannot download http://.*/moon\.txt: No connection adapters"):
        fetch(entry)


def test_a_file_without_end_is_stopped(entry: Entry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(download, "LARGEST_BYTES", 100_000)
    with pytest.raises(CorpusError, match=r"has more than 100,000 bytes: it is not a corpus"):
        fetch(entry)


def test_a_full_disk_is_told(
    entry: Entry, disk_of: Callable[[int], AbstractContextManager[None]], tmp_path: Path
) -> None:
    with disk_of(100_000), pytest.raises(TextgenError, match=r"Cannot write .*: File too large\. Free some space"):
        fetch(entry)
    assert not (tmp_path / "cache" / "corpora" / "moon.txt").exists()
    assert fetch(entry)[0].read_bytes() == TEXT


@pytest.mark.parametrize("does_finish", [True, False])
def test_a_text_that_another_process_fetches_is_waited_for(
    entry: Entry, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does_finish: bool
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


def test_downloads_are_removed_while_nobody_else_can_use_them(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    held, remove = list[bool | None](), shutil.rmtree

    def watched(path: Path, **how: Any) -> None:
        held.append(is_locked(path))
        remove(path, **how)

    monkeypatch.setattr(shutil, "rmtree", watched)
    assert fetch(entry)[0].read_bytes() == TEXT
    assert held == [True]


def test_who_waited_while_another_process_fetched_the_text_takes_it(
    entry: Entry, server: FileServer, monkeypatch: pytest.MonkeyPatch
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
def zipped(server: FileServer) -> Entry:
    server.files["/texts.zip"] = archive(train=TEXT, valid=b"Held out.\n")
    urls = (f"{server.url}/texts.zip",)
    return Entry("moon-train", "The moon", "CC0", urls, 1, "member", digest(server.files["/texts.zip"]), "train")


def test_texts_of_an_archive_are_fetched_with_one_download(zipped: Entry, server: FileServer) -> None:
    assert fetch(zipped)[0].read_bytes() == TEXT
    assert fetch(replace(zipped, name="moon-valid", member="valid"))[0].read_bytes() == b"Held out.\n"
    assert len(server.asked) == 1


def test_the_checksum_of_a_text_in_an_archive_is_checked(zipped: Entry, server: FileServer, tmp_path: Path) -> None:
    sha1 = hashlib.sha1(TEXT).hexdigest()
    known = replace(zipped, checksum="", text_checksum=f"sha1:{sha1}")
    assert fetch(known)[1].checked == "published"
    with pytest.raises(CorpusError, match=rf"moon-valid is not the file that is known: its sha1 .* {sha1[:16]}"):
        fetch(replace(known, name="moon-valid", member="valid"))
    assert cached(tmp_path) == ["moon-train.txt", "moon-train.txt.json"]


@pytest.mark.parametrize("data", [b"no archive", archive(other=TEXT)])
def test_a_damaged_archive_is_told(zipped: Entry, server: FileServer, tmp_path: Path, data: bytes) -> None:
    server.files["/texts.zip"] = data
    with pytest.raises(CorpusError, match="The archive of moon-train is damaged"):
        fetch(replace(zipped, checksum=""))
    assert cached(tmp_path) == []


def poems(*titles: str) -> bytes:
    return json.dumps([{"title": title, "paragraphs": ["秦川雄帝宅，", "函谷壯皇居。"]} for title in titles]).encode()


def test_poems_become_blocks(server: FileServer, tmp_path: Path) -> None:
    server.files |= {"/0.json": poems("一", "二"), "/1.json": poems("三") + b"\n"}
    entry = Entry("poems", "Poems", "MIT", (f"{server.url}/0.json", f"{server.url}/1.json"), 1, "poems")
    verse = "秦川雄帝宅，\n函谷壯皇居。\n"
    assert fetch(entry)[0].read_text("utf-8") == f"一\n{verse}\n二\n{verse}\n三\n{verse}"
    assert cached(tmp_path) == ["poems.txt", "poems.txt.json"]


def test_of_many_files_those_that_came_are_not_fetched_again(server: FileServer) -> None:
    server.files["/0.json"] = poems("一")
    entry = Entry("poems", "Poems", "MIT", (f"{server.url}/0.json", f"{server.url}/1.json"), 1, "poems")
    with pytest.raises(CorpusError, match="404"):
        fetch(entry)
    server.files["/1.json"] = poems("二")
    fetch(entry)
    assert [path for path, _ in server.asked] == ["/0.json", "/1.json", "/1.json"]


def test_what_is_no_list_of_poems_is_told(server: FileServer, tmp_path: Path) -> None:
    entry = Entry("poems", "Poems", "MIT", (f"{server.url}/0.json",), 1, "poems")
    for data in (b"<html>", b'[{"title": "x"}]', b"[3]"):
        server.files["/0.json"] = data
        with pytest.raises(CorpusError, match=r"0\.json does not hold poems"):
            fetch(entry)
        assert cached(tmp_path) == []


def test_whether_the_cache_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert download.has_lasting_cache()
    monkeypatch.delenv("TEXTGEN_CACHE")
    monkeypatch.setattr("textgen.storage.cache_folder._is_usable", lambda folder: False)
    assert not download.has_lasting_cache()


def test_a_member_that_is_too_large_is_refused(zipped: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "LARGEST_BYTES", len(TEXT) - 1)
    with pytest.raises(CorpusError, match=r"archive of moon-train is damaged: train is too large\."):
        fetch(zipped)


def test_a_copy_is_complete_or_absent(entry: Entry, tmp_path: Path) -> None:
    path, _ = fetch(entry)
    download.copy_text(path, tmp_path / "copy.txt")
    assert (tmp_path / "copy.txt").read_bytes() == TEXT
    with pytest.raises(TextgenError, match="Cannot write"):
        download.copy_text(path, tmp_path / "missing" / "copy.txt")
    assert os.listdir(tmp_path / "cache") == ["corpora"]
