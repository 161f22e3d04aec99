"""Folders: whole or not there, whenever the machine stops, and no link in them leads anywhere."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from disk import OLD, contents, crashes, failing, names
from processes import child_process

import textgen
from textgen.errors import SavedModelError, TextgenError
from textgen.storage import files, folders
from textgen.storage.files import json_bytes, new_file, read_file, write_file, write_own_file
from textgen.storage.folders import (
    MANIFEST,
    check_new_folder,
    folders_named,
    new_folder,
    read_manifest,
    refuse_links,
    sweep,
    sweep_abandoned,
    update_folder,
    verified,
)
from textgen.storage.locks import InUse, locked

# --- What the disk refuses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_the_disks_refusal_is_one_clear_line(tmp_path: Path, number: int) -> None:
    writers: list[Callable[[Path], None]] = [
        lambda path: write_file(path, b"x"),
        lambda path: update_folder(path, {"a": b"x"}),
    ]
    for write in writers:
        with failing(0, number), pytest.raises(TextgenError) as caught:
            write(tmp_path / "target")
        assert "\n" not in str(caught.value)
        assert f"{tmp_path / 'target'}" in str(caught.value)
        advice = "Free some space or choose another folder" if number == errno.ENOSPC else "Choose another place"
        assert f": {os.strerror(number)}. {advice}; what was there before is untouched." in str(caught.value)


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for write in (
        lambda: write_file(tmp_path / "file" / "x", b""),
        lambda: update_folder(tmp_path / "file" / "x", {"a": b""}),
        lambda: new_folder(tmp_path / "file" / "x").__enter__(),
    ):
        with pytest.raises(TextgenError, match=r"Cannot write .*x: "):
            write()


# --- Links, names and modes ----------------------------------------------------------------------------------


WRITERS: dict[str, Callable[[Path], None]] = {
    "a file": lambda folder: write_file(folder / "file", b"new"),
    "a file of ours": lambda folder: write_own_file(folder / "file", b"new"),
    "several files": lambda folder: update_folder(folder, {"file": b"new"}),
}


def write_new_folder(folder: Path) -> None:
    with new_folder(folder / "folder") as temporary:
        (temporary / "file").write_bytes(b"new")


WRITERS["a folder"] = write_new_folder


def write_for_a_library(folder: Path, **options: bool) -> None:
    with new_file(folder / "file", **options) as temporary:
        temporary.write_bytes(b"new")


WRITERS["a file by a library"] = write_for_a_library
WRITERS["a file of ours by a library"] = partial(write_for_a_library, follow_link=False)


@pytest.mark.parametrize("writer", WRITERS)
def test_no_temporary_name_can_be_known_or_leads_elsewhere(
    tmp_path: Path, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link is put wherever the writer is about to create a file: it is never followed."""
    folder, victim = tmp_path / "folder", tmp_path / "victim"
    folder.mkdir()
    victim.write_bytes(b"mine")
    used: list[str] = []
    really_open, really_mkdir = os.open, os.mkdir

    def trapped(path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        if flags & os.O_CREAT and str(folder) in str(path):
            used.append(os.path.basename(path))
            with suppress(FileExistsError):
                os.symlink(victim, path)
        return really_open(path, flags, mode, **options)

    def made(path: Any, *options: Any) -> None:
        used.append(os.path.basename(path))
        really_mkdir(path, *options)

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", trapped)
            patch.setattr(os, "mkdir", made)
            with pytest.raises(TextgenError, match="Cannot write"):
                WRITERS[writer](folder)
    assert victim.read_bytes() == b"mine"
    hidden = [name for name in used if name.startswith(".tmp-")]
    assert len(set(hidden)) == len(hidden)
    assert not any(str(os.getpid()) in name for name in hidden)


@pytest.mark.parametrize("planted", ["file", "file.new", MANIFEST, "folder"])
def test_a_link_in_a_folder_of_ours_is_never_written_through(tmp_path: Path, planted: str) -> None:
    folder, victim = tmp_path / "folder", tmp_path / "victim"
    folder.mkdir()
    victim.write_bytes(b"mine")
    (folder / planted).symlink_to(victim)
    for writer, write in WRITERS.items():
        if writer not in ("a file", "a file by a library"):  # which are the user's own
            with suppress(TextgenError):
                write(folder)
            assert victim.read_bytes() == b"mine", writer


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_modes_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        for writer, write in WRITERS.items():
            (tmp_path / writer).mkdir()
            write(tmp_path / writer)
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path


def test_only_errors_of_the_writing_are_told_as_such(tmp_path: Path) -> None:
    """The block may read a corpus that is gone meanwhile: more room on the disk would not help."""
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "folder"):
        (tmp_path / "missing").read_bytes()
    assert names(tmp_path) == []


