"""Text to tokens and back, as every kind of vocabulary does it. The kinds are in `textgen.tokenizer.kinds`."""

from __future__ import annotations

import codecs
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from textgen.arguments import check_is_path, several_texts
from textgen.corpus.labels import check_label, unknown_label
from textgen.errors import ConfigError, TokenizerError
from textgen.settings import check_type, python_number
from textgen.storage.files import write_file
from textgen.tokenizer.pieces import EOS, NO_LABEL, PAD, UNK, printable, valid_text
from textgen.tokenizer.stream_decoder import StreamDecoder, check_ids, known_ids
from textgen.wording import short_repr

MAX_THREADS = 256  # SentencePiece takes no more
UNFINISHED = 3  # maximum number of bytes of a character that is not complete


def checked_threads(num_threads: Any) -> int:
    """Returns the number of threads that `Tokenizer.encode_batch` takes: -1, or from 1 to what SentencePiece uses.

    Raises:
        ConfigError: It is no number of threads.
    """
    number = python_number(num_threads)
    if type(number) is not int or (number < 1 and number != -1):
        raise ConfigError(
            "num_threads must be a whole number of at least 1, or -1 for one thread per core. "
            f"Received: {short_repr(num_threads)}."
        )
    return min(number, MAX_THREADS)


class Tokenizer(ABC):
    """Text to ids and back. Made by `train_tokenizer`, `load_tokenizer` and `read_tokenizer`. It can be pickled.

    Attributes:
        kind: unigram, bpe, char, word or byte.
        labels: Labels that documents may have.
        piece_bytes: The UTF-8 bytes that each id adds to a text; empty for special pieces.
        serialized: The whole tokenizer, for `load_tokenizer`; empty for byte without labels.
        first_byte: Id of the piece for byte 0, followed by those for the other 255; None if there are no byte pieces.
        pad_id: Id of the padding.
        unk_id: Id of unknown words.
        eos_id: Id of the token between two documents, and before the first: it both ends a document and opens the next.
            It adds nothing to the text. A model that has read only `eos_id` is about to begin a document.
    """

    first_byte: int | None = None
    pad_id: int = PAD
    unk_id: int = UNK
    eos_id: int = EOS

    def __init__(self, kind: str, piece_bytes: list[bytes], serialized: bytes, labels: Sequence[str] = ()) -> None:
        """Makes a tokenizer.

        Args:
            kind: Its kind.
            piece_bytes: The bytes that each id adds to a text, those of labels left out.
            serialized: The whole tokenizer.
            labels: Labels that documents may have.
        """
        opening = [NO_LABEL, *labels] if labels else []
        self.kind = kind
        self.labels = tuple(labels)
        self.piece_bytes = [*piece_bytes, *[b""] * len(opening)]
        self.serialized = serialized

    @property
    def vocab_size(self) -> int:
        """Number of tokens, special ones included: ids are from 0 to `vocab_size - 1`."""
        return len(self.piece_bytes)

    @property
    def token_bytes(self) -> np.ndarray:
        """Bytes of text that each token stands for, [V]; 0 for special tokens."""
        return np.array([len(piece) for piece in self.piece_bytes])

    @property
    def first_label(self) -> int:
        """The id of the first label, which documents without a label get; `vocab_size` if there are no labels."""
        return self.vocab_size - (1 + len(self.labels) if self.labels else 0)

    @property
    def never_written(self) -> list[int]:
        """Ids of the tokens that are not part of a text and do not end one, so must not be generated."""
        return [self.pad_id, self.unk_id, *range(self.first_label, self.vocab_size)]

    def opening(self, label: str | None = None) -> list[int]:
        """Returns the ids before a document: the end of the previous one, then its label if the vocabulary has labels.

        Args:
            label: The label; None for a document without one.

        Raises:
            ConfigError: The vocabulary does not have the label.
        """
        check_type("label", label, "str | None")
        if label is not None and label not in self.labels:
            raise ConfigError(unknown_label(label, self.labels))
        if not self.labels:
            return [self.eos_id]
        return [self.eos_id, self.first_label + (0 if label is None else 1 + self.labels.index(label))]

    @property
    def openings(self) -> list[list[int]]:
        """The ids before a document: without a label, then with each."""
        return [self.opening(label) for label in (None, *self.labels)]

    def label_of(self, id: int) -> str | None:
        """Returns the label that a token stands for; None for the token of documents without a label.

        Raises:
            ConfigError: It is not a number.
            TokenizerError: There is no such token, or it stands for no label.
        """
        self._check_id(id)
        if id < self.first_label:
            known = f"labels are the tokens from {self.first_label} on" if self.labels else "this vocabulary has none"
            raise TokenizerError(f"Token {id} is no label: {known}.")
        return None if id == self.first_label else self.labels[id - self.first_label - 1]

    def with_labels(self, labels: Iterable[str]) -> Tokenizer:
        """Returns the same vocabulary with tokens for those labels that it lacks, after all other tokens.

        Args:
            labels: The labels, or one.

        Raises:
            ConfigError: One of them is none that a document can have.
        """
        wanted = list(several_texts("labels", labels))
        for number, label in enumerate(wanted):
            check_label(f"labels[{number}]", label)
        return self._with(wanted)

    def is_part_of(self, other: Tokenizer) -> bool:
        """Returns whether `other` is the same vocabulary, except for labels that it may have in addition."""
        return self._with(other.labels).fingerprint() == other.fingerprint()

    def _check_id(self, id: int) -> None:
        check_type("id", python_number(id), "int")
        check_ids([id], self.vocab_size)

    def _with(self, labels: Iterable[str]) -> Tokenizer:
        """Like `with_labels`, for labels that were checked or that a vocabulary has, which may be an older one."""
        more = [label for label in dict.fromkeys(labels) if label not in self.labels]
        return self._extended(more) if more else self

    @abstractmethod
    def _extended(self, more: Sequence[str]) -> Tokenizer:
        """The same vocabulary with tokens for labels that it lacks, at least one."""

    @abstractmethod
    def _printed_pieces(self) -> list[str]:
        """How the pieces are shown to people, those of labels left out."""

    @cached_property
    def _printed(self) -> list[str]:
        """How all pieces are shown to people. Most programs that load a tokenizer never ask for it."""
        labels = ["<no label>", *[f"<label {printable(label)}>" for label in self.labels]] if self.labels else []
        return [*self._printed_pieces(), *labels]

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text. Lines are independent: if a ends one, encode(a) + encode(b) == encode(a + b).

        Raises:
            ConfigError: It is not a text.
            TokenizerError: The text is not valid text.
        """
        return self.encode_batch([text], num_threads=1)[0]

    @abstractmethod
    def encode_batch(self, texts: Sequence[str], num_threads: int = -1) -> list[list[int]]:
        """Returns the ids of several texts.

        Args:
            texts: The texts, or one.
            num_threads: Number of threads where they help; -1 is one per core.

        Raises:
            ConfigError: One of them is not a text, or there is no such number of threads.
            TokenizerError: A text is not valid text.
        """

    def spelling(self, text: str) -> list[int]:
        """Returns the cost of spelling each word of `text` that `encode` makes unk, in order, in millionths of a nat.

        See `textgen.tokenizer.spelling`.

        Raises:
            ConfigError: It is not a text.
            TokenizerError: The text is not valid text.
        """
        valid_text(text)
        return []

    def lost_bytes(self, text: str) -> int:
        """Returns the number of bytes of white space in a text that no token stands for.

        Raises:
            ConfigError: It is not a text.
            TokenizerError: The text is not valid text.
        """
        valid_text(text)
        return 0

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids. Bytes that are not valid UTF-8 become U+FFFD.

        Raises:
            ConfigError: They are not numbers.
            TokenizerError: There is no such id.
        """
        decoder = self.decoder()
        return decoder.feed(ids) + decoder.flush()

    def unfinished(self, ids: Iterable[int]) -> list[int]:
        """Returns the last of these ids if they are the bytes of a character that is not complete.

        A character does not go on after a token without text, such as the end of a document.

        Raises:
            ConfigError: They are not numbers.
            TokenizerError: There is no such id.
        """
        ids = known_ids(ids, self.vocab_size)
        for number in range(1, UNFINISHED + 1):
            decoder = codecs.getincrementaldecoder("utf-8")()
            last = ids[-number:]
            pieces = [self.piece_bytes[id] for id in last]
            if not all(pieces):
                break
            try:
                if not decoder.decode(b"".join(pieces)) and decoder.getstate()[0]:
                    return last
            except UnicodeDecodeError:
                continue
        return []

    def decoder(self, line_start: bool = True) -> StreamDecoder:
        """Returns a decoder for ids that arrive one after another.

        Args:
            line_start: Whether the text begins a line.
        """
        return StreamDecoder(self.piece_bytes)

    def decoder_after(self, ids: Iterable[int]) -> StreamDecoder:
        """Returns a decoder for the ids after these, which may end inside a character or a line.

        Raises:
            ConfigError: They are not numbers.
            TokenizerError: There is no such id.
        """
        last = known_ids(ids, self.vocab_size)[-UNFINISHED:]
        decoder = self.decoder(self.is_line_start(last))
        decoder.feed(self.unfinished(last))
        return decoder

    def is_line_start(self, ids: Iterable[int]) -> bool:
        """Returns whether the text after these ids begins a line.

        Raises:
            ConfigError: They are not numbers.
            TokenizerError: There is no such id.
        """
        ids = known_ids(ids, self.vocab_size)
        text = self.piece_bytes[ids[-1]] if ids else b""
        return not text or text.endswith(b"\n")

    def piece(self, id: int) -> str:
        """Returns a token as shown to people: `▁the` (the mark is a space), `<0xE2>`, `\\n`, `<eos>`, `<label poe>`.

        Raises:
            ConfigError: It is not a number.
            TokenizerError: There is no such token.
        """
        self._check_id(id)
        return self._printed[id]

    def pieces(self) -> list[str]:
        """Returns how every token is shown to people."""
        return list(self._printed)

    def fingerprint(self) -> str:
        """Returns 64 hexadecimal digits, the same for the same vocabulary."""
        return hashlib.sha256(self.serialized or self.kind.encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Writes the SentencePiece model file, completely or not at all.

        Raises:
            ConfigError: The path is none.
            TokenizerError: The tokenizer has nothing to save.
        """
        check_is_path("path", path)
        if not self.serialized:
            raise TokenizerError(f"The {self.kind} tokenizer has no learned vocabulary: there is nothing to save.")
        write_file(Path(path), self.serialized)
