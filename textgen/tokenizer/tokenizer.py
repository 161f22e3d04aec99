"""Text to tokens and back. With `textgen.tokenizer.vocabulary`, the only module that uses SentencePiece.

A token is an id and the text that it stands for, its piece. Every vocabulary begins alike:

    id      piece
    0       pad: fills rows up, never part of a text
    1       unk: text without a piece of its own; only word vocabularies need it
    2       eos: ends a document and opens the next one, so there is no bos; see `Tokenizer.eos_id`
    3       the newline                    (not in the byte tokenizer)
    4-259   the 256 bytes                  (3-258 in the byte tokenizer; none in word vocabularies)
    260...  learned, or one per character  (4... in word vocabularies)
    last    labels, if documents have any: first that of a document without one, then one for each label

unigram, bpe, char and byte are lossless: `decode(encode(text)) == text` for every text, since a character without a
piece is spelled in its UTF-8 bytes. word keeps the words that it knows and the lines, but not the white space between
words, and unk stands for each word that it does not know:

    >>> from textgen.tokenizer.config import TokenizerConfig
    >>> from textgen.tokenizer.vocabulary import train_tokenizer
    >>> tokenizer = train_tokenizer(["the cat sat\\non the mat\\n"] * 10, TokenizerConfig("bpe"))
    >>> [tokenizer.piece(i) for i in tokenizer.encode("the cat\\n")]
    ['the', '▁cat', '\\\\n']

SentencePiece writes a space as U+2581 and lists special pieces among the others. So a U+2581 in a text bypasses
SentencePiece as three bytes, and the special pieces have names with a space in them, which no learned piece can have,
so that a literal `<unk>`, `</s>` or `<label poe>` is ordinary text. Labels are control pieces appended to
SentencePiece's model file.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from random import Random
from typing import Any

import sentencepiece

from textgen.corpus.labels import unknown_label
from textgen.errors import ConfigError, TokenizerError
from textgen.schema import decoded_json
from textgen.storage.files import write_file
from textgen.tokenizer.config import MAX_VOCAB_SIZE
from textgen.tokenizer.segmentation import BpeSegmenter, Segmenter, UnigramSegmenter
from textgen.tokenizer.spelling import Spelling
from textgen.tokenizer.stream_decoder import StreamDecoder, check_ids
from textgen.wording import counted

PAD, UNK, EOS, NEWLINE, FIRST_BYTE = range(5)
FIRST_LEARNED = FIRST_BYTE + 256
SPECIAL_PIECES = ["<pad>", "<unk>", "<eos>"]

SPACE = "\u2581"  # SentencePiece's sign for a space
BYTE_NAMES = [f"<0x{byte:02X}>" for byte in range(256)]
UNK_NAME, EOS_NAME, NEWLINE_NAME = "<unknown piece>", "<end of document>", "<new line>"
PAD_NAME = re.compile("<textgen (unigram|bpe|char|word)>")  # tells the kind, and that textgen made the model
LABEL_NAME = re.compile("<label (.*)>", re.DOTALL)
NO_LABEL = ""
PIECE_NEWLINES = 4  # bytes 0x0A for each piece in a SentencePiece model, at most: two are tags, lengths and scores more


class Tokenizer(ABC):
    """Text to ids and back. Made by `train_tokenizer`, `load_tokenizer` and `read_tokenizer`.

    Attributes:
        kind: Its kind: unigram, bpe, char, word or byte.
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

    def __init__(
        self, kind: str, printed: list[str], piece_bytes: list[bytes], serialized: bytes, labels: Sequence[str] = ()
    ) -> None:
        """Makes a tokenizer.

        Args:
            kind: Its kind.
            printed: How the pieces are shown to people, those of labels left out.
            piece_bytes: The bytes that each id adds to a text, those of labels left out.
            serialized: The whole tokenizer.
            labels: Labels that documents may have.
        """
        opening = [NO_LABEL, *labels] if labels else []
        self.kind = kind
        self.labels = tuple(labels)
        self.piece_bytes = [*piece_bytes, *[b""] * len(opening)]
        self.serialized = serialized
        self._printed = [*printed, *[f"<label {_printable(label)}>" if label else "<no label>" for label in opening]]

    @property
    def vocab_size(self) -> int:
        """Number of tokens, special ones included: ids are from 0 to `vocab_size - 1`."""
        return len(self.piece_bytes)

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
        """Returns the label that a token stands for; None for the token of documents without a label."""
        return None if id == self.first_label else self.labels[id - self.first_label - 1]

    def with_labels(self, labels: Iterable[str]) -> Tokenizer:
        """Returns the same vocabulary with tokens for those labels that it lacks, after all other tokens."""
        more = [label for label in dict.fromkeys(labels) if label not in self.labels]
        return load_tokenizer(self._serialized_with(more)) if more else self

    def is_part_of(self, other: Tokenizer) -> bool:
        """Returns whether `other` is the same vocabulary, except for labels that it may have in addition."""
        return self.with_labels(other.labels).fingerprint() == other.fingerprint()

    def _serialized_with(self, more: Sequence[str]) -> bytes:
        names = more if self.labels else [NO_LABEL, *more]
        return self.serialized + _control_pieces([f"<label {name}>" for name in names])

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text. Lines are independent: if a ends one, encode(a) + encode(b) == encode(a + b).

        Raises:
            TokenizerError: The text is not valid text.
        """
        return self.encode_batch([text], num_threads=1)[0]

    @abstractmethod
    def encode_batch(self, texts: Sequence[str], num_threads: int = -1) -> list[list[int]]:
        """Returns the ids of several texts.

        Args:
            texts: The texts.
            num_threads: Number of threads where they help; -1 is one per core.

        Raises:
            TokenizerError: A text is not valid text.
        """

    def spelling(self, text: str) -> list[int]:
        """Returns the cost of spelling each word of `text` that `encode` makes unk, in order, in millionths of a nat.

        See `textgen.tokenizer.spelling`.
        """
        return []

    def lost_bytes(self, text: str) -> int:
        """Returns the number of bytes of white space in a text that no token stands for."""
        return 0

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids. Bytes that are not valid UTF-8 become U+FFFD.

        Raises:
            TokenizerError: There is no such id.
        """
        decoder = self.decoder()
        return decoder.feed(ids) + decoder.flush()

    def unfinished(self, ids: Sequence[int]) -> list[int]:
        """Returns the last of these ids if they are the bytes of a character that is not complete.

        A character does not go on after a token without text, such as the end of a document.
        """
        for number in (1, 2, 3):
            decoder = codecs.getincrementaldecoder("utf-8")()
            last = ids[-number:]
            pieces = [self.piece_bytes[id] for id in last]
            if not all(pieces):
                break
            try:
                if not decoder.decode(b"".join(pieces)) and decoder.getstate()[0]:
                    return list(last)
            except UnicodeDecodeError:
                continue
        return []

    def decoder(self, line_start: bool = True) -> StreamDecoder:
        """Returns a decoder for ids that arrive one after another.

        Args:
            line_start: Whether the text begins a line.
        """
        return StreamDecoder(self.piece_bytes)

    def is_line_start(self, ids: Sequence[int]) -> bool:
        """Returns whether the text after these ids begins a line."""
        text = self.piece_bytes[ids[-1]] if ids else b""
        return not text or text.endswith(b"\n")

    def piece(self, id: int) -> str:
        """Returns a token as shown to people: `▁the` (the mark is a space), `<0xE2>`, `\\n`, `<eos>`, `<label poe>`."""
        check_ids([id], self.vocab_size)
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
            TokenizerError: The tokenizer has nothing to save.
        """
        if not self.serialized:
            raise TokenizerError(f"The {self.kind} tokenizer has no learned vocabulary: there is nothing to save.")
        write_file(Path(path), self.serialized)


class SentencePieceTokenizer(Tokenizer):
    """unigram, bpe and char: pieces of several characters, and bytes for characters without a piece."""

    first_byte = FIRST_BYTE

    def __init__(self, kind: str, names: list[str], serialized: bytes, processor: Any, labels: Sequence[str]) -> None:
        """Makes a tokenizer of a loaded SentencePiece model.

        Args:
            kind: unigram, bpe or char.
            names: SentencePiece's names of all tokens, in the order of their ids.
            serialized: The model, as it is saved.
            processor: SentencePiece's processor of this model.
            labels: Labels that are tokens too.
        """
        learned = names[FIRST_LEARNED:]
        printed = [*SPECIAL_PIECES, "\\n", *BYTE_NAMES, *map(_printable, learned)]
        piece_bytes = [b"", "\ufffd".encode(), b"", b"\n", *_every_byte()]
        piece_bytes += [piece.replace(SPACE, " ").encode() for piece in learned]
        super().__init__(kind, printed, piece_bytes, serialized, labels)
        self._processor = processor
        self._ids_apart = {"\n": [NEWLINE], SPACE: [FIRST_BYTE + byte for byte in SPACE.encode()]}
        if SPACE not in learned:  # in Chinese, say; SentencePiece would spell a space as its sign, U+2581
            self._ids_apart[" "] = [FIRST_BYTE + ord(" ")]
        self._apart = re.compile(f"([{''.join(self._ids_apart)}])")
        self._segmenter = lru_cache(1)(self._new_segmenter)

    def encode_batch(self, texts: Sequence[str], num_threads: int = -1) -> list[list[int]]:
        """Returns the ids of several texts. The threads are SentencePiece's."""
        return self._encode(texts, lambda stretches: self._processor.encode(stretches, num_threads=num_threads))

    def scores(self) -> list[float]:
        """Returns SentencePiece's score of each token: for unigram its log probability, for bpe the negated rank."""
        return [self._processor.get_score(id) for id in range(self.vocab_size)]

    def sample(self, text: str, alpha: float, seed: int) -> list[int]:
        """Returns the ids of a text, segmented at random; see `textgen.tokenizer.segmentation`.

        The same vocabulary, text, alpha and seed give the same ids, in every process. A char vocabulary has only one
        segmentation.

        Args:
            text: The text.
            alpha: For unigram, an exponent of the probabilities: 0 takes all segmentations alike. For bpe, the
                probability of leaving out a merge.
            seed: A whole number of any size, not negative.

        Raises:
            TokenizerError: The text is not valid text.
        """
        segmenter, random = self._segmenter(alpha), Random(seed)
        return self._encode(
            [text], lambda stretches: [segmenter.draw(stretch.replace(" ", SPACE), random) for stretch in stretches]
        )[0]

    def _encode(self, texts: Sequence[str], encode: Callable[[list[str]], list[list[int]]]) -> list[list[int]]:
        # Line by line: over long texts the scores that SentencePiece adds up are rounded, and then the pieces
        # of a line would depend on the lines before it.
        rows = [self._apart.split(valid_text(text)) for text in texts]
        stretches = [stretch for row in rows for stretch in row if stretch and stretch not in self._ids_apart]
        encoded = iter(encode(stretches) if stretches else [])
        return [self._join(row, encoded) for row in rows]

    def _new_segmenter(self, alpha: float) -> Segmenter:
        learned = {self._processor.id_to_piece(id): id for id in range(FIRST_LEARNED, self.first_label)}
        kind = UnigramSegmenter if self.kind == "unigram" else BpeSegmenter
        return kind(learned, self.scores(), alpha, FIRST_BYTE)

    def _join(self, row: list[str], encoded: Iterator[list[int]]) -> list[int]:
        ids: list[int] = []
        for stretch in row:
            if stretch:
                ids += self._ids_apart.get(stretch) or next(encoded)
        return ids


