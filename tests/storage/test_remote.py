"""Files and folders elsewhere: in memory, on a server of this machine, in archives, and in stores that are played."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from file_server import FileServer, server
from loaded_modules import modules_after
from object_stores import ObjectStore, object_store

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.walk import RECORDED
from textgen.dataset.corpus_preparation import prepare_corpus
from textgen.dataset.prepared_corpus import is_prepared, open_corpus
from textgen.errors import CorpusError, RemoteError, TextgenError
from textgen.saved_model.registry import find_model
from textgen.saved_model.saved_model import load_model
from textgen.storage import remote
from textgen.storage.cache_eviction import LIMIT, clear, entries
from textgen.storage.files import CannotWrite
from textgen.storage.locks import locked
from textgen.storage.remote import fetch_folder, find_files, is_remote, refuse_remote

__all__ = ["server"]

fsspec = pytest.importorskip("fsspec", reason="pip install 'textgen[remote]'")
TEXT = "one\n\ntwo 月\n"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSE", 0.0)


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def copied(folder: Path, system: Any, place: str) -> None:
    """Copies a folder of this machine into memory."""
    for path in folder.rglob("*"):
        if path.is_file():
            system.pipe(f"{place}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def read(*names: str, **config: Any) -> list[str]:
    return list(Corpus(names, CorpusConfig(**config)).documents())


def while_another_process_holds(
    place: Path, monkeypatch: pytest.MonkeyPatch, finish: Callable[[], object] = lambda: None
) -> None:
    """Locks a folder, as another process does. It finishes its work when this one waits for the third time."""
    place.mkdir(parents=True)
    monkeypatch.setattr("textgen.storage.locks.LOCK_SECONDS", 0.0)
    held, naps = ExitStack(), list[float]()
    held.enter_context(locked(place))

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            finish()
            held.close()

    monkeypatch.setattr("textgen.storage.locks.time.sleep", nap)


# === What is an address ===


def test_what_exists_here_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "s3://bucket/a",
        "https://a.b/c.txt",
        "zip://a.txt::b.zip",
        "zip::https://a.b/c.zip",
        "hf://datasets/a",
    ):
        assert is_remote(name)
    for name in ("C:/a.txt", "C:\\\\a", "c://a", "a:b", "a.txt", "-", "", "x/s3://a", "3d://a"):
        assert not is_remote(name)
    (tmp_path / "memory:" / "d").mkdir(parents=True)
    (tmp_path / "memory:" / "d" / "a.txt").write_text("local", encoding="utf-8")
    assert not is_remote("memory://d/a.txt")
    assert read("memory://d/a.txt") == ["local"]


def test_a_local_path_loads_no_fsspec(tmp_path: Path) -> None:
    path = tmp_path / "a:b.txt"
    path.write_text(TEXT, encoding="utf-8")
    code = f"from textgen.corpus.corpus import Corpus\nlist(Corpus([{str(path)!r}]).documents())"
    assert not {"fsspec", "aiohttp", "s3fs"} & modules_after(code)


# === Corpora ===


def test_files_folders_and_patterns(memory: Any, tmp_path: Path) -> None:
    memory.pipe("/d/a.txt", TEXT.encode())
    memory.pipe("/d/more/b.jsonl.gz", gzip.compress(b'{"text": "three"}\n'))
    memory.pipe("/d/.hidden/c.txt", b"no")
    memory.pipe("/d/d.bin", bytes(100))
    corpus = Corpus(["memory://d"])
    assert list(corpus.documents()) == [TEXT, "three"]
    assert corpus.skipped == ["memory:///d/d.bin"]
    assert corpus.places == ["memory:///d/a.txt", "memory:///d/more/b.jsonl.gz"]
    assert read("memory://d/*.txt") == [TEXT]
    assert read("memory://d/**/*.gz") == ["three"]
    assert Corpus(["memory://d/more/b.jsonl.gz"], CorpusConfig(labels="folder")).labels() == {"more": 1}
    local = tmp_path / "a.txt"
    local.write_text(TEXT, encoding="utf-8")
    assert Corpus([local]).fingerprint() == Corpus(["memory://d/a.txt"]).fingerprint()
    with pytest.raises(CorpusError, match=r"memory:///d/d\.bin looks like a binary file"):
        Corpus(["memory://d/d.bin"])


def test_a_file_is_copied_once_and_again_when_it_changes(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    count = [0]
    copy_to = remote.RemoteFile.copy_to

    def counted(self: Any, path: Path) -> None:
        count[0] += 1
        copy_to(self, path)

    monkeypatch.setattr(remote.RemoteFile, "copy_to", counted)
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
    monkeypatch.setattr(remote, "VERSIONS", remote.VERSIONS if has_version else ())
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
    server.breaks += [10] * 5 * remote.TRIES
    with pytest.raises(RemoteError, match=r"Cannot read http://.*Check the network"):
        file.fetch()
    assert not file.local().exists()
    server.breaks.clear()
    assert file.fetch().read_bytes() == data


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


# === Secrets in addresses ===


def test_what_may_be_secret_is_not_shown() -> None:
    for address, expected in {
        "https://user:pass@h/a.txt?X-Signature=1#a": "https://h/a.txt",
        "HTTP://h?key=1": "HTTP://h",
        "zip://why?.csv::https://u:p@h/a.zip?key=1": "zip://why?.csv::https://h/a.zip",
        "sftp://user:p@ss@h/C#.txt": "sftp://h/C#.txt",
        "abfs://b/a.txt?sv=1&sig=2": "abfs://b/a.txt",
        "s3://b/a@b/c?.txt": "s3://b/a@b/c?.txt",
        "github://owner:repo@main/a.txt": "github://owner:repo@main/a.txt",
        "/home/a?b=c#d.txt": "/home/a?b=c#d.txt",
        "-": "-",
    }.items():
        assert remote.shown(address) == expected


def test_messages_hold_no_secret(server: FileServer, tmp_path: Path) -> None:
    address = f"{server.url.replace('//', '//user:password@')}/a.txt?key=secret"
    for status in (403, 404, 503):
        server.status = status
        with pytest.raises(RemoteError, match=f"{server.url}/a.txt") as info:
            Corpus([address])
        assert not any(word in str(info.value) for word in ("secret", "password"))
    server.files["/a.txt?key=secret"] = b"\x00\x01\x02" * 100
    with pytest.raises(CorpusError, match=f"^{server.url}/a.txt looks like a binary file"):
        Corpus([address])


def test_a_model_holds_no_secret_but_what_resuming_needs(server: FileServer, tmp_path: Path) -> None:
    server.files["/novel.txt?key=sec/ret"] = b"The cat sat on the mat. The dog saw the cat.\n" * 50
    address = f"{server.url.replace('//', '//user:password@')}/novel.txt?key=sec/ret"
    tiny = ["--tokenizer", "char", "--hidden-units", "4", "--embedding-dim", "4", "--num-layers", "1", "--steps", "1"]
    models, page = tmp_path / "models", tmp_path / "page.html"
    for command in (
        ["train", address, *tiny],
        ["models", "compress", "novel", "--out", "small", "--force"],
        ["export", "novel", str(page)],
    ):
        result = CliRunner().invoke(textgen, [*command, "--models-dir", str(models)], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
        assert not any(word in result.output for word in ("sec/ret", "password"))
    record = json.loads((models / "novel" / "training.json").read_bytes())
    assert record["corpus"]["paths"] == [address]
    texts = [path.read_bytes() for path in [models / "novel" / "README.md", page, *(models / "small").iterdir()]]
    assert b"`novel.txt`" in texts[0]
    assert not any(word in text for text in texts for word in (b"sec/ret", b"key=", b"password"))
    assert not any(path.startswith("/novel.txt?key=sec/ret/") for path, _ in server.asked), "a file, no prepared folder"


# === Names ===


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
    exists, asked = memory.exists, list[str]()

    def ask(path: str, **options: Any) -> bool:
        asked.append(path)
        return bool(exists(path, **options))

    monkeypatch.setattr(memory, "exists", ask)
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


# === The cache of copies ===


def test_copies_are_listed_and_cleared_like_the_rest_of_the_cache(memory: Any, server: FileServer) -> None:
    memory.pipe("/d/a.txt", b"one")
    server.files["/b.txt?key=secret"] = b"two words"
    address = server.url.replace("//", "//user:password@")
    read("memory://d")
    find_files(f"{address}/b.txt?key=secret")[0].fetch()
    cache = Path(os.environ["TEXTGEN_CACHE"])
    assert [entry.corpus for entry in entries(cache)] == [f"{server.url}/b.txt", "memory:///d/a.txt"]
    assert [entry.in_use for entry in entries(cache)] == [False, False]
    assert "memory:///d/a.txt" in CliRunner().invoke(textgen, ["cache", "list"], catch_exceptions=False).stdout
    corpus = Corpus(["memory://d"])
    assert list(corpus.documents()) == ["one"]
    removed, kept = clear(cache)
    assert [len(removed), kept] == [2, []]
    assert entries(cache) == []
    assert list(corpus.documents()) == ["one"], "it is copied again"


def test_beyond_the_limit_copies_that_were_not_used_for_longest_go(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_unchecked", 0.0)
    monkeypatch.setenv(LIMIT, str(250_000 / 1e9))
    hours_ago = {"old": 5, "oldest": 9, "recent": 0.5, "later": 3}
    places = {}
    for name in hours_ago:
        memory.pipe(f"/{name}.txt", name.encode() * 100_000)
        places[name] = find_files(f"memory://{name}.txt")[0].fetch().parent
        assert places[name].exists(), "what was just copied stays, however large"
    for name, hours in hours_ago.items():
        used = places[name].stat().st_mtime - 3600 * hours
        os.utime(places[name], (used, used))
    find_files("memory://old.txt")[0].fetch()  # which makes it recent
    memory.pipe("/new.txt", b"new" * 100)
    find_files("memory://new.txt")[0].fetch()
    assert [name for name in places if places[name].exists()] == ["old", "oldest", "recent", "later"], "a small one"
    memory.pipe("/new.txt", b"new" * 100_000)
    find_files("memory://new.txt")[0].fetch()
    assert [name for name in places if places[name].exists()] == ["old", "recent"]


def test_a_copied_model_is_in_use_until_the_process_ends(memory: Any, tiny_models: Path) -> None:
    copied(tiny_models / "tiny", memory, "/models/tiny")
    place = find_model("memory://models/tiny")
    cache = Path(os.environ["TEXTGEN_CACHE"])
    assert [(entry.corpus, entry.in_use) for entry in entries(cache)] == [("memory://models/tiny", True)]
    assert clear(cache)[0] == []
    assert (place / "config.json").exists()
    code = "import sys\nfrom textgen.storage import cache_eviction\nfrom pathlib import Path\n"
    code += f"cache_eviction.clear(Path({str(cache)!r}))"
    modules_after(code)
    assert (place / "config.json").exists(), "another process leaves it, too"


@pytest.mark.parametrize("has_locks", [True, False])
def test_half_a_copy_of_a_killed_process_goes(memory: Any, monkeypatch: pytest.MonkeyPatch, has_locks: bool) -> None:
    """Unless the file system has no locks: it may be that of a process that lives."""
    memory.pipe("/a.txt", b"one")
    (file,) = find_files("memory://a.txt")
    place = file.local().parent
    place.mkdir(parents=True)
    (place / ".tmp-killed").write_bytes(b"o")
    if not has_locks:
        monkeypatch.setattr(remote, "locked_in_turn", lambda place, say: nullcontext(False))
    file.fetch()
    left = [] if has_locks else [".tmp-killed"]
    assert sorted(path.name for path in place.iterdir()) == [".address.json", *left, "a.txt"]


def test_half_a_copy_of_a_folder_goes_unless_a_process_writes_it(memory: Any, tiny_models: Path) -> None:
    copied(tiny_models / "tiny", memory, "/models/tiny")
    folder = fetch_folder("memory://models/tiny")
    folder.rename(folder.with_name(".tmp-tiny-killed"))
    shutil.copytree(folder.with_name(".tmp-tiny-killed"), folder.with_name(".tmp-tiny-living"))
    with locked(folder.with_name(".tmp-tiny-living")):
        assert fetch_folder("memory://models/tiny") == folder
    assert {path.name for path in folder.parent.iterdir()} == {"tiny", ".tmp-tiny-living", ".address.json"}


def test_names_of_copies_are_cut_by_their_bytes(memory: Any, tiny_models: Path) -> None:
    memory.pipe(f"/{'月' * 95}.txt", b"one")
    assert read(f"memory://{'月' * 95}.txt") == ["one"]
    (file,) = find_files(f"memory://{'月' * 95}.txt")
    assert file.fetch().name == "月" * 32 + ".txt"
    copied(tiny_models / "tiny", memory, f"/models/{'月' * 84}")
    assert load_model(f"memory://models/{'月' * 84}").name == "月" * 66


# === Errors ===


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
    assert len(server.asked) == remote.TRIES
    server.status = 403
    with pytest.raises(RemoteError, match=r"permission denied .*Check the credentials"):
        Corpus([f"{server.url}/a.txt"])
    server.status = 404
    with pytest.raises(RemoteError, match="There is nothing at"):
        Corpus([f"{server.url}/a.txt"])
    assert len(server.asked) == remote.TRIES + 2, "these are not tried again"
    result = CliRunner().invoke(textgen, ["corpus", "stats", "memory://nothing"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "There is nothing at memory://nothing" in result.stderr


@pytest.mark.parametrize(("module", "address", "install"), [
    ("fsspec", "s3://b/a.txt", r"'textgen\[remote\]'"),
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


def test_a_full_disk_is_no_fault_of_the_other_side(memory: Any, disk_of: Any) -> None:
    memory.pipe("/a.txt", b"x" * 50_000)
    (file,) = find_files("memory://a.txt")
    with disk_of(10_000), pytest.raises(CannotWrite, match="TEXTGEN_CACHE"):
        file.fetch()
    assert not file.local().exists()
    assert [path.name for path in file.local().parent.iterdir() if path.name.startswith(".tmp")] == []
    assert file.fetch().stat().st_size == 50_000


# === Folders ===


def test_a_model(memory: Any, tiny_models: Path) -> None:
    copied(tiny_models / "tiny", memory, "/models/tiny")
    result = CliRunner().invoke(textgen, ["sample", "memory://models/tiny", "--seed", "1", "--max-tokens", "5"])
    local = CliRunner().invoke(
        textgen, ["sample", "tiny", "--models-dir", str(tiny_models), "--seed", "1", "--max-tokens", "5"]
    )
    assert (result.exit_code, result.stdout) == (0, local.stdout)
    place = find_model("memory://models/tiny")
    assert place.name == "tiny"
    memory.pipe("/models/tiny/config.json", b"{}")
    assert find_model("memory://models/tiny/") == place, "what is complete here is not copied again"
    with pytest.raises(RemoteError, match=r"There is nothing at memory://models/other/MANIFEST\.json"):
        find_model("memory://models/other")


def test_a_model_that_another_process_has_copied_meanwhile_stays(
    memory: Any, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be reading it."""
    copied(tiny_models / "tiny", memory, "/tiny")
    copy_to, manifests = remote.RemoteFile.copy_to, list[os.stat_result]()

    def meanwhile(self: Any, path: Path) -> None:
        monkeypatch.setattr(remote.RemoteFile, "copy_to", copy_to)
        manifests.append((fetch_folder("memory://tiny") / "MANIFEST.json").stat())
        copy_to(self, path)

    monkeypatch.setattr(remote.RemoteFile, "copy_to", meanwhile)
    manifests.append((fetch_folder("memory://tiny") / "MANIFEST.json").stat())
    assert os.path.samestat(*manifests)


