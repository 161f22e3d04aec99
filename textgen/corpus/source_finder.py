"""Finds the text files that paths lead to: files, folders, globs, addresses and standard input."""

from __future__ import annotations

import difflib
import errno
import glob
import os
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from textgen.corpus.config import CorpusConfig
from textgen.corpus.formats.conversion import Conversions
from textgen.corpus.formats.decompression import CHUNK_BYTES, reading
from textgen.corpus.labels import named
from textgen.corpus.left_out import NAMED
from textgen.corpus.source import Source
from textgen.corpus.source_check import about_binary, not_binary
from textgen.corpus.text_decoding import iconv_command
from textgen.corpus.walk import LinksOut, Walk, prepared_error
from textgen.errors import CorpusError
from textgen.storage.addresses import is_remote, local_path, may_be_pattern, without_secrets
from textgen.storage.files import TMPDIR_ADVICE, write_chunks
from textgen.storage.remote_files import find_files
from textgen.storage.temporary import new_temporary_folder, remove_temporary_folder
from textgen.wording import Say, counted

MAX_REASONS = 10  # maximum number of different reasons for skipping files that messages give
STANDARD_INPUT = "standard input"  # its name in messages


class SourceFinder:
    """Finds the files of a corpus, and remembers what it passed over.

    Args:
        config: Settings for reading the files.
        without: A folder that is passed over if it is a prepared one, or None.
        is_alone: Whether no other corpus is read with the same settings.

    Attributes:
        skipped: Binary files in folders and globs.
        outside: Links that lead out of a folder, or out of that of a glob, and by which files were found.
        again: Paths that lead to files that other paths lead to, too, one for each of these files.
        models: Folders of saved models in folders and globs.
        lacking: Files in folders and globs that no installed library reads, and what to install.
        marked_up: Files that are read as plain text with all their markup, by their format and what to do.
        misread: Files that look like UTF-8, but are read in another encoding, which is set.
        books: Books with the licence of Project Gutenberg, and their names for `textgen corpus fetch`.
    """

    def __init__(self, config: CorpusConfig, without: Path | None = None, *, is_alone: bool = True) -> None:
        self.skipped: list[Path | str] = []
        self.lacking: dict[Path | str, str] = {}
        self._kinds: dict[Path | str, str] = {}  # what those in `skipped` are that are no usual binary files
        self._seen: set[Path] = set()  # real paths of files in folders and globs
        self._config = config
        self._walk = Walk(without)
        self._is_alone = is_alone
        self.models = self._walk.models
        self._links: dict[str, str] = {}  # those elsewhere that lead nowhere, and what each is
        self.outside: list[Path] = []
        self.again: list[Path] = []
        self.marked_up: dict[tuple[str, str], list[str]] = {}
        self.misread: list[Path | str] = []
        self.books: dict[Path | str, str] = {}
        self._are_all_misread = False
        self._conversions = Conversions()
        self._temporary: list[weakref.finalize] = []

    @property
    def broken(self) -> list[Path | str]:
        """Links that lead nowhere: broken symbolic links, and addresses of links in archives that lead to no file."""
        return [*self._walk.broken, *self._links]

    def find(self, paths: Sequence[str | Path]) -> list[Source]:
        """Expands paths to a list of files, without duplicates.

        If labels are names of folders, a file that is found in several of them, by links, is read for each label.

        Args:
            paths: Files, folders, glob patterns, addresses, or `-` for standard input, which is copied to a temporary
                file.

        Returns:
            The files, at least one, in the order of the paths.

        Raises:
            CorpusError: A path does not exist or cannot be read, or there are no text files.
        """
        found, links = dict[tuple[Path, str | None], Source](), LinksOut()
        again = dict[Path, Path]()  # real path of a file that is read once -> another path that leads to it
        for name in dict.fromkeys(map(local_path, map(str, paths))):
            with reading(without_secrets(name)):
                sources = [(source.path.resolve(), source) for source in self._expand(name)]
                links.note(name, [(source.path, real) for real, source in sources])
            for real, source in sources:
                kept = found.setdefault((real, source.folder_label), source)
                if os.path.abspath(kept.path) != os.path.abspath(source.path):
                    again.setdefault(real, source.path)
        self.again = list(again.values())
        self.outside = links.found()
        for source in found.values():
            if source.markup:
                self.marked_up.setdefault((source.markup, source.without_markup), []).append(source.name)
        if not found and (left_out := next(filter(self._walk.is_left_out, paths), None)) is not None:
            raise prepared_error(left_out)
        if not found:
            raise CorpusError("No files to read. Name files, folders, or - for standard input.")
        self.misread = [_path_or_address(source) for source in found.values() if source.known.seems_utf8]
        self.books = {_path_or_address(source): source.known.book for source in found.values() if source.known.book}
        self._are_all_misread = len(self.misread) == len(found)
        has_others = len(found) > 1
        is_alone = self._is_alone and not has_others
        return [replace(source, is_alone=is_alone, has_others=has_others) for source in found.values()]

    def say_findings(self, say: Say) -> None:
        """Calls `say` with lines about the binary files, broken links, models and unreadable formats that were skipped.

        One line names the first that were skipped for the same reason, and counts the others.

        Another line counts the links that lead out of a folder, or out of that of a glob, since they are followed, one
        the files to which several links lead, one for each format with markup the files that are read as plain text,
        one the books with the licence of Project Gutenberg, and one the files that are read in an encoding other than
        they seem to be in.
        """
        reasons = {path: self._kinds.get(path, "looks like a binary file") for path in self.skipped}
        groups = _by_reason(reasons)
        for paths, reason in groups[:MAX_REASONS]:
            say(f"Skipped {_listed(paths)}: {'it' if len(paths) == 1 else 'each'} {reason}.")
        if more := sum(len(paths) for paths, _ in groups[MAX_REASONS:]):
            say(f"Skipped {counted(more, 'more binary file')}.")
        for path in self.broken[:NAMED]:
            say(f"Skipped {path}: {_leads_nowhere(path) if isinstance(path, Path) else self._links[path]}.")
        if more := len(self.broken[NAMED:]):
            say(f"Skipped {counted(more, 'more link')} to nowhere.")
        if self.models:
            what = "it is a saved model" if len(self.models) == 1 else "each is a saved model"
            say(f"Skipped {_listed(self.models)}: {what}.")
        for paths, advice in _by_reason(self.lacking):
            say(f"Skipped {_listed(paths)}. {advice}")
        if self.outside:
            links = counted(len(self.outside), "link")
            say(f"Followed {links} to places outside the folders of the corpus, such as {self.outside[0]}.")
        if self.again:
            files = counted(len(self.again), "file")
            say(f"Read {files} only once, though several paths lead there, such as {self.again[0]}.")
        for (kind, advice), names in self.marked_up.items():
            what = names[0] if len(names) == 1 else f"{counted(len(names), f'{kind} file')}, such as {names[0]},"
            say(f"Read {what} as plain text, with all markup. To learn the text alone, {advice}.")
        if self.books:
            say(self._about_books())
        if self.misread:
            say(self._about_misread())

    def close(self) -> None:
        """Removes temporary copies of standard input and pipes. This also happens when the program ends."""
        self._conversions.close()
        for remove in self._temporary:
            remove()

    def _about_books(self) -> str:
        have, get = ("has", "get it") if len(self.books) == 1 else ("have", "get each")
        name = next(iter(self.books.values())) if len(self.books) == 1 else "gutenberg:NUMBER"
        return (
            f"{_listed([*self.books])} {have} the licence of Project Gutenberg at both ends, which is read, too. To "
            f"learn the text alone, {get} with textgen corpus fetch {name}."
        )

    def _about_misread(self) -> str:
        encoding = self._config.text_encoding
        files, command = _listed(self.misread), iconv_command(encoding)
        how = f" with {command}" if command else " to UTF-8"
        advice = "" if self._are_all_misread else f"convert the other files{how}, and "
        return f"Read as {encoding}, but most likely UTF-8: {files}. If so, {advice}leave encoding out."

    def _expand(self, name: str) -> list[Source]:
        if not name:  # which would be the current folder
            raise CorpusError("A path is empty: name a file or a folder; . is the current folder.")
        path = Path(name)
        if name == "-":
            return [self._standard_input()]
        if is_remote(name):
            return self._elsewhere(name)
        if path.is_dir():
            return [] if self._walk.is_left_out(path) else self._text_files(name, partial(self._walk.files_below, path))
        if path.is_symlink() and not path.exists():
            raise CorpusError(_missing(path))
        if path.is_file():
            return [not_binary(self._source(path, name))]
        if path.exists():  # a pipe, such as the shell's <(...), can be read only once
            with path.open("rb") as stream:
                return [self._spool(stream, name)]
        if matches := sorted(glob.glob(name, recursive=True)):
            return self._text_files(name, partial(self._walk.matching, matches, name))
        raise CorpusError(_missing(path))

    def _text_files(self, name: str, find: Callable[[], list[Path]]) -> list[Source]:
        """Lists the text files of folders or a glob, and adds binary files to `skipped`."""
        passed = len(self._walk.broken), len(self.models)
        found = [self._source(file, str(file)) for file in find()]
        return self._readable(name, found, self._walk.broken[passed[0] :], self.models[passed[1] :])

    def _elsewhere(self, name: str) -> list[Source]:
        """Lists the text files at an address. One that the address names must be text."""
        everything, passed = find_files(name, self._links), len(self.models)
        is_named = everything[0].is_named
        files = everything if is_named else self._walk.elsewhere(everything, are_all=not may_be_pattern(name))
        found = [replace(self._source(file.local(), without_secrets(file.address)), remote=file) for file in files]
        return [not_binary(found[0])] if is_named else self._readable(name, found, [], self.models[passed:])

    def _readable(
        self, name: str, found: list[Source], broken: Sequence[Path | str], models: Sequence[Path | str]
    ) -> list[Source]:
        """Returns the text files among those of a folder, and remembers the others."""
        name = without_secrets(name)
        without = (source for source in found if source.missing)
        self.lacking |= {_path_or_address(source): source.missing for source in without if self._is_new(source)}
        sources = [source for source in found if not source.missing]
        about = {_path_or_address(source): about_binary(source) for source in sources}
        binary = {path for path, kind in about.items() if kind is not None}
        kinds = {path: kind for path, kind in about.items() if kind}
        kinds |= {
            path: _text_in(source.known.wide)
            for source in sources
            if about[path := _path_or_address(source)] == "" and source.known.wide
        }
        self._kinds |= kinds
        new = {_path_or_address(source) for source in sources if self._is_new(source)}
        self.skipped += sorted(binary & new, key=str)
        if len(binary) == len(sources):
            if len(found) > len(sources):
                lacking = next(source for source in found if source.missing)
                raise CorpusError(f"No text in {name}: cannot read {lacking.name}. {lacking.missing}")
            reasons = [counted(len(binary), "binary file")] if binary else []
            reasons += [f"{counted(len(broken), 'link')} to nowhere, such as {broken[0]}"] if broken else []
            reasons += [f"{counted(len(models), 'saved model')}, such as {models[0]}"] if models else []
            why = f"there is nothing but {' and '.join(reasons)}" if reasons else "there are no files"
            advice = next((f"{path} {kind}." for path, kind in kinds.items()), "Name text files.")
            raise CorpusError(f"No text in {name}: {why} (hidden files and backups of editors are ignored). {advice}")
        return [source for source in sources if _path_or_address(source) not in binary]

    def _is_new(self, source: Source) -> bool:
        """Whether a file has not been seen yet: links give it other names. Notes it."""
        place = source.path.resolve()
        is_new = place not in self._seen
        self._seen.add(place)
        return is_new

    def _source(self, path: Path, name: str) -> Source:
        return Source(path, name, self._config, conversions=self._conversions)

    def _standard_input(self) -> Source:
        if sys.stdin is None or sys.stdin.isatty():
            what = "closed" if sys.stdin is None else "a terminal"
            raise CorpusError(f"- is standard input, which is {what} here: pipe a text into it.")
        return self._spool(sys.stdin.buffer, STANDARD_INPUT)

    def _spool(self, stream: BinaryIO, name: str) -> Source:
        """Copies `stream` to a temporary file, because a corpus is read several times."""
        folder = new_temporary_folder()
        self._temporary.append(weakref.finalize(self, remove_temporary_folder, folder))
        path = folder / "text"
        write_chunks(path, iter(partial(stream.read, CHUNK_BYTES), b""), advice=TMPDIR_ADVICE)
        if not path.stat().st_size:
            raise CorpusError(f"No text in {name}: it is empty. Pipe a text into it.")
        return not_binary(Source(path, name, self._config, is_copy=True))


