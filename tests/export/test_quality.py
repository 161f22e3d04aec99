"""How far two networks are apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import model_of

from textgen.errors import SavedModelError
from textgen.export.quality import Quality, check_quality, quality_of
from textgen.model.numpy_model import NumpyModel
from textgen.tokenizer.tokenizer import Tokenizer


class Shifted:
    """A network whose logits are those of another times a factor."""

    def __init__(self, network: NumpyModel, factor: float) -> None:
        self.network, self.factor = network, factor

    def initial_state(self, batch_size: int) -> Any:
        return self.network.initial_state(batch_size)

    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        logits, state = self.network.step(ids, state)
        return logits * self.factor, state


def test_quality_of_a_network_that_is_sharper(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = model_of(tmp_path, tokenizer)
    same = quality_of(model, model.writer())
    assert (same.divergence, same.same_top, same.perplexity) == (0, 1, 0)
    assert same.is_good
    near, far = (quality_of(model, Shifted(model.writer(), factor)) for factor in (1.1, 2))
    assert 0 < near.divergence < far.divergence
    assert near.same_top == far.same_top == 1


@pytest.mark.parametrize(
    ("quality", "is_good"),
    [
        (Quality(0.0019, 0.981), True),
        (Quality(0.0021, 1.0), False),
        (Quality(0.0, 0.979), False),
        (Quality(float("nan"), 1.0), False),
    ],
)
def test_bounds(quality: Quality, is_good: bool) -> None:
    assert quality.is_good == is_good


def test_a_refusal_says_how_much_is_lost(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = model_of(tmp_path, tokenizer)
    with pytest.raises(SavedModelError, match=r"a would lose too much by rounding: perplexity \+\d.*100.0% .*as b\."):
        check_quality(model, Shifted(model.writer(), 2), "a", instead="b")
