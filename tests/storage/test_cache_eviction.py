"""The cache of encoded corpora: what is used least goes first, and nothing that is in use ever does."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from processes import child_process
from streams import corpus_of

from textgen.cli import textgen
from textgen.dataset.token_cache import TokenData, encode_and_split
from textgen.errors import ConfigError, TextgenError
from textgen.storage import cache_eviction
from textgen.storage.cache_eviction import DEFAULT_LIMIT, LIMIT_VARIABLE, CacheEntry, clear, entries, evict, limit_bytes
from textgen.storage.folders import new_folder
from textgen.storage.leftovers import YOUNG_SECONDS
from textgen.storage.locks import locked
from textgen.tokenizer.kinds import ByteTokenizer

BYTES = ByteTokenizer()


def keep(folder: Path, name: str, hours_ago: float = 0.0, size: int = 1000) -> Path:
    """A corpus in the cache, used last `hours_ago` hours ago; nothing holds it. Returns its folder."""
    path = encode_and_split(corpus_of(folder, [f"{name} {'x' * size}"] * 30, f"{name}.txt"), BYTES).train.folder
    used = path.stat().st_mtime - 3600 * hours_ago
    os.utime(path, (used, used))
    return path


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir())


def test_what_is_there_is_listed_that_used_last_first(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert entries(cache) == []
    paths = [keep(tmp_path, name, hours) for name, hours in (("b", 2), ("a", 1), ("c", 3))]
    (cache / "epochs-ab_12345" / "0").mkdir(parents=True)
    (cache / "epochs-ab_12345" / "0" / "train.bin").write_bytes(b"12345")
    for name in ("notes.txt", "tokens/letters.txt"):
        (cache / name).write_text("not ours")
    (cache / "tokens" / "mine").mkdir()
    (cache / "tokens" / ("0" * 32)).symlink_to(tmp_path)
    found = {entry.path: entry for entry in entries(cache)}
    assert list(found) == [cache / "epochs-ab_12345", paths[1], paths[0], paths[2]]
    assert [entry.content for entry in found.values()] == ["", "a.txt", "b.txt", "c.txt"]
    assert [found[path].bytes for path in found] == [5, *(size_of(path) for path in list(found)[1:])]
    assert not any(entry.in_use for entry in found.values())


RECORD: dict[str, Any] = {
    **{name: name for name in ("name", "title", "author", "licence", "sha256", "checked")}, "urls": [], "bytes": 4,
}  # fmt: skip


def test_fetched_texts_and_archives_are_listed_and_cleared_with_their_records(tmp_path: Path) -> None:
    corpora = tmp_path / "cache" / "corpora"
    archive = corpora / "downloads" / ("a" * 32)
    archive.mkdir(parents=True)
    (archive / "texts.zip").write_bytes(b"zip")
    record = json.dumps(RECORD)
    for name in ("moon.txt", "wiki.train.tokens", "enwik8"):  # names of texts need not end in .txt
        (corpora / name).write_bytes(b"moon")
        (corpora / f"{name}.json").write_text(record)
    (corpora / "note.md").write_bytes(b"of the user")
    (corpora / ".tmp-0123456789abcdef.txt").write_bytes(b"mo")
    os.utime(corpora / ".tmp-0123456789abcdef.txt", (1, 1))
    (corpora / "sun.txt").symlink_to(tmp_path / "sun.txt")
    found = {entry.path: (entry.content, entry.bytes) for entry in entries(tmp_path / "cache")}
    assert found.pop(corpora / ".tmp-0123456789abcdef.txt")[1] == 2
    assert found == {
        archive: ("", 3),
        corpora / "moon.txt": ("moon", 4 + len(record)),
        corpora / "wiki.train.tokens": ("wiki.train", 4 + len(record)),
        corpora / "enwik8": ("enwik8", 4 + len(record)),
    }
    evict(corpora / "downloads", limit=0)
    assert not archive.exists()
    removed, kept = clear(tmp_path / "cache")
    assert (len(removed), kept) == (4, [])
    left = [path.name for path in corpora.iterdir() if path.is_file() or path.is_symlink()]
    assert sorted(left) == ["note.md", "sun.txt"]


def test_what_the_user_keeps_in_the_cache_folder_stays(tmp_path: Path) -> None:
    cache, of_epochs = tmp_path / "cache", {"epochs-50/1/model.pt", "epochs-20260101/model.pt", "epochs-20260102/x/y"}
    texts = {"poems.txt": "moon", "poems.txt.json": '{"author": "me"}', "a.txt": "a", "a.txt.json": "[]", ".tmp-a": "b"}
    texts |= {"more.txt": "more", "more.txt.json": json.dumps(RECORD | {"editor": "me"})}
    files = of_epochs | {f"corpora/{name}" for name in texts} | {"tokens/.tmp-mine/a", "remote/.tmp-old-1-mine/a"}
    for name in files:
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_text(texts.get(Path(name).name, "mine"))
        os.utime((cache / name).parent, (1, 1))
    assert (entries(cache), clear(cache)) == ([], ([], []))
    assert {path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()} == files


def test_an_archive_that_is_being_downloaded_is_kept(tmp_path: Path) -> None:
    archive = tmp_path / "cache" / "corpora" / "downloads" / ("a" * 32)
    archive.mkdir(parents=True)
    with locked(archive):
        assert [entry.in_use for entry in entries(tmp_path / "cache")] == [True]
        assert clear(tmp_path / "cache")[0] == []
    assert clear(tmp_path / "cache")[1] == []
    assert not archive.exists()


@pytest.mark.parametrize("name", [".tmp-0123456789abcdef.txt", ".tmp-file-01234567-89abcdef-1f-0123456789abcdef.txt"])
def test_a_text_that_is_being_unpacked_is_kept(tmp_path: Path, name: str) -> None:
    corpora = tmp_path / "cache" / "corpora"
    corpora.mkdir(parents=True)
    (corpora / name).write_bytes(b"mo")
    assert [entry.in_use for entry in entries(tmp_path / "cache")] == [True]
    removed, kept = clear(tmp_path / "cache")
    assert (removed, [entry.path.name for entry in kept]) == ([], [name])
    long_ago = time.time() - YOUNG_SECONDS - 1
    os.utime(corpora / name, (long_ago, long_ago))
    assert [entry.in_use for entry in entries(tmp_path / "cache")] == [False]
    assert len(clear(tmp_path / "cache")[0]) == 1
    assert list(corpora.iterdir()) == []


def test_what_is_removed_is_not_looked_for_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = list[CacheEntry]()

    def compare(entry: CacheEntry, other: object) -> bool:
        compared.append(entry)
        return entry is other

    for number in range(60):
        (tmp_path / "cache" / "remote" / f"{number:032x}").mkdir(parents=True)
    monkeypatch.setattr(CacheEntry, "__eq__", compare)
    removed, kept = clear(tmp_path / "cache")
    assert (len(removed), len(kept)) == (60, 0)
    assert len(compared) <= 60


def test_entries_are_removed_where_a_folder_takes_the_place_of_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where a folder cannot be renamed to one that exists, not even to an empty one."""
    rename = os.rename

    def strict(source: Path, target: Path) -> None:
        if os.path.lexists(target):
            raise FileExistsError(183, "Cannot create a file when that file already exists", str(target))
        rename(source, target)

    path = keep(tmp_path, "corpus")
    monkeypatch.setattr(os, "rename", strict)
    evict(path.parent, 0)
    assert list(path.parent.iterdir()) == []