class WordTokenizer(Tokenizer):
    """word: a token is the text between white space, or unk; each newline is a token."""

    def __init__(self, names: list[str], serialized: bytes, labels: Sequence[str]) -> None:
        words = [name.removeprefix(SPACE) for name in names[NEWLINE + 1 :]]
        printed = [*SPECIAL_PIECES, "\\n", *[SPACE + _printable(word) for word in words]]
        piece_bytes = [b"", b" <unk>", b"", b"\n", *[b" " + word.encode() for word in words]]
        super().__init__("word", printed, piece_bytes, serialized, labels)
        self._ids = {word: id for id, word in enumerate(words, NEWLINE + 1)}

    def encode_batch(self, texts: Sequence[str], num_threads: int = -1) -> list[list[int]]:
        """Returns the ids of several texts, one per word and one per newline, on this thread."""
        # Not SentencePiece's encode: it makes one unk of several in a row, and words would not be counted.
        return [self._encode(valid_text(text)) for text in texts]

    def decoder(self, line_start: bool = True) -> StreamDecoder:
        """Returns a decoder that puts one space between words, and before the first one unless it begins a line."""
        return StreamDecoder(self.piece_bytes, spaced_words=True, line_start=line_start)

    def spelling(self, text: str) -> list[int]:
        """Returns the cost of spelling each unknown word, in millionths of a nat."""
        words = (word for line in text.split("\n") for word in words_of(line))
        return [self._speller.cost(word) for word in words if word not in self._ids]

    def lost_bytes(self, text: str) -> int:
        """Returns the bytes of all white space except newlines and one space between two words of a line."""
        kept = "\n".join([" ".join(words_of(line)) for line in text.split("\n")])
        return len(text.encode()) - len(kept.encode())

    @cached_property
    def _speller(self) -> Spelling:
        return Spelling(self._ids)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for line in text.split("\n"):
            ids += [self._ids.get(word, UNK) for word in words_of(line)]
            ids.append(NEWLINE)
        return ids[:-1]  # there is one newline fewer than lines