def _by_reason(reasons: Mapping[Path | str, str]) -> list[tuple[list[Path | str], str]]:
    """The paths for which there is the same reason, with the reason, in the order of the first paths."""
    groups: dict[str, list[Path | str]] = {}
    for path, reason in reasons.items():
        groups.setdefault(reason, []).append(path)
    return [(paths, reason) for reason, paths in groups.items()]


def _listed(paths: Sequence[Path | str]) -> str:
    return named(list(map(str, paths)), NAMED)


def _text_in(encoding: str) -> str:
    return f"looks like text in {encoding} without a byte-order mark: convert it with {iconv_command(encoding)}"


def _path_or_address(source: Source) -> Path | str:
    """The path of a file for messages; for a remote file its address, not the path of the copy."""
    return source.name if source.remote else source.path


def _leads_nowhere(link: Path) -> str:
    target = os.readlink(link)
    try:
        link.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return f"it is a link to {target}, which leads back to it, or through too many links"
    return f"it is a link to {target}, which does not exist"


def _names_like(path: Path) -> list[str]:
    """Lists the names beside a path that are much like its own: without the suffix, which many files share, too."""
    names = os.listdir(path.parent) if path.parent.is_dir() else []
    stems = {Path(name).stem for name in names}
    alike = {*difflib.get_close_matches(path.stem, stems, n=max(1, len(stems))), path.stem}
    return difflib.get_close_matches(path.name, [name for name in names if Path(name).stem in alike])


def _missing(path: Path) -> str:
    if path.is_symlink():
        return f"Cannot read {path}: {_leads_nowhere(path)}. Correct the link."
    if glob.has_magic(str(path)):
        return f"Nothing matches {path}. Check the pattern."
    close = [str(path.parent / name) for name in _names_like(path)]
    hint = f"Did you mean {' or '.join(close)}?" if close else "Check the path."
    return f"{path} does not exist. {hint}"
