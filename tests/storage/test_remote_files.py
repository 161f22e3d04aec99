"""Files elsewhere: in memory, on a server of this machine, in archives, and in stores that are played."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from disk import undeletable
from file_server import PAUSE, FileServer, server
from files import COMPRESS, write
from object_stores import ObjectStore, object_store
from remote_systems import TEXT, copied, memory, no_retry_delay, read, while_another_process_holds

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.walk import RECORDED
from textgen.errors import CorpusError, RemoteError
from textgen.saved_model.registry import find_model
from textgen.storage import file_systems, remote_files
from textgen.storage.file_systems import is_there
from textgen.storage.files import CannotWrite
from textgen.storage.remote_files import RemoteFile, find_files

__all__ = ["memory", "no_retry_delay", "server"]
fsspec = pytest.importorskip("fsspec", reason='pip install ".[remote]"')


def test_files_folders_and_patterns(memory: Any, tmp_path: Path) -> None:
    memory.pipe("/d/a.txt", TEXT.encode())
    memory.pipe("/d/more/b.jsonl.gz", gzip.compress(b'{"text": "three"}\n'))
    memory.pipe("/d/.hidden/c.txt", b"no")
    for name in ("more/~$b.jsonl", "more/Thumbs.db", "~$a.txt", "a.txt~", "more/b.bak"):
        memory.pipe(f"/d/{name}", b"no")
    memory.pipe("/d/d.bin", bytes(100))
    corpus = Corpus(["memory://d"])
    assert list(corpus.documents()) == [TEXT, "three"]
    assert corpus.skipped == ["memory:///d/d.bin"]
    assert corpus.places == ["memory:///d/a.txt", "memory:///d/more/b.jsonl.gz"]
    assert read("memory://d/*.txt") == [TEXT]
    assert read("memory://d/**/*.gz") == ["three"]
    assert read("memory://d/more/*.bak") == read("memory://d/a.txt~") == ["no"], "if meant"
    assert Corpus(["memory://d/more/b.jsonl.gz"], CorpusConfig(labels="folder")).labels() == {"more": 1}
    local = tmp_path / "a.txt"
    local.write_text(TEXT, encoding="utf-8")
    assert Corpus([local]).fingerprint() == Corpus(["memory://d/a.txt"]).fingerprint()
    with pytest.raises(CorpusError, match=r"memory:///d/d\.bin looks like a binary file"):
        Corpus(["memory://d/d.bin"])


def test_a_format_that_the_address_does_not_tell(memory: Any) -> None:
    memory.pipe("/d/paper", b"%PDF-1.4\n")
    memory.pipe("/d/page", b"<html>one")
    with pytest.raises(CorpusError, match=r"/d/paper is a PDF file: save it as \.pdf, and name that file\.$"):
        read("memory://d/paper")
    said = list[str]()
    Corpus(["memory://d"]).say_findings(said.append)
    assert said == [
        "Skipped memory:///d/paper: it is a PDF file: save it as .pdf, and name that file.",
        "Read memory:///d/page as plain text, with all markup. To learn the text alone, save pages as .html.",
    ]


def test_the_beginning_of_a_file_tells_once_what_it_is(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "a.txt": TEXT.encode(),
        "b.png": b"\x89PNG\0\0",
        "c.zip": b"PK\x03\x04\0\0",
        "d.jsonl": b'{"text": "a"}',
    }
    for name, data in files.items():
        memory.pipe(f"/d/{name}", data)
    read_at: list[str] = []
    head = RemoteFile.head

    def noted(self: RemoteFile, size: int) -> bytes:
        read_at.append(self.address)
        return head(self, size)

    monkeypatch.setattr(RemoteFile, "head", noted)
    corpus = Corpus(["memory://d"])
    assert (len(corpus.skipped), corpus.size) == (2, len(TEXT.encode()) + 1)
    assert sorted(read_at) == [f"memory:///d/{name}" for name in files]


def test_a_file_is_copied_once_and_again_when_it_changes(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    count = [0]
    copy_to = RemoteFile.copy_to

    def counted(self: Any, path: Path) -> None:
        count[0] += 1
        copy_to(self, path)

    monkeypatch.setattr(RemoteFile, "copy_to", counted)
    memory.pipe("/a.txt", b"one")
    first = Corpus(["memory://a.txt"], CorpusConfig(documents="file"))
    glance = first.glance()
    assert count == [0]
    assert [read("memory://a.txt"), list(first.documents()), first.glance()] == [["one"], ["one"], glance]
    assert count == [1]
    first.require_unchanged()
    memory.pipe("/a.txt", b"two")
    assert read("memory://a.txt") == ["two"]
    assert count == [2]
    assert Corpus(["memory://a.txt"], first.config).glance() != glance


@pytest.mark.parametrize("has_version", [True, False])
def test_a_file_that_another_process_copies_is_waited_for(
    memory: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, has_version: bool
) -> None:
    memory.pipe("/a.txt", b"one")
    monkeypatch.setattr(remote_files, "VERSIONS", remote_files.VERSIONS if has_version else ())
    (file,) = find_files("memory://a.txt")
    assert bool(file.version) is has_version
    path = file.local()
    while_another_process_holds(path.parent, monkeypatch, lambda: path.write_bytes(b"one, of the other"))
    assert file.fetch().read_bytes() == b"one, of the other"
    assert caplog.messages == [f"Another process is writing to {path.parent}: waiting for it to end."]


def test_a_file_that_another_process_did_not_finish_is_copied(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe("/a.txt", b"one")
    (file,) = find_files("memory://a.txt")
    while_another_process_holds(file.local().parent, monkeypatch)
    assert file.fetch().read_bytes() == b"one"


def test_a_copy_is_flushed_and_copied_again_if_it_is_cut_off(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a machine that stopped before the copy was on the disk."""
    flushed, fsync = list[int](), os.fsync

    def noted(descriptor: int) -> None:
        flushed.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    memory.pipe("/a.txt", b"one")
    (file,) = find_files("memory://a.txt")
    path = file.fetch()
    assert 3 in flushed
    os.truncate(path, 1)
    assert file.fetch().read_bytes() == b"one"


