"""File systems elsewhere: their hosts, missing libraries, and errors as one clear line."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from file_server import FileServer, server
from loaded_modules import modules_after
from remote_systems import TEXT, memory, no_retry_delay

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.errors import RemoteError
from textgen.storage import file_systems

__all__ = ["memory", "no_retry_delay", "server"]
fsspec = pytest.importorskip("fsspec", reason='pip install ".[remote]"')


def test_a_local_path_loads_no_fsspec(tmp_path: Path) -> None:
    path = tmp_path / "a:b.txt"
    path.write_text(TEXT, encoding="utf-8")
    code = f"from textgen.corpus.corpus import Corpus\nlist(Corpus([{str(path)!r}]).documents())"
    assert not {"fsspec", "aiohttp", "s3fs"} & modules_after(code)


def test_addresses_keep_their_host(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

    class Hosted(MemoryFileSystem):
        """Files of hosts; paths in it have no host, as those of sftp have none."""

        protocol = "hosted"

        def __init__(self, host: str, **options: Any) -> None:
            super().__init__(**options)
            self.store = {"/d/a.txt": MemoryFile(self, "/d/a.txt", host.encode())}
            self.pseudo_dirs = ["", "/d"]

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            path = "/" + path.partition("://")[2].partition("/")[2] if "://" in path else path
            return path.rstrip("/")

        @staticmethod
        def _get_kwargs_from_urls(path: str) -> dict[str, str]:
            host = path.removeprefix("hosted://").partition("/")[0]
            return {"host": host} if host else {}

    fsspec.register_implementation("hosted", Hosted, clobber=True)
    for asked in ("d", "d/", "", "d/*.txt", "d/a.txt"):
        corpus = Corpus([f"hosted://{host}/{asked}" for host in ("one", "two")], CorpusConfig(documents="file"))
        assert corpus.places == ["hosted://one/d/a.txt", "hosted://two/d/a.txt"]
        assert list(corpus.documents()) == ["one", "two"], "files of equal paths have copies of their own"
    again = Corpus(corpus.places, corpus.config)
    assert (again.files, list(again.documents())) == (corpus.files, ["one", "two"])
    for address, message in {
        "hosted:///a.txt": "missing 1 required positional argument: 'host'",
        "ftp:///a.txt": r"it names no host\. Write ftp://HOST/PATH\.",
    }.items():
        with pytest.raises(RemoteError, match=f"^Cannot read {address}: .*{message}"):
            Corpus([address])


def test_errors_are_one_clear_line(server: FileServer, memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server.status = 503
    for address, message in {
        "memory://nothing": r"There is nothing at memory://nothing\. Check the address\.",
        "memory://nothing/*.txt": r"There is no file at memory://nothing/\*\.txt",
        "strange://a": r"Cannot read strange://a: Protocol not known: strange",
        "http://127.0.0.1:1/a.txt": r"Cannot connect to host 127\.0\.0\.1:1.*Check the network",
        f"{server.url}/a.txt": r"the server says 503 .*Try again later",
    }.items():
        with pytest.raises(RemoteError, match=message) as info:
            Corpus([address])
        assert "\n" not in str(info.value)
    assert len(server.asked) == file_systems.ATTEMPTS
    server.redirects["/circle.txt"] = "/circle.txt"
    asked = len(server.asked)
    with pytest.raises(RemoteError, match=r"the server redirects to itself, or too often\. Check the address\.$"):
        Corpus([f"{server.url}/circle.txt"])
    assert len(server.asked) < asked + 2 * 20, "once by each of two methods"
    del server.asked[asked:]
    server.status = 403
    with pytest.raises(RemoteError, match=r"permission denied .*Check the credentials"):
        Corpus([f"{server.url}/a.txt"])
    server.status = 404
    with pytest.raises(RemoteError, match="There is nothing at"):
        Corpus([f"{server.url}/a.txt"])
    assert len(server.asked) == file_systems.ATTEMPTS + 2, "these are not tried again"
    result = CliRunner().invoke(textgen, ["corpus", "stats", "memory://nothing"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "There is nothing at memory://nothing" in result.stderr


class HttpError(OSError):
    """An error of a service with a status, as the libraries raise them."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


@pytest.mark.parametrize(
    ("error", "cause", "expected"),
    [
        (FileNotFoundError("a"), None, False),
        (FileNotFoundError("a"), KeyError("a"), False),
        (FileNotFoundError("a"), HttpError(404), False),
        (FileNotFoundError("a"), HttpError(503), None),
        (FileNotFoundError("a"), ConnectionError("reset"), None),
        (PermissionError("denied"), None, False),
        (HttpError(403), None, False),
        (HttpError(429), None, None),
        (KeyError("a"), None, False),
        (OSError(errno.ENOTDIR, "Not a directory"), None, False),
        (OSError("reset"), None, None),
        (TimeoutError("late"), None, None),
    ],
)
def test_only_an_answer_says_that_nothing_is_there(
    memory: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, cause: Exception | None, expected: bool | None
) -> None:
    def fails(path: str) -> Any:
        raise error from cause

    memory.pipe("/a", b"")
    with monkeypatch.context() as patch:
        patch.setattr(memory, "info", fails)
        if expected is None:
            with pytest.raises(type(error)):
                file_systems.is_there(memory, "/a")
        else:
            assert file_systems.is_there(memory, "/a") is expected
    assert file_systems.is_there(memory, "/a")


@pytest.mark.parametrize(("module", "address", "install"), [
    ("fsspec", "s3://b/a.txt", r'"\.\[remote\]"'),
    ("s3fs", "s3://b/a.txt", "s3fs"),
    ("gcsfs", "gs://b/a.txt", "gcsfs"),
    ("adlfs", "abfs://b/a.txt", "adlfs"),
    ("huggingface_hub", "hf://datasets/b/a.txt", "huggingface_hub"),
])  # fmt: skip
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, module: str, address: str, install: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    protocol = address.partition(":")[0]
    monkeypatch.delitem(fsspec.registry._registry if hasattr(fsspec.registry, "_registry") else {}, protocol, False)
    with pytest.raises(RemoteError, match=rf"Cannot read {address}\. .*pip install {install}"):
        Corpus([address])


def test_the_end_of_a_connection_is_not_that_of_an_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries for sftp and ftp raise the same error for it as those of archives, but without a word."""
    monkeypatch.setattr("textgen.storage.file_systems.time.sleep", lambda _: None)

    def ended(address: str, words: str) -> None:
        for attempt in file_systems.attempts(address):
            with attempt:
                raise EOFError(words)

    for address, words, expected in (
        ("tar://a.txt::sftp://host/a.tar.gz", "", r"\(EOFError\)\. Check the network"),
        ("tar://a.txt::sftp://host/a.tar.gz", "it ended", r"the archive is damaged \(it ended\)"),
        ("zip://a.txt::a.zip", "", r"the archive is damaged \(it ends too early\)\. Make it again"),
        ("sftp://host/a.txt", "it ended", r"it ended \(EOFError\)\. Check the network"),
    ):
        with pytest.raises(RemoteError, match=expected):
            ended(address, words)
