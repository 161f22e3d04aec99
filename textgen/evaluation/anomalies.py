"""An endless text, such as a log: each line is scored as it arrives, and unusual lines are flagged.

The lines form one stream, which the model reads as it read its training text, so a line is scored in the context of the
lines before it. Memory does not grow with the stream. What is usual may change over time, so a line is compared with
the most recent lines only, by a measure that a few unusual lines among them do not shift: how many median absolute
deviations it lies above their median, scaled so that it counts standard deviations for normal values (the modified
z-score of Iglewicz & Hoaglin 1993, How to Detect and Handle Outliers, who propose 3.5 as the limit).
"""

from __future__ import annotations

import io
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np

from textgen.corpus.config import separator_of
from textgen.corpus.encoding_guess import marked_encoding
from textgen.corpus.encodings import is_plain, text_decoder
from textgen.errors import ConfigError, CorpusError
from textgen.evaluation.scoring import Scorer

LINE_BYTES = 1 << 16  # a longer line counts as several
POLL_SECONDS = 0.2  # seconds between two looks at a file that has not grown
THRESHOLD = 3.5  # deviations above the median, from which on a line is flagged
WINDOW = 1000  # lines that a line is compared with
WARM_UP = 30  # lines that are read before any line can be flagged
FOREIGN_RATIO = 2.0  # lines that cost so many times the bits per byte of held-out text are of another kind
FOREIGN_BITS = 1.0  # and so many more bits per byte: where a log costs hardly any, a small change is a multiple
MIN_DEVIATION = 0.05  # minimum deviation in bits per character: after identical lines not every other line is flagged


@dataclass(frozen=True)
class LineScore:
    """The score of one line of a stream.

    Attributes:
        line: Its number, from 1.
        text: The line, without its end.
        characters: Its characters, and the newline or the end of the document that is scored with it: the one after it
            or, in blocks of lines, the newline before it. The first line of a block has none.
        bits_per_character: Its surprisal per character.
        deviation: Deviations above the median of the lines before it; None while there are too few of them.
        flagged: Whether the line is unusual.
    """

    line: int
    text: str
    characters: int
    bits_per_character: float
    deviation: float | None
    flagged: bool

    @property
    def bits(self) -> float:
        """The surprisal of the whole line in bits."""
        return self.bits_per_character * self.characters


def are_foreign(lines: Sequence[LineScore], held_out: float) -> bool:
    """Checks whether lines are text of another kind than a model was trained on, so that it cannot tell unusual ones.

    Args:
        lines: The first lines of a stream. Fewer than `WARM_UP` show too little.
        held_out: Bits per byte of the model on held-out text of its training.
    """
    if len(lines) < WARM_UP:
        return False
    median = float(np.median([line.bits / (len(line.text.encode()) + 1) for line in lines]))
    return median > max(FOREIGN_RATIO * held_out, held_out + FOREIGN_BITS)


class Deviations:
    """How far each value lies above the median of the most recent values, in standard deviations.

    The standard deviation is 1.4826 times the median absolute deviation, as in a normal distribution, and at least
    `MIN_DEVIATION`: unlike the usual estimate it is hardly changed by the outliers that are looked for.

    Example:
        >>> deviations = Deviations()
        >>> [deviations.next(1.0) for _ in range(WARM_UP)][-1], round(deviations.next(1.5))
        (None, 10)
    """

    def __init__(self, window: int = WINDOW) -> None:
        self._values: deque[float] = deque(maxlen=window)

    def next(self, value: float) -> float | None:
        """Appends a value and returns its deviation from those before it; None for the first ones."""
        deviation = None
        if len(self._values) >= WARM_UP:
            values = np.array(self._values)
            median = np.median(values)
            spread = max(1.4826 * float(np.median(np.abs(values - median))), MIN_DEVIATION)
            deviation = (value - float(median)) / spread
        self._values.append(value)
        return deviation


