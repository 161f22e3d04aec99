"""Files and folders that are whole or not there.

Everything that textgen writes goes to a temporary name beside its target, is flushed to the disk, and is
renamed. A folder carries a `MANIFEST.json` with the size and sha256 of each of its files.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from textgen.errors import SavedModelError, TextgenError

MANIFEST = "MANIFEST.json"
PENDING = ".new"  # a file that the manifest already counts on, not yet renamed into place
TEMPORARY = ".tmp-"
YOUNG_SECONDS = 3600.0  # since a folder was changed
HOLD_TRIES, HOLD_SECONDS = 100, 0.01
ASIDE = f"{TEMPORARY}old-"  # then the process and the name that the folder had


def cache_folder(say: Callable[[str], None] = lambda line: None) -> Path:
    """Where work that can be redone is kept: $TEXTGEN_CACHE, else textgen in the user's cache folder.

    Where nobody named one and that cannot be written to, it is a temporary one, until the program ends; `say` is told.
    Raises `TextgenError` where $TEXTGEN_CACHE cannot be written to.
    """
    folder = named_cache_folder()
    if folder and _is_usable(folder):
        return folder
    if folder and os.environ.get("TEXTGEN_CACHE"):
        raise TextgenError(
            f"Cannot write to {folder}, where TEXTGEN_CACHE says: set it to a folder that you can write to."
        )
    temporary = _temporary_cache()
    say(
        f"Cannot write to {folder or 'a cache folder, since there is no home folder'}: encoded text is kept in "
        f"{temporary} until this program ends. Set TEXTGEN_CACHE to a folder that you can write to, to keep it longer."
    )
    return temporary


def named_cache_folder() -> Path | None:
    """The cache folder by the environment, whether it can be used or not; None for a user without a home folder."""
    if folder := os.environ.get("TEXTGEN_CACHE"):
        return Path(folder)
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder, "textgen")
    with suppress(RuntimeError):  # no HOME, and no entry among the users
        return Path.home() / ".cache" / "textgen"
    return None


def _is_usable(folder: Path) -> bool:
    """Whether a folder can be written to, or made."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except OSError:
        return False


@lru_cache(maxsize=1)
def _temporary_cache() -> Path:
    folder, process = tempfile.mkdtemp(prefix="textgen-cache-"), os.getpid()

    def remove() -> None:
        if os.getpid() == process:  # not a fork of it
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return Path(folder)


def write_file(path: Path, data: bytes) -> None:
    """Writes `data` to `path` so that a crash leaves either the old file or the new one, with the old one's mode.

    Where `path` is a link, what it leads to is written.
    """
    with writing(path):
        target = Path(os.path.realpath(path))
        temporary = target.with_name(f"{TEMPORARY}{os.getpid()}-{target.name}")
        try:
            if target.exists():
                temporary.touch(0o600)  # what was private is never open to others
            _write_through(temporary, data)
            with suppress(OSError):  # there was no file, or its file system has no modes
                shutil.copymode(target, temporary)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)