def test_using_a_corpus_makes_it_recent_and_holds_it(tmp_path: Path) -> None:
    old, new = keep(tmp_path, "old", 3), keep(tmp_path, "new", 1)
    data = TokenData.cached(old)
    assert data
    assert [(entry.path, entry.in_use) for entry in entries(tmp_path / "cache")] == [(old, True), (new, False)]
    train = data.train
    del data
    assert entries(tmp_path / "cache")[0].in_use, "by one of the streams"
    del train
    assert not entries(tmp_path / "cache")[0].in_use


def test_beyond_the_limit_what_was_not_used_for_longest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [keep(tmp_path, f"corpus {number}", 9 - number) for number in range(5)]
    in_use = TokenData.cached(paths[1])
    os.utime(paths[1], (1, 1))
    monkeypatch.setenv(LIMIT_VARIABLE, str(3 * size_of(paths[0]) / 1e9))
    newest = keep(tmp_path, "newest")  # which makes room for itself
    assert [path for path in [*paths, newest] if path.exists()] == [paths[1], paths[4], newest]
    assert in_use
    assert in_use.train.read(0, 8).tolist() == BYTES.encode("corpus 1")
    assert not list((tmp_path / "cache" / "tokens").glob(".tmp-*"))
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    data = encode_and_split(corpus_of(tmp_path, ["larger than the limit"] * 30, "own.txt"), BYTES)
    assert data.train.folder.exists(), "a corpus that is in use is kept, however large"
    evict(tmp_path / "cache" / "tokens", 0)
    assert [entry.path for entry in entries(tmp_path / "cache")] == [data.train.folder, paths[1]]


