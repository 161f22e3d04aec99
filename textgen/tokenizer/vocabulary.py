"""Trains a vocabulary on a corpus with SentencePiece, and chooses its size."""

from __future__ import annotations

import io
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import sentencepiece

from textgen.corpus.corpus import Corpus
from textgen.errors import ConfigError, TokenizerError
from textgen.settings import select
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer, load_tokenizer
from textgen.tokenizer.pieces import (
    EOS,
    EOS_NAME,
    FIRST_LEARNED,
    NEWLINE,
    NEWLINE_NAME,
    PAD,
    SPACE,
    UNK,
    UNK_NAME,
    valid_text,
)
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.wording import counted

# Where training text is cut: SentencePiece keeps NUL, U+2585 and tab for itself and drops lines with them.
UNTRAINABLE = re.compile(f"[\n\t\0{SPACE}\u2585]+")
# ... and, where bytes are tokens, within the name of one, whose characters it would not learn.
UNTRAINABLE_WITH_BYTES = re.compile(f"{UNTRAINABLE.pattern}|(?<=<)(?=0x[0-9A-F]{{2}}>)")
MAX_STRETCH_CHARS = 1000  # maximum length of a stretch; SentencePiece drops lines of more than 4,192 bytes

MANY_CHARACTERS = 1000  # a script with more distinct characters than this has a long tail of rare ones
COVERAGE = 0.9995  # fraction of such a text whose characters have a piece; the others take 3 or 4 tokens
CHAR_COVERAGE = 0.9999  # the same for char, which has only characters
MAX_CHOSEN = 32_000  # maximum size of a vocabulary that is chosen, in tokens
MAX_CHOSEN_WORDS = 50_000
TRAINING_THREADS = 4  # on every machine: scores of the vocabulary depend on it in the last digits


def learn_vocabulary(corpus: Corpus, config: TokenizerConfig) -> Tokenizer:
    """Trains a tokenizer on a corpus of any size.

    The same corpus and config give the same tokenizer.

    Args:
        corpus: The corpus, from which excerpts of `config.sample_bytes` bytes are taken. Labels of its documents get
            tokens of their own: see `add_labels`.
        config: Settings of the tokenizer.

    Returns:
        The tokenizer.

    Raises:
        TokenizerError: As `train_tokenizer`.
        CorpusError: As `add_labels`.
    """
    labels = corpus.labels_to_learn()  # raises before the slow part
    if config.tokenizer == "byte":
        return train_tokenizer([], config).with_labels(labels)
    texts = list(corpus.excerpts(config.sample_bytes))
    sample_bytes = max(1, sum(len(text.encode()) for text in texts))
    is_whole = corpus.is_within(config.sample_bytes)
    times = 1.0 if is_whole else max(1.0, corpus.size / sample_bytes)  # that the corpus is longer than the sample
    counts = {character: round(times * count) for character, count in _count(texts).items()}
    return train_tokenizer(texts, config, character_counts=counts).with_labels(labels)


def add_labels(tokenizer: Tokenizer, corpus: Corpus) -> Tokenizer:
    """Returns the tokenizer with tokens for the labels of a corpus that are frequent enough and that it lacks.

    `TokenizerConfig.vocab_size` does not count them.

    Raises:
        CorpusError: `CorpusConfig.labels` finds no labels, or only labels that are too rare.
    """
    return tokenizer.with_labels(corpus.labels_to_learn(tokenizer.labels))


