"""The network does what a `keras.Model` is expected to do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from textgen.errors import ConfigError
from textgen.model.config import CELLS, ModelConfig
from textgen.model.language_model import LanguageModel
from textgen.system.runtime import load_tensorflow

load_tensorflow()

B, T, V, PAD = 3, 6, 11, 0
PLAIN = ModelConfig(V, embedding_dim=4, hidden_units=5, num_layers=2, dropout=0.0, embedding_dropout=0.0)
CONFIGS = {
    **{cell: replace(PLAIN, cell=cell) for cell in CELLS},
    "both": replace(PLAIN, direction="both"),
    "attention": replace(PLAIN, attention=3),
    "untied, without projection": replace(PLAIN, hidden_units=4, tie_embeddings=False, layer_norm=True),
}


@pytest.fixture(params=CONFIGS)
def network(request: pytest.FixtureRequest) -> LanguageModel:
    return LanguageModel(CONFIGS[request.param], pad_id=PAD, seed=7)


def window() -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets int32 [B, T]; the end of one row is padding."""
    ids = np.random.default_rng(1).integers(1, V, (B, T + 1)).astype(np.int32)
    ids[1, -2:] = PAD
    return ids[:, :-1], ids[:, 1:]


def test_summary_shows_the_shape_of_each_layer(network: LanguageModel) -> None:
    lines: list[str] = []
    network.summary(print_fn=lambda line, line_break=True: lines.append(line), line_length=120)
    text = "\n".join(lines)
    assert "?" not in text
    for layer in ("(None, None, 4)", f"(None, None, {network.config.hidden_units})", f"(None, None, {V})"):
        assert layer in text
    assert f"{network.config.num_parameters:,}" in text


def test_the_config_makes_the_same_network_again(network: LanguageModel) -> None:
    again = LanguageModel.from_config(json.loads(json.dumps(network.get_config())))
    assert again.config == network.config
    assert again.get_config() == network.get_config()
    for name, array in network.weights_as_arrays().items():
        np.testing.assert_array_equal(again.weights_as_arrays()[name], array, err_msg=name)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")  # of Keras
@pytest.mark.parametrize("network", ["lstm", "both"], indirect=True)
def test_keras_loads_what_it_saved(network: LanguageModel, tmp_path: Path) -> None:
    network.save(tmp_path / "network.keras")
    again = keras.models.load_model(tmp_path / "network.keras")
    assert isinstance(again, LanguageModel)
    assert again.get_config() == network.get_config()
    np.testing.assert_array_equal(again(window()[0])[0], network(window()[0])[0])


@pytest.mark.parametrize(
    "network",
    [pytest.param(name, marks=() if name in ("lstm", "both", "attention") else pytest.mark.slow) for name in CONFIGS],
    indirect=True,
)
def test_predict_gives_the_logits_and_the_state_of_a_call(network: LanguageModel) -> None:
    inputs, _ = window()
    logits, state = network.predict(inputs, verbose=0)
    expected, expected_state = network(inputs)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state, expected_state)


def test_the_loss_is_the_mean_nats_of_targets_that_are_not_padding(network: LanguageModel) -> None:
    inputs, targets = window()
    logits, state = network(inputs)
    log_p = np.asarray(keras.ops.log_softmax(logits))  # [B, T, V]
    nats = -np.take_along_axis(log_p, targets[..., None], 2)[..., 0]  # [B, T]
    is_text = targets != PAD
    for prediction in (logits, (logits, state)):
        loss = network.compute_loss(x=inputs, y=targets, y_pred=prediction)
        assert float(loss) == pytest.approx(nats[is_text].mean(), rel=1e-5)
    weights = np.arange(B, dtype=np.float32)[:, None]
    loss = network.compute_loss(y=targets, y_pred=logits, sample_weight=weights)
    counts = is_text * weights
    assert float(loss) == pytest.approx((nats * counts).sum() / counts.sum(), rel=1e-5)
    assert float(network.compute_loss(y=np.full_like(targets, PAD), y_pred=logits)) == 0.0


@pytest.mark.parametrize("arguments", [{}, {"y": np.zeros((1, 1), np.int32)}, {"y_pred": np.zeros((1, 1, V))}])
def test_a_loss_of_nothing_is_refused(arguments: dict[str, Any]) -> None:
    network = LanguageModel(PLAIN, pad_id=PAD)
    with pytest.raises(ConfigError, match="compute_loss needs y"):
        network.compute_loss(**arguments)


def test_what_is_frozen_computes_and_is_named_as_before(network: LanguageModel) -> None:
    inputs, _ = window()
    (logits, _), arrays = network(inputs), network.weights_as_arrays()
    network.trainable = False
    np.testing.assert_array_equal(network(inputs)[0], logits)
    assert network.weights_as_arrays().keys() == arrays.keys()
    network.assign_weights({name: 0 * array for name, array in arrays.items()})
    assert not np.any(network(inputs)[0])


def test_a_weight_for_each_text_is_one_for_each_of_its_targets() -> None:
    network = LanguageModel(PLAIN, pad_id=PAD)
    inputs, targets = (array[:, :B] for array in window())  # as many steps as texts
    weights, logits = np.array([1.0, 0.0, 0.5], np.float32), network(inputs)
    loss, same = (
        float(network.compute_loss(y=targets, y_pred=logits, sample_weight=each))
        for each in (weights, np.repeat(weights[:, None], B, 1))
    )
    assert loss == same
    assert loss != float(network.compute_loss(y=targets, y_pred=logits))


@pytest.mark.parametrize("cell", CONFIGS)
def test_the_dtype_policy_of_keras_changes_nothing(cell: str) -> None:
    inputs, _ = window()
    expected = LanguageModel(CONFIGS[cell], pad_id=PAD, seed=7)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = LanguageModel(CONFIGS[cell], pad_id=PAD, seed=7)
        logits, state = network(inputs)
        network(inputs, state)
    finally:
        keras.config.set_dtype_policy(before)
    np.testing.assert_array_equal(logits, expected(inputs)[0])
    assert {weight.dtype for weight in network.weights} == {"float32"}


def test_keras_evaluates_and_fits_it() -> None:
    network = LanguageModel(PLAIN, pad_id=PAD)
    inputs, targets = window()
    network.compile(optimizer=keras.optimizers.Adam(0.05), jit_compile=False)
    before = network.evaluate(inputs, targets, batch_size=B, verbose=0)
    assert before == pytest.approx(float(network.compute_loss(y=targets, y_pred=network(inputs))), rel=1e-5)
    network.fit(inputs, targets, batch_size=B, epochs=5, verbose=0)
    assert network.evaluate(inputs, targets, batch_size=B, verbose=0) < before


def test_keras_does_not_fit_without_the_dropout_that_is_set() -> None:
    network = LanguageModel(replace(PLAIN, dropout=0.2), pad_id=PAD)
    network.compile(optimizer="adam", jit_compile=False, run_eagerly=True)
    with pytest.raises(ConfigError, match=r"fit of Keras cannot pass it: call textgen\.train"):
        network.fit(*window(), batch_size=B, verbose=0)
