from __future__ import annotations

import pytest
from vocabularies import LOSSLESS, tokenizer_of

from textgen.errors import TokenizerError
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.vocabulary import train_tokenizer


def test_a_lone_surrogate_is_no_text() -> None:
    for kind in [*LOSSLESS, "word"]:
        with pytest.raises(TokenizerError, match=r"not valid text: character 1 is .* U\+D83D"):
            tokenizer_of(kind).encode("a\ud83d")
    with pytest.raises(TokenizerError, match="not valid text"):
        train_tokenizer(["\udc00"], TokenizerConfig())
