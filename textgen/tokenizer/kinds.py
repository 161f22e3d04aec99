"""The kinds of vocabulary. With `textgen.tokenizer.vocabulary`, the only module that uses SentencePiece.

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

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from random import Random
from typing import Any

import sentencepiece

from textgen.arguments import several_texts
from textgen.errors import ConfigError, TokenizerError
from textgen.schema import decoded_json
from textgen.settings import Setting, check_bounds, check_type, python_number
from textgen.storage.manifests import COPY_AGAIN
from textgen.tokenizer.config import MAX_VOCAB_SIZE
from textgen.tokenizer.pieces import (
    BYTE_NAMES,
    EOS,
    EOS_NAME,
    FIRST_BYTE,
    FIRST_LEARNED,
    LABEL_NAME,
    NEWLINE,
    NEWLINE_NAME,
    NO_LABEL,
    PAD,
    PAD_NAME,
    SPACE,
    SPECIAL_PIECES,
    UNK,
    UNK_NAME,
    every_byte,
    printable,
    valid_text,
    words_of,
)
from textgen.tokenizer.segmentation import BpeSegmenter, Segmenter, UnigramSegmenter
from textgen.tokenizer.spelling import Spelling
from textgen.tokenizer.stream_decoder import StreamDecoder
from textgen.tokenizer.tokenizer import Tokenizer, checked_threads
from textgen.wording import counted, short_repr

PIECE_NEWLINES = 4  # bytes 0x0A for each piece in a SentencePiece model, at most: two are tags, lengths and scores more

ALPHAS = {"bpe": Setting("", 0.0, 1.0)}  # bounds of `alpha` of random segmentations
ANY_ALPHA = Setting("", 0.0)  # of the other kinds


class _LoadedTokenizer(Tokenizer):
    """A tokenizer that is pickled as its serialized form, since SentencePiece's processor cannot be pickled."""

    def __reduce__(self) -> tuple[Callable[..., Tokenizer], tuple[bytes, int]]:
        return load_tokenizer, (self.serialized, self.vocab_size)

    def _extended(self, more: Sequence[str]) -> Tokenizer:
        names = more if self.labels else [NO_LABEL, *more]
        return load_tokenizer(self.serialized + _control_pieces([f"<label {name}>" for name in names]))