def test_a_file_whose_place_is_removed_meanwhile_is_copied(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by another process that makes room."""
    memory.pipe("/a.txt", b"one")
    (file,) = find_files("memory://a.txt")
    place = file.local().parent
    while_another_process_holds(place, monkeypatch, lambda: place.rename(place.with_name(".tmp-old")))
    assert file.fetch().read_bytes() == b"one"


def test_sections_copy_only_what_they_read(memory: Any) -> None:
    for name in "abcd":
        memory.pipe(f"/d/{name}.txt", name.encode() * 100)
    corpus = Corpus(["memory://d"], CorpusConfig(documents="file"))
    assert "".join(part.text for part in corpus.section(1, 4)) == "b" * 100
    assert [path.exists() for path in corpus.files] == [False, True, False, False]


def test_a_page_on_a_server(server: FileServer) -> None:
    server.files["/a.html"] = b"<p>one</p><p>two</p>"
    server.tags["/a.html"] = '"1"'
    assert read(f"{server.url}/a.html", documents="file") == ["one\n\ntwo\n"]
    asked = len(server.asked)
    assert read(f"{server.url}/a.html", documents="line") == ["one", "two"]
    assert len(server.asked) == asked + 1, "only whether it has changed"


PAGE = "\ufeff\n<!doctype html><html><head><script>no()</script></head><body><p>one<br>月</p></body></html>"


@pytest.mark.parametrize("path", ["/", "/wiki", "/wiki/St._Petersburg", "/abs/1706.03762", "/a.php?b=c.txt", "/a.HTM"])
@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "Text/HTML", "application/xhtml+xml"])
def test_a_page_of_any_name_is_read_as_one(server: FileServer, path: str, kind: str) -> None:
    server.files[path], server.types[path] = PAGE.encode(), kind
    corpus = Corpus([f"{server.url}{path}"], CorpusConfig(documents="file"))
    assert ["".join(part.text for part in corpus.section(0, 1)), *corpus.documents()] == ["one\n月\n"] * 2
    server.types[path] = "text/plain"
    assert read(f"{server.url}{path}") == (["one\n月\n"] if path == "/a.HTM" else [PAGE.removeprefix("\ufeff")])


@pytest.mark.parametrize(
    "path", ["/blob/a.txt", "/A.CSV", "/a.jsonl", "/a.md", "/a.txt.gz", "/a.gz", "/a.pdf", "/a.parquet", "/a.srt"]
)
def test_a_page_in_place_of_a_file_is_refused(server: FileServer, path: str) -> None:
    server.files[path], server.types[path] = PAGE.encode(), "text/html"
    with pytest.raises(
        CorpusError, match=rf"^Cannot read {server.url}{path}: the server sent a web page, not the file"
    ):
        Corpus([f"{server.url}{path}"])


@pytest.mark.parametrize("path", ["/a.txt", "/download"])
def test_text_that_a_server_calls_a_page_is_read_as_text(server: FileServer, path: str) -> None:
    server.files[path], server.types[path] = b"one\ntwo < three\n", "text/html"
    assert read(f"{server.url}{path}", documents="line") == ["one", "two < three"]


def test_a_server_that_names_no_version_is_asked_for_each_corpus(server: FileServer) -> None:
    server.files["/a.txt"] = b"one"
    corpus = Corpus([f"{server.url}/a.txt"])
    server.files["/a.txt"] = b"two"
    assert list(corpus.documents()) == ["one"], "one corpus does not change while it is used"
    assert read(f"{server.url}/a.txt") == ["two"]


def test_a_broken_connection_is_tried_again(server: FileServer) -> None:
    data = bytes(range(32, 127)) * 1000
    server.files["/a.txt"] = data
    (file,) = find_files(f"{server.url}/a.txt")
    server.breaks += [10, 50_000]
    assert file.fetch().read_bytes() == data
    server.tags["/a.txt"] = '"2"'
    (file,) = find_files(f"{server.url}/a.txt")
    server.breaks += [10] * 5 * file_systems.ATTEMPTS
    with pytest.raises(RemoteError, match=r"Cannot read http://.*Check the network"):
        file.fetch()
    assert not file.local().exists()
    server.breaks.clear()
    assert file.fetch().read_bytes() == data


DATA = b"".join(b"line %d\n" % number for number in range(10_000))


@pytest.mark.parametrize("has_ranges", [True, False])
@pytest.mark.parametrize("tag", ['"1"', 'W/"1"', ""], ids=["strong", "weak", "none"])
def test_a_broken_connection_goes_on_where_it_broke(server: FileServer, has_ranges: bool, tag: str) -> None:
    server.files["/a.txt"], server.head_size, server.has_ranges = DATA, len(DATA), has_ranges
    server.pauses += [20_000, 40_000]  # so that something has been read when it breaks
    if tag:
        server.tags["/a.txt"] = tag
    (file,) = find_files(f"{server.url}/a.txt")
    server.breaks.append(50_000)
    assert file.fetch().read_bytes() == DATA
    (_, first), (_, second) = server.asked
    assert first == ""
    assert (second != "") is (tag == '"1"'), "else it could be another version"


def test_what_changed_on_a_server_is_read_from_the_beginning(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/a.txt"], server.tags["/a.txt"], server.head_size = DATA, '"1"', len(DATA)
    server.pauses += [20_000, 40_000]
    (file,) = find_files(f"{server.url}/a.txt")

    def change(_: float) -> None:
        server.files["/a.txt"], server.tags["/a.txt"] = DATA.upper(), '"2"'

    monkeypatch.setattr(file_systems, "time", SimpleNamespace(sleep=change))
    server.breaks.append(50_000)
    assert file.fetch().read_bytes() == DATA.upper()
    assert server.asked[-1][1].startswith("bytes="), "the rest was asked for"


def test_a_part_that_is_compressed_is_of_no_use(server: FileServer) -> None:
    packed = gzip.compress(os.urandom(50_000).hex().encode())
    server.files["/a.txt.gz"], server.tags["/a.txt.gz"], server.encodings["/a.txt.gz"] = packed, '"1"', "gzip"
    (file,) = find_files(f"{server.url}/a.txt.gz")
    server.pauses += [20_000, 40_000]
    server.breaks.append(50_000)
    assert file.fetch().read_bytes() == gzip.decompress(packed)


@pytest.mark.parametrize("name", ["a.txt.gz", "a.GZ", "a.csv.gz", "a.jsonl.gz", "a.html.gz"])
@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", ""])
def test_a_compressed_file_may_come_decompressed(server: FileServer, name: str, encoding: str) -> None:
    text = {"csv": "text\none\ntwo\n", "jsonl": '"one"\n"two"\n', "html": "<p>one</p><p>two</p>"}
    data = text.get(name.split(".")[1], "one\ntwo\n").encode()
    server.files[f"/{name}"] = gzip.compress(data)
    if encoding:
        server.encodings[f"/{name}"] = encoding
    corpus = Corpus([f"{server.url}/{name}"], CorpusConfig(documents="line"))
    assert list(corpus.documents()) == ["one", "two"]
    assert [part.text for index in range(3) for part in corpus.section(index, 3)] == ["one", "two"]
    is_decompressed = encoding == "gzip"
    assert (corpus.file_size == len(data)) is is_decompressed


def test_a_zstandard_file_may_come_decompressed(server: FileServer) -> None:
    packed = COMPRESS[".zst"](b"one\ntwo\n")
    for data in (packed, b"\x5a\x2a\x4d\x18\x01\0\0\0?" + packed):
        server.files["/a.txt.zst"] = data
        assert read(f"{server.url}/a.txt.zst", documents="line") == ["one", "two"]
    server.files["/a.txt.zst"] = b"one\ntwo\n"
    server.headers["/a.txt.zst"] = {"X-Goog-Stored-Content-Encoding": "zstd"}
    assert read(f"{server.url}/a.txt.zst", documents="line") == ["one", "two"]


STORED_ELSEWHERE = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize("name", ["/lfs.txt.gz", "/lfs.jsonl.GZ", "/lfs.txt.zst"])
def test_what_a_server_sends_in_place_of_a_compressed_file_is_not_read(server: FileServer, name: str) -> None:
    server.files[name] = STORED_ELSEWHERE
    with pytest.raises(CorpusError, match=rf"{name[1:]} is damaged or truncated"):
        read(f"{server.url}{name}")
    server.files[name], server.compresses = STORED_ELSEWHERE * 9, True  # for the way, unless asked not to
    with pytest.raises(CorpusError, match=rf"{name[1:]} is damaged or truncated"):
        read(f"{server.url}{name}")
    server.files[name] = b""
    with pytest.raises(CorpusError, match=r"is damaged or truncated"):
        read(f"{server.url}{name}")


def test_a_compressed_file_may_be_decompressed_by_the_server(server: FileServer) -> None:
    """As Google Cloud Storage does it."""
    server.files["/a.txt.gz"] = b"one\ntwo\n"
    server.headers["/a.txt.gz"] = {"X-Goog-Stored-Content-Encoding": "gzip"}
    assert read(f"{server.url}/a.txt.gz", documents="line") == ["one", "two"]
    server.headers["/a.txt.gz"] = {"X-Goog-Stored-Content-Encoding": "identity"}
    with pytest.raises(CorpusError, match=r"a\.txt\.gz is damaged or truncated"):
        read(f"{server.url}/a.txt.gz", documents="line")


def test_only_web_servers_decompress_files(memory: Any) -> None:
    memory.pipe("/a.txt.gz", b"Like as the waves")
    with pytest.raises(CorpusError, match=r"a\.txt\.gz is damaged or truncated: it is not valid \.gz data"):
        read("memory://a.txt.gz")


@pytest.mark.parametrize("chain", ["", "simplecache::"])
def test_a_file_may_take_longer_than_the_library_for_http_allows(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, chain: str
) -> None:
    aiohttp = pytest.importorskip("aiohttp", reason='pip install ".[remote]"')
    fsspec.get_filesystem_class("http").clear_instance_cache()
    monkeypatch.setattr("aiohttp.client.DEFAULT_TIMEOUT", aiohttp.ClientTimeout(total=2 * PAUSE))
    server.files["/a.txt"], server.has_ranges = DATA, False
    server.pauses += [10_000 * number for number in range(1, 6)]
    assert read(f"{chain}{server.url}/a.txt", documents="file") == [DATA.decode()]


def test_a_server_that_falls_silent_is_not_waited_for(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.get_filesystem_class("http").clear_instance_cache()  # of those made with another timeout
    server.files["/a.txt"], server.stalls_after = DATA, 10
    monkeypatch.setattr(file_systems, "SILENT_SECONDS", PAUSE)
    with pytest.raises(RemoteError, match=rf"^Cannot read {server.url}/a\.txt: it does not answer \("):
        find_files(f"{server.url}/a.txt")[0].fetch()


def test_what_the_user_set_for_a_protocol_remains(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fsspec.config.conf, "http", {"client_kwargs": {"trust_env": True}, "headers": {"X-Key": "1"}})
    server.files["/a.txt"] = DATA
    (file,) = find_files(f"{server.url}/a.txt")
    assert file.head(7) == DATA[:7]
    assert file.system.client_kwargs["trust_env"] is True
    sent = file._stream({"Accept-Encoding": "identity"})
    assert dict(sent.r.request_info.headers).items() >= {("X-Key", "1"), ("Accept-Encoding", "identity")}


@pytest.mark.parametrize("name", ["/a.txt", "/a.csv"])
def test_a_server_that_says_that_a_file_is_empty_is_not_believed(server: FileServer, name: str) -> None:
    server.files[name], server.head_size = b"text\none\ntwo\n", 0
    server.files["/b.txt"] = b""
    corpus = Corpus([f"{server.url}{name}", f"{server.url}/b.txt"], CorpusConfig(documents="line"))
    assert corpus.file_size == len(server.files[name])
    sections = [part.text for index in range(3) for part in corpus.section(index, 3)]
    assert sections == list(corpus.documents()) == (["text"] if name == "/a.txt" else []) + ["one", "two"]


def test_a_slow_connection_is_read_to_the_end(server: FileServer) -> None:
    data = bytes(range(32, 127)) * 20
    server.files["/a.txt"] = data
    server.pauses += [10, 500, 1000]
    (file,) = find_files(f"{server.url}/a.txt")
    assert file.head(len(data) + 1) == data
    assert file.head(1200) == data[:1200]
    assert file.head(0) == b""


def test_a_member_of_an_archive(tmp_path: Path, server: FileServer) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("texts/one.txt", "one")
        archive.writestr("texts/two.csv", "text\ntwo\n")
    assert read(f"zip://texts/one.txt::{path}") == ["one"]
    assert read(f"zip://texts::{path}") == ["one", "two"]
    assert read(f"zip://*/*.csv::{path}") == ["two"]
    path.write_bytes(b"PK no archive")
    with pytest.raises(RemoteError, match=r"archive is damaged|There is nothing"):
        read(f"zip://one.txt::{path}")


def tar(path: Path, text: str) -> Path:
    """An archive that says nothing of when it was made, as archives whose bytes can be reproduced do not."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("a.txt")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode()))
    return path


def test_a_member_changes_with_its_archive(tmp_path: Path) -> None:
    glances = list[str]()
    for text in ("first", "other"):
        corpus = Corpus([f"tar://a.txt::{tar(tmp_path / 'a.tar', text)}"])
        glances.append(corpus.glance())
        assert list(corpus.documents()) == [text]
    assert glances[0] != glances[1]
    tar(tmp_path / "copy" / "a.tar", "other")
    assert Corpus([f"tar://a.txt::{tmp_path}/copy/a.tar"]).glance() == glances[1], "as on another machine"


def test_a_relative_path_of_an_archive_belongs_to_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("first", "other"):
        archive = tar(tmp_path / text / "a.tar", text)
        os.utime(archive, (0, 0))
        monkeypatch.chdir(archive.parent)
        corpus = Corpus(["tar://a.txt::a.tar"])
        assert list(corpus.documents()) == [text]
        assert corpus.places == [f"tar://a.txt::{archive}"]


def test_a_member_changes_with_an_archive_elsewhere(memory: Any, server: FileServer, tmp_path: Path) -> None:
    for text in ("first", "other"):
        data = tar(tmp_path / "a.tar", text).read_bytes()
        memory.pipe("/a.tar", data)
        server.files["/a.tar"] = data
        server.tags["/a.tar"] = f'"{text}"'
        server.files["/untold.tar"] = data
        for address in ("memory://a.tar", f"{server.url}/a.tar", f"{server.url}/untold.tar"):
            assert read(f"tar://a.txt::{address}") == [text]
            assert read(f"tar://a.txt::{address}") == [text]


@pytest.mark.parametrize("cache", ["simplecache", "filecache"])
def test_files_through_a_cache_have_versions_of_their_own(memory: Any, tmp_path: Path, cache: str) -> None:
    (tmp_path / "c").mkdir()
    for name in ("a.txt", "b.txt"):
        memory.pipe(f"/c/{name}", name.encode())
        (tmp_path / "c" / name).write_text(name)
    for place in ("memory://c", f"file://{tmp_path}/c", f"{tmp_path}/c"):
        for address in (f"{cache}::{place}/*.txt", f"{cache}::{place}"):
            files = find_files(address)
            assert [file.head(9) for file in files] == [b"a.txt", b"b.txt"]
            assert all(file.version and file.version == file.shared_version for file in files)
            corpus = Corpus([address], CorpusConfig(documents="file"))
            assert list(corpus.documents()) == read(*corpus.places) == ["a.txt", "b.txt"]
    (file,) = find_files(f"{cache}::memory://c/a.txt")
    assert "base" not in json.loads(file.version)


def test_a_member_has_the_version_of_its_archive_through_a_cache_too(memory: Any, tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", "text")
    memory.pipe("/a.tar", path.read_bytes())
    for address in ("tar://a.txt::simplecache::memory://a.tar", f"simplecache::tar://a.txt::{path}"):
        (file,) = find_files(address)
        assert "base" in json.loads(file.version)
        assert file.head(9) == b"text"


@pytest.mark.parametrize("protocol", ["zip", "tar"])
def test_members_whose_names_begin_with_a_slash_are_read(tmp_path: Path, protocol: str) -> None:
    path = tmp_path / f"a.{protocol}"
    texts = {"/a.txt": "one", "b.txt": "two", "//d/c.txt": "three", "/b.txt": "the last b"}
    if protocol == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in texts.items():
                archive.writestr(zipfile.ZipInfo(name), text)
    else:
        with tarfile.open(path, "w") as archive:
            for name, text in texts.items():
                member = tarfile.TarInfo(name)
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
    assert read(f"{protocol}://::{path}") == ["one", "the last b", "three"]
    assert read(f"{protocol}://*.txt::{path}") == ["one", "the last b"]
    for name, text in (("a.txt", "one"), ("/a.txt", "one"), ("d/c.txt", "three"), ("b.txt", "the last b")):
        assert read(f"{protocol}://{name}::{path}") == [text]
    with pytest.raises(RemoteError, match=rf"^There is nothing at {protocol}://e\.txt::.*Check the address"):
        read(f"{protocol}://e.txt::{path}")


@pytest.mark.parametrize("protocol", ["zip", "tar"])
@pytest.mark.parametrize("cache", ["", "simplecache::"])
def test_members_of_an_archive_of_the_working_folder_are_read(tmp_path: Path, protocol: str, cache: str) -> None:
    """As `tar -cf x.tar .` names them."""
    texts = {"./": "", "./a.txt": "one", "./d/": "", "./d/.c.txt": "no", "./d/b.txt": "two", ".//e/..txt.txt": "no"}
    path = tmp_path / f"a.{protocol}"
    if protocol == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in texts.items():
                archive.writestr(name, text)
    else:
        with tarfile.open(path, "w") as archive:
            for name, text in texts.items():
                member = tarfile.TarInfo(name)
                member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
    for beginning in ("", "./", "/", ".//./"):
        for name, read_texts in (("a.txt", ["one"]), ("*.txt", ["one"]), ("d", ["two"]), ("d/*.txt", ["two"])):
            assert read(f"{cache}{protocol}://{beginning}{name}::{path}") == read_texts
    for name in ("", ".", "./", "**/*.txt", "./**"):
        (*places,) = Corpus([f"{cache}{protocol}://{name}::{path}"]).places
        assert read(*places) == ["one", "two"]
    assert read(f"{cache}{protocol}://d/.c.txt::{path}") == ["no"]
    with pytest.raises(RemoteError, match=r"^There is no"):
        read(f"{cache}{protocol}://../a.txt::{path}")


MEMBERS = {
    "./x": (tarfile.DIRTYPE, ""),
    "./x/latest.txt": (tarfile.SYMTYPE, "gone.txt"),
    "./x/folder": (tarfile.SYMTYPE, "../x"),
    "abs.txt": (tarfile.SYMTYPE, "/etc/passwd"),
    "hard.txt": (tarfile.LNKTYPE, "gone.txt"),
    "itself.txt": (tarfile.SYMTYPE, "itself.txt"),
    "pipe.txt": (tarfile.FIFOTYPE, ""),
    ".hidden.txt": (tarfile.SYMTYPE, "gone.txt"),
    "good.txt": (tarfile.SYMTYPE, "x/one.txt"),
}


@pytest.fixture
def linked(tmp_path: Path) -> str:
    """A .tar archive with a text, a link to it, and all kinds of links that lead to no file."""
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, (kind, target) in MEMBERS.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
        member = tarfile.TarInfo("./x/one.txt")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"one"))
    return str(path)