def test_clear_leaves_what_is_in_use_or_being_made_here_or_elsewhere(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    here, elsewhere, gone = keep(tmp_path, "here"), keep(tmp_path, "elsewhere"), keep(tmp_path, "gone")
    begun = [cache / "tokens" / f"{prefix}{'f' * 32}-{'1' * 16}" for prefix in (".tmp-new-", ".tmp-")]
    for path in begun:  # the last is of an earlier version
        path.mkdir()
    (cache / "epochs-ab_12345").mkdir()
    (cache / "letter.txt").write_text("not ours")
    data = TokenData.cached(here)
    code = (
        "import sys, pathlib, textgen.dataset.token_cache\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "data = textgen.dataset.token_cache.TokenData.cached(path); print('in use', flush=True); sys.stdin.read()"
    )
    other = child_process(
        [sys.executable, "-c", code, str(elsewhere)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other as process, new_folder(cache / "tokens" / ("0" * 32)) as temporary:
        assert process.stdout
        assert process.stdout.readline() == "in use\n"
        removed, kept = clear(cache)
        assert {entry.path for entry in kept} == {here, elsewhere, temporary}
        assert {entry.path for entry in removed} == {
            gone,
            *begun,
            cache / "epochs-ab_12345",
        }
        assert not any(entry.path.exists() for entry in removed)
        process.kill()
    assert data
    del data
    clear(cache)
    assert sorted(path.name for path in cache.rglob("*")) == ["letter.txt", "tokens"]


def test_what_an_interrupted_clear_has_left_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry, random = keep(tmp_path, "a", hours_ago=9), "0" * 16
    cache = entry.parent.parent
    left = [f"tokens/.tmp-new-{entry.name}-{random}", f"tokens/.tmp-old-{random}-{entry.name}"]
    for name in (*left, f".tmp-old-{random}-epochs-abcdefgh"):
        (cache / name).mkdir()
        os.utime(cache / name, (0, 0))

    def stop(path: Path, **options: Any) -> None:
        raise KeyboardInterrupt

    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr("shutil.rmtree", stop)
            with pytest.raises(KeyboardInterrupt):
                clear(cache)
    for path in (each for each in cache.rglob("*") if each.is_dir() and ".tmp-" in each.name):
        os.utime(path, (0, 0))
    clear(cache)
    assert [path.name for path in cache.rglob("*") if path.is_dir()] == ["tokens"]


def test_what_cannot_be_removed_is_not_counted_as_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = keep(tmp_path, "corpus")
    shelf = path.parent
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda path, **options: None)  # as where its files cannot be deleted
        removed, (left,) = clear(shelf.parent)
        assert removed == []
        assert left.path.name.startswith(".tmp-old-")
        assert left.path.parent == shelf
        assert (left.bytes, left.content) == (size_of(left.path), "corpus.txt")
        told = CliRunner().invoke(textgen, ["cache", "clear"], catch_exceptions=False)
    assert told.stdout == "Removed nothing.\n"
    assert told.stderr.endswith(f"cannot be deleted. Check the permissions of {left.path}.\n")
    assert [entry.path for entry in clear(shelf.parent)[0]] == [left.path]


def test_an_error_of_the_disk_costs_no_other_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = keep(tmp_path, "bad"), keep(tmp_path, "good")
    is_file = Path.is_file

    def fails(path: Path) -> bool:
        if path == bad:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", fails)
    assert {entry.path: entry.in_use for entry in entries(tmp_path / "cache")} == {bad: None, good: False}
    removed, kept = clear(tmp_path / "cache")
    assert ([entry.path for entry in removed], [entry.path for entry in kept]) == ([good], [bad])


def test_where_there_are_no_locks_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError("no locks available")

    path = keep(tmp_path, "corpus")
    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    evict(path.parent, 0)
    assert clear(tmp_path / "cache")[0] == []
    assert path.exists()
    runner = CliRunner()
    told = runner.invoke(textgen, ["cache", "list"], catch_exceptions=False).stdout
    assert "corpus.txt (cannot be locked)" in told
    listed = json.loads(runner.invoke(textgen, ["cache", "list", "--json"], catch_exceptions=False).stdout)
    assert [entry["in_use"] for entry in listed["entries"]] == [None]
    result = runner.invoke(textgen, ["cache", "clear"], catch_exceptions=False)
    assert result.stdout == "Removed nothing.\n"
    assert "in folders that cannot be locked were kept, since a process may use them" in result.stderr
    assert "in use by running processes" not in result.stderr


@pytest.mark.parametrize("value", ["much", "-1", "nan", "inf"])
def test_a_limit_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    assert limit_bytes() == DEFAULT_LIMIT * 1e9
    monkeypatch.setenv(LIMIT_VARIABLE, value)
    with pytest.raises(ConfigError, match=f"{LIMIT_VARIABLE} must be a number of gigabytes.*{value}"):
        keep(tmp_path, "corpus")


def test_the_command_line_lists_and_clears(tmp_path: Path) -> None:
    runner, path = CliRunner(), keep(tmp_path, "poems")
    told = runner.invoke(textgen, ["cache", "list"], catch_exceptions=False).stdout
    assert "poems.txt" in told
    assert path.name[:20] in told
    assert f"in {tmp_path / 'cache'}; the limit is 20.0 GB." in told
    values = json.loads(runner.invoke(textgen, ["cache", "list", "--json"], catch_exceptions=False).stdout)
    assert [entry["path"] for entry in values["entries"]] == [str(path)]
    assert values["entries"][0]["bytes"] == size_of(path)
    data = TokenData.cached(path)
    result = runner.invoke(textgen, ["cache", "clear"], catch_exceptions=False)
    assert result.stdout == "Removed nothing.\n"
    assert "in use by running processes were kept" in result.stderr
    assert data
    del data
    cleared = json.loads(runner.invoke(textgen, ["cache", "clear", "--json"], catch_exceptions=False).stdout)
    assert (cleared["removed"], cleared["kept"]) == ([str(path)], [])
    assert not path.exists()
    assert runner.invoke(textgen, ["cache", "clear"]).stdout == "Removed 0 bytes.\n"


@pytest.mark.parametrize("as_json", [False, True])
def test_what_cannot_be_deleted_is_an_error_and_is_not_called_in_use(
    as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = keep(tmp_path, "poems")
    monkeypatch.setattr(cache_eviction, "_remove", lambda path: path)
    result = CliRunner().invoke(textgen, ["cache", "clear", *["--json"] * as_json], catch_exceptions=False)
    assert result.exit_code == 1
    assert result.stderr.endswith(f" kB cannot be deleted. Check the permissions of {path}.\n")
    if as_json:
        assert json.loads(result.stdout)["kept"] == [str(path)]


def test_the_command_line_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEXTGEN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where there is no home
    result = CliRunner().invoke(textgen, ["cache", "list"])
    assert result.exit_code == 1
    assert "Set TEXTGEN_CACHE" in result.stderr


def test_training_without_a_home_to_write_to_says_where_it_keeps_the_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEXTGEN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/dev/null")
    said: list[str] = []
    corpus = corpus_of(tmp_path, ["a line"] * 30)
    data = encode_and_split(corpus, BYTES, say=said.append)
    assert ["TEXTGEN_CACHE" in line and str(data.train.folder.parents[1]) in line for line in said] == [True]
    assert encode_and_split(corpus, BYTES).train.folder == data.train.folder
    monkeypatch.setenv("TEXTGEN_CACHE", "/dev/null/cache")
    with pytest.raises(TextgenError, match="TEXTGEN_CACHE"):
        encode_and_split(corpus, BYTES)
