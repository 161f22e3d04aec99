"""Folders elsewhere that have a manifest: models and prepared corpora."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from disk import undeletable
from file_server import FileServer, server
from remote_systems import copied, memory, no_retry_delay

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.corpus_preparation import prepare_corpus
from textgen.dataset.prepared_corpus import is_prepared, open_corpus
from textgen.errors import CorpusError, RemoteError
from textgen.saved_model.layout import JSON_BYTES
from textgen.saved_model.loading import load_model
from textgen.saved_model.registry import find_model, find_tokenizer
from textgen.storage import remote_files, remote_folders
from textgen.storage.manifests import manifest_entry
from textgen.storage.remote_files import RemoteFile
from textgen.storage.remote_folders import fetch_folder, fetch_subfolder

__all__ = ["memory", "no_retry_delay", "server"]


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
    copy_to, manifests = RemoteFile.copy_to, list[os.stat_result]()

    def meanwhile(self: Any, path: Path, limit: int | None) -> None:
        monkeypatch.setattr(RemoteFile, "copy_to", copy_to)
        manifests.append((fetch_folder("memory://tiny") / "MANIFEST.json").stat())
        copy_to(self, path, limit)

    monkeypatch.setattr(RemoteFile, "copy_to", meanwhile)
    manifests.append((fetch_folder("memory://tiny") / "MANIFEST.json").stat())
    assert os.path.samestat(*manifests)


def remove(path: Path) -> None:
    path.unlink()


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def change(path: Path) -> None:
    path.write_bytes(bytes(len(path.read_bytes())))


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


DAMAGE = [remove, cut_off, change, link]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "MANIFEST.json"])
def test_a_copy_that_is_damaged_is_copied_again(
    memory: Any, tiny_models: Path, name: str, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(tiny_models / "tiny", memory, "/tiny")
    place = load_model("memory://tiny").folder
    (place / "shard").mkdir()
    before = {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}
    damage(place / name)
    load_model("memory://tiny").weights()
    assert {name: (place / name).read_bytes() for name in before} == before
    assert not (place / name).is_symlink()
    assert (place / "shard").exists() == (name != "MANIFEST.json"), "what is beside the file stays"
    copy_to = RemoteFile.copy_to
    monkeypatch.setattr(RemoteFile, "copy_to", pytest.fail)
    assert load_model("memory://tiny").folder == place
    monkeypatch.setattr(RemoteFile, "copy_to", copy_to)
    damage(place / name)
    memory.pipe("/tiny/config.json", b"{}")
    memory.pipe("/tiny/model.safetensors", b"{}")
    with pytest.raises(RemoteError, match="differs from the manifest"):
        fetch_folder("memory://tiny")
    assert not [path for path in place.parent.rglob(".tmp-*") if path.is_file()]
    with undeletable(), pytest.raises(RemoteError, match="differs from the manifest"):
        fetch_folder("memory://tiny")


def test_only_files_that_are_newer_than_the_manifest_are_read(
    memory: Any, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(tiny_models / "tiny", memory, "/tiny")
    place, read = fetch_folder("memory://tiny"), list[str]()
    os.utime(place / "MANIFEST.json", (2e9, 2e9))
    monkeypatch.setattr(remote_folders, "sha256", lambda path: read.append(path.name))
    fetch_folder("memory://tiny")
    assert read == []
    os.utime(place / "config.json", (2e9, 2e9))
    with pytest.raises(RemoteError):
        fetch_folder("memory://tiny")
    assert read[0] == "config.json"


def test_files_that_were_read_and_are_right_are_not_read_again(
    memory: Any, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(tiny_models / "tiny", memory, "/tiny")
    place = fetch_folder("memory://tiny")
    for name, time in (("MANIFEST.json", 1e9), ("config.json", 1e9)):
        os.utime(place / name, (time, time))
    fetch_folder("memory://tiny")
    monkeypatch.setattr(remote_folders, "sha256", None)
    assert fetch_folder("memory://tiny") == place


def test_a_folder_that_differs_from_its_manifest_is_refused(memory: Any, tiny_models: Path) -> None:
    copied(tiny_models / "tiny", memory, "/tiny")
    memory.pipe("/tiny/config.json", b"{}")
    with pytest.raises(RemoteError, match=r"memory:///tiny/config\.json differs from the manifest"):
        fetch_folder("memory://tiny")
    for data, message in {
        b"no": "is damaged",
        b'{"files": []}': "is damaged",
        b'{"files": {"a": {"sha256": 1}}}': "is damaged",
        **{
            json.dumps({"files": {name: {"sha256": "1", "size": 1}}}).encode(): "no name of another file in its folder"
            for name in ("../a", "..", "", "\ud800", "a\0b", "MANIFEST.json")
        },
    }.items():
        memory.pipe("/tiny/MANIFEST.json", data)
        with pytest.raises(RemoteError, match=message):
            fetch_folder("memory://tiny")
    cache = Path(os.environ["TEXTGEN_CACHE"], "remote")
    assert not [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize("use", [load_model, lambda address: open_corpus([address], CorpusConfig())])
def test_nothing_is_copied_of_a_folder_that_is_no_model_and_no_prepared_corpus(
    memory: Any, monkeypatch: pytest.MonkeyPatch, use: Callable[[str], object]
) -> None:
    files = {"a.bin": b"large", "prepared.json": b"{}"} if use is load_model else {"a.bin": b"large"}
    entries = {name: manifest_entry(data) for name, data in files.items()}
    memory.pipe({f"/d/{name}": data for name, data in files.items()})
    memory.pipe({"/d/MANIFEST.json": json.dumps({"files": entries}).encode(), "/d/prepared.json": b"{}"})
    monkeypatch.setattr(remote_folders, "_copy_file", None)
    with pytest.raises(
        RemoteError, match=r"The manifest of memory://d does not name .*, so it is another kind of fold"
    ):
        use("memory://d")


def test_only_the_files_of_a_model_are_copied(memory: Any, tiny_models: Path) -> None:
    copied(tiny_models / "tiny", memory, "/tiny")
    entries = json.loads(memory.cat("/tiny/MANIFEST.json"))["files"]
    memory.pipe("/tiny/film.mkv", b"large")
    more = {"film.mkv": manifest_entry(b"large")}
    memory.pipe("/tiny/MANIFEST.json", json.dumps({"files": entries | more}).encode())
    found = load_model("memory://tiny")
    assert found.weights()
    assert sorted(path.name for path in found.folder.iterdir()) == sorted([*entries, "MANIFEST.json"])
    assert load_model("memory://tiny").folder == found.folder


def test_a_file_of_a_model_that_is_too_large_is_not_copied(memory: Any, tiny_models: Path) -> None:
    copied(tiny_models / "tiny", memory, "/tiny")
    manifest = json.loads(memory.cat("/tiny/MANIFEST.json"))
    manifest["files"]["config.json"]["size"] = JSON_BYTES + 1
    memory.pipe("/tiny/MANIFEST.json", json.dumps(manifest).encode())
    with pytest.raises(RemoteError, match=r"memory://tiny/config\.json has more than 33,554,432 bytes, the limit"):
        load_model("memory://tiny")


class Endless(io.RawIOBase):
    """A stream without an end, which counts what is read from it."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        self.size += size
        assert self.size < 10 * remote_files.CHUNK_BYTES, "it is read without a limit"
        return bytes(size)


