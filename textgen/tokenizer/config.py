"""Settings of the tokenizer."""

from __future__ import annotations

from dataclasses import dataclass

from textgen.settings import Settings, setting

TOKENIZERS = ("unigram", "bpe", "char", "word", "byte")
MAX_VOCAB_SIZE = 1 << 20
SECTION = "Vocabulary"


@dataclass(frozen=True)
class TokenizerConfig(Settings):
    """How text becomes tokens."""

    tokenizer: str = setting(
        "unigram",
        "Kind of the tokens. word loses white space and unknown words: use it for word-level benchmarks.",
        choices=TOKENIZERS,
    )
    vocab_size: int | None = setting(
        None, "Tokens in the vocabulary, special ones included.", low=4, high=MAX_VOCAB_SIZE, planned=True
    )
    sample_bytes: int = setting(
        20_000_000, "Train the vocabulary on at most this many bytes of text.", low=1, section=SECTION
    )