def follow(
    scorer: Scorer,
    lines: Iterable[str],
    documents: str,
    *,
    threshold: float = THRESHOLD,
    window: int = WINDOW,
    label: str | None = None,
) -> Iterator[LineScore]:
    """Scores lines one after another as they arrive. Blank lines are read but not scored.

    Args:
        scorer: Scores tokens.
        lines: The lines, without their ends.
        documents: What the model was trained to see as a document, one of `textgen.corpus.config.DOCUMENT_MODES` or a
            separator: it decides whether a line is followed by the end of a document or by a newline. What stands
            before and after a separator in a line is scored as two lines with one number.
        threshold: A line is flagged if it lies more standard deviations than this above the median.
        window: Number of earlier lines that a line is compared with.
        label: The label of all documents.

    Yields:
        The score of each line that is not blank.

    Raises:
        ConfigError: The model does not know the label, or the separator spans lines.
    """
    documents = "line" if separator_of(documents) == "\n" else documents
    reader = _Reader(scorer, documents, label)
    split = _splitter(documents)
    deviations = Deviations(window)
    for number, line in enumerate(lines, 1):
        for place, text in enumerate(split(line)):
            if place:
                reader.end_document()
            bits, characters = reader.read(text)
            if characters and not _is_blank(text):
                score = (bits + sum(scorer.spelling(text))) / characters
                deviation = deviations.next(score)
                flagged = deviation is not None and deviation > threshold
                yield LineScore(number, text, characters, score, deviation, flagged)


class _Reader:
    """Reads a stream as one text, which consists of the same documents as in training.

    Args:
        scorer: Scores tokens.
        documents: What a document is, as in `follow`, but not the separator "\\n".
        label: The label of all documents.
    """

    def __init__(self, scorer: Scorer, documents: str, label: str | None) -> None:
        self._scorer, self._tokenizer, self._documents = scorer, scorer.tokenizer, documents
        self._opening = self._tokenizer.opening(label)
        self._before, self._state = self._tokenizer.eos_id, scorer.model.initial_state(1)
        self._newline = self._tokenizer.encode("\n")
        self._inside = False  # whether a document between separators or blank lines has begun
        self._empty = 0  # lines after its last one: newlines at the end of a document are no part of it

    def read(self, line: str) -> tuple[float, int]:
        """Reads a line, or the part of it that belongs to one document.

        Args:
            line: Its text, without its end.

        Returns:
            Its surprisal in bits and its characters, both with the newline or the end that is scored with it; 0 and 0
            if nothing is read.
        """
        if self._documents == "file":
            return self._bits(self._tokenizer.encode(f"{line}\n")), len(line) + 1
        if self._documents == "line":
            ids = [] if _is_blank(line) else [*self._tokenizer.encode(line), self._tokenizer.eos_id]
            return self._bits(ids), len(line) + 1 if ids else 0
        if not line:
            self._empty += self._inside
            return 0.0, 0
        for _ in range(self._empty):
            self._bits(self._newline)
        ids = [*(self._newline if self._inside else []), *self._tokenizer.encode(line)]
        characters = len(line) + self._inside if ids else 0
        self._inside, self._empty = True, 0
        return self._bits(ids), characters

    def end_document(self) -> None:
        """Ends a document between separators or blank lines, if one has begun."""
        if self._inside:
            self._bits([self._tokenizer.eos_id])
        self._inside, self._empty = False, 0

    def _bits(self, ids: list[int]) -> float:
        """Reads tokens, and returns their surprisal in bits."""
        if not ids:
            return 0.0
        eos_id = self._tokenizer.eos_id
        unscored = self._opening[1:] if self._before == eos_id and ids != [eos_id] else []
        bits, self._state = self._scorer.read(self._before, [*unscored, *ids], self._state)
        self._before = ids[-1]
        return float(bits[len(unscored) :].sum())


def check_separator(documents: str) -> None:
    """Checks that the lines of a stream can be cut into documents one by one.

    Args:
        documents: What a document is, as in `follow`.

    Raises:
        ConfigError: The separator of the documents spans lines.
    """
    _splitter(documents)


def _splitter(documents: str) -> Callable[[str], list[str]]:
    """A function that splits a line into parts between which a document ends.

    Raises:
        ConfigError: The separator of the documents spans lines, which arrive one by one.
    """
    separator = separator_of(documents)
    if separator is None:
        in_blocks = documents == "blank-line"
        return lambda line: ["", ""] if in_blocks and _is_blank(line) else [line]
    inner = separator.strip("\n")
    if "\n" in inner or (not inner and len(separator) > 2):
        raise ConfigError(
            "The lines of a stream are read one by one, so the separator between documents must be a part of a line, "
            f"but it is {separator!r}. Set documents to line or blank-line."
        )
    # A newline at an end of the separator is that of the line; two of them stand around an empty line.
    begin, end = "^" if separator.startswith("\n") else "", r"\Z" if separator.endswith("\n") else ""
    return re.compile(f"{begin}{re.escape(inner)}{end}").split