@pytest.mark.parametrize("is_part", [False, True])
def test_no_more_of_a_file_is_written_than_its_manifest_says(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_part: bool
) -> None:
    """Neither of a file of a folder nor of one of its parts, such as a shard of a prepared corpus."""
    memory.pipe("/made/a", b"abc")
    memory.pipe("/made/MANIFEST.json", json.dumps({"files": {"a": {"sha256": "1", "size": 3}}}).encode())
    stream, written = Endless(), list[int]()
    monkeypatch.setattr(
        RemoteFile, "_open", lambda self, _=0: stream if self.path == "/made/a" else memory.open(self.path, "rb")
    )
    unlink = Path.unlink

    def noted(self: Path, missing_ok: bool = False) -> None:
        if self.exists():
            written.append(self.stat().st_size)
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", noted)
    with pytest.raises(RemoteError, match="memory:///made/a has more than 3 bytes, its size in the") as caught:
        fetch_subfolder("memory://made", tmp_path / "part") if is_part else fetch_folder("memory://made")
    assert "\n" not in str(caught.value)
    assert stream.size == remote_files.CHUNK_BYTES, "it is not tried again"
    assert max(written) <= 3


@pytest.mark.parametrize("name", ["*", "more"])
def test_a_name_that_stands_for_several_files_is_refused(memory: Any, name: str) -> None:
    for place in ("/made/one", "/made/two", "/made/more/a", "/made/more/b"):
        memory.pipe(place, b"abc")
    memory.pipe("/made/MANIFEST.json", json.dumps({"files": {name: {"sha256": "1", "size": 3}}}).encode())
    with pytest.raises(RemoteError, match=r"There are \d files at memory://made/.*, where one is expected\. Check"):
        fetch_folder("memory://made")


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
    shard = next(Path(os.environ["TEXTGEN_CACHE"]).rglob("shard-00001-of-00002"))
    for damage in DAMAGE:
        for path in [path for path in shard.iterdir() if path.is_file()]:
            damage(path)
            assert open_corpus(["memory://made"], CorpusConfig()).stats() == made.stats()
    copied(tmp_path / "made", memory, "/wiki-2024.01")
    assert open_corpus(["memory://wiki-2024.01"], CorpusConfig()).stats() == made.stats()
    memory.rm("/made/shard-00002-of-00002", recursive=True)
    os.rename(tmp_path / "cache", tmp_path / "old-cache")
    with pytest.raises(RemoteError, match=r"There is nothing at .*shard-00002"):
        open_corpus(["memory://made"], CorpusConfig())


