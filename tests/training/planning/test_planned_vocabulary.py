"""The vocabulary of a plan."""

from __future__ import annotations

import pytest

from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.training.planning.vocabulary import _num_new_labels


@pytest.mark.parametrize("tokenizer", [None, ByteTokenizer(), ByteTokenizer(["a"]), ByteTokenizer(["c"])])
@pytest.mark.parametrize("labels", [(), ("a",), ("a", "b")])
def test_labels_add_as_many_tokens_as_a_vocabulary_with_them_has_more(
    labels: tuple[str, ...], tokenizer: Tokenizer | None
) -> None:
    """With the first labels comes the token for no label."""
    without = tokenizer or ByteTokenizer()
    assert _num_new_labels(labels, tokenizer) == without.with_labels(labels).vocab_size - without.vocab_size
