"""Several files of a folder are replaced together, and what a manifest lists is verified."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from disk import OLD, contents, crashes, failing, names, unreadable

from textgen.errors import SavedModelError, TextgenError, Unreadable
from textgen.storage import manifests
from textgen.storage.files import json_bytes, write_own_file
from textgen.storage.locks import Gone
from textgen.storage.manifests import MANIFEST, read_manifest, update_folder, verified


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
    outcomes, advice = list[dict[str, bytes]](), list[str]()
    for call in range(100):
        folder = tmp_path / str(call)
        update_folder(folder, OLD)
        with failing(call) as tried:
            try:
                update_folder(folder, changes)
            except TextgenError as error:
                outcomes.append(contents(folder))
                advice.append(str(error).partition(". ")[2].partition(",")[0])
                is_left = any(name.endswith(".new") for name in names(folder))
                assert is_left == (outcomes[-1] != OLD), "the disk may be full"
        assert contents(folder) in (OLD, OLD | changes)
        update_folder(folder, changes)
        assert contents(folder) == OLD | changes
        assert names(folder) == [MANIFEST, "a", "b", "c", "d"]
        if len(tried) <= call:
            break
    assert outcomes == [OLD] * 4 + [OLD | changes] * 2  # writes a, d, manifest; renames manifest, a, d
    assert (
        advice
        == ["Free some space or choose another folder; what was there before is untouched."] * 4
        + ["The new files are complete"] * 2
    )


@pytest.mark.parametrize("function", ["write_through", "write_own_file"])
def test_a_signal_leaves_no_files_that_are_not_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def interrupted(path: Path, *others: Any) -> None:
        if path.name in ("d.new", MANIFEST):
            raise KeyboardInterrupt
        usual(path, *others)

    update_folder(tmp_path, OLD)
    usual = getattr(manifests, function)
    monkeypatch.setattr(manifests, function, interrupted)
    with pytest.raises(KeyboardInterrupt):
        update_folder(tmp_path, {"a": b"new a", "d": b"new d"})
    assert (contents(tmp_path), names(tmp_path)) == (OLD, [MANIFEST, "a", "b", "c"])


def test_a_signal_after_the_manifest_is_written_keeps_the_new_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path, data: bytes) -> None:
        write_own_file(path, data)
        raise KeyboardInterrupt

    update_folder(tmp_path, OLD)
    monkeypatch.setattr(manifests, "write_own_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        update_folder(tmp_path, {"a": b"new a", "d": b"new d"})
    assert contents(tmp_path) == OLD | {"a": b"new a", "d": b"new d"}


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


def test_what_an_interrupted_update_has_left_is_not_replaced_while_it_cannot_be_read(tmp_path: Path) -> None:
    update_folder(tmp_path, OLD)
    with unreadable(tmp_path / "a"):
        update_folder(tmp_path, {"a": b"new a"})
    os.rename(tmp_path / "a", tmp_path / "a.new")  # as before the renames
    with unreadable(tmp_path / "a.new"), pytest.raises(Unreadable):
        update_folder(tmp_path, {"a": b"newer"})
    assert contents(tmp_path) == OLD | {"a": b"new a"}


def test_entries_stay_where_the_disk_fails_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.path.lexists` takes an error of the disk for a file that is missing."""
    update_folder(tmp_path, OLD)
    with monkeypatch.context() as patch:
        patch.setattr(os.path, "lexists", lambda path: False)
        update_folder(tmp_path, {"a": b"new a"})
    assert contents(tmp_path) == OLD | {"a": b"new a"}


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