def _is_blank(text: str) -> bool:
    return not text or text.isspace()


def stream_lines(stream: BinaryIO, encoding: str = "utf-8", newlines: str = "normalize") -> Iterator[str]:
    """Yields the lines of a stream up to its end, each as soon as its newline has come.

    Args:
        stream: The stream.
        encoding: Its encoding if it has no byte-order mark; bytes that are not valid in it become U+FFFD.
        newlines: As in `textgen.corpus.config.NEWLINES`: whether \\r ends a line, too, or belongs to it.

    Raises:
        CorpusError: In this encoding lines do not end with the byte 10.
    """
    _check_plain(encoding)
    return _decoded(iter(lambda: stream.readline(LINE_BYTES), b""), encoding, newlines)


def file_lines(
    path: Path, encoding: str = "utf-8", newlines: str = "normalize", on_end: Callable[[], None] | None = None
) -> Iterator[str]:
    """Yields the lines of a file from its beginning, then what is appended, without end.

    A file that is replaced or truncated, as logs are, is read again from its beginning.

    Args:
        path: The file.
        encoding: Its encoding if it has no byte-order mark; bytes that are not valid in it become U+FFFD.
        newlines: As of `stream_lines`.
        on_end: Called once, when everything in the file is read and more is waited for.

    Raises:
        CorpusError: The file cannot be read, or in this encoding lines do not end with the byte 10.
    """
    at_end = [on_end] if on_end else []  # taken out and called before the first wait
    while True:
        try:
            with path.open("rb") as file:
                yield from _decoded(_lines_until_replaced(path, file, at_end), encoding, newlines)
        except OSError as error:
            raise CorpusError(f"Cannot read {path}: {error.strerror or error}. Name a file that can be read.") from None


def _lines_until_replaced(path: Path, file: BinaryIO, at_end: list[Callable[[], None]]) -> Iterator[bytes]:
    held, replaced = b"", False
    while True:
        part = file.readline(LINE_BYTES - len(held))
        held += part
        if held.endswith(b"\n") or len(held) >= LINE_BYTES:
            yield held
            held = b""
        elif not part and replaced:  # a last look at the old file found nothing more
            break
        elif not part:
            replaced = _is_replaced(path, file)
            if not replaced:
                if at_end:
                    at_end.pop()()
                time.sleep(POLL_SECONDS)
    if held:
        yield held


def _is_replaced(path: Path, file: BinaryIO) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False  # not yet
    return not os.path.samestat(there, os.fstat(file.fileno())) or there.st_size < file.tell()


def _decoded(chunks: Iterable[bytes], encoding: str, newlines: str) -> Iterator[str]:
    """The lines of a text as they arrive, as its documents are read: see `textgen.corpus.text_decoding.decoded`.

    Args:
        chunks: The lines as bytes, with their newline; one without goes on in the next.
        encoding: The encoding of a text without a byte-order mark.
        newlines: As of `stream_lines`.

    Raises:
        CorpusError: In the encoding, or that of the mark, lines do not end with the byte 10.
    """
    _check_plain(encoding)
    decoder, is_cut = None, False  # is_cut: whether the last line was too long for a chunk and goes on
    for chunk in chain(chunks, [b""]):
        is_start = decoder is None
        if decoder is None:
            encoding = marked_encoding(chunk) or encoding
            _check_plain(encoding)
            decoder = text_decoder(encoding, "replace")
            if newlines == "normalize":
                decoder = io.IncrementalNewlineDecoder(decoder, translate=True)  # type: ignore[assignment]
        text = decoder.decode(chunk, final=not chunk)
        *lines, rest = (text.removeprefix("\ufeff") if is_start else text).split("\n")
        for line in lines:
            if line or not is_cut:
                yield line
            is_cut = False
        if rest:
            yield rest
            is_cut = True


def _check_plain(encoding: str) -> None:
    if not is_plain(encoding):
        raise CorpusError(
            f"{encoding} text cannot be split into lines while it arrives. "
            "Convert the text, for example with iconv, and set encoding to utf-8."
        )
