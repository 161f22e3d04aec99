"""Settings of the tokenizer."""

from __future__ import annotations

from dataclasses import dataclass

from textgen.settings import MAX_COUNT, Settings, setting

TOKENIZERS = ("unigram", "bpe", "char", "word", "byte")
MAX_VOCAB_SIZE = 1 << 20
SECTION = "Vocabulary"


@dataclass(frozen=True)
class TokenizerConfig(Settings):
    """How text becomes tokens."""

    tokenizer: str = setting(
        "unigram",
        "Kind of the tokens: pieces learned from the text (unigram, bpe), characters, words or bytes. word loses "
        "white space and unknown words, and needs spaces between words: use it for word-level benchmarks.",
        choices=TOKENIZERS,
    )
    vocab_size: int | None = setting(
        None, "Number of tokens in the vocabulary, special ones included.", low=4, high=MAX_VOCAB_SIZE, planned=True
    )
    sample_bytes: int = setting(
        20_000_000, "Train the vocabulary on at most this many bytes of text.", low=1, high=MAX_COUNT, section=SECTION
    )
    character_coverage: float | None = setting(
        None,
        "Fraction of the characters of the text that get tokens of their own; the rarest are spelled in bytes. "
        "By default all, or nearly all where there are more than 1,000 different ones, as in Chinese. For the "
        "tokenizers unigram, bpe and char.",
        low=0.98,  # SentencePiece takes no less
        high=1.0,
        section=SECTION,
    )
