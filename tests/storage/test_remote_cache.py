"""Copies in the cache folder: listed, cleared, limited, and half a copy removed."""

from __future__ import annotations

import os
import shutil
import unicodedata
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from file_server import FileServer, server
from loaded_modules import modules_after
from remote_systems import copied, memory, no_retry_delay, read

from textgen.cli import textgen
from textgen.corpus.corpus import Corpus
from textgen.saved_model.loading import load_model
from textgen.saved_model.registry import find_model
from textgen.storage import remote_cache, remote_files
from textgen.storage.cache_eviction import LIMIT_VARIABLE, clear, entries
from textgen.storage.locks import locked
from textgen.storage.remote_cache import copy_name
from textgen.storage.remote_files import find_files
from textgen.storage.remote_folders import fetch_folder

__all__ = ["memory", "no_retry_delay", "server"]


def test_copies_are_listed_and_cleared_like_the_rest_of_the_cache(memory: Any, server: FileServer) -> None:
    memory.pipe("/d/a.txt", b"one")
    server.files["/b.txt?key=secret"] = b"two words"
    address = server.url.replace("//", "//user:password@")
    read("memory://d")
    find_files(f"{address}/b.txt?key=secret")[0].fetch()
    cache = Path(os.environ["TEXTGEN_CACHE"])
    assert [entry.content for entry in entries(cache)] == [f"{server.url}/b.txt", "memory:///d/a.txt"]
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
    monkeypatch.setattr(remote_cache, "_unchecked", 0.0)
    monkeypatch.setenv(LIMIT_VARIABLE, str(250_000 / 1e9))
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
    assert [(entry.content, entry.in_use) for entry in entries(cache)] == [("memory://models/tiny", True)]
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
        monkeypatch.setattr(remote_files, "locked_in_turn", lambda place, say: nullcontext(False))
    file.fetch()
    left = [] if has_locks else [".tmp-killed"]
    assert sorted(path.name for path in place.iterdir()) == [".address.json", *left, "a.txt"]


def test_half_a_copy_of_a_folder_goes_unless_a_process_writes_it(memory: Any, tiny_models: Path) -> None:
    copied(tiny_models / "tiny", memory, "/models/tiny")
    folder = fetch_folder("memory://models/tiny")
    folder.rename(folder.with_name(".tmp-new-tiny-killed"))
    shutil.copytree(folder.with_name(".tmp-new-tiny-killed"), folder.with_name(".tmp-new-tiny-living"))
    with locked(folder.with_name(".tmp-new-tiny-living")):
        assert fetch_folder("memory://models/tiny") == folder
    assert {path.name for path in folder.parent.iterdir()} == {"tiny", ".tmp-new-tiny-living", ".address.json"}


def test_names_of_copies_are_cut_by_their_bytes(memory: Any, tiny_models: Path) -> None:
    memory.pipe(f"/{'月' * 95}.txt", b"one")
    assert read(f"memory://{'月' * 95}.txt") == ["one"]
    (file,) = find_files(f"memory://{'月' * 95}.txt")
    assert file.fetch().name == "月" * 32 + ".txt"
    copied(tiny_models / "tiny", memory, f"/models/{'月' * 84}")
    assert load_model(f"memory://models/{'月' * 84}").name == "月" * 66


@pytest.mark.parametrize(
    ("name", "copy"),
    [
        ("हिन्दी (1).txt", "हिन्दी__1_.txt"),
        ("می\u200cخواهم.txt", "می\u200cخواهم.txt"),
        (unicodedata.normalize("NFD", "Café crème.txt"), "Café_crème.txt"),
        ("a\u200d.txt", "a_.txt"),
    ],
)
def test_a_copy_has_the_letters_and_marks_of_its_file(name: str, copy: str) -> None:
    assert copy_name(name, 200) == copy