@pytest.mark.parametrize("cache", ["", "simplecache::"])
def test_links_of_an_archive_that_lead_to_no_file_are_skipped(linked: str, cache: str) -> None:
    for members, texts, links in (
        ("", 2, ["x/latest.txt", "x/folder", "abs.txt", "hard.txt", "itself.txt"]),
        ("x", 1, ["x/latest.txt", "x/folder"]),
        ("x/*.txt", 1, ["x/latest.txt"]),
        ("good.txt", 1, []),
    ):
        corpus = Corpus([f"{cache}tar://{members}::{linked}"], CorpusConfig(documents="file"))
        assert list(corpus.documents()) == ["one"] * texts
        assert [link for link in map(str, corpus.broken) if not any(f"://{name}::" in link for name in links)] == []
        assert len(corpus.broken) == len(links)


def test_links_that_are_skipped_are_said(linked: str) -> None:
    said = list[str]()
    Corpus([f"tar://x::{linked}"]).say_findings(said.append)
    assert said == [
        f"Skipped tar://x/{name}::{linked}: it is a link to {target}, which is no file of the archive."
        for name, target in (("latest.txt", "gone.txt"), ("folder", "../x"))
    ]
    with pytest.raises(RemoteError, match=r"^Cannot read tar://itself\.txt::.*: it is a link to itself\.txt, which"):
        find_files(f"tar://itself.txt::{linked}")
    with pytest.raises(RemoteError, match=r"^There is no file at .*, but 2 links to nowhere, such as tar://abs\.txt::"):
        find_files(f"tar://[ai]*.txt::{linked}")
    with pytest.raises(RemoteError, match=r"^There is nothing at tar://pipe\.txt::"):
        find_files(f"tar://pipe.txt::{linked}")


