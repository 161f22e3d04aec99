"""Finds files below folders, and passes over what textgen writes itself, from which nothing is to be learned."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from textgen.errors import CorpusError
from textgen.schema import json_object
from textgen.storage.addresses import is_remote, without_secrets
from textgen.storage.file_reading import read_file
from textgen.storage.manifests import MANIFEST
from textgen.storage.model_files import CARD, CHECKPOINTS, CONFIG, LOGS, RECORD_BYTES, TRAINING
from textgen.storage.names import is_backup, is_desktop_file, is_hidden
from textgen.storage.remote_files import RemoteFile

PREPARED = "prepared.json"  # marks a folder of token ids, not text: see `textgen.dataset.prepared_corpus`
RECORDED = {"corpus", "model", "tokenizer"}  # sections by which a record of textgen is known
NAMES = (MANIFEST, PREPARED, CONFIG, TRAINING, CARD)  # files that suggest that textgen wrote a remote folder
PARTS, SHARD = (LOGS, CHECKPOINTS), "shard-"  # names of subfolders that suggest it, and the prefix of others


class Walk:
    """Finds files below folders, and remembers what it passed over.

    Args:
        without: A folder that is passed over if it is a prepared one, or None.

    Attributes:
        broken: Broken symbolic links.
        models: Folders of saved models.
    """

    def __init__(self, without: Path | None = None) -> None:
        self.broken: list[Path] = []
        self.models: list[Path | str] = []
        self._without = os.path.realpath(without) if without else None
        self._noted: set[Path] = set()  # broken links and models, where they lie really
        self._inside: dict[Path, bool] = {}  # whether a folder is passed over, or lies within such a folder

    def is_left_out(self, folder: str | Path) -> bool:
        """Whether a folder is the one that is passed over, and prepared by now: another process may have begun it."""
        is_it = self._without is not None and os.path.realpath(folder) == self._without
        return is_it and os.path.exists(os.path.join(folder, PREPARED))

    def files_below(self, path: Path) -> list[Path]:
        """Lists the files below a folder, sorted, without hidden files.

        Links to folders are followed. Each folder is entered only once, so cycles of links are harmless.

        Args:
            path: A folder, or a file, which gives a list of that file.

        Returns:
            The paths of the files.

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
            names_in, is_run = {*found, *folders}, partial(has_record, Path(folder))
            if is_passed or self._is_own(Path(folder), names_in.__contains__, is_run):
                folders[:] = []
                continue
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            names += [Path(folder, name) for name in found if not is_hidden(name)]
        for name in sorted({name for name in names if name.is_symlink() and not name.exists()}):
            place = name.parent.resolve() / name.name  # which may exist, if the name leads through too many links
            if not place.exists() and self._is_new(place):
                self.broken.append(name)
        return sorted(name for name in names if name.is_file())

    def _is_new(self, place: Path) -> bool:
        """Whether a real path has not been noted yet: links to folders give it other names. Notes it."""
        is_new = place not in self._noted
        self._noted.add(place)
        return is_new

    def matching(self, matches: Iterable[str], pattern: str) -> list[Path]:
        """Lists the files that a pattern matches, and those below the folders that it matches, without hidden ones.

        Args:
            matches: Paths that the pattern matches.
            pattern: The pattern, which matches backups of editors on purpose if it ends as they do.

        Returns:
            The paths of the files.

        Raises:
            CorpusError: There is a prepared corpus, or something within one.
            OSError: A folder cannot be read.
        """
        paths = [path for path in map(Path, matches) if not self._is_within(path.parent)]
        is_passed = is_desktop_file if is_backup(pattern) else lambda name: is_desktop_file(name) or is_backup(name)
        return [file for path in paths if path.is_dir() or not is_passed(path.name) for file in self.files_below(path)]

    def elsewhere(self, files: Sequence[RemoteFile], *, are_all: bool) -> list[RemoteFile]:
        """Leaves out the files of saved models among those of a folder elsewhere, or that a pattern matches there.

        Args:
            files: The files.
            are_all: Whether they are all files of a folder. Otherwise the other side is asked for others beside them,
                once for each folder that has a file as models have.

        Returns:
            The other files, in the same order.

        Raises:
            CorpusError: There is a prepared corpus, or something within one.
            RemoteError: The other side cannot be reached.
        """
        there = {file.path for file in files}
        found = _candidates(files).items()
        own = tuple(folder for folder, file in found if self._is_own_at(folder, file, there, are_all=are_all))
        return [file for file in files if not file.path.startswith(own)]

    def _is_within(self, folder: Path) -> bool:
        """Whether a folder was written by textgen, or is within such a folder."""
        if folder not in self._inside:
            is_top = folder.parent == folder
            is_within = not is_top and self._is_within(folder.parent)
            self._inside[folder] = is_within or self._is_own(folder, partial(_has, folder), partial(has_record, folder))
        return self._inside[folder]

    def _is_own_at(self, folder: str, file: RemoteFile, there: Container[str], *, are_all: bool) -> bool:
        """Whether the remote folder of a file was written by textgen; see `elsewhere`."""

        @cache
        def has(name: str) -> bool:
            path = f"{folder}{name}"
            return path in there or (not are_all and file.has_beside(path))

        def is_run() -> bool:
            return is_record(replace(file, path=f"{folder}{TRAINING}").head(RECORD_BYTES))

        return self._is_own(_address_of(folder, file), has, is_run)

    def _is_own(self, folder: Path | str, has: Callable[[str], bool], is_run: Callable[[], bool]) -> bool:
        """Whether a folder with certain names was written by textgen, and is therefore passed over.

        Args:
            folder: The folder, or its address.
            has: Whether it has a file of a name.
            is_run: Whether its training.json was written by textgen.
        """
        if has(MANIFEST) and has(PREPARED):
            if self.is_left_out(folder):
                return True
            raise prepared_error(folder)
        if not (has(MANIFEST) and has(CONFIG)) and not (has(TRAINING) and is_run()):
            return False
        if isinstance(folder, Path):
            if self._is_new(folder.resolve()):
                self.models.append(folder)
        elif folder not in self.models:
            self.models.append(folder)
        return True


