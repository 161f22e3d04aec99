"""Files, folders, globs, standard input -> stream of documents.

    corpus = Corpus(["poems.txt", "more/", "-"])
    for document in corpus.documents():
        ...

A document is a str, exactly as read after newline normalisation. However large the files, only a part of one
document is in memory at a time (a record of a .jsonl or .csv file is read whole).
"""

from __future__ import annotations

import difflib
import glob
import hashlib
import itertools
import json
import os
import shutil
import sys
import tempfile
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from textgen.corpus.config import CorpusConfig
from textgen.corpus.documents import Part, guess_documents
from textgen.corpus.labels import FOLDER
from textgen.corpus.records import LeftOut
from textgen.corpus.source import CHUNK_BYTES, Source, not_binary, reading, text_decoder
from textgen.corpus.statistics import EXCERPTS, CorpusStats, _count
from textgen.errors import CorpusError
from textgen.storage import MANIFEST
from textgen.wording import counted

__all__ = ["Corpus", "CorpusStats", "Part"]

PREPARED = "prepared.json"  # in a folder that holds a corpus as ids, not as text: see `textgen.dataset.prepared_corpus`
SAMPLE_FILES = 8  # so many files are looked at to guess what a document is


class Corpus:
    """The documents of some files.

    `paths` are files, folders (read recursively, linked ones too, without hidden files), globs, or `-` for standard
    input. Attributes: `files`, each once, in order; `skipped`, the binary files left out of folders and globs;
    `broken`, links that lead nowhere; `left_out`, the records without text in what was last read to its end;
    `documents_mode`, one of `textgen.corpus.config.DOCUMENT_MODES`; `guess_reason`, why that mode, or None when
    `config.documents` chose it. Raises `CorpusError` for whatever cannot be found or read.
    """

    def __init__(self, paths: Sequence[str | Path], config: CorpusConfig = CorpusConfig()) -> None:  # noqa: B008
        text_decoder(config.encoding)  # complains before anything is read
        self.config = config
        self.skipped: list[Path] = []
        self.broken: list[Path] = []
        self.left_out = LeftOut()
        self._temporary: list[weakref.finalize] = []
        self._sources = self._find([paths] if isinstance(paths, (str, Path)) else paths)
        self.files = [source.path for source in self._sources]
        self.guess_reason: str | None = None
        self.documents_mode = config.documents or self._guess()
        self._stats: CorpusStats | None = None
        self._fingerprint: str | None = None
        self._stamps: list[tuple[int, ...]] = []  # of the files when they were first looked at

    def say_skipped(self, say: Callable[[str], None]) -> None:
        """Tells `say` of each file that was left out."""
        for path in self.skipped:
            say(f"Skipped {path}: it looks like a binary file.")
        for path in self.broken:
            say(f"Skipped {path}: {_leads_nowhere(path)}.")

    def say_left_out(self, say: Callable[[str], None]) -> None:
        """Tells `say` of the records without text, once the corpus or a section of it has been read to its end."""
        for line in self.left_out.lines():
            say(line)

    def parts(self) -> Iterator[Part]:
        """The documents in bounded memory: parts up to one that `ends_document` make up a document.

        Documents of only whitespace are left out. Raises `CorpusError` at the end when there was no other.
        """
        empty, left_out = True, LeftOut()
        for source in self._sources:
            for part in source.parts(self.documents_mode, left_out):
                empty = False
                yield part
        self.left_out = left_out
        if empty:
            names = ", ".join(source.name for source in self._sources[:3])
            names += ", ..." if len(self._sources) > 3 else ""
            raise CorpusError(f"No text in {names}: nothing but blanks. Name files that hold text.")

    def documents(self) -> Iterator[str]:
        """The documents, each whole."""
        held: list[str] = []
        for part in self.parts():
            if not part.ends_document:
                held.append(part.text)
            elif held:
                yield "".join([*held, part.text])
                held.clear()
            else:
                yield part.text

    def stats(self) -> CorpusStats:
        """Counts over the whole corpus: one pass, the first time. Raises `CorpusError` for no text."""
        if self._stats is None:
            self._stats = _count(self.parts(), len(self.files))
        return self._stats

    def labels(self) -> dict[str, int]:
        """How many documents have each label, the commonest first.

        Raises `CorpusError` where `config.labels` asks for labels and no document has one.
        """
        if self.config.labels is None:
            return {}
        if not self.stats().labels:
            table = next((source for source in self._sources if source.format), None)
            fields = table.fields() if table else []
            there = f"There are: {', '.join(fields)}." if fields else "These files have neither columns nor fields."
            raise CorpusError(
                f"No document has a label {self.config.labels!r}. Set labels to a column, a field, or {FOLDER}. {there}"
            )
        return self.stats().labels

    def section(self, index: int, count: int) -> Iterator[Part]:
        """The documents of one of `count` stretches of the corpus that are equally long; `index` is from 0.

        All sections together are `parts()`, in its order. The stretches are of bytes, the files one after the
        other. A document belongs to the stretch in which it begins; where a whole file is one, it
        is cut between two lines. What can be read only from its beginning (compressed files, tables, UTF-16)
        belongs whole to the stretch where it begins. A section may be empty.
        """
        left_out = LeftOut()
        for source in self._sections(index, count):
            yield from source.parts(self.documents_mode, left_out)
        self.left_out = left_out

    def excerpts(self, size: int) -> Iterator[str]:
        """About `size` bytes of text in stretches from all over the corpus; all of it if it is not larger.

        No more is read than is given, but for files that can be read only from their beginning.
        """
        if self.size <= size:
            yield from (part.text for part in self.parts())
            return
        share, longest = size / self.size, max(1, size // EXCERPTS)
        credit = 0.0  # bytes that may be given
        for index in range(EXCERPTS):
            for source in self._sections(index, EXCERPTS):
                credit += share * source.size if source.can_be_entered else 0.0
                for part in source.parts(self.documents_mode):
                    credit += 0.0 if source.can_be_entered else share * len(part.text.encode())
                    if credit > 0:
                        text = part.text[:longest]
                        yield text
                        credit -= len(text.encode())
                    elif source.can_be_entered:
                        break

    @property
    def size(self) -> int:
        """About how many bytes of text there are, from the sizes of the files."""
        return self._borders[-1]

    def glance(self) -> str:
        """SHA-256, in hex, of the config, the files' sizes and some of the bytes of each: quick, however large.

        It tells one corpus from another, but not from one with a few bytes changed; `fingerprint` does.
        """
        self._stamps = self._stamps or [source.stamp() for source in self._sources]
        return self._digest([source.glance() for source in self._sources])

    def fingerprint(self) -> str:
        """SHA-256, in hex, of all that decides the documents: the files' bytes and formats, and the config.

        Names do not count, so a moved corpus keeps its fingerprint. Read once.
        """
        if self._fingerprint is None:
            self._stamps = self._stamps or [source.stamp() for source in self._sources]
            self._fingerprint = self._digest([source.fingerprint() for source in self._sources])
        return self._fingerprint

    def require_unchanged(self) -> None:
        """Raises `CorpusError` for a file that has changed since `fingerprint` or `glance` first looked at it."""
        for source, stamp in zip(self._sources, self._stamps, strict=False):
            if source.stamp() != stamp:
                raise CorpusError(
                    f"{source.name} changed while it was read: try again when nothing writes to it, or with a copy."
                )

    def close(self) -> None:
        """Removes the copy of standard input, if there is one. The end of the program does so too."""
        for remove in self._temporary:
            remove()

    def _digest(self, files: list[list[str]]) -> str:
        config = asdict(replace(self.config, documents=self.documents_mode))
        return hashlib.sha256(json.dumps([config, files]).encode()).hexdigest()

    def _sections(self, index: int, count: int) -> Iterator[Source]:
        """What the files have in one of `count` equal stretches."""
        first, last = self.size * index // count, self.size * (index + 1) // count
        number = bisect_right(self._borders, first) - 1
        while self._borders[number] < last:
            start = self._borders[number]
            yield from self._sources[number].section(first - start, last - start, self.documents_mode)
            number += 1

    @cached_property
    def _borders(self) -> list[int]:
        """Where each file begins if they lie one after the other, and where the last ends."""
        return [0, *itertools.accumulate(source.size for source in self._sources)]

    def _guess(self) -> str:
        sources = [source for source in self._sources if not source.format]
        step = -(-len(sources) // SAMPLE_FILES) or 1  # spread over the corpus: its first files may be alike
        samples = [source.sample() for source in sources[::step]]
        mode, self.guess_reason = guess_documents(samples, len(self._sources))
        return mode

    def _find(self, paths: Sequence[str | Path]) -> list[Source]:
        """Every file that `paths` name, once."""
        found: dict[Path, Source] = {}
        for name in dict.fromkeys(map(str, paths)):
            with reading(name):
                for source in self._expand(name):
                    found.setdefault(source.path.resolve(), source)
        if not found:
            raise CorpusError("No files to read. Name files, folders, or - for standard input.")
        return list(found.values())

    def _expand(self, name: str) -> list[Source]:
        path = Path(name)
        if name == "-":
            return [self._standard_input()]
        if path.is_dir():
            return self._text_files(name, [path])
        if path.is_symlink() and not path.exists():
            raise CorpusError(_missing(path))
        if path.is_file():
            return [not_binary(Source(path, name, self.config))]
        if path.exists():  # a pipe, such as the shell's <(...), can be read only once
            with path.open("rb") as stream:
                return [self._spool(stream, name)]
        if matches := sorted(glob.glob(name, recursive=True)):
            return self._text_files(name, [Path(match) for match in matches])
        raise CorpusError(_missing(path))

    def _text_files(self, name: str, paths: Iterable[Path]) -> list[Source]:
        """The files of folders and a glob but for binary ones, which are remembered in `skipped`."""
        broken = list[Path]()
        sources = [Source(file, str(file), self.config) for path in paths for file in _files_below(path, broken)]
        self.broken += [path for path in broken if path not in self.broken]
        binary = {source.path for source in sources if source.is_binary()}
        self.skipped += sorted(binary.difference(self.skipped))
        if len(binary) == len(sources):
            reasons = [counted(len(binary), "binary file")] if binary else []
            reasons += [f"{counted(len(broken), 'link')} to nowhere, such as {broken[0]}"] if broken else []
            why = f"there is nothing but {' and '.join(reasons)}" if reasons else "there are no files"
            raise CorpusError(f"No text in {name}: {why} (hidden ones do not count). Name text files.")
        return [source for source in sources if source.path not in binary]

    def _standard_input(self) -> Source:
        if sys.stdin is None or sys.stdin.isatty():
            what = "closed" if sys.stdin is None else "a terminal"
            raise CorpusError(f"- is standard input, which is {what} here: pipe a text into it.")
        return self._spool(sys.stdin.buffer, "standard input")

    def _spool(self, stream: BinaryIO, name: str) -> Source:
        """Copies `stream` to a temporary file, because a corpus is read several times."""
        folder = tempfile.mkdtemp(prefix="textgen-")
        self._temporary.append(weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True))
        path = Path(folder, "text")
        with path.open("wb") as copy:
            shutil.copyfileobj(stream, copy, CHUNK_BYTES)
        if not path.stat().st_size:
            raise CorpusError(f"No text in {name}: it is empty. Pipe a text into it.")
        return not_binary(Source(path, name, self.config, is_copy=True))


def _files_below(path: Path, broken: list[Path]) -> list[Path]:
    """The files of a folder, sorted, hidden ones left out; a file is its own. Links that lead nowhere go to `broken`.

    Linked folders are entered, each folder once, however links lead to it.
    """

    def refuse(error: OSError) -> None:
        raise error

    names = [path] if not path.is_dir() else list[Path]()
    entered: set[tuple[int, int]] = set()
    for folder, folders, found in os.walk(path, onerror=refuse, followlinks=True) if path.is_dir() else ():
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in entered:
            folders[:] = []
            continue
        entered.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if PREPARED in found and MANIFEST in found:
            raise CorpusError(
                f"{folder} was made by textgen corpus prepare and holds no text: only textgen train takes it, named "
                "alone. "
                "Name the text that it was made from."
            )
        names += [Path(folder, name) for name in found if not name.startswith(".")]
    broken += sorted(name for name in names if name.is_symlink() and not name.exists())
    return sorted(name for name in names if name.is_file())


def _leads_nowhere(link: Path) -> str:
    return f"it is a link to {os.readlink(link)}, which does not exist"


def _missing(path: Path) -> str:
    if path.is_symlink():
        return f"Cannot read {path}: {_leads_nowhere(path)}. Correct the link."
    if glob.has_magic(str(path)):
        return f"Nothing matches {path}. Check the pattern."
    names = os.listdir(path.parent) if path.parent.is_dir() else []
    close = [str(path.parent / name) for name in difflib.get_close_matches(path.name, names)]
    hint = f"Did you mean {' or '.join(close)}?" if close else "Check the path."
    return f"{path} does not exist. {hint}"