def test_a_prepared_folder_on_a_web_server(server: FileServer, tmp_path: Path) -> None:
    """Its name may have a full stop; and what a server says to everything does not make a page such a folder."""
    (tmp_path / "a.txt").write_text("some words\n" * 200, encoding="utf-8")
    made = prepare_corpus([str(tmp_path / "a.txt")], tmp_path / "made", {"tokenizer": "byte", "shards": 1})
    for path in made.folder.rglob("*"):
        if path.is_file():
            server.files[f"/wiki-2024.01/{path.relative_to(made.folder).as_posix()}"] = path.read_bytes()
    assert open_corpus([f"{server.url}/wiki-2024.01"], CorpusConfig()).stats() == made.stats()
    server.files["/app"] = b"one"
    for answer in (b"<p>one</p>", b"[]", b'{"corpus": {}}'):
        server.files["/app/prepared.json"] = answer
        corpus = open_corpus([f"{server.url}/app"], CorpusConfig())
        assert isinstance(corpus, Corpus)
        assert list(corpus.documents()) == ["one"]


@pytest.mark.parametrize("name", ["a.txt", "a.JSONL", "a.txt.gz", "a.html", "a/*", "a.txt?key=1"])
def test_what_looks_like_a_file_is_not_asked_for(memory: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(remote_folders, "is_there", pytest.fail)
    assert not is_prepared(f"memory://{name}")
    assert not is_prepared("https://host/page.php")


def test_a_model_of_this_machine_may_be_named_by_its_address(tiny_models: Path, tmp_path: Path) -> None:
    """As a file manager shows it, with %20 for a space; it is not copied."""
    place = shutil.copytree(tiny_models / "tiny", tmp_path / "my models" / "tiny 2")
    for address in (place.as_uri(), place.as_uri().replace("file:", "FILE:"), f"file://{place}"):
        assert load_model(address).folder == place
        assert find_tokenizer(address).kind == load_model(place).tokenizer.kind
    shown = CliRunner().invoke(textgen, ["models", "show", place.as_uri()], catch_exceptions=False)
    assert shown.exit_code == 0
    made = CliRunner().invoke(textgen, ["models", "compress", place.as_uri(), "--accept-loss"], catch_exceptions=False)
    assert made.exit_code == 0
    assert load_model(place).precision == "int8"
    assert not Path(os.environ["TEXTGEN_CACHE"], "remote").exists()


@pytest.mark.parametrize("name", [".", "..", ".address.json"])
def test_the_copy_of_a_folder_has_a_name_of_its_own(memory: Any, tiny_models: Path, name: str) -> None:
    copied(tiny_models / "tiny", memory, "/tiny")
    data, entries = remote_folders._remote_manifest("memory://tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote_folders, "_remote_manifest", lambda address: (data, entries))
        patch.setattr(remote_folders, "join_address", lambda address, name: f"memory://tiny/{name}")
        assert fetch_folder(f"memory://tiny/{name}").name == "folder"


def test_a_model_elsewhere_is_compressed_to_a_copy_only(memory: Any, tiny_models: Path, tmp_path: Path) -> None:
    """What is in the cache stays the model of that address."""
    models = ["--models-dir", str(tmp_path / "models"), "--accept-loss"]
    copied(tiny_models / "tiny", memory, "/tiny")
    address = "memory://tiny"
    refused = CliRunner().invoke(textgen, ["models", "compress", address, *models])
    assert refused.exit_code == 2
    assert "so it cannot be compressed in place: name a new model with --out." in refused.stderr.replace("\n", " ")
    assert "--out" in refused.stderr
    made = CliRunner().invoke(textgen, ["models", "compress", address, "--out", "small", *models])
    assert made.exit_code == 0, made.stderr
    assert load_model(address).precision == "float32"
    assert load_model("small", tmp_path / "models").precision == "int8"
