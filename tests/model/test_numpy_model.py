"""One text that is read at once gives what it gives token by token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import random_weights

from textgen.model import numpy_model
from textgen.model.clamping import parse_clamp
from textgen.model.config import ModelConfig
from textgen.model.numpy_model import NumpyModel
from textgen.model.stepped_network import SteppedNetwork

V = 11


@pytest.mark.parametrize(
    "changed",
    [
        {}, {"num_layers": 1}, {"hidden_units": 9}, {"layer_norm": True}, {"residual": True}, {"attention": 3},
        {"cell": "gru"}, {"cell": "peephole"}, {"cell": "mogrifier"},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("rows", [1, 2])
def test_a_text_read_at_once_gives_what_it_gives_token_by_token(
    rows: int, changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numpy_model, "PART", 3)
    config = ModelConfig(V, **{"embedding_dim": 6, "hidden_units": 6, "num_layers": 3, **changed})
    model, rng = NumpyModel(config, random_weights(config)), np.random.default_rng(0)
    before = model.read(rng.integers(1, V, (rows, 2), np.int32), model.initial_state(rows))
    for length in (1, 3, 7):
        ids = rng.integers(1, V, (rows, length), np.int32)
        features, after = model.features(ids, before)
        stepwise, expected = SteppedNetwork.features(model, ids, before)
        np.testing.assert_allclose(features, stepwise, atol=1e-6)
        for arrays, others in zip(after, expected, strict=True):
            for array, other in zip(arrays, others, strict=True):
                np.testing.assert_allclose(array, other, atol=1e-6)


def test_a_text_read_at_once_keeps_clamps() -> None:
    config = ModelConfig(V, embedding_dim=6, hidden_units=6, num_layers=2)
    free, ids = NumpyModel(config, random_weights(config)), np.array([[1, 2, 3, 4]], np.int32)
    held = free.clamped([parse_clamp("L1/5=0.75", config)])
    features, _ = held.features(ids, held.initial_state(1))
    stepwise, _ = SteppedNetwork.features(held, ids, held.initial_state(1))
    np.testing.assert_allclose(features, stepwise, atol=1e-6)
    assert not np.allclose(features, free.features(ids, free.initial_state(1))[0], atol=1e-3)