def test_links_of_a_zip_archive_are_no_text(tmp_path: Path) -> None:
    path, said = tmp_path / "a.zip", list[str]()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "one")
        link = zipfile.ZipInfo("b.txt")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "a.txt")
    corpus = Corpus([f"zip://::{path}"])
    assert list(corpus.documents()) == ["one"]
    corpus.say_findings(said.append)
    assert said == [f"Skipped zip://b.txt::{path}: it is a link, and links in a .zip archive are not followed."]
    with pytest.raises(RemoteError, match=r"^Cannot read zip://b\.txt::.*: it is a link, .*\. Name the file itself\.$"):
        find_files(f"zip://b.txt::{path}")


def test_a_damaged_archive(tmp_path: Path) -> None:
    for protocol in ("zip", "tar"):
        path = tmp_path / f"a.{protocol}"
        path.write_text("The cat sat.")
        with pytest.raises(RemoteError, match=f"^Cannot read {protocol}://::{path}: the archive is damaged"):
            read(f"{protocol}://::{path}")


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[: len(data) // 2],
    "altered": lambda data: data[: len(data) // 2] + b"\xff" * 20 + data[len(data) // 2 + 20 :],
    "no such file": lambda data: b"x" * len(data),
}


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses before further attempts, which take no time."""
    found = list[float]()
    monkeypatch.setattr("textgen.storage.file_systems.time.sleep", found.append)
    return found


def test_a_tar_archive_that_cannot_be_searched_is_no_fault_of_the_network(tmp_path: Path, naps: list[float]) -> None:
    path = write(tmp_path, "a.tar.zst", COMPRESS[".zst"](tar_of(tmp_path / "a.tar", 5)))
    with pytest.raises(RemoteError, match=r"^Cannot read tar://::.*: cannot seek zstd .*\. Unpack it, or pack it"):
        read(f"tar://::{path}")
    assert naps == [], "another attempt is of no use"
    path.write_bytes(b"x" * 5000)
    with pytest.raises(RemoteError, match=r"^Cannot read tar://::.*: the archive is damaged \(.*\)\. Make it again\.$"):
        read(f"tar://::{path}")


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_compressed_archive_is_no_fault_of_the_network(
    tmp_path: Path, naps: list[float], suffix: str, damage: str
) -> None:
    text = random.Random(0).randbytes(100_000).hex().encode()
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in "abc":
            member = tarfile.TarInfo(f"{name}.txt")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    path = write(tmp_path, f"a.tar{suffix}", DAMAGE[damage](COMPRESS[suffix]((tmp_path / "a.tar").read_bytes())))
    for address in (f"tar://::{path}", f"simplecache::tar://::{path}"):
        with pytest.raises(RemoteError, match=r"^Cannot read .*: the archive is damaged.*\. Make it again\.$"):
            read(address)
    assert naps == [], "another attempt is of no use"


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_of_an_archive_is_no_fault_of_the_network(
    tmp_path: Path, naps: list[float], packing: int
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("a.txt", random.Random(0).randbytes(100_000).hex())
    path.write_bytes(DAMAGE["altered"](path.read_bytes()))
    with pytest.raises(
        RemoteError, match=r"^Cannot read zip://a\.txt::.*: the archive is damaged.*\. Make it again\.$"
    ):
        read(f"zip://a.txt::{path}")
    assert naps == [], "another attempt is of no use"


def tar_of(path: Path, number: int) -> bytes:
    """An archive of files of 600 bytes, of which each takes three blocks of 512."""
    with tarfile.open(path, "w") as archive:
        for name in range(number):
            member = tarfile.TarInfo(f"{name}.txt")
            member.size = 600
            archive.addfile(member, io.BytesIO(b"x" * 600))
    return path.read_bytes()


BLOCK = tarfile.BLOCKSIZE


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: 6 * BLOCK],
        lambda data: data[: 6 * BLOCK + 10],
        lambda data: data[: 6 * BLOCK] + b"?" + data[6 * BLOCK + 1 :],
        lambda data: data[: 6 * BLOCK] + bytes(BLOCK) + data[7 * BLOCK :],
        lambda data: data[: 6 * BLOCK] + b"?" * BLOCK,
    ],
    ids=["cut before", "cut within", "wrong", "zeros", "wrong and cut behind"],
)
@pytest.mark.parametrize("is_compressed", [False, True])
def test_an_archive_with_a_damaged_header_is_refused(
    tmp_path: Path, damage: Callable[[bytes], bytes], is_compressed: bool
) -> None:
    data = damage(tar_of(tmp_path / "a.tar", 5))
    path = tmp_path / ("a.tar.gz" if is_compressed else "a.tar")
    path.write_bytes(gzip.compress(data) if is_compressed else data)
    for members in ("tar://*.txt", "tar://", "tar://4.txt", "simplecache::tar://*.txt"):
        with pytest.raises(RemoteError, match=r"the archive is damaged.*\. Make it again\.$"):
            find_files(f"{members}::{path}")
    assert find_files(f"tar://1.txt::{path}")[0].head(9) == b"x" * 9, "it comes before"


@pytest.mark.parametrize("zeros", [1, 2, 20])
def test_an_archive_ends_with_any_number_of_empty_blocks(tmp_path: Path, zeros: int) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(path, 2)[: 6 * BLOCK] + bytes(zeros * BLOCK))
    for _ in range(2):
        assert len(find_files(f"tar://*.txt::{path}")) == len(find_files(f"simplecache::tar://*.txt::{path}")) == 2


@pytest.mark.parametrize(
    ("place", "mark", "why"),
    [(6, 1, "encrypted, password required"), (6, 65, "strong encryption"), (8, 9, r"compression type 9|not supported")],
    ids=["password", "strong encryption", "Deflate64"],
)
def test_a_member_that_cannot_be_unpacked_is_no_fault_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int, mark: int, why: str
) -> None:
    path, naps = tmp_path / "a.zip", list[float]()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "one")
    data = bytearray(path.read_bytes())
    for header, offset in ((b"PK\3\4", place), (b"PK\1\2", place + 2)):
        data[data.index(header) + offset] |= mark
    path.write_bytes(data)
    monkeypatch.setattr("textgen.storage.file_systems.time.sleep", naps.append)
    for address in (f"zip://::{path}", f"zip://a.txt::{path}"):
        with pytest.raises(
            RemoteError, match=rf"^Cannot read zip://a\.txt::.*({why}).*\. Unpack it, or pack it without"
        ):
            read(address)
    assert naps == [], "another attempt is of no use"


def test_marks_of_urls_are_parts_of_other_names(memory: Any, tmp_path: Path) -> None:
    memory.pipe("/C#.jsonl", b'{"text": "one"}\n')
    memory.pipe("/why?/what?.csv", b"text\ntwo\n")
    memory.pipe("/.data/a.txt", b"three")
    memory.pipe("/.data/.hidden/b.txt", b"no")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("why?.csv", "text\nfour\n")
        archive.writestr("C#.jsonl", '{"text": "five"}\n')
    for address, texts in {
        "memory://C#.jsonl": ["one"],
        "memory://why?": ["two"],
        "memory://.data/*.txt": ["three"],
        "memory://.data/**": ["three"],
        "memory://.data": ["three"],
        f"zip://why?.csv::{tmp_path / 'a.zip'}": ["four"],
        f"zip://C#.jsonl::{tmp_path / 'a.zip'}": ["five"],
        f"zip::{tmp_path / 'a.zip'}": ["five", "four"],
    }.items():
        assert read(address) == texts


def test_a_pattern_hides_only_names_that_begin_with_a_dot(memory: Any) -> None:
    for name in ("novel.txt", "novel-2.txt", "v1.5.txt", "v1/.b/c.txt", "v1/d.txt", ".e.txt", ".git/f.txt"):
        memory.pipe(f"/d/{name}", name.encode())
    for pattern, names in {
        "novel*.txt": ["novel-2.txt", "novel.txt"],
        "v1*": ["v1.5.txt"],
        "[nv]*.txt": ["novel-2.txt", "novel.txt", "v1.5.txt"],
        "v1*/**": ["v1/d.txt"],
        "*/.b/*": ["v1/.b/c.txt"],
        ".*": [".e.txt"],
        ".*/*": [".git/f.txt"],
    }.items():
        assert [file.path for file in find_files(f"memory://d/{pattern}")] == [f"/d/{name}" for name in names]


def test_brackets_may_be_a_part_of_a_name(memory: Any) -> None:
    for name in ("a[1].txt", "a1.txt", "b[2]/c.txt"):
        memory.pipe(f"/d/{name}", name.encode())
    for address, texts in {
        "memory://d/a[1].txt": ["a[1].txt"],
        "memory://d/a[12].txt": ["a1.txt"],
        "memory://d/b[2]": ["b[2]/c.txt"],
        "memory://d/b[2]/c.txt": ["b[2]/c.txt"],
    }.items():
        assert read(address) == texts
    corpus = Corpus(["memory://d"])
    assert sorted(Corpus(corpus.places).documents()) == sorted(corpus.documents())


def test_models_elsewhere_are_no_text(memory: Any, tiny_models: Path) -> None:
    copied(tiny_models / "tiny", memory, "/d/models/tiny")
    memory.pipe("/d/a.txt", b"one")
    memory.pipe("/d/models/tiny.txt", b"two")
    corpus = Corpus(["memory://d"], CorpusConfig(documents="file"))
    assert (list(corpus.documents()), corpus.models) == (["one", "two"], ["memory:///d/models/tiny"])
    with pytest.raises(CorpusError, match="nothing but 1 saved model, such as memory:///d/models/tiny"):
        Corpus(["memory://d/models/tiny"])
    assert len(read("memory://d/models/tiny/config.json", text_field="tokenizer.tokenizer")) == 1
    memory.pipe("/d/out/prepared.json", b"{}")
    memory.pipe("/d/out/MANIFEST.json", b"{}")
    with pytest.raises(CorpusError, match=r"^memory:///d/out is a prepared corpus"):
        Corpus(["memory://d"])


def test_a_pattern_passes_over_models_elsewhere(
    memory: Any, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(tiny_models / "tiny", memory, "/d/models/tiny")
    memory.pipe("/d/run/training.json", json.dumps({section: {} for section in RECORDED}).encode())
    for name in ("models/tiny/README.md", "run/README.md", "run/logs/notes.md"):
        memory.pipe(f"/d/{name}", b"of a model")
    memory.pipe("/d/README.md", b"one")
    memory.pipe("/d/more/a.md", b"two")
    asked = list[str]()

    def ask(system: Any, path: str) -> bool:
        asked.append(path)
        return is_there(system, path)

    monkeypatch.setattr(remote_files, "is_there", ask)
    corpus = Corpus(["memory://d/**/*.md"], CorpusConfig(documents="file"))
    assert list(corpus.documents()) == ["one", "two"]
    assert sorted(corpus.models) == ["memory:///d/models/tiny", "memory:///d/run"]
    assert len(asked) == len(set(asked))
    assert {path.rpartition("/")[0] for path in asked} == {"/d", "/d/models/tiny", "/d/run"}, "a.md costs no request"
    with pytest.raises(CorpusError, match="nothing but 1 saved model, such as memory:///d/run"):
        Corpus(["memory://d/run/*.md"])  # which matches a single file
    assert read("memory://d/run/README.md") == ["of a model"]
    memory.pipe("/d/out/prepared.json", b"{}")
    memory.pipe("/d/out/MANIFEST.json", b"{}")
    memory.pipe("/d/out/shard-00001-of-00001/summary.json", b"{}")
    with pytest.raises(CorpusError, match=r"^memory:///d/out is a prepared corpus"):
        Corpus(["memory://d/out/*/*.json"])


def test_a_folder_that_may_not_be_read_hinders_nobody_from_reading_those_in_it(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of the folder is one of those in a saved model, so the folder above may be one."""
    memory.pipe("/bucket/logs/a.txt", b"one")
    info = memory.info

    def of_logs(path: str, **options: Any) -> Any:
        if not path.startswith("/bucket/logs"):
            raise PermissionError("Forbidden")
        return info(path, **options)

    monkeypatch.setattr(memory, "info", of_logs)
    assert read("memory://bucket/logs/*.txt") == ["one"]


def test_a_broken_connection_does_not_make_a_model_elsewhere_a_text(
    memory: Any, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(tiny_models / "tiny", memory, "/tiny")
    memory.pipe("/tiny/README.md", b"of a model")
    info = memory.info

    def fails(path: str, **options: Any) -> Any:
        if path.endswith("MANIFEST.json"):
            raise OSError("connection lost")
        return info(path, **options)

    monkeypatch.setattr(memory, "info", fails)
    with pytest.raises(RemoteError, match=r"Cannot read .*connection lost"):
        Corpus(["memory://tiny/*.md"])


def test_each_address_has_models_of_its_own(memory: Any, tiny_models: Path, tmp_path: Path) -> None:
    copied(tiny_models / "tiny", memory, "/d/models/tiny")
    memory.pipe("/d/models/a.txt", b"one")
    memory.pipe("/e/a.bin", bytes(100))
    assert Corpus(["memory://d", "memory://d/models"]).models == ["memory:///d/models/tiny"]
    with pytest.raises(CorpusError, match=r"No text in memory://e: there is nothing but 1 binary file \("):
        Corpus(["memory://d", "memory://e"])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("MANIFEST.json", "config.json"):
            archive.writestr(name, "{}")
    with pytest.raises(CorpusError, match=rf"nothing but 1 saved model, such as zip://::{tmp_path}/a\.zip \("):
        Corpus([f"zip://::{tmp_path}/a.zip"])


def test_a_full_disk_is_no_fault_of_the_other_side(memory: Any, disk_of: Any) -> None:
    memory.pipe("/a.txt", b"x" * 50_000)
    (file,) = find_files("memory://a.txt")
    with disk_of(10_000), pytest.raises(CannotWrite, match="TEXTGEN_CACHE"):
        file.fetch()
    assert not file.local().exists()
    assert [path.name for path in file.local().parent.iterdir() if path.name.startswith(".tmp")] == []
    with undeletable():
        assert file.fetch().stat().st_size == 50_000


# === S3 ===


@pytest.mark.slow
def test_s3(monkeypatch: pytest.MonkeyPatch, tiny_models: Path) -> None:
    pytest.importorskip("s3fs", reason="pip install s3fs")
    moto = pytest.importorskip("moto.server", reason='pip install "moto[s3,server]"')
    boto3 = pytest.importorskip("boto3", reason="pip install boto3")
    service = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    service.start()
    try:
        url = "http://{}:{}".format(*service.get_host_and_port())
        for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "us-east-1"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", url)
        client = boto3.client("s3", endpoint_url=url)
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="d/a.txt", Body=TEXT.encode() * 200_000)
        client.put_object(Bucket="bucket", Key="d/b.csv", Body=b"text\nthree\n")
        fsspec.config.set_conf_env(fsspec.config.conf)
        corpus = Corpus(["s3://bucket/d"], CorpusConfig(documents="file"))
        assert list(corpus.documents()) == [TEXT * 200_000, "three"]
        assert read("s3://bucket/d/*.csv") == ["three"]
        for path in (tiny_models / "tiny").iterdir():
            client.put_object(Bucket="bucket", Key=f"tiny/{path.name}", Body=path.read_bytes())
        assert (find_model("s3://bucket/tiny") / "config.json").read_bytes() == (
            tiny_models / "tiny" / "config.json"
        ).read_bytes()
        for missing in ("s3://bucket/other.txt", "s3://no-such-bucket/a.txt"):
            with pytest.raises(RemoteError, match=f"There is nothing at {missing}"):
                Corpus([missing])
    finally:
        service.stop()


# === Google Cloud Storage and Hugging Face's hub, played by a server of this machine ===

READ = """
import json, sys
from textgen.storage import file_systems
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.errors import TextgenError
from textgen.saved_model.registry import find_model

file_systems.RETRY_DELAY = 0.0
found = []
for address in sys.argv[1:]:
    try:
        if "model" in address:
            found.append((find_model(address) / "config.json").read_text())
        else:
            found.append(list(Corpus([address], CorpusConfig(documents="file")).documents()))
    except TextgenError as error:
        found.append(f"{type(error).__name__}: {error}")
print(json.dumps(found))
"""


def read_elsewhere(*addresses: str, **environment: str) -> list[Any]:
    """The documents at each address, or its error, as a process finds them whose environment names the service."""
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "")
    done = subprocess.run(
        [sys.executable, "-c", READ, *addresses],
        env={**os.environ, **proxies, **environment},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture
def store(tiny_models: Path) -> Iterator[ObjectStore]:
    with object_store() as there:
        there.files = {
            "d/a.txt": TEXT.encode() * 500_000,  # more than a block
            "d/more/b.csv": b"text\nthree\n",
            "d/.hidden/c.txt": b"no",
            "e/later.txt": b"later",
        }
        there.files |= {f"model/{path.name}": path.read_bytes() for path in (tiny_models / "tiny").iterdir()}
        yield there


@pytest.mark.slow
@pytest.mark.parametrize(("service", "library"), [("gs", "gcsfs"), ("hf", "huggingface_hub")])
def test_a_store(service: str, library: str, store: ObjectStore, tiny_models: Path) -> None:
    pytest.importorskip(library, reason=f"pip install {library}")
    place = "gs://bucket" if service == "gs" else "hf://datasets/owner/name"
    how = {
        "gs": {"STORAGE_EMULATOR_HOST": store.url, "FSSPEC_GS_TOKEN": "anon", "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "0"},
        "hf": {"HF_ENDPOINT": store.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
    }[service]
    addresses = [f"{place}/d", f"{place}/d/more/*.csv", f"{place}/d/a.txt", f"{place}/model", f"{place}/d/none.txt"]
    folder, pattern, file, model, nothing = read_elsewhere(*addresses, **how)
    assert [folder == [TEXT * 500_000, "three"], pattern, file == [TEXT * 500_000]] == [True, ["three"], True]
    assert model == (tiny_models / "tiny" / "config.json").read_text()
    assert nothing.startswith(f"RemoteError: There is nothing at {place}/d/none.txt. Check the address.")
    store.asked.clear()
    assert read_elsewhere(f"{place}/d/a.txt", **how)[0] == [TEXT * 500_000]
    assert not [path for path in store.asked if "alt=media" in path or "/resolve/" in path], "it is here already"
    store.files["d/a.txt"] = b"changed"
    assert read_elsewhere(f"{place}/d/a.txt", **how) == [["changed"]]
    store.token = "Bearer other"
    (refused,) = read_elsewhere(f"{place}/e/later.txt", **how)
    assert refused.startswith(f"RemoteError: Cannot read {place}/e/later.txt: permission denied")
    assert "Check the credentials" in refused
    assert "\n" not in refused