@pytest.mark.parametrize("place", ["link", "deep/link", "deep/deeper/link"])
@pytest.mark.parametrize("target", ["file", "..", "nowhere"])
def test_a_link_anywhere_in_a_folder_is_found(tmp_path: Path, place: str, target: str) -> None:
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "file").write_bytes(b"")
    refuse_links(tmp_path)
    (tmp_path / place).symlink_to(target)
    with pytest.raises(SavedModelError, match=rf"{place} is a link, which a model folder must not contain"):
        refuse_links(tmp_path)


def test_a_pipe_in_a_folder_is_found_and_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SavedModelError, match="pipe is neither a file nor a folder"):
        refuse_links(tmp_path)
    with pytest.raises(OSError, match="not a regular file"):
        read_file(tmp_path / "pipe", 10)
    with pytest.raises(SavedModelError, match=r"Cannot read .*pipe: it is not a regular file\."):
        verified(tmp_path, "pipe", {"size": 0, "sha256": ""})


def test_what_is_larger_than_its_kind_can_be_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_file(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes, the limit"):
        read_file(tmp_path / "file", 4)
    with (tmp_path / MANIFEST).open("wb") as file:
        file.truncate(12 << 30)
    with pytest.raises(
        SavedModelError, match=r"Cannot read .*MANIFEST\.json: it has more than [\d,]+ bytes, the limit"
    ):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", [MANIFEST, "a"])
def test_a_link_is_not_read(tmp_path: Path, name: str) -> None:
    update_folder(tmp_path / "folder", {"a": b"12345"})
    (tmp_path / "folder" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "folder" / name).symlink_to("../elsewhere")
    with pytest.raises(SavedModelError, match=f"Cannot read .*{name}: it is a link"):
        contents(tmp_path / "folder")


# --- A new folder --------------------------------------------------------------------------------------------


def test_new_folder_appears_whole_and_with_its_manifest(tmp_path: Path) -> None:
    with new_folder(tmp_path / "deep" / "folder") as temporary:
        (temporary / "a").write_bytes(b"1")
        (temporary / "b").write_bytes(b"")
        assert not (tmp_path / "deep" / "folder").exists()
        assert temporary.parent == tmp_path / "deep"  # one file system, so that a rename does it
    assert contents(tmp_path / "deep" / "folder") == {"a": b"1", "b": b""}
    assert names(tmp_path / "deep") == ["folder"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("exists", [True, False])
def test_an_error_inside_the_block_leaves_nothing(tmp_path: Path, error: type[BaseException], exists: bool) -> None:
    if exists:
        update_folder(tmp_path / "folder", OLD)
    with pytest.raises(error), new_folder(tmp_path / "folder") as temporary:  # noqa: PT012
        (temporary / "a").write_bytes(b"new")
        raise error
    assert names(tmp_path) == (["folder"] if exists else [])
    assert not exists or contents(tmp_path / "folder") == OLD


@pytest.mark.parametrize("path", [".", "..", "sub/.."])
def test_a_new_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(TextgenError, match=r"Cannot write .*\.: it is a folder that exists\. Choose a name\."),
        new_folder(Path(path)),
    ):
        raise AssertionError
    assert names(tmp_path) == []


def test_a_folder_that_could_not_be_made_is_known_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = tmp_path / ("n" * folders.NAME_BYTES)
    for content in (b"1", b"2"):
        check_new_folder(longest)
        with new_folder(longest) as temporary:
            (temporary / "a").write_bytes(content)
    check_new_folder(tmp_path / "deep" / "folder")
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(os.path, "ismount", lambda path: path.name == "disk")
    for path, words in {
        tmp_path / "sub" / "..": "Choose a name",
        longest.with_name(f"{longest.name}n"): "its name has 230 bytes, and a temporary name .* at most 229 bytes",
        tmp_path / "disk": "a disk is mounted there",
        tmp_path / "file" / "folder": "Not a directory",
    }.items():
        with pytest.raises(TextgenError, match=words):
            check_new_folder(path)


def test_new_folder_replaces_a_folder(tmp_path: Path) -> None:
    update_folder(tmp_path / "folder", OLD)
    with new_folder(tmp_path / "folder") as temporary:
        (temporary / "a").write_bytes(b"new")
    assert contents(tmp_path / "folder") == {"a": b"new"}
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("call", range(3))  # the manifest, the old folder aside, the new one in place
def test_a_new_folder_that_fails_leaves_the_old_one(tmp_path: Path, call: int) -> None:
    update_folder(tmp_path / "folder", OLD)
    with failing(call), pytest.raises(TextgenError, match="what was there before is untouched"):  # noqa: SIM117
        with new_folder(tmp_path / "folder") as temporary:
            (temporary / "a").write_bytes(b"new")
    assert contents(tmp_path / "folder") == OLD
    assert names(tmp_path) == ["folder"]


def test_a_new_folder_that_was_swept_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, mkdir = list[Path](), Path.mkdir

    def swept(path: Path, *arguments: Any, **options: Any) -> None:
        mkdir(path, *arguments, **options)
        if path.name.startswith(files.TEMPORARY):
            made.append(path)
            if len(made) < 3:
                path.rmdir()

    monkeypatch.setattr(Path, "mkdir", swept)
    with new_folder(tmp_path / "folder") as temporary:
        assert temporary == made[2]
    assert names(tmp_path) == ["folder"]


def test_a_new_folder_does_not_replace_one_that_is_held(tmp_path: Path) -> None:
    """A training holds its empty folder while it learns a vocabulary."""
    folder = tmp_path / "folder"
    folder.mkdir()

    def write() -> None:
        with new_folder(folder, replace=False) as temporary:
            (temporary / "a").write_bytes(b"1")

    with locked(folder):
        with pytest.raises(InUse):
            write()
        assert names(tmp_path) == ["folder"]
        assert names(folder) == []
    (folder / ".DS_Store").touch()
    write()
    (folder / ".DS_Store").touch()
    with pytest.raises(TextgenError, match=r"Cannot write .*not empty"):
        write()
    assert contents(folder) == {"a": b"1"}
    assert (folder / ".DS_Store").exists()
    other = tmp_path / "other"
    (other / ".DS_Store").mkdir(parents=True)
    with pytest.raises(TextgenError, match=r"Cannot write .*not empty"), new_folder(other, replace=False):
        pass
    assert names(other) == [".DS_Store"]


def test_files_in_the_folders_of_a_new_folder_are_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = list[str]()
    for function in ("sync_file", "sync_folder"):
        monkeypatch.setattr(folders, function, lambda path: flushed.append(path.name))
    with new_folder(tmp_path / "folder") as temporary:
        (temporary / "deep" / "deeper").mkdir(parents=True)
        for place in ("top", "deep/weights", "deep/deeper/more"):
            (temporary / place).write_bytes(b"x")
    assert {"top", "deep", "weights", "deeper", "more"} <= set(flushed)


def test_a_new_folder_removes_what_killed_processes_left_of_the_same_folder(tmp_path: Path) -> None:
    name = "shard[1]"
    for leftover in (f".tmp-{name}-ab", f".tmp-old-12-{name}", f".tmp-old-34-{name}", ".tmp-other-ab"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "file").write_bytes(b"half")
    for content in (b"1", b"2"):
        with new_folder(tmp_path / name) as temporary:
            (temporary / "file").write_bytes(content)
    assert names(tmp_path) == [".tmp-other-ab", name]
    assert contents(tmp_path / name) == {"file": b"2"}


# --- Several files of a folder -------------------------------------------------------------------------------


def test_update_folder_replaces_and_adds(tmp_path: Path) -> None:
    update_folder(tmp_path / "folder", OLD)
    (tmp_path / "folder" / "notes").write_bytes(b"not ours")
    update_folder(tmp_path / "folder", {"b": b"new b", "d": b"new d"})
    assert contents(tmp_path / "folder") == OLD | {"b": b"new b", "d": b"new d"}
    assert names(tmp_path / "folder") == [MANIFEST, "a", "b", "c", "d", "notes"]


def test_a_crash_leaves_all_files_old_or_all_new(tmp_path: Path) -> None:
    folder, changes = tmp_path / "folder", {"a": b"new a, longer", "b": b"new b", "d": b"new d"}
    update_folder(folder, OLD)
    states = [contents(state) for state in crashes(folder, tmp_path, lambda: update_folder(folder, changes))]
    assert all(state in (OLD, OLD | changes) for state in states)
    assert states == sorted(states, key=lambda state: state != OLD), "once new, new it stays"
    assert (states[0], states[-1]) == (OLD, OLD | changes)
    assert len(states) == 13  # two for each of 4 writes, one for each of 4 renames, and the end


def test_a_crash_in_the_update_after_a_crash_mixes_nothing(tmp_path: Path) -> None:
    folder, first, second = tmp_path / "folder", {"a": b"A", "b": b"B"}, {"b": b"22", "c": b"333"}
    update_folder(folder, OLD)
    for state in crashes(folder, tmp_path / "first", lambda: update_folder(folder, first)):
        before = contents(state)
        copies = tmp_path / f"second-{state.name}"
        for later in crashes(state, copies, partial(update_folder, state, second)):
            assert contents(later) in (before, before | second)
        assert contents(state) == before | second


def test_a_crash_in_the_first_save_leaves_no_model_or_a_whole_one(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for state in crashes(folder, tmp_path, lambda: update_folder(folder, OLD)):
        if (state / MANIFEST).exists():
            assert contents(state) == OLD
        update_folder(state, {"a": b"A", "b": b"B", "c": b"C"})
        assert contents(state) == {"a": b"A", "b": b"B", "c": b"C"}


def test_a_failure_at_any_call_leaves_all_old_or_all_new_and_the_next_try_mends_it(tmp_path: Path) -> None:
    changes = {"a": b"new a", "d": b"new d"}
    outcomes = []
    for call in range(100):
        folder = tmp_path / str(call)
        update_folder(folder, OLD)
        with failing(call) as tried:
            try:
                update_folder(folder, changes)
            except TextgenError:
                outcomes.append(contents(folder))
        assert contents(folder) in (OLD, OLD | changes)
        update_folder(folder, changes)
        assert contents(folder) == OLD | changes
        assert names(folder) == [MANIFEST, "a", "b", "c", "d"]
        if len(tried) <= call:
            break
    assert outcomes == [OLD] * 4 + [OLD | changes] * 2  # writes a, d, manifest; renames manifest, a, d


def test_a_full_disk_keeps_the_old_files_and_gives_the_room_back(
    tmp_path: Path, disk_of: Callable[[int], AbstractContextManager[None]]
) -> None:
    update_folder(tmp_path, OLD)
    with disk_of(1000), pytest.raises(TextgenError, match="File too large"):
        update_folder(tmp_path, {"a": bytes(5000)})
    assert contents(tmp_path) == OLD
    assert names(tmp_path) == [MANIFEST, "a", "b", "c"]


def test_an_update_mends_the_damage_it_replaces_and_refuses_to_keep_other_damage(tmp_path: Path) -> None:
    update_folder(tmp_path, OLD)
    (tmp_path / "a").write_bytes(b"bad a")
    with pytest.raises(SavedModelError, match="a was altered"):
        update_folder(tmp_path, {"b": b"new"})
    update_folder(tmp_path, {"a": b"new"})
    assert contents(tmp_path) == OLD | {"a": b"new"}


# --- Manifests -----------------------------------------------------------------------------------------------


def manifest(folder: Path, files: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST).write_bytes(json_bytes({"files": files}))
    return folder


def test_verified_says_what_is_wrong(tmp_path: Path) -> None:
    update_folder(tmp_path, {"a": b"12345"})
    entry = read_manifest(tmp_path)["files"]["a"]
    assert verified(tmp_path, "a", entry) == tmp_path / "a"
    for damage, message in ((b"123", "is 3 bytes long, not 5"), (b"12x45", "was altered")):
        (tmp_path / "a").write_bytes(damage)
        with pytest.raises(SavedModelError, match=rf"{tmp_path}/a {message}\. Copy the whole folder again"):
            verified(tmp_path, "a", entry)
    (tmp_path / "a").unlink()
    with pytest.raises(SavedModelError, match=rf"{tmp_path}/a is missing\. Copy the whole folder again"):
        verified(tmp_path, "a", entry)


def test_what_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update_folder(tmp_path, {"a": b"12345"})
    entry = read_manifest(tmp_path)["files"]["a"]

    def refuse(path: Path) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(folders, "sha256", refuse)
    with pytest.raises(SavedModelError, match=rf"Cannot read {tmp_path}/a: Permission denied\."):
        verified(tmp_path, "a", entry)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    entry = {"size": (tmp_path / "a").stat().st_size, "sha256": "0" * 64}
    with pytest.raises(SavedModelError, match=r"Cannot read .*/a: Is a directory"):
        verified(tmp_path, "a", entry)


@pytest.mark.parametrize("name", ["../x", "..", ".", "", "deep/x", "/etc/hostname", "x/", "./x", "x\0"])
def test_a_manifest_reaches_nothing_outside_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    update_folder(tmp_path / "inner", {"x": b"12345"})
    entry = read_manifest(tmp_path / "inner")["files"]["x"]
    folder = manifest(tmp_path / "inner", {name: entry})
    with pytest.raises(SavedModelError, match="is outside its folder"):
        contents(folder)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "\xff", "[]", "7", "null", "{}", '{"files": []}', '{"files": 1}', '{"files": {"a": 1}}',
        '{"files": {"a": {}}}', '{"files": {"a": {"size": 1}}}', '{"files": {"a": {"size": "1", "sha256": "0"}}}',
        '{"files": {"a": {"size": 1, "sha256": 0}}}', "[" * 200_000,
    ],
    ids=lambda text: text[:24],
)  # fmt: skip
def test_a_damaged_manifest_is_one_clear_line(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(SavedModelError) as caught:
        read_manifest(tmp_path)
    assert str(tmp_path / MANIFEST) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_manifest_is_told_from_one_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SavedModelError, match=r"has no MANIFEST\.json: it is incomplete"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST).mkdir()
    with pytest.raises(SavedModelError, match=r"Cannot read .*MANIFEST\.json: Is a directory"):
        read_manifest(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_files_of_a_folder_keep_their_mode(tmp_path: Path) -> None:
    update_folder(tmp_path, {"weights": b"old"})
    usual = (tmp_path / "weights").stat().st_mode
    (tmp_path / "weights").chmod(0o600)
    update_folder(tmp_path, {"weights": b"new", "words": b"new"})
    assert (tmp_path / "weights").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "words").stat().st_mode == usual