class LinksOut:
    """Finds the links below folders by which files elsewhere were read, of which whoever made them may not know."""

    def __init__(self) -> None:
        self._links: dict[Path, Path] = {}  # real path of a file elsewhere -> the link to it, or to a folder above it
        self._within: set[Path] = set()  # real paths of other files

    def note(self, name: str, files: Iterable[tuple[Path, Path]]) -> None:
        """Notes which files were read.

        Args:
            name: The file, folder, glob pattern or address that led to them.
            files: The path and the real path of each.
        """
        folder = _folder_of(name)
        real = folder and folder.resolve()
        for path, target in files:
            if folder is None or real is None or target.is_relative_to(real):
                self._within.add(target)
            else:
                self._links.setdefault(target, _first_link(path, folder, real))

    def found(self) -> list[Path]:
        """The links, in the order of the files. A file that was also found without a link out does not count."""
        return list(dict.fromkeys(link for target, link in self._links.items() if target not in self._within))


def _folder_of(name: str) -> Path | None:
    """A folder that is named, or that of a glob pattern, above its first part with a wildcard. None for others."""
    path = Path(name)
    if is_remote(name):
        return None
    if path.is_dir():
        return path
    magic = () if path.exists() else (place for place, part in enumerate(path.parts) if glob.has_magic(part))
    return next((Path(*path.parts[:place]) for place in magic), None)


def _first_link(path: Path, folder: Path, real: Path) -> Path:
    """The first link on the way from a folder to a file that is not below the folder's real path."""
    steps = (step for step in (*reversed(path.parents), path) if step != folder and step.is_relative_to(folder))
    return next((step for step in steps if step.is_symlink() and not step.resolve().is_relative_to(real)), path)


def _has(folder: Path, name: str) -> bool:
    """Whether a folder has exactly this name, also on a disk that ignores case."""
    if not os.path.exists(folder / name):
        return False
    try:
        return name in os.listdir(folder)
    except OSError:  # it may be entered, but not listed
        return True


def _candidates(files: Iterable[RemoteFile]) -> dict[str, RemoteFile]:
    """Finds remote folders that textgen may have written, each with a file whose name suggests it.

    The paths of the folders end in a slash, or are empty.
    """
    found: dict[str, RemoteFile] = {}
    for file in files:
        *folders, name = file.path.split("/")
        ends = [number for number, part in enumerate(folders) if part in PARTS or part.startswith(SHARD)]
        ends += [len(folders)] if name in NAMES else []
        for end in ends:
            found.setdefault("".join(f"{part}/" for part in folders[:end]), file)
    return found


def _address_of(folder: str, file: RemoteFile) -> str:
    """The address of the folder of a file, as messages show it."""
    first, *links = without_secrets(file.address).split("::")
    first = first.removesuffix(file.path.removeprefix(folder))
    return "::".join([first if first.endswith("://") else first.rstrip("/"), *links])


def has_record(folder: Path) -> bool:
    """Checks by its sections whether the training.json in a folder was written by textgen.

    Args:
        folder: The folder. It may lack the file.
    """
    try:
        return is_record(read_file(folder / TRAINING, RECORD_BYTES))
    except OSError:
        return False


def is_record(data: bytes) -> bool:
    """Checks by its sections whether a training.json was written by textgen."""
    try:
        return json_object(data).keys() >= RECORDED
    except ValueError:
        return False


def prepared_error(folder: Path | str) -> CorpusError:
    """The error for a prepared corpus where text was expected, to be raised."""
    return CorpusError(
        f"{folder} is a prepared corpus, which contains token ids and no text. Only textgen train reads it, "
        "as its only path. Name the text that it was prepared from."
    )