def test_a_file_with_the_line_ends_of_windows_is_told_from_other_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_folder(tmp_path, {"a": b"{\n}\n"})
    entry = read_manifest(tmp_path)["files"]["a"]
    (tmp_path / "a").write_bytes(b"{\r\n}\r\n")
    with pytest.raises(SavedModelError, match=rf"{tmp_path}/a is damaged: its line ends were changed, as git does on"):
        verified(tmp_path, "a", entry)
    with monkeypatch.context() as patch:
        patch.setattr(manifests, "LINES_BYTES", 5)
        with pytest.raises(SavedModelError, match="is 6 bytes long, not 4"):
            verified(tmp_path, "a", entry)
    (tmp_path / "a").write_bytes(b"[\r\n}\r\n")
    with pytest.raises(SavedModelError, match="is 6 bytes long, not 4"):
        verified(tmp_path, "a", entry)


def test_what_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update_folder(tmp_path, {"a": b"12345"})
    entry = read_manifest(tmp_path)["files"]["a"]

    def refuse(path: Path) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(manifests, "sha256", refuse)
    with pytest.raises(SavedModelError, match=rf"Cannot read {tmp_path}/a: Permission denied\."):
        verified(tmp_path, "a", entry)


def test_what_may_be_intact_is_told_from_what_is_damaged(tmp_path: Path) -> None:
    update_folder(tmp_path, {"a": b"12345"})
    entry = read_manifest(tmp_path)["files"]["a"]
    for number in (errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE):
        with unreadable(tmp_path, number):
            with pytest.raises(Unreadable, match=os.strerror(number)):
                verified(tmp_path, "a", entry)
            with pytest.raises(Unreadable, match=os.strerror(number)):
                read_manifest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a").symlink_to("b")
    with pytest.raises(SavedModelError, match="it is a link") as caught:
        verified(tmp_path, "a", entry)
    assert not isinstance(caught.value, Unreadable)


def test_the_checksum_of_a_file_that_is_too_large_is_not_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_folder(tmp_path, {"x": b"12345"})
    entry = read_manifest(tmp_path)["files"]["x"]
    assert verified(tmp_path, "x", entry, 5) == tmp_path / "x"
    monkeypatch.setattr("textgen.storage.manifests.sha256", None)
    with pytest.raises(SavedModelError, match=r"Cannot read .*/x: it has more than 4 bytes, the limit for such a file"):
        verified(tmp_path, "x", entry, 4)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    entry = {"size": (tmp_path / "a").stat().st_size, "sha256": "0" * 64}
    with pytest.raises(SavedModelError, match=r"Cannot read .*/a: Is a directory"):
        verified(tmp_path, "a", entry)


@pytest.mark.parametrize("name", ["../x", "..", ".", "", "deep/x", "/etc/hostname", "x/", "./x", "x\0", "\ud800"])
def test_a_manifest_reaches_nothing_outside_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    update_folder(tmp_path / "inner", {"x": b"12345"})
    entry = read_manifest(tmp_path / "inner")["files"]["x"]
    folder = manifest(tmp_path / "inner", {name: entry})
    with pytest.raises(SavedModelError, match="is no name of a file in its folder"):
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


def test_the_new_files_of_a_process_that_has_taken_the_folder_over_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process was stopped while it wrote; the other one has committed `a.new` meanwhile, under the same name."""
    update_folder(tmp_path, {"a": b"old"})
    theirs = b"theirs"

    def gone(path: Path) -> None:
        (path / "a.new").write_bytes(theirs)
        (path / MANIFEST).write_bytes(json_bytes({"files": {"a": manifests.manifest_entry(theirs)}}))
        raise Gone("Another process has the folder.")

    monkeypatch.setattr(manifests, "require_held", gone)
    with pytest.raises(Gone):
        update_folder(tmp_path, {"a": b"ours"})
    assert verified(tmp_path, "a", read_manifest(tmp_path)["files"]["a"]).read_bytes() == theirs


def test_a_full_disk_is_told_even_if_the_part_that_was_written_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes, mode: int = 0o666) -> None:
        path.write_bytes(data[:1])
        monkeypatch.setattr(Path, "unlink", refuse)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, "it cannot be removed")

    monkeypatch.setattr(manifests, "write_through", full)
    with pytest.raises(TextgenError, match="No space left on device"):
        update_folder(tmp_path, {"a": b"new"})
