"""The n-grams of a text: against transformers, against brute force, and what they cost."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgen.generation.constraints import ngrams as module
from textgen.generation.constraints.ngrams import NGrams


@pytest.mark.oracles("torch", "transformers.generation.logits_process")
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_ngrams_equal_transformers(size: int) -> None:
    import torch
    from transformers.generation import logits_process as generation

    ids = np.random.default_rng(2).integers(0, 3, 60)
    processor, ngrams = generation.NoRepeatNGramLogitsProcessor(size), NGrams(size)
    for number, piece in enumerate(ids.tolist()):
        ngrams = ngrams.after([piece])
        theirs = processor(torch.from_numpy(ids[None, : number + 1]), torch.zeros((1, 5))).numpy()[0]
        assert sorted(ngrams.forbidden().tolist()) == np.flatnonzero(theirs == -np.inf).tolist()


def plainly(ids: list[int], size: int) -> list[int]:
    """The last tokens of all n-grams that begin with the last n - 1 tokens."""
    last = ids[len(ids) - size + 1 :]
    starts = range(len(ids) - size + 1) if len(ids) >= size - 1 else []
    return sorted({ids[start + size - 1] for start in starts if ids[start : start + size - 1] == last})


@pytest.mark.parametrize("modulus", [module.MODULUS, 3], ids=["", "where many hashes are the same"])
@settings(deadline=None, max_examples=150)
@given(parts=st.lists(st.lists(st.integers(0, 2), max_size=12), max_size=8), size=st.integers(1, 6))
def test_what_is_forbidden_is_that_of_brute_force(modulus: int, parts: list[list[int]], size: int) -> None:
    """Read in parts of any length; what was there before a part stays as it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MODULUS", modulus)
        texts, ids = [NGrams(size)], [list[int]()]
        for part in parts:
            texts.append(texts[-1].after(part))
            ids.append([*ids[-1], *part])
        for text, own in zip(texts, ids, strict=True):
            assert sorted(text.forbidden().tolist()) == plainly(own, size)
            other = text.after([2, 0])
            assert sorted(other.forbidden().tolist()) == plainly([*own, 2, 0], size)


def test_tokens_are_not_compared_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a text that repeats itself each run of tokens has come before."""
    compared: list[int] = []
    run = NGrams._run

    def counted(self: NGrams, end: int) -> array[int]:
        compared.append(end)
        return run(self, end)

    monkeypatch.setattr(NGrams, "_run", counted)
    text = NGrams(500).after([7] * 3000 + [8] + [7] * 2000)
    for _ in range(500):
        text = text.after([7])
    assert sorted(text.forbidden().tolist()) == [7, 8]
    assert len(compared) < 10