# --- What killed processes leave -----------------------------------------------------------------------------


HOURS_AGO = time.time() - 2 * folders.YOUNG_SECONDS


def old(folder: Path) -> Path:
    """A folder with something in it that has not changed for hours."""
    (folder / "0").mkdir(parents=True)
    (folder / "0" / "train.bin").write_bytes(b"ids")
    os.utime(folder, (HOURS_AGO, HOURS_AGO))
    return folder


def test_only_old_folders_of_that_name_are_swept(tmp_path: Path) -> None:
    for name in ("epochs-a", "epochs-b", "tokens", "my-epochs-a"):
        old(tmp_path / name)
    (tmp_path / "epochs-link").symlink_to("tokens")
    (tmp_path / "epochs-new").mkdir()
    sweep_abandoned(folders_named(tmp_path, "epochs-.+"))
    assert names(tmp_path) == ["epochs-link", "epochs-new", "my-epochs-a", "tokens"]
    sweep_abandoned(folders_named(tmp_path / "nowhere", "epochs-.+"))


def test_what_is_in_use_stays_until_it_is_not(tmp_path: Path) -> None:
    folder = old(tmp_path / "epochs-a")
    with locked(folder):
        sweep_abandoned(folders_named(tmp_path, "epochs-.+"))
        assert (folder / "0" / "train.bin").exists()
    sweep_abandoned(folders_named(tmp_path, "epochs-.+"))
    assert names(tmp_path) == []


