"""The cache of encoded corpora: what is in it, how large it may grow, and what goes first.

    cache folder/
      tokens/KEY/      a corpus, encoded with a vocabulary and split: see `textgen.dataset.token_cache.prepare`
      epochs-XXXX/     a training text in the pieces of the epochs that a run is in: see
      `textgen.dataset.subword_sampling`

Everything here can be made again. What a process uses it holds with a lock (`textgen.storage.Hold`), and only what
nobody holds is ever removed.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from textgen.errors import ConfigError, TextgenError
from textgen.storage import TEMPORARY, InUse, locked

TOKENS = "tokens"
EPOCHS = "epochs-"  # what the names of folders with epochs begin with
LIMIT = "TEXTGEN_CACHE_LIMIT"  # gigabytes of encoded corpora
DEFAULT_LIMIT = 20.0
LONGEST_NAME = 1 << 16  # bytes of a summary that are read for the name of a corpus


@dataclass(frozen=True)
class Entry:
    """A folder of the cache."""

    path: Path
    corpus: str  # names of the first files that it was made from
    bytes: int
    used: float  # when last, in seconds since 1970
    in_use: bool  # by a process at this moment


def entries(cache: Path) -> list[Entry]:
    """What is in a cache folder, that used last first. Other files there are not ours, and are left alone."""
    found = [_entry(path) for path in _folders(cache)]
    return sorted((entry for entry in found if entry), key=lambda entry: -entry.used)


def clear(cache: Path) -> tuple[list[Entry], list[Entry]]:
    """Removes everything that no process uses. Gives what was removed, and what is in use."""
    everything = entries(cache)
    removed = [entry for entry in everything if _remove(entry.path)]
    return removed, [entry for entry in everything if entry not in removed]


def evict(shelf: Path, limit: float) -> None:
    """Removes encoded corpora from the folder `tokens` of a cache until they take at most `limit` bytes.

    Those that were not used for longest go first; those in use stay.
    """
    there = [entry for entry in map(_entry, _encoded(shelf)) if entry]
    total = sum(entry.bytes for entry in there)
    for entry in sorted(there, key=lambda entry: entry.used):
        if total <= limit:
            break
        if _remove(entry.path):
            total -= entry.bytes


def limit_bytes() -> float:
    """How much the encoded corpora in the cache may take. Raises `ConfigError` where TEXTGEN_CACHE_LIMIT is no size."""
    value = os.environ.get(LIMIT) or DEFAULT_LIMIT
    with suppress(ValueError):
        if math.isfinite(gigabytes := float(value)) and gigabytes >= 0:
            return gigabytes * 1e9
    raise ConfigError(f"{LIMIT} must be a number of gigabytes, such as {DEFAULT_LIMIT:g}. Received: {value!r}.")


def _folders(cache: Path) -> Iterator[Path]:
    yield from _encoded(cache / TOKENS)
    yield from _ours(cache, f"{EPOCHS}.+")


def _encoded(shelf: Path) -> Iterator[Path]:
    """Whole ones, and those that are being made or that a killed process left."""
    return _ours(shelf, f"[0-9a-f]{{32}}|{re.escape(TEMPORARY)}.+")


def _ours(folder: Path, names: str) -> Iterator[Path]:
    """The folders in `folder`, which may be missing, with such names; links are not followed."""
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            if re.fullmatch(names, path.name) and path.is_dir() and not path.is_symlink():
                yield path


def _entry(path: Path) -> Entry | None:
    """None where it has gone meanwhile."""
    try:
        used = path.stat().st_mtime
        size = sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
    except OSError:
        return None
    return Entry(path, _corpus(path), size, used, _is_in_use(path))


def _is_in_use(path: Path) -> bool:
    try:
        with locked(path):
            return False
    except TextgenError as error:
        return isinstance(error, InUse)


def _corpus(path: Path) -> str:
    with suppress(OSError, ValueError, AttributeError, RecursionError), (path / "tokens.json").open("rb") as file:
        return str(json.loads(file.read(LONGEST_NAME)).get("corpus", ""))
    return ""


def _remove(path: Path) -> bool:
    """Whether a folder is gone: not where a process uses it, or would not let it go."""
    with suppress(TextgenError, OSError), locked(path) as is_held:
        if is_held:
            aside = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
            os.rename(path, aside)  # at once, so that nobody finds half of it
            shutil.rmtree(aside, ignore_errors=True)
    return not path.exists()
