"""Finds files below folders, and passes over what textgen writes itself, from which nothing is to be learned."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from textgen.errors import CorpusError
from textgen.storage.files import read_file
from textgen.storage.folders import MANIFEST
from textgen.storage.remote import RemoteFile, shown

PREPARED = "prepared.json"  # marks a folder of token ids, not text: see `textgen.dataset.prepared_corpus`
CONFIG = "config.json"  # beside a manifest, marks a saved model: see `textgen.saved_model.layout`
TRAINING = "training.json"  # marks a model that is being trained, if it is a record of textgen
RECORDED = {"corpus", "model", "tokenizer"}  # sections by which such a record is known
RECORD_BYTES = 1 << 25  # largest record


class Walk:
    """Finds files below folders, and remembers what it passed over.

    Args:
        without: A prepared folder that is passed over, or None.

    Attributes:
        broken: Broken symbolic links.
        models: Folders of saved models.
    """

    def __init__(self, without: Path | None = None) -> None:
        self.broken: list[Path] = []
        self.models: list[Path | str] = []
        self._without = os.path.realpath(without) if without else None
        self._inside: dict[Path, bool] = {}  # whether a folder is one that is passed over, or within it

    def is_left_out(self, folder: str | Path) -> bool:
        """Whether a folder is the one that is passed over."""
        return self._without is not None and os.path.realpath(folder) == self._without

    def files_below(self, path: Path) -> list[Path]:
        """Lists the files below a folder, sorted, without hidden files.

        Links to folders are followed. Each folder is entered only once, so cycles of links are harmless.

        Args:
            path: A folder, or a file, which gives a list of that file.

        Raises:
            CorpusError: There is a prepared corpus.
            OSError: A folder cannot be read.
        """

        def refuse(error: OSError) -> None:
            raise error

        names = [path] if not path.is_dir() else list[Path]()
        entered: set[tuple[int, int]] = set()
        for folder, folders, found in os.walk(path, onerror=refuse, followlinks=True) if path.is_dir() else ():
            status = os.stat(folder)
            is_passed = (status.st_dev, status.st_ino) in entered
            entered.add((status.st_dev, status.st_ino))
            if is_passed or self._is_own(Path(folder), {*found, *folders}.__contains__):
                folders[:] = []
                continue
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            names += [Path(folder, name) for name in found if not name.startswith(".")]
        self.broken += sorted(
            {name for name in names if name.is_symlink() and not name.exists()}.difference(self.broken)
        )
        return sorted(name for name in names if name.is_file())

    def matching(self, matches: Iterable[str]) -> list[Path]:
        """Lists the files that a pattern matches, and those below the folders that it matches.

        Args:
            matches: Paths that the pattern matches.

        Raises:
            CorpusError: There is a prepared corpus, or something within one.
            OSError: A folder cannot be read.
        """
        paths = [path for path in map(Path, matches) if not self._is_within(path.parent)]
        return [file for path in paths for file in self.files_below(path)]

    def elsewhere(self, files: Sequence[RemoteFile]) -> list[RemoteFile]:
        """Leaves out the files of saved models among those of a folder elsewhere.

        Args:
            files: The files.

        Raises:
            CorpusError: There is a prepared corpus.
        """
        there, models = {file.path for file in files}, list[str]()
        for file in files:
            if PurePosixPath(file.path).name != MANIFEST:
                continue
            folder = file.path.removesuffix(MANIFEST)
            address = shown(file.address).replace(f"/{MANIFEST}", "")
            if f"{folder}{PREPARED}" in there:
                raise prepared_error(address)
            if f"{folder}{CONFIG}" in there:
                models.append(folder)
                self.models.append(address)
        return [file for file in files if not file.path.startswith(tuple(models))]

    def _is_within(self, folder: Path) -> bool:
        """Whether a folder is within one of textgen's own, or is one."""
        if folder not in self._inside:
            is_top = folder.parent == folder
            is_within = not is_top and self._is_within(folder.parent)
            self._inside[folder] = is_within or self._is_own(folder, lambda name: os.path.exists(folder / name))
        return self._inside[folder]

    def _is_own(self, folder: Path, has: Callable[[str], bool]) -> bool:
        """Whether a folder with certain names is one of textgen's own, which is passed over."""
        if has(PREPARED) and has(MANIFEST):
            if self.is_left_out(folder):
                return True
            raise prepared_error(folder)
        if not (has(MANIFEST) and has(CONFIG)) and not (has(TRAINING) and has_record(folder)):
            return False
        if folder not in self.models:
            self.models.append(folder)
        return True


def has_record(folder: Path) -> bool:
    """Checks whether the training.json in a folder is one of textgen, to its sections.

    Args:
        folder: The folder. It may lack the file.
    """
    try:
        return is_record(read_file(folder / TRAINING, RECORD_BYTES))
    except OSError:
        return False


def is_record(data: bytes) -> bool:
    """Checks whether the content of a training.json is that of one of textgen, to its sections."""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and record.keys() >= RECORDED


def prepared_error(folder: Path | str) -> CorpusError:
    """The error for a prepared corpus where text was expected, to be raised."""
    return CorpusError(
        f"{folder} is a prepared corpus, which contains token ids and no text. Only textgen train reads it, "
        "as its only path. Name the text that it was prepared from."
    )
