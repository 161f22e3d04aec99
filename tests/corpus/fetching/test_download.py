"""Files from a server: whole, broken off, refused, and what is kept of them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pooch
import pytest
from corpus_entries import TEXT, cached, digest, entry, unpinned
from file_server import FileServer, server

from textgen.corpus.fetching import download
from textgen.corpus.fetching.catalogue import CatalogueEntry
from textgen.corpus.fetching.download import CHUNK_BYTES
from textgen.corpus.fetching.fetched_text import fetch
from textgen.errors import CorpusError, TextgenError

__all__ = ["entry", "server", "unpinned"]


def test_redirects_are_followed_and_no_logger_is_changed(entry: CatalogueEntry, server: FileServer) -> None:
    before = pooch.get_logger().level
    server.redirects["/old"] = "/moon.txt"
    assert fetch(replace(entry, urls=(f"{server.url}/old",)))[0].read_bytes() == TEXT
    assert pooch.get_logger().level == before


@pytest.mark.parametrize("is_pinned", [True, False])
def test_a_broken_connection_is_taken_up_where_it_broke(
    entry: CatalogueEntry, unpinned: CatalogueEntry, server: FileServer, is_pinned: bool
) -> None:
    server.breaks = [CHUNK_BYTES * 10 + 7, CHUNK_BYTES * 20]
    said: list[str] = []
    path, fetched = fetch(entry if is_pinned else unpinned, said.append)
    assert path.read_bytes() == TEXT
    assert fetched.sha256 == digest(TEXT)
    assert [wanted for _, wanted in server.asked] == ["", "bytes=81920-", "bytes=245760-"]
    assert said[0] == "The connection broke after 81,920 bytes: going on."


def test_a_server_without_ranges_is_asked_for_all_of_it(entry: CatalogueEntry, server: FileServer) -> None:
    server.has_ranges = False
    server.breaks = [100_000]
    assert fetch(entry)[0].read_bytes() == TEXT
    assert len(server.asked) == 2


def test_a_connection_that_always_breaks_ends_in_a_line_and_the_next_call_goes_on(
    entry: CatalogueEntry, server: FileServer, tmp_path: Path
) -> None:
    server.breaks = [CHUNK_BYTES, 0, CHUNK_BYTES]
    with pytest.raises(CorpusError, match=r"Cannot reach 127\.0\.0\.1, or the connection broke: .* is kept"):
        fetch(entry)
    assert [Path(name).name for name in cached(tmp_path)] == ["moon.txt.part", "moon.txt.part.tag"]
    server.breaks.clear()
    assert fetch(entry)[0].read_bytes() == TEXT
    assert server.asked[-1][1] == "bytes=8192-"
    assert cached(tmp_path) == ["moon.txt", "moon.txt.json"]


def test_an_interrupted_download_goes_on(entry: CatalogueEntry, server: FileServer, tmp_path: Path) -> None:
    def interrupt(done: int, total: int | None) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(entry, progress=interrupt)
    assert not (tmp_path / "cache" / "corpora" / "moon.txt").exists()
    assert fetch(entry)[0].read_bytes() == TEXT
    assert int(server.asked[-1][1].removeprefix("bytes=").rstrip("-")) > 100_000


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(
    unpinned: CatalogueEntry, server: FileServer
) -> None:
    server.breaks = [CHUNK_BYTES, 0]
    with pytest.raises(CorpusError):
        fetch(unpinned)
    server.files["/moon.txt"] = TEXT.replace(b"moon", b"star")
    server.tags["/moon.txt"] = '"second"'
    assert fetch(unpinned)[0].read_bytes() == TEXT.replace(b"moon", b"star")


def test_a_download_that_is_killed_as_it_begins_anew_keeps_no_bytes_of_another_version(
    unpinned: CatalogueEntry, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.breaks = [CHUNK_BYTES, 0]
    with pytest.raises(CorpusError):
        fetch(unpinned)
    server.files["/moon.txt"] = TEXT.replace(b"moon", b"star")
    server.tags["/moon.txt"] = '"second"'

    def kill(part: Path, is_rest: bool) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "_open_part", kill)
        with pytest.raises(KeyboardInterrupt):
            fetch(unpinned)
    assert fetch(unpinned)[0].read_bytes() == TEXT.replace(b"moon", b"star")


def test_a_part_that_does_not_fit_is_thrown_away(entry: CatalogueEntry, server: FileServer) -> None:
    del server.tags["/moon.txt"]
    server.files["/moon.txt"] = TEXT.replace(b"moon", b"star")
    server.breaks = [CHUNK_BYTES, 0]
    with pytest.raises(CorpusError):
        fetch(entry)
    server.files["/moon.txt"] = TEXT
    said: list[str] = []
    assert fetch(entry, said.append)[0].read_bytes() == TEXT
    assert said == ["What was left of an earlier download of moon.txt does not fit: downloading all of it."]


def test_a_part_without_a_tag_is_not_trusted_without_a_checksum(unpinned: CatalogueEntry, server: FileServer) -> None:
    server.tags["/moon.txt"] = 'W/"weak"'
    server.breaks = [CHUNK_BYTES]
    assert fetch(unpinned)[0].read_bytes() == TEXT
    assert [wanted for _, wanted in server.asked] == ["", ""]


def test_a_part_that_is_too_long_is_thrown_away(entry: CatalogueEntry, server: FileServer) -> None:
    server.breaks = [len(TEXT) - 1, 0]
    with pytest.raises(CorpusError):
        fetch(entry)
    server.files["/moon.txt"] = TEXT[:1000]
    assert fetch(replace(entry, checksum=digest(TEXT[:1000])))[0].read_bytes() == TEXT[:1000]


def test_a_wrong_checksum_is_told_and_nothing_is_kept(
    entry: CatalogueEntry, server: FileServer, tmp_path: Path
) -> None:
    server.files["/moon.txt"] = b"Log in first."
    with pytest.raises(CorpusError, match=r"moon\.txt is not the file that is known: its sha256 is .* Nothing of it"):
        fetch(entry)
    assert cached(tmp_path) == []


def test_certificates_that_are_not_there_are_no_full_disk(
    entry: CatalogueEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/bundle.pem")
    with pytest.raises(CorpusError, match=r"Cannot ask corpora\.example: .*bundle.* Check REQUESTS_CA_BUNDLE"):
        fetch(replace(entry, urls=("https://corpora.example/moon.txt",)))


@pytest.mark.parametrize(("status", "message"), [(404, "404 Not Found"), (503, "503 Service Unavailable")])
def test_an_error_of_the_server_is_told(entry: CatalogueEntry, server: FileServer, status: int, message: str) -> None:
    server.files.clear()
    server.status = status
    with pytest.raises(CorpusError, match=rf"Cannot download .*moon\.txt: the server says {message}\. Try again"):
        fetch(entry)


def test_no_network_is_told_in_a_line_and_leaves_nothing(entry: CatalogueEntry, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    for host in (f"127.0.0.1:{port}", "no.such.host.invalid"):
        with pytest.raises(CorpusError, match=r"Cannot reach .*: check the network, and set HTTPS_PROXY") as raised:
            fetch(replace(entry, urls=(f"http://{host}/moon.txt",)))
        assert "\n" not in str(raised.value)
        assert "is kept" not in str(raised.value)  # nothing has come
    assert not list(tmp_path.rglob("downloads/*"))


def test_a_server_that_does_not_answer_is_given_up(entry: CatalogueEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", (0.2, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/moon.txt"
        with pytest.raises(CorpusError, match=r"127\.0\.0\.1 does not answer\. Try again later\."):
            fetch(replace(entry, urls=(url,)))


def test_the_proxy_of_the_environment_is_used(
    entry: CatalogueEntry, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://corpora.example/moon.txt"
    server.files[url] = TEXT
    monkeypatch.setenv("HTTP_PROXY", server.url)
    assert fetch(replace(entry, urls=(url,)))[0].read_bytes() == TEXT
    assert server.asked == [(url, "")]


def test_a_proxy_that_is_not_there_is_told(entry: CatalogueEntry, monkeypatch: pytest.MonkeyPatch) -> None:
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
    entry: CatalogueEntry,
    unpinned: CatalogueEntry,
    monkeypatch: pytest.MonkeyPatch,
    proxy: str,
    message: str,
    is_pinned: bool,
) -> None:
    if proxy.startswith("socks") and find_spec("socks"):
        pytest.skip("PySocks is installed")
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(CorpusError, match=f"Cannot reach corpora.example through the {message}") as info:
        fetch(replace(entry if is_pinned else unpinned, urls=("http://corpora.example/moon.txt",)))
    assert "secret" not in str(info.value)


def test_a_redirect_to_nowhere_is_no_wrong_checksum(entry: CatalogueEntry, server: FileServer) -> None:
    server.redirects["/moon.txt"] = "strange://corpora.example/moon.txt"
    with pytest.raises(CorpusError, match=r"Cannot download http://.*/moon\.txt: No connection adapters"):
        fetch(entry)


def test_a_file_without_end_is_stopped(entry: CatalogueEntry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(download, "MAX_FILE_BYTES", 100_000)
    with pytest.raises(CorpusError, match=r"has more than 100,000 bytes: it is not a corpus"):
        fetch(entry)


def test_a_full_disk_is_told(
    entry: CatalogueEntry, disk_of: Callable[[int], AbstractContextManager[None]], tmp_path: Path
) -> None:
    with disk_of(100_000), pytest.raises(TextgenError, match=r"Cannot write .*: File too large\. Free some space"):
        fetch(entry)
    assert not (tmp_path / "cache" / "corpora" / "moon.txt").exists()
    assert fetch(entry)[0].read_bytes() == TEXT