@contextmanager
def new_folder(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """A temporary folder that becomes `path`, with a manifest, when the block ends without an error.

    What is there already is replaced; without `replace` it stays, unless it is an empty folder, and this fails. Until
    then the folder is locked, so that nobody takes it for one that a killed process left.
    """
    with writing(path), ExitStack() as stack:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _begin_folder(path, stack)
        try:
            yield temporary
            files = sorted(file for file in temporary.iterdir() if file.is_file())
            for file in files:
                _sync_file(file)
            manifest = {file.name: {"size": file.stat().st_size, "sha256": sha256(file)} for file in files}
            _write_through(temporary / MANIFEST, json_bytes({"files": manifest}))
            _sync_folder(temporary)
            temporary.chmod(0o755)  # mkdtemp's own is for its owner only
            (_rename_folder if replace else os.rename)(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _sync_folder(path.parent)


def _begin_folder(path: Path, stack: ExitStack) -> Path:
    """A temporary folder beside `path`, locked until the stack is left."""
    while True:
        temporary = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{path.name}-", dir=path.parent))
        with suppress(InUse, FileNotFoundError):  # somebody who sweeps was faster
            stack.enter_context(_lock(temporary))
            if temporary.exists():
                return temporary


def update_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Replaces or adds `files` in a folder with a manifest, all of them or none.

    The new contents are written beside the old as `NAME.new`; renaming the manifest is the moment at
    which they count; then they are renamed into place. `verified` finds a file under either name.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        entries = read_manifest(path)["files"] if (path / MANIFEST).exists() else {}
        for name, entry in entries.items():  # what an interrupted update left unrenamed is put in place first
            with suppress(SavedModelError) if name in files else nullcontext():  # damage is mended by `files`
                settled = verified(path, name, entry)
                if settled.name != name:
                    os.replace(settled, path / name)
        _sync_folder(path)
        for name, data in files.items():
            _write_pending(path / f"{name}{PENDING}", data)
            entries[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        _sync_folder(path)
        write_file(path / MANIFEST, json_bytes({"files": entries}))
        for name in files:
            os.replace(path / f"{name}{PENDING}", path / name)
        _sync_folder(path)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a folder. Raises `SavedModelError` where it is missing or damaged."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        for entry in manifest["files"].values():
            if not (isinstance(entry["size"], int) and isinstance(entry["sha256"], str)):
                raise ValueError("a size or a checksum is of the wrong type")
    except FileNotFoundError:
        raise SavedModelError(f"{path} has no {MANIFEST}: it was not written to its end, or is not ours.") from None
    except OSError as error:
        raise SavedModelError(f"Cannot read {path / MANIFEST}: {error.strerror}.") from None
    except KeyError as error:
        raise SavedModelError(f"{path / MANIFEST} lacks {error}. Take the folder from a backup.") from None
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise SavedModelError(f"{path / MANIFEST} is damaged: {error}. Take the folder from a backup.") from None
    return manifest


def verified(path: Path, name: str, entry: Mapping[str, Any]) -> Path:
    """Where the file `name` of a folder is, once its size and checksum agree with the manifest's `entry`."""
    if Path(name).name != name or name in ("", "..") or "\0" in name:
        raise SavedModelError(f"{path / MANIFEST} names {name!r}, which is outside its folder.")
    found = None
    for candidate in (path / name, path / f"{name}{PENDING}"):
        try:
            size = candidate.stat().st_size
            found = size if found is None else found
            if size == entry["size"] and sha256(candidate) == entry["sha256"]:
                return candidate
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SavedModelError(f"Cannot read {candidate}: {error.strerror}.") from None
    if found is None:
        raise SavedModelError(f"{path / name} is missing. Copy the whole folder again, or train the model again.")
    what = f"is {found:,} bytes long, not {entry['size']:,}" if found != entry["size"] else "was altered"
    raise SavedModelError(f"{path / name} {what}. Copy the whole folder again, or train the model again.")


def json_bytes(value: Any) -> bytes:
    """JSON for people and programs: UTF-8, indented."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def sha256(path: Path) -> str:
    """Checksum of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep(path: Path, name: str = "") -> None:
    """Removes temporary files and folders that a killed process left in `path`, of targets that begin with `name` only.

    Folders that another process is writing stay. One that was moved aside and not yet replaced is put back.
    """
    for leftover in path.glob(f"{ASIDE}*"):
        target = path / leftover.name.removeprefix(ASIDE).split("-", 1)[1]
        if f"{target.name}-".startswith(name) and not target.exists():
            with suppress(OSError):
                os.rename(leftover, target)
    for leftover in path.glob(f"{TEMPORARY}{name}*"):
        if leftover.is_dir():
            with suppress(InUse, OSError), _lock(leftover):  # another process is writing there
                shutil.rmtree(leftover, ignore_errors=True)
        else:
            with suppress(OSError):
                leftover.unlink()


def sweep_abandoned(path: Path, name: str) -> None:
    """Removes those folders in `path` whose names begin with `name` that no process holds with `locked` any more.

    Young ones stay: they may be about to be locked, or to be renamed.
    """
    for leftover in path.glob(f"{name}*"):
        with suppress(OSError, TextgenError):  # somebody was faster, or works in it
            if time.time() - leftover.stat().st_mtime > YOUNG_SECONDS:
                with locked(leftover) as is_held:
                    if is_held:
                        shutil.rmtree(leftover, ignore_errors=True)


class InUse(TextgenError):
    """Another process has locked a folder."""


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Holds the folder `path` alone. Raises `InUse` at once if another process holds it, alone or with others.

    Nothing is left behind, however the process ends. File systems that know no such locks do without: it gives False.
    """
    with ExitStack() as stack:
        with writing(path):
            is_held = stack.enter_context(_lock(path))
        yield is_held


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    descriptor, is_held = _descriptor(path, alone=True)
    try:
        yield is_held
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _descriptor(path: Path, *, alone: bool) -> tuple[int | None, bool]:
    """An open folder, locked until it is closed, and whether it could be."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return None, False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InUse(f"Another process is writing to {path}: wait for it to end, or choose another name.") from None
    except OSError:
        return descriptor, False
    return descriptor, True


class Hold:
    """Keeps a folder from being taken for one that nobody uses, for as long as this object is referred to.

    Many may hold a folder; nobody has it alone (`locked`) meanwhile. Where it cannot be held, it is not.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = None
        for _ in range(HOLD_TRIES):  # whoever looks if a folder is in use has it alone for a moment
            with suppress(OSError):
                try:
                    self._descriptor, _ = _descriptor(path, alone=False)
                except InUse:
                    time.sleep(HOLD_SECONDS)
                    continue
            return

    def __del__(self) -> None:
        if getattr(self, "_descriptor", None) is not None:
            os.close(cast(int, self._descriptor))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a failure to write (full disk, no permission, read-only) into one clear line."""
    try:
        yield
    except OSError as error:
        raise TextgenError(
            f"Cannot write {path}: {error.strerror or error}. Free some space or choose another folder; "
            "what was there before is untouched."
        ) from None


def check_writable(path: Path) -> None:
    """Raises `TextgenError` for a file that `write_file` could not write: said before long work, nothing is lost."""
    if not path.parent.is_dir():
        raise TextgenError(f"Cannot write {path}: there is no folder {path.parent}. Make it first.")
    with writing(path), tempfile.TemporaryFile(dir=path.resolve().parent):
        pass


def _rename_folder(source: Path, target: Path) -> None:
    """Renames over a folder that may be there already: it is moved aside first, and back on failure."""
    if not target.exists():
        os.rename(source, target)
        return
    aside = target.with_name(f"{ASIDE}{os.getpid()}-{target.name}")
    os.rename(target, aside)
    try:
        os.rename(source, target)
    except OSError:
        os.rename(aside, target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _write_pending(path: Path, data: bytes) -> None:
    """Writes a file on which no manifest counts yet; what a full disk took of it is removed."""
    try:
        _write_through(path, data)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    with suppress(OSError):  # not every file system can flush a folder
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