class ByteTokenizer(Tokenizer):
    """byte: the special tokens and the 256 bytes. Nothing is learned, and only labels are saved, as JSON."""

    first_byte = len(SPECIAL_PIECES)

    def __init__(self, labels: Sequence[str] = ()) -> None:
        printable = [_printable(chr(byte).replace(" ", SPACE)) for byte in range(128)]
        printed = [*SPECIAL_PIECES, *printable, *BYTE_NAMES[128:]]
        serialized = json.dumps(list(labels)).encode() if labels else b""
        super().__init__("byte", printed, [b"", "\ufffd".encode(), b"", *_every_byte()], serialized, labels)

    def _serialized_with(self, more: Sequence[str]) -> bytes:
        return json.dumps([*self.labels, *more]).encode()

    def encode_batch(self, texts: Sequence[str], num_threads: int = -1) -> list[list[int]]:
        """Returns the ids of several texts, one per byte of their UTF-8, on this thread."""
        return [[byte + self.first_byte for byte in valid_text(text).encode()] for text in texts]


def load_tokenizer(serialized: bytes, vocab_size: int | None = None) -> Tokenizer:
    """Makes a tokenizer from its `serialized` form; an empty one, or a list of labels, is the byte tokenizer's.

    Tokens are counted before an object is made of each, since the data may be there to fill the memory.

    Args:
        serialized: The `serialized` form.
        vocab_size: Number of tokens of the model that the tokenizer belongs to, if there is one.

    Raises:
        TokenizerError: The data is damaged, another program made it, or it has too many tokens, or others than the
            model.
    """
    if serialized[:1] in (b"", b"["):
        return ByteTokenizer(_labels_in(serialized, vocab_size))
    _refuse_large(serialized.count(b"\n") // PIECE_NEWLINES)
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(serialized)
        _check_size(len(processor), vocab_size)
        names = [processor.id_to_piece(id) for id in range(len(processor))]
    except (RuntimeError, UnicodeDecodeError):
        raise TokenizerError("The vocabulary is not a SentencePiece model, or is damaged.") from None
    made_here = PAD_NAME.fullmatch(names[PAD])
    kind = made_here[1] if made_here else ""
    others = [NEWLINE_NAME] if kind == "word" else ["\n", *BYTE_NAMES]
    if not made_here or names[UNK : EOS + 1 + len(others)] != [UNK_NAME, EOS_NAME, *others]:
        raise TokenizerError(
            "The SentencePiece model was made by another program, with different special tokens and rules for "
            "spaces. Train one with textgen."
        )
    labels = _popped_labels(names)
    if kind == "word":
        return WordTokenizer(names, serialized, labels)
    return SentencePieceTokenizer(kind, names, serialized, processor, labels)


def _popped_labels(names: list[str]) -> list[str]:
    """Takes the labels from the end of the names of all tokens."""
    found: list[str] = []
    while label := LABEL_NAME.fullmatch(names[-1]):
        found.append(label[1])
        names.pop()
    if found and (found[-1] != NO_LABEL or len(found) == 1):  # the first is that of no label
        raise TokenizerError("The labels of the vocabulary are damaged. Copy it again.")
    return found[-2::-1]


def _refuse_large(number: int) -> None:
    """Raises `TokenizerError` for a number of tokens that is beyond the limit."""
    if number > MAX_VOCAB_SIZE:
        raise TokenizerError(f"The vocabulary has more than {MAX_VOCAB_SIZE:,} tokens, the limit. Use a smaller one.")


def _check_size(number: int, expected: int | None) -> None:
    """Raises `TokenizerError` for a number of tokens that is beyond the limit, or not that of the model."""
    _refuse_large(number)
    if expected not in (None, number):
        raise TokenizerError(
            f"The tokenizer has {counted(number, 'token')} and the model {expected:,}. They do not belong together: "
            "copy the whole folder again."
        )


def _labels_in(serialized: bytes, vocab_size: int | None) -> list[str]:
    """The labels of a byte tokenizer, whose model has `vocab_size` tokens."""
    _refuse_large(serialized.count(b","))
    try:
        labels = decoded_json(serialized or b"[]")
    except ValueError:
        labels = None
    if not isinstance(labels, list) or not all(isinstance(label, str) and label for label in labels):
        raise TokenizerError("The vocabulary is not a list of labels, or is damaged.")
    _check_size(len(SPECIAL_PIECES) + len(BYTE_NAMES) + (1 + len(labels) if labels else 0), vocab_size)
    return labels


def _control_pieces(names: Sequence[str]) -> bytes:
    """Control pieces, which no text is cut into, as the end of a SentencePiece model file.

    A serialized message may be appended to another one of its type: repeated fields, here the pieces, are joined.
    """
    # Imported here, since protobuf (which TensorFlow brings) takes 30 ms and only labels need it.
    from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]

    kind = ModelProto.SentencePiece.CONTROL
    return ModelProto(pieces=[{"piece": name, "type": kind} for name in names]).SerializeToString()


def valid_text(text: str) -> str:
    """Returns `text`.

    Raises:
        TokenizerError: It has half of a surrogate pair, which UTF-8 cannot represent.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"The text is not valid text: character {error.start} is the lone surrogate "
            f"U+{ord(text[error.start]):04X}. Read it with the encoding that it was written in."
        ) from None
    return text


def words_of(line: str) -> list[str]:
    """Returns the words of a line, the text between white space; a literal U+2581 counts as a space."""
    return line.replace(SPACE, " ").split()


def _every_byte() -> list[bytes]:
    return [bytes([byte]) for byte in range(256)]


def _printable(piece: str) -> str:
    """A piece in printable characters.

    >>> _printable("a\\r\\u3000")
    'a\\\\r\\\\u3000'
    """
    piece = piece.replace("\\", "\\\\")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in piece)
