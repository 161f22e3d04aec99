"""Reads files, folders, globs and standard input as a stream of documents.

    corpus = Corpus(["poems.txt", "more/", "-"])
    for document in corpus.documents():
        ...

A document is a str, unchanged except for newline normalization. `Corpus.parts` keeps memory bounded for files of any
size: it holds only part of one document at a time (records, such as those of .jsonl and .csv files, are read whole).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from textgen.corpus.config import CorpusConfig, separator_of
from textgen.corpus.document_guess import RUN_ON, guess_documents
from textgen.corpus.documents import Part
from textgen.corpus.encodings import text_decoder
from textgen.corpus.excerpts import excerpts_of
from textgen.corpus.fingerprints import fingerprint, glance, stamp
from textgen.corpus.formats.rich_text import SUBTITLES
from textgen.corpus.formats.table import names_of
from textgen.corpus.labels import FOLDER, least_documents, named, worth_learning
from textgen.corpus.left_out import NAMED, LeftOut, no_text
from textgen.corpus.sections import Sections
from textgen.corpus.source import Source
from textgen.corpus.source_check import begins_in_its_encoding
from textgen.corpus.source_finder import SourceFinder
from textgen.corpus.statistics import EXCERPTS, CorpusStats, count_parts
from textgen.corpus.text_decoding import NotInEncoding
from textgen.corpus.text_share import TextSizes, spread
from textgen.errors import CorpusError
from textgen.wording import Say, counted

__all__ = ["Corpus", "CorpusStats", "Part"]

SAMPLE_BYTES = 100_000  # approximate size in bytes of the excerpts that show what a text is like
EXCESS = 2  # how many times as long as asked for excerpts may be, before the text is measured
BEGINNING_CHARS = 1 << 14  # number of characters read of a file to estimate how many bytes one takes


class Corpus:
    """Reads documents from files, folders, globs or standard input.

    Args:
        paths: Files, folders, glob patterns, addresses such as s3://bucket/folder (see `textgen.storage.addresses`), or
            `-` for standard input. Folders are read recursively and links to folders are followed; hidden files and
            backups of editors are ignored.
        config: Settings for reading the files.
        without: A folder that is passed over where the paths lead to it, if it is a prepared one, made of this text.
        is_alone: Whether no other corpus is read with the same settings, which error messages advise to change.

    Attributes:
        files: The files to read, in order, without duplicates, but once for each label that is a folder with a link to
            it. Of files elsewhere, the copies in the cache folder.
        places: Where they are: absolute paths, and addresses of files elsewhere.
        left_out: Records without text found in the last read of the corpus, as far as it went, or of a whole section.
        documents_mode: One of `textgen.corpus.config.DOCUMENT_MODES`.
        guess_reason: Why `documents_mode` was guessed. None if `config.documents` set it.

    Raises:
        CorpusError: The encoding is unknown, a path does not exist or cannot be read, or there are no text files.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        config: CorpusConfig = CorpusConfig(),  # noqa: B008 - immutable
        *,
        without: Path | None = None,
        is_alone: bool = True,
    ) -> None:
        text_decoder(config.text_encoding)  # reports an unknown encoding before any file is read
        self.config = config
        self.left_out = LeftOut()
        self._finder = SourceFinder(config, without, is_alone=is_alone)
        self._sources = self._finder.find([paths] if isinstance(paths, (str, Path)) else paths)
        self.files = [source.path for source in self._sources]
        self.places = [source.place for source in self._sources]
        self.guess_reason: str | None = None
        self.documents_mode = config.documents or self._guess()
        self._sections = Sections(self._sources, self.documents_mode)
        self._text_sizes = TextSizes(self._sources)
        self._stats: CorpusStats | None = None
        self._text_bytes: int | None = None  # measured if the estimate was found to be much too low
        self._fingerprint: str | None = None
        self._stamps: list[tuple[int, ...]] = []  # of the files, when they were first hashed

    @property
    def skipped(self) -> list[Path | str]:
        """Binary files in folders and globs, which are not read."""
        return self._finder.skipped

    @property
    def broken(self) -> list[Path | str]:
        """Broken symbolic links, and links in archives that lead to no file, which are not read."""
        return self._finder.broken

    @property
    def models(self) -> list[Path | str]:
        """Folders of saved models in folders and globs, which are not read."""
        return self._finder.models

    @property
    def lacking(self) -> dict[Path | str, str]:
        """Files in folders and globs that no installed library reads, and what to install."""
        return self._finder.lacking

    @property
    def mode_as_read(self) -> str:
        """`documents_mode` as its separator stands in the text that is read: see `CorpusConfig.as_read`."""
        return self.config.as_read(self.documents_mode)

    def say_findings(self, say: Say, *, documents_given: bool = True) -> None:
        """Calls `say` with lines about what is doubtful in the files.

        They are about files, broken links and models that were skipped, links that lead out of a folder, and doubtful
        encodings. Another line tells that a separator of documents does not occur: the text is read up to the first.

        Args:
            say: Called with each line.
            documents_given: Whether the documents mode was set for this text. The separator of another text, which a
                model was trained on, need not occur in it.
        """
        self._finder.say_findings(say)
        if documents_given:
            self._say_unseparated(say)

    def say_left_out(self, say: Say) -> None:
        """Calls `say` with lines about what the last read skipped or replaced in each file, and misnamed pages."""
        for line in self.left_out.lines():
            say(line)

    def _say_unseparated(self, say: Say) -> None:
        separator = separator_of(self.mode_as_read)
        sources = [source for source in self._sources if not source.format]
        if separator is None or not sources:
            return
        with suppress(CorpusError):  # whoever reads the documents says what is wrong
            if any(source.has_separator(self.documents_mode) for source in sources):
                return
            one = len(sources) == 1
            where = sources[0].name if one else f"any of the {len(sources):,} files of text"
            what = f"{'it' if one else 'each of them'} is a single document"
            as_lines = replace(self.config, newlines="normalize")
            others = (replace(source, config=as_lines) for source in sources if set("\r\n").intersection(separator))
            has_others = any(source.has_separator(self.documents_mode) for source in others)
            advice = (
                "It is there with other newlines: set newlines to normalize."
                if has_others
                else "Set documents to another separator if there are several."
            )
            say(f"The separator {separator!r} is not in {where}, so {what}. {advice}")

    def parts(self) -> Iterator[Part]:
        """Iterates over the documents in parts, so that memory stays bounded.

        Consecutive parts, up to and including one with `ends_document` set, form a document. Documents that contain
        only whitespace are skipped.

        Yields:
            Parts of at most `textgen.corpus.documents.PART_CHARS` characters.

        Raises:
            CorpusError: A file cannot be read, or, at the end, no document contains text.
        """
        empty, left_out = True, LeftOut()
        self.left_out = left_out  # also for those who do not read to the end
        for source in self._sources:
            for part in self._parts_of(source, left_out):
                empty = False
                yield part
        if empty:
            raise no_text([source.name for source in self._sources], left_out)

    def documents(self) -> Iterator[str]:
        """Iterates over whole documents.

        Yields:
            The text of each document.

        Raises:
            CorpusError: A file cannot be read, or no document contains text.
        """
        held: list[str] = []
        for part in self.parts():
            if not part.ends_document:
                held.append(part.text)
            elif held:
                yield "".join([*held, part.text])
                held.clear()
            else:
                yield part.text

    def lines(self) -> Iterator[tuple[str, int, str]]:
        """Iterates over lines that are not blank and the texts of records, like the documents of mode "line".

        Yields:
            Name of the file, number of the line or of the record's text in it, and the text.

        Raises:
            CorpusError: A file cannot be read, or, at the end, no line contains text.
        """
        empty, left_out = True, LeftOut()
        self.left_out = left_out  # also for those who do not read to the end
        with self._all_undecoded_named():
            for source in self._sources:
                for number, text in source.lines(left_out):
                    empty = False
                    yield source.name, number, text
        if empty:
            raise no_text([source.name for source in self._sources], left_out)

    def json_lines(self, left_out: LeftOut) -> Iterator[tuple[str, Any, str]]:
        """Iterates over the lines of all files as JSON, whatever the suffixes of the files.

        Args:
            left_out: Counts the records without text.

        Yields:
            Place of the record (file and line), the decoded JSON value, and its text, which may be blank.

        Raises:
            CorpusError: A file cannot be read, or a line is not JSON.
        """
        with self._all_undecoded_named():
            for source in self._sources:
                yield from source.json_lines(left_out)

    def stats(self) -> CorpusStats:
        """Computes statistics of the whole corpus, in one pass.

        Returns:
            The statistics, which are cached.

        Raises:
            CorpusError: A file cannot be read, or no document contains text.
        """
        if self._stats is None:
            self._stats = count_parts(self.parts(), len(self.files))
        return self._stats

    def labels(self) -> dict[str, int]:
        """Counts the documents of each label.

        Returns:
            Number of documents by label, most frequent label first. Empty if `config.labels` is None.

        Raises:
            CorpusError: `config.labels` is set, but no document has a label.
        """
        if self.config.labels is None:
            return {}
        if not self.stats().labels:
            table = next((source for source in self._sources if source.format), None)
            fields = table.fields() if table else []
            there = f"There are: {names_of(fields)}." if fields else "These files have neither columns nor fields."
            raise CorpusError(
                f"No document has a label {self.config.labels!r}. Set labels to a column, a field, or {FOLDER}. {there}"
            )
        return self.stats().labels

    def labels_to_learn(self, known: Collection[str] = ()) -> list[str]:
        """Selects the labels that get a token in a vocabulary, as `textgen.corpus.labels.worth_learning` does.

        Args:
            known: Labels that the vocabulary has already.

        Returns:
            The labels, most frequent first. Empty if `config.labels` is None.

        Raises:
            CorpusError: `config.labels` is set, but no document has a label, or each label is too rare.
        """
        counts = self.labels()
        labels = worth_learning(counts, known)
        if counts and not labels:
            few = f"fewer than {counted(least_documents(counts), 'document')}, too few to learn"
            if self.config.labels == FOLDER:
                raise CorpusError(
                    f"Each folder has {few} a label from. Put the files into fewer folders, or leave labels out."
                )
            raise CorpusError(
                f"Each label of {self.config.labels!r} is in {few} from. Set labels to a column or field with fewer "
                "different values, or leave it out."
            )
        return labels

    def section(self, index: int, count: int) -> Iterator[Part]:
        """Iterates over the documents of one section of the corpus, for reading it in parallel.

        The files, laid end to end, are divided into `count` ranges of equally many bytes. A document belongs to the
        range in which it begins. In mode "file", a file that crosses a border is cut between two lines. Files that
        can be read only from their beginning (compressed files, tables, UTF-16) belong entirely to the range in
        which they begin. The sections in order give the same text as `parts()`; a section may be empty.

        Args:
            index: Index of the section, from 0 to `count` - 1.
            count: Number of sections.

        Yields:
            Parts of documents, as `parts()` does.

        Raises:
            CorpusError: A file cannot be read.
        """
        left_out = LeftOut()
        for source in self._sections.section(index, count):
            yield from self._parts_of(source, left_out)
        self.left_out = left_out

    def excerpts(self, size: int) -> Iterator[str]:
        """Samples excerpts that are spread evenly over the corpus.

        Only the sampled sections are read, except in files that can be read only from their beginning, and in documents
        much longer than the distance between two excerpts.

        Args:
            size: Approximate total size of the excerpts in bytes. They are the whole text if it `is_within` that.

        Yields:
            The text of each excerpt.

        Raises:
            CorpusError: A file cannot be read, or no document contains text.
        """
        found = self._excerpts(size, EXCESS * size)
        if found is None:
            self._text_bytes = self.stats().bytes
            found = self._excerpts(size, math.inf)
        yield from found or (part.text for part in self.parts())  # without any, raises the reason

    def _excerpts(self, size: int, limit: float) -> list[str] | None:
        """The excerpts; None if they have more bytes than a limit, since the text is longer than it was estimated."""
        is_sampled, left_out = not self.is_within(size), LeftOut()
        texts: Iterator[str] = (part.text for part in self.parts())
        if is_sampled:
            sections, sizes = self._sections, self._text_sizes
            texts = excerpts_of(sections, sizes, size, self._parts_of, left_out, self._text_bytes)
        found, read = list[str](), 0
        for text in texts:
            found.append(text)
            read += len(text.encode())
            if read > limit:
                return None
        if is_sampled:
            self.left_out = left_out
        return found

    def require_text(self) -> None:
        """Checks that there is text, before long work. Only a sample is read, if it has some.

        Raises:
            CorpusError: A file cannot be read, or no document contains text.
        """
        for index in range(EXCERPTS):
            for source in self._sections.section(index, EXCERPTS):
                if next(self._parts_of(source, LeftOut()), None):
                    return
        next(self.parts())  # raises the reason

    @cached_property
    def sample(self) -> list[str]:
        """Excerpts of about 100 KB, for measuring what the text is like."""
        return list(self.excerpts(SAMPLE_BYTES))

    def is_within(self, size: int) -> bool:
        """Whether excerpts of so many bytes are the whole text."""
        if self._text_bytes is not None:
            return self._text_bytes <= size
        return self.file_size <= size or self.size <= size

    @property
    def file_size(self) -> int:
        """Size of the files in bytes, estimated for those that are compressed."""
        return self._sections.size

    @property
    def size(self) -> int:
        """Approximate size of the text in bytes: of the files, without pictures, other columns and other fields."""
        return self._text_sizes.total if self._text_bytes is None else self._text_bytes

    @cached_property
    def characters(self) -> int:
        """Approximate size of the text in characters: estimated from `size` and the beginnings of some of the files.

        Raises:
            CorpusError: One of them cannot be read.
        """
        sizes = characters = 0.0
        for source in spread(self._sources):
            if text := self._beginning(source):
                size = self._text_sizes.of(source)
                sizes, characters = sizes + size, characters + size * len(text) / len(text.encode())
        return round(self.size * characters / sizes) if sizes else self.size

    def glance(self) -> str:
        """Computes a fast hash of the corpus from the config, the file sizes and some bytes of each file.

        It identifies a corpus in time independent of its size, but may miss a change of a few bytes. Use
        `fingerprint` to detect any change.

        Returns:
            A SHA-256 digest in hex.

        Raises:
            CorpusError: A file cannot be read.
        """
        self._stamps = self._stamps or [stamp(source) for source in self._sources]
        return self._digest([glance(source) for source in self._sources])

    def section_glance(self, index: int, count: int) -> str:
        """Computes a fast hash of what one section holds of the files that it shares with other sections.

        `glance` may miss a change in the middle of a large file. If text is moved from one section to another between
        two reads of the corpus, this hash changes most likely, and surely if documents begin elsewhere at its borders.

        Args:
            index: Index of the section, from 0 to `count` - 1.
            count: Number of sections.

        Returns:
            A SHA-256 digest in hex.

        Raises:
            CorpusError: A file cannot be read.
        """
        return self._sections.glance(index, count)

    def fingerprint(self) -> str:
        """Computes a hash of everything that determines the documents: file contents and formats, and the config.

        File names are not included, so a corpus that was moved keeps its fingerprint. The result is cached.

        Returns:
            A SHA-256 digest in hex.

        Raises:
            CorpusError: A file cannot be read.
        """
        if self._fingerprint is None:
            self._stamps = self._stamps or [stamp(source) for source in self._sources]
            self._fingerprint = self._digest([fingerprint(source) for source in self._sources])
        return self._fingerprint

    def require_unchanged(self) -> None:
        """Checks that no file has changed since the first call of `fingerprint` or `glance`.

        Raises:
            CorpusError: A file has changed.
        """
        for source, before in zip(self._sources, self._stamps, strict=False):
            if stamp(source) != before:
                raise CorpusError(
                    f"{source.name} changed while it was read: try again when nothing writes to it, or with a copy."
                )

    def close(self) -> None:
        """Removes temporary copies of standard input and pipes. This also happens when the program ends."""
        self._finder.close()

    def _parts_of(self, source: Source, left_out: LeftOut) -> Iterator[Part]:
        with self._all_undecoded_named():
            yield from source.parts(self.documents_mode, left_out)

    @contextmanager
    def _all_undecoded_named(self) -> Iterator[None]:
        """Adds to the error about a file that is not in its encoding how many files begin so, and which."""
        try:
            yield
        except NotInEncoding as error:
            wrong = [source.name for source in self._sources if not begins_in_its_encoding(source)]
            if len(wrong) < 2:
                raise
            raise CorpusError(
                f"{error} At least {len(wrong):,} of {len(self._sources):,} files are not {self.config.text_encoding}: "
                f"{named(wrong, NAMED)}."
            ) from None

    def _digest(self, files: list[list[str]]) -> str:
        # what a page names is in the hash of its text, so the usual encoding needs no mark here
        config = asdict(replace(self.config, documents=self.mode_as_read, encoding=self.config.text_encoding))
        return hashlib.sha256(json.dumps([config, files]).encode()).hexdigest()

    def _beginning(self, source: Source) -> str:
        """The text of the first documents of a file, cut after `BEGINNING_CHARS` characters."""
        text = ""
        for part in self._parts_of(source, LeftOut()):
            text += part.text
            if len(text) >= BEGINNING_CHARS:
                break
        return text[:BEGINNING_CHARS]

    def _guess(self) -> str:
        """Guesses the documents mode. Sets `guess_reason`.

        Subtitles are left out: without their times they look like a list of short sentences, but they run on. So a
        corpus in which they prevail is not cut into lines.
        """
        texts = [source for source in self._sources if not source.format]
        subtitles = [source for source in texts if source.rich in SUBTITLES]
        sources = [source for source in texts if source.rich not in SUBTITLES]
        if subtitles and not sources:
            self.guess_reason = RUN_ON
            return "file"
        with self._all_undecoded_named():
            samples = [source.sample() for source in spread(sources)]
        mode, self.guess_reason = guess_documents(
            samples, len(self._sources), has_records=len(texts) < len(self._sources)
        )
        if mode == "line" and subtitles and _size(subtitles) >= _size(sources):
            mode, self.guess_reason = "file", RUN_ON
        return mode


def _size(sources: Sequence[Source]) -> int:
    """The size of files in bytes."""
    return sum(source.size for source in sources)
