"""A reading is that of the network, with its inside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from networks import random_weights

from textgen.insight.lenses import lenses
from textgen.insight.neighbours import neighbours
from textgen.insight.reading import Reader
from textgen.model.clamping import VALUES
from textgen.model.config import CELLS, ModelConfig

BASE = ModelConfig(13, embedding_dim=5, hidden_units=6, num_layers=2)
KINDS = [
    *(replace(BASE, cell=cell) for cell in CELLS),
    replace(BASE, residual=True, layer_norm=True, tie_embeddings=False),
    replace(BASE, attention=200, embedding_dim=6),
]
IDS = np.random.default_rng(0).integers(0, 13, [2, 300]).astype(np.int32)


@pytest.mark.parametrize("config", KINDS, ids=lambda config: f"{config.cell}-{config.residual}-{config.attention}")
def test_a_reading_equals_that_of_the_model(config: ModelConfig) -> None:
    reader = Reader(config, random_weights(config))
    reading = reader.read(IDS)
    features, state = reader.model.features(IDS, reader.model.initial_state(2))
    np.testing.assert_allclose(reading.features, features, rtol=1e-3, atol=1e-4)
    for mine, theirs in zip(reading.state, state, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    assert [set(values) for values in reading.layers] == [set(VALUES[config.cell])] * 2


@pytest.mark.parametrize("part", [1, 7, 64])
def test_a_text_read_in_parts_is_read_as_a_whole(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(BASE, num_layers=3, residual=True, layer_norm=True)
    reader = Reader(config, random_weights(config))
    whole = reader.read(IDS)
    monkeypatch.setattr("textgen.insight.reading.PART", part)
    parts = reader.read(IDS)
    np.testing.assert_allclose(parts.features, whole.features, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(parts.layers, whole.layers, strict=True):
        for name, array in mine.items():
            np.testing.assert_allclose(array, theirs[name], rtol=1e-4, atol=1e-5)


def test_a_reading_goes_on_from_any_place() -> None:
    reader = Reader(BASE, random_weights(BASE))
    whole = reader.read(IDS[:1])
    rest = reader.read(np.stack([IDS[0, 100:110], IDS[0, :10]]), reader.state_at(whole, [100, 0]))
    np.testing.assert_allclose(rest.features[0], whole.features[0, 100:110], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rest.features[1], whole.features[0, :10], rtol=1e-4, atol=1e-5)


def test_predictions_are_surprisal_rank_and_the_likeliest() -> None:
    reader = Reader(BASE, random_weights(BASE))
    features = reader.read(IDS[:1]).features[0, :-1]
    targets = IDS[0, 1:]
    found = reader.predictions(features, targets, 4)
    logits = reader.model.logits(features).astype(float)
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    own = p[np.arange(len(targets)), targets]
    np.testing.assert_allclose(found.surprisal, -np.log2(own), rtol=1e-4)
    np.testing.assert_array_equal(found.rank, 1 + (p > own[:, None]).sum(axis=-1))
    np.testing.assert_allclose(found.entropy, -(p * np.log2(p)).sum(axis=-1), rtol=1e-4)
    np.testing.assert_array_equal(found.top_ids, np.argsort(-p, axis=-1)[:, :4])
    np.testing.assert_allclose(reader.losses(features, targets), -np.log(own), rtol=1e-4)


def test_the_last_level_of_the_lens_is_the_model_and_the_fitted_lens_finds_a_linear_map() -> None:
    reader = Reader(BASE, random_weights(BASE))
    found = lenses(reader, reader.read(IDS[:1]), np.ones(IDS.shape[1] - 1, bool))
    assert [level.name for level in found.levels] == ["embedding", "lstm_0", "lstm_1"]
    assert found.levels[-1].logit_lens.mean == pytest.approx(found.model, rel=1e-4)
    assert found.levels[-1].fitted_lens.mean == pytest.approx(found.model, rel=0.05)
    assert len(found.levels[0].guesses) == found.num_tokens == len(IDS[0]) - 1 - found.start
    assert found.levels[-1].logit_lens.error < 1e-6, "the same losses as those of the model"
    assert 0.01 < found.levels[0].logit_lens.error < 1


def test_the_last_level_of_the_lens_is_the_attention_head_where_there_is_one() -> None:
    config = replace(BASE, attention=20, num_layers=1)  # with a projection, which the features have passed
    reader = Reader(config, random_weights(config))
    found = lenses(reader, reader.read(IDS[:1]), np.ones(IDS.shape[1] - 1, bool))
    assert [level.name for level in found.levels] == ["embedding", "lstm_0", "attention"]
    assert found.levels[-1].logit_lens.mean == pytest.approx(found.model, rel=1e-6)
    assert found.levels[-1].fitted_lens.mean == pytest.approx(found.model, rel=0.05)
    assert abs(found.levels[-2].logit_lens.mean - found.model) > 0.01, "the head changes what the last layer says"


def test_neighbours_by_cosine_among_the_tokens_of_the_text() -> None:
    config = replace(BASE, tie_embeddings=False)
    weights = random_weights(config)
    weights["embedding/table"][7] = 3 * weights["embedding/table"][5]
    weights["head/kernel"][:, 9] = 2 * weights["head/kernel"][:, 5]
    found = {each.id: each for each in neighbours(weights, np.array([5, 5, 7, 9, 1, 11]), range(3, 12))}
    assert set(found) == {5, 7, 9, 11}
    assert found[5].inputs[0][0] == 7
    assert found[5].inputs[0][1] == pytest.approx(1, abs=1e-5)
    assert found[5].outputs is not None
    assert found[5].outputs[0][0] == 9
    assert neighbours(random_weights(BASE), np.array([5, 7]), range(3, 12))[0].outputs is None


def test_no_token_that_is_measured_has_a_part_in_the_fitted_lens() -> None:
    """Of the second half, only tokens that do not count are changed: the losses of the others stay."""
    config = replace(BASE, hidden_units=40, num_layers=1)
    reader, ids = Reader(config, random_weights(config)), IDS[:1, :80]
    reading, is_scored = reader.read(ids), np.ones(79, bool)
    is_scored[60:] = False
    before = lenses(reader, reading, is_scored)
    reading.outputs[0][0, 60:] *= -1
    after = lenses(reader, reading, is_scored)
    assert [level.fitted_lens for level in after.levels] == [level.fitted_lens for level in before.levels]
    reading.outputs[0][0, :20] *= -1
    other = lenses(reader, reading, is_scored)
    assert other.levels[-1].fitted_lens != before.levels[-1].fitted_lens, "it is fitted on the first half"
