"""Files and folders that are whole or not there.

Everything that textgen writes goes to a temporary name beside its target, is flushed to the disk, and is
renamed. A folder carries a `MANIFEST.json` with the size and sha256 of each of its files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from textgen.errors import SavedModelError, TextgenError
from textgen.wording import json_text

MANIFEST = "MANIFEST.json"
PENDING = ".new"  # a file that the manifest already counts on, not yet renamed into place
TEMPORARY = ".tmp-"
YOUNG_SECONDS = 3600.0  # since a folder was changed
ASIDE = f"{TEMPORARY}old-"  # then the process and the name that the folder had


def cache_folder() -> Path:
    """Where work that can be redone is kept: $TEXTGEN_CACHE, else textgen in the user's cache folder."""
    if folder := os.environ.get("TEXTGEN_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "textgen"


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

    What is there already is replaced; without `replace` it stays, unless it is an empty folder, and this fails.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{path.name}-", dir=path.parent))
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
    return f"{json_text(value, indent=2)}\n".encode()


def sha256(path: Path) -> str:
    """Checksum of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep(path: Path, name: str = "") -> None:
    """Removes temporary files and folders that a killed process left in `path`, of targets that begin with `name` only.

    A folder that it had moved aside and not yet replaced is put back.
    """
    for leftover in path.glob(f"{ASIDE}*"):
        target = path / leftover.name.removeprefix(ASIDE).split("-", 1)[1]
        if f"{target.name}-".startswith(name) and not target.exists():
            with suppress(OSError):
                os.rename(leftover, target)
    for leftover in path.glob(f"{TEMPORARY}{name}*"):
        if leftover.is_dir():
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


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Holds the folder `path` alone. Raises `TextgenError` at once if another process holds it.

    Nothing is left behind, however the process ends. File systems that know no such locks do without: it gives False.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield False
        return
    with writing(path):
        descriptor = os.open(path, os.O_RDONLY)
    is_held = False
    try:
        with suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_held = True
            except BlockingIOError:
                raise TextgenError(
                    f"Another process is writing to {path}: wait for it to end, or choose another name."
                ) from None
        yield is_held
    finally:
        os.close(descriptor)


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