def test_a_folder_that_differs_from_its_manifest_is_refused(memory: Any, tiny_models: Path) -> None:
    copied(tiny_models / "tiny", memory, "/tiny")
    memory.pipe("/tiny/config.json", b"{}")
    with pytest.raises(RemoteError, match=r"memory:///tiny/config\.json differs from the manifest"):
        fetch_folder("memory://tiny")
    for data, message in {
        b"no": "is damaged",
        b'{"files": []}': "is damaged",
        b'{"files": {"a": {"sha256": 1}}}': "is damaged",
        json.dumps({"files": {"../a": {"sha256": "1", "size": 1}}}).encode(): "outside its folder",
    }.items():
        memory.pipe("/tiny/MANIFEST.json", data)
        with pytest.raises(RemoteError, match=message):
            fetch_folder("memory://tiny")
    cache = Path(os.environ["TEXTGEN_CACHE"], "remote")
    assert not [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_prepared_folder(memory: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some words\n" * 200, encoding="utf-8")
    made = prepare_corpus([str(tmp_path / "a.txt")], tmp_path / "made", {"tokenizer": "byte", "shards": 2})
    copied(tmp_path / "made", memory, "/made")
    found = open_corpus(["memory://made"], CorpusConfig())
    assert found.fingerprint() == made.fingerprint()
    assert found.stats() == made.stats()
    assert found.places == ["memory://made"]
    with pytest.raises(CorpusError, match="cannot be combined"):
        open_corpus(["memory://made", "b.txt"], CorpusConfig())
    copied(tmp_path / "made", memory, "/wiki-2024.01")
    assert open_corpus(["memory://wiki-2024.01"], CorpusConfig()).stats() == made.stats()
    memory.rm("/made/shard-00002-of-00002", recursive=True)
    os.rename(tmp_path / "cache", tmp_path / "old-cache")
    with pytest.raises(RemoteError, match=r"There is nothing at .*shard-00002"):
        open_corpus(["memory://made"], CorpusConfig())


@pytest.mark.parametrize("name", ["a.txt", "a.JSONL", "a.txt.gz", "a.html", "a/*", "a.txt?key=1"])
def test_what_looks_like_a_file_is_not_asked_for(memory: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(memory, "exists", pytest.fail)
    assert not is_prepared(f"memory://{name}")
    assert not is_prepared("https://host/page.php")


def test_nothing_is_written_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text", encoding="utf-8")
    for arguments in (
        ["corpus", "prepare", str(tmp_path / "a.txt"), "--out", "s3://bucket/made"],
        ["train", str(tmp_path / "a.txt"), "--models-dir", "s3://bucket/models"],
    ):
        result = CliRunner().invoke(textgen, arguments)
        assert result.exit_code == 1
        assert "Cannot write" in result.stderr
        assert "Write to a folder of this machine" in result.stderr
    with pytest.raises(TextgenError, match="to s3://a: folders elsewhere cannot be replaced as a whole"):
        refuse_remote("s3://a", "a model")


# === S3 ===


@pytest.mark.slow
def test_s3(monkeypatch: pytest.MonkeyPatch, tiny_models: Path) -> None:
    pytest.importorskip("s3fs", reason="pip install s3fs")
    moto = pytest.importorskip("moto.server", reason="pip install 'moto[s3,server]'")
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
from textgen.storage import remote
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.errors import TextgenError
from textgen.saved_model.registry import find_model

remote.PAUSE = 0.0
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


def test_a_model_elsewhere_is_compressed_to_a_copy_only(tiny_models: Path, tmp_path: Path) -> None:
    """What is in the cache stays the model of that address."""
    models = ["--models-dir", str(tmp_path / "models"), "--force"]
    address = (tiny_models / "tiny").as_uri()
    refused = CliRunner().invoke(textgen, ["models", "compress", address, *models])
    assert refused.exit_code == 2
    assert "Only a copy of file://" in refused.stderr
    assert "--out" in refused.stderr
    made = CliRunner().invoke(textgen, ["models", "compress", address, "--out", "small", *models])
    assert made.exit_code == 0, made.stderr
    assert load_model(address).precision == "float32"
    assert load_model("small", tmp_path / "models").precision == "int8"