def train_tokenizer(
    texts: Iterable[str], config: TokenizerConfig, *, character_counts: Mapping[str, int] | None = None
) -> Tokenizer:
    """Trains a tokenizer on texts.

    The same texts and config give the same tokenizer.

    Args:
        texts: Parts of documents, of which the first `config.sample_bytes` bytes are used.
        config: Settings of the tokenizer. A size chosen automatically is only a target.
        character_counts: Counts of the characters in the whole corpus, if known; used to choose the size.

    Returns:
        The tokenizer.

    Raises:
        TokenizerError: There is no text, `config.vocab_size` does not suit it, or a setting has no effect.
    """
    require_coverage(config)
    if config.tokenizer == "byte":
        return _byte_tokenizer(config.vocab_size)
    sample = _sample(texts, config)
    sampled = _count(sample)
    if not sampled.keys() - {"\r"}:  # SentencePiece removes it from the ends of lines
        raise TokenizerError("There is no text to learn a vocabulary from: give a corpus with words in it.")
    counts = character_counts or sampled
    coverage = config.character_coverage or _coverage(config.tokenizer, counts)
    vocab_size = config.vocab_size or choose_vocab_size(config.tokenizer, sum(counts.values()), counts, coverage)
    if config.tokenizer == "char":
        coverage = 1.0  # the size alone decides which characters are left out
    least = _least_vocab_size(config.tokenizer, sampled, coverage)
    if vocab_size < least:
        if config.vocab_size:
            raise TokenizerError(
                f"vocab_size {vocab_size} is too small for this text: its characters and bytes need {least}. "
                f"Choose at least {least}, or leave vocab_size out."
            )
        vocab_size = least
    tokenizer = load_tokenizer(_train(sample, config.tokenizer, vocab_size, coverage))
    if config.vocab_size and tokenizer.vocab_size < config.vocab_size:
        most = tokenizer.vocab_size
        raise TokenizerError(
            f"vocab_size {config.vocab_size} is more than this text allows, which is {most}. "
            f"Choose at most {most}, or leave vocab_size out."
        )
    return tokenizer


