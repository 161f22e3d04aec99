"""Small vocabularies of every kind, and texts to encode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import SentencePieceTokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

ENGLISH = "The cat sat on the mat.\nThe dog saw the cat, and the cat saw the dog.\n\n    if x:\treturn 1\n"
CHINESE = "床前明月光，疑是地上霜。\n舉頭望明月，低頭思故鄉。\n"
TEXT = (ENGLISH + CHINESE) * 20

LOSSLESS = ("unigram", "bpe", "char", "byte")
TRAINED = ("unigram", "bpe", "char", "word")
TOKENIZERS: dict[str, Tokenizer] = {}

AWKWARD = [
    "", " ", "  ", "\n", "\n\n \n", "\t", "\0", "\ufeff", "\r\n", "\u2028", "\ue000",
    "\u2581", "a\u2581 \u2581b", "\u2585", "e\u0301", "\U0001f469\u200d\U0001f467", "🀄月",
    "<unk>", "<s></s><pad><eos>", "<0x41>", "<unknown piece>", "<textgen unigram>",
    "<end of document>", "The  cat\n sat ", "日本 語",
]  # fmt: skip
texts = st.text() | st.text("The cat\u2581\n明月 ") | st.sampled_from(AWKWARD)


def pieces_of(kind: str, texts: Sequence[str], **settings: Any) -> SentencePieceTokenizer:
    """A vocabulary of pieces that is trained on some texts."""
    tokenizer = train_tokenizer(texts, TokenizerConfig(kind, **settings))
    assert isinstance(tokenizer, SentencePieceTokenizer)
    return tokenizer


def tokenizer_of(kind: str) -> Tokenizer:
    """A small vocabulary of `kind`, trained once."""
    if kind not in TOKENIZERS:
        TOKENIZERS[kind] = train_tokenizer([TEXT], TokenizerConfig(kind))
    return TOKENIZERS[kind]