def test_what_another_process_uses_stays_until_it_is_killed(tmp_path: Path) -> None:
    folder = old(tmp_path / "epochs-a")
    code = (
        "import sys, pathlib, textgen.storage.locks\n"
        "with textgen.storage.locks.locked(pathlib.Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(folder)]
    with child_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "locked\n"
        sweep_abandoned(folders_named(tmp_path, "epochs-.+"))
        assert names(tmp_path) == ["epochs-a"]
        process.send_signal(signal.SIGKILL)
        process.wait()
    sweep_abandoned(folders_named(tmp_path, "epochs-.+"))
    assert names(tmp_path) == []


def test_where_there_are_no_locks_nothing_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked(old(tmp_path / "epochs-a")):
        pass
    sweep_abandoned(folders_named(tmp_path, "epochs-.+"))
    with new_folder(tmp_path / "shard") as temporary:
        (temporary / "file").write_bytes(b"half")
        sweep(tmp_path)
        assert (temporary / "file").exists()
    assert names(tmp_path) == ["epochs-a", "shard"]


def test_every_temporary_name_is_random() -> None:
    """Whoever makes one, in whatever module."""
    modules = Path(textgen.__file__).parent.rglob("*.py")
    lines = [line for path in modules for line in path.read_text("utf-8").splitlines() if "TEMPORARY" in line]
    made = [line for line in lines if "with_name(" in line or "prefix=" in line or " / f" in line]
    random = ("random_hex()", "token_hex(", "mkdtemp(", "TemporaryDirectory(")
    assert len(made) > 3
    assert [line for line in made if not any(word in line for word in random)] == []


def test_sweep_removes_what_a_killed_process_left_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".tmp-123-file").write_bytes(b"half")
    (tmp_path / ".tmp-folder-x").mkdir()
    (tmp_path / ".tmp-folder-x" / "file").write_bytes(b"half")
    (tmp_path / "kept").write_bytes(b"")
    (tmp_path / ".hidden").write_bytes(b"")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"mine")
    (tmp_path / ".tmp-link").symlink_to("elsewhere")
    (tmp_path / ".tmp-old-odd").mkdir()  # not as we name them
    (tmp_path / ".tmp-old-1-put-back").mkdir()
    sweep(tmp_path)
    assert names(tmp_path) == [".hidden", "elsewhere", "kept", "put-back"]
    assert names(tmp_path / "elsewhere") == ["file"]
    sweep(tmp_path / "nowhere")


def test_sweep_leaves_what_is_being_written(tmp_path: Path) -> None:
    with new_folder(tmp_path / "folder") as temporary:
        (temporary / "file").write_bytes(b"half")
        sweep(tmp_path)
        sweep(tmp_path, "folder-")
        assert (temporary / "file").exists()
        with pytest.raises(TextgenError, match="Another process is writing to"), locked(temporary):
            pass
    assert names(tmp_path / "folder") == [MANIFEST, "file"]
    with locked(tmp_path / "folder"):
        pass