def choose_vocab_size(
    tokenizer: str, total_characters: int, character_counts: Mapping[str, int], coverage: float | None = None
) -> int:
    """Chooses a vocabulary size for a corpus, special tokens included.

    - byte: 259. word: 50,000; a text with fewer distinct words makes a smaller one.
    - char: every character; if they are very many, those that make up 99.99 % of the text.
    - unigram, bpe: every character (99.95 % of the text if very many) and 5 sqrt(total_characters) longer pieces: a
      piece must be frequent to be learned, and a corpus grows faster than its vocabulary. A multiple of 8, at most
      32,000.

    Args:
        tokenizer: The kind of the tokenizer.
        total_characters: Length of the corpus.
        character_counts: Count of each character.
        coverage: Fraction of the text whose characters get tokens of their own, where it is not the one above.

    Returns:
        The number of tokens.

    Example:
        >>> choose_vocab_size("unigram", 1_000_000, {"a": 600_000, " ": 400_000})
        5264
    """
    if tokenizer == "byte":
        return ByteTokenizer().vocab_size
    if tokenizer == "word":
        return MAX_CHOSEN_WORDS
    characters = FIRST_LEARNED + _covering(character_counts, coverage or _coverage(tokenizer, character_counts))
    if tokenizer == "char":
        return characters
    wanted = characters + round(5 * math.sqrt(total_characters))
    return max(characters, min(MAX_CHOSEN, -(-wanted // 8) * 8))


def _coverage(tokenizer: str, character_counts: Mapping[str, int]) -> float:
    """The default for the fraction of a text whose characters get tokens of their own."""
    if tokenizer == "word" or len(character_counts) <= MANY_CHARACTERS:
        return 1.0
    return CHAR_COVERAGE if tokenizer == "char" else COVERAGE


def _train(sample: list[str], tokenizer: str, vocab_size: int, coverage: float) -> bytes:
    """Returns the trained SentencePiece model, serialized."""
    if tokenizer == "word":
        settings: dict[str, Any] = {
            "add_dummy_prefix": True, "remove_extra_whitespaces": True, "control_symbols": [NEWLINE_NAME],
        }  # fmt: skip
    else:
        settings = {
            "add_dummy_prefix": False, "remove_extra_whitespaces": False, "user_defined_symbols": ["\n"],
            "allow_whitespace_only_pieces": True, "byte_fallback": True,
        }  # fmt: skip
    if tokenizer == "unigram":
        sample = sample + _frequent_words(sample)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sample), model_writer=model, model_type=tokenizer, vocab_size=vocab_size,
            hard_vocab_limit=False, character_coverage=coverage, normalization_rule_name="identity",
            pad_id=PAD, unk_id=UNK, eos_id=EOS, bos_id=-1,
            pad_piece=f"<textgen {tokenizer}>", unk_piece=UNK_NAME, eos_piece=EOS_NAME,
            num_threads=TRAINING_THREADS, minloglevel=5, **settings,
        )  # fmt: skip
    except RuntimeError as error:
        raise TokenizerError(f"SentencePiece cannot make a {tokenizer} vocabulary of this text: {error}") from None
    return model.getvalue()


def _sample(texts: Iterable[str], config: TokenizerConfig) -> list[str]:
    """Lines in their order, at most `config.sample_bytes` bytes."""
    sample: list[str] = []
    room = config.sample_bytes
    for text in texts:
        for stretch in _stretches(valid_text(text), config.tokenizer == "word"):
            room -= len(stretch.encode())
            if room < 0 and sample:
                return sample
            sample.append(stretch)
    return sample


def _count(texts: Iterable[str]) -> Mapping[str, int]:
    """The number of occurrences of each character."""
    counts = Counter[str]()
    for text in texts:
        counts.update(text)
    return counts


def _stretches(text: str, only_words: bool) -> Iterator[str]:
    """Lines without characters that SentencePiece cannot learn; long ones are cut, before a space if possible."""
    for line in (UNTRAINABLE if only_words else UNTRAINABLE_WITH_BYTES).split(text):
        line = " ".join(line.split()) if only_words else line
        start = 0
        while len(line) - start > MAX_STRETCH_CHARS:
            end = line.rfind(" ", start + 1, start + MAX_STRETCH_CHARS)
            end = end if end > 0 else start + MAX_STRETCH_CHARS
            yield line[start:end]
            start = end
        if start < len(line):
            yield line[start:]


def _frequent_words(sample: list[str]) -> list[str]:
    """Words that occur more than once, each before a punctuation mark.

    SentencePiece's candidates for a unigram piece are substrings of at least two distinct words, so a word that is
    never followed by a mark or part of a longer word could not become a piece, however frequent. Texts in which words
    and marks are already separated, such as the Penn Treebank, would become a fifth longer in tokens.
    """
    words, characters = Counter[str](), Counter[str]()
    for line in sample:
        words.update(re.findall(" [^ ]+", line))
        characters.update(line)
    marks = (c for c, _ in characters.most_common() if unicodedata.category(c)[0] in "PS")
    mark = next(marks, "")
    return [word + mark for word, count in words.items() if count > 1] if mark else []


def _least_vocab_size(tokenizer: str, counts: Mapping[str, int], coverage: float) -> int:
    """The smallest size that SentencePiece accepts."""
    if tokenizer == "word":
        return NEWLINE + 2
    if tokenizer == "char":  # the rarest characters can do without a piece
        return FIRST_LEARNED + 1
    return FIRST_LEARNED + _covering(counts, coverage)


def _covering(counts: Mapping[str, int], fraction: float) -> int:
    """The number of most frequent characters that make up `fraction` of a text.

    >>> _covering({"e": 50, "t": 40, "q": 10}, 0.9)
    2
    """
    counts = {character: count for character, count in counts.items() if not UNTRAINABLE.match(character)}
    needed, covered = fraction * sum(counts.values()), 0
    for number, count in enumerate(sorted(counts.values(), reverse=True)):
        if covered >= needed:
            return number
        covered += count
    return len(counts)


def refuse_vocabulary_settings(given: Mapping[str, Any]) -> None:
    """Checks the flat settings of a run that takes its vocabulary from elsewhere.

    Args:
        given: Settings by name, of any kind.

    Raises:
        ConfigError: There are settings of `TokenizerConfig` among them.
    """
    if clash := select(TokenizerConfig, given):
        raise ConfigError(f"The vocabulary is taken from another model or file: leave out {' and '.join(clash)}.")


def require_coverage(config: TokenizerConfig) -> None:
    """Checks that a fraction of characters with tokens of their own, if there is one, suits the kind of the tokens.

    Raises:
        TokenizerError: The vocabulary has no tokens for characters, or `vocab_size` decides how many.
    """
    if config.character_coverage is None:
        return
    if config.tokenizer == "byte":
        raise TokenizerError("The byte tokenizer has no tokens for characters: leave character_coverage out.")
    if config.tokenizer == "word":  # SentencePiece would drop every word with a character outside the fraction
        raise TokenizerError(
            "The word tokenizer has tokens for words, not for characters, and no bytes to spell the rarest ones in: "
            "leave character_coverage out, or choose the tokenizer unigram, bpe or char."
        )
    if config.tokenizer == "char" and config.vocab_size is not None:
        raise TokenizerError(
            "Both vocab_size and character_coverage say how many characters have a token of their own: leave one out."
        )


def _byte_tokenizer(vocab_size: int | None) -> Tokenizer:
    tokenizer = ByteTokenizer()
    if vocab_size not in (None, tokenizer.vocab_size):
        raise TokenizerError(
            f"The byte tokenizer always has {counted(tokenizer.vocab_size, 'token')}: leave vocab_size out. "
            f"Received: {vocab_size}."
        )
    return tokenizer