class SentencePieceTokenizer(_LoadedTokenizer):
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
        piece_bytes = [b"", "\ufffd".encode(), b"", b"\n", *every_byte()]
        piece_bytes += [piece.replace(SPACE, " ").encode() for piece in learned]
        super().__init__(kind, piece_bytes, serialized, labels)
        self._processor = processor
        self._ids_apart = {"\n": [NEWLINE], SPACE: [FIRST_BYTE + byte for byte in SPACE.encode()]}
        if SPACE not in learned:  # in Chinese, say; SentencePiece would spell a space as its sign, U+2581
            self._ids_apart[" "] = [FIRST_BYTE + ord(" ")]
        self._apart = re.compile(f"([{''.join(self._ids_apart)}])")
        self._segmenter = lru_cache(1)(self._new_segmenter)

    def encode_batch(self, texts: Sequence[str], num_threads: int = -1) -> list[list[int]]:
        """Returns the ids of several texts. The threads are SentencePiece's."""
        threads = checked_threads(num_threads)
        return self._encode(texts, lambda stretches: self._processor.encode(stretches, num_threads=threads))

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
                probability of leaving out a merge, from 0 to 1.
            seed: A whole number of any size, not negative.

        Raises:
            ConfigError: `alpha` or `seed` is no such number, or the text is not a text.
            TokenizerError: The text is not valid text.
        """
        check_bounds("alpha", alpha := python_number(alpha), ALPHAS.get(self.kind, ANY_ALPHA))
        check_type("seed", seed := python_number(seed), "int")
        if seed < 0:  # whose random numbers would be those of the positive one
            raise ConfigError(f"seed must be a number of at least 0. Received: {short_repr(seed)}.")
        segmenter, random = self._segmenter(alpha), Random(seed)
        return self._encode(
            [text], lambda stretches: [segmenter.draw(stretch.replace(" ", SPACE), random) for stretch in stretches]
        )[0]

    def _printed_pieces(self) -> list[str]:
        learned = [piece.decode().replace(" ", SPACE) for piece in self.piece_bytes[FIRST_LEARNED : self.first_label]]
        return [*SPECIAL_PIECES, "\\n", *BYTE_NAMES, *map(printable, learned)]

    def _encode(self, texts: Sequence[str], encode: Callable[[list[str]], list[list[int]]]) -> list[list[int]]:
        # Line by line: over long texts the scores that SentencePiece adds up are rounded, and then the pieces
        # of a line would depend on the lines before it.
        rows = [self._apart.split(valid_text(text)) for text in several_texts("texts", texts)]
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


class WordTokenizer(_LoadedTokenizer):
    """word: a token is the text between white space, or unk; each newline is a token."""

    def __init__(self, names: list[str], serialized: bytes, labels: Sequence[str]) -> None:
        words = [name.removeprefix(SPACE) for name in names[NEWLINE + 1 :]]
        piece_bytes = [b"", b" <unk>", b"", b"\n", *[b" " + word.encode() for word in words]]
        super().__init__("word", piece_bytes, serialized, labels)
        self._ids = {word: id for id, word in enumerate(words, NEWLINE + 1)}

    def encode_batch(self, texts: Sequence[str], num_threads: int = -1) -> list[list[int]]:
        """Returns the ids of several texts, one per word and one per newline, on this thread."""
        checked_threads(num_threads)
        # Not SentencePiece's encode: it makes one unk of several in a row, and words would not be counted.
        return [self._encode(valid_text(text)) for text in several_texts("texts", texts)]

    def decoder(self, line_start: bool = True) -> StreamDecoder:
        """Returns a decoder that puts one space between words, and before the first one unless it begins a line."""
        return StreamDecoder(self.piece_bytes, spaced_words=True, line_start=line_start)

    def spelling(self, text: str) -> list[int]:
        """Returns the cost of spelling each unknown word, in millionths of a nat."""
        words = (word for line in valid_text(text).split("\n") for word in words_of(line))
        return [self._speller.cost(word) for word in words if word not in self._ids]

    def lost_bytes(self, text: str) -> int:
        """Returns the bytes of all white space except newlines and one space between two words of a line."""
        kept = "\n".join([" ".join(words_of(line)) for line in valid_text(text).split("\n")])
        return len(text.encode()) - len(kept.encode())

    def _printed_pieces(self) -> list[str]:
        words = [piece.decode()[1:] for piece in self.piece_bytes[NEWLINE + 1 : self.first_label]]
        return [*SPECIAL_PIECES, "\\n", *[SPACE + printable(word) for word in words]]

    @cached_property
    def _speller(self) -> Spelling:
        return Spelling(self._ids)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for line in text.split("\n"):
            ids += [self._ids.get(word, UNK) for word in words_of(line)]
            ids.append(NEWLINE)
        return ids[:-1]  # there is one newline fewer than lines


class ByteTokenizer(_LoadedTokenizer):
    """byte: the special tokens and the 256 bytes. Nothing is learned, and only labels are saved, as JSON."""

    first_byte = len(SPECIAL_PIECES)

    def __init__(self, labels: Sequence[str] = ()) -> None:
        serialized = json.dumps(list(labels)).encode() if labels else b""
        super().__init__("byte", [b"", "\ufffd".encode(), b"", *every_byte()], serialized, labels)

    def encode_batch(self, texts: Sequence[str], num_threads: int = -1) -> list[list[int]]:
        """Returns the ids of several texts, one per byte of their UTF-8, on this thread."""
        checked_threads(num_threads)
        return [
            [byte + self.first_byte for byte in valid_text(text).encode()] for text in several_texts("texts", texts)
        ]

    def _extended(self, more: Sequence[str]) -> Tokenizer:
        return load_tokenizer(json.dumps([*self.labels, *more]).encode())

    def _printed_pieces(self) -> list[str]:
        characters = [printable(chr(byte).replace(" ", SPACE)) for byte in range(128)]
        return [*SPECIAL_PIECES, *characters, *BYTE_NAMES[128:]]


def load_tokenizer(serialized: bytes, vocab_size: int | None = None) -> Tokenizer:
    """Makes a tokenizer from its `serialized` form; an empty one, or a list of labels, is the byte tokenizer's.

    Tokens are counted before an object is made of each, since the data may be there to fill the memory.

    Args:
        serialized: The `serialized` form.
        vocab_size: Number of tokens of the model that the tokenizer belongs to, if there is one.

    Returns:
        The tokenizer.

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
            f"The tokenizer has {counted(number, 'token')} and the model {expected:,}. They do not belong together. "
            f"{COPY_AGAIN}"
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
