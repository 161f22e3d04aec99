"""One update: gradients of everything that is added to the loss, for a batch in one piece and in shards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from textgen.errors import ConfigError
from textgen.model import reference
from textgen.model.config import ModelConfig
from textgen.model.language_model import LanguageModel
from textgen.model.layers.dropout import Noise
from textgen.model.reference import Weights
from textgen.system.runtime import load_tensorflow
from textgen.training.config import TrainingConfig
from textgen.training.distributed.distribution import Distribution
from textgen.training.train_step import Gradient, TrainStep

load_tensorflow()

B, T, E, H, V, PAD = 4, 5, 6, 7, 11, 0
STILL = ModelConfig(V, E, H, 2, dropout=0.0, embedding_dropout=0.0)
STEP = 1e-4  # of central differences
RNG = np.random.default_rng(3)
TEXT = RNG.integers(1, V, (B, T + 1)).astype(np.int32)
TEXT[1, -2:] = PAD
INPUTS, TARGETS = TEXT[:, :-1], TEXT[:, 1:]
STATE = [tuple(RNG.normal(0, 0.5, (2, B, H))) for _ in range(2)]
WEIGHTS = {name: RNG.normal(0, 0.5, shape) for name, shape in STILL.weight_shapes().items()}


@pytest.fixture(params=[1, 2], ids=["whole", "two shards"])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textgen.model.sharding.num_cores", lambda processes=1: request.param)
    monkeypatch.setattr("textgen.training.distributed.distribution.num_cores", lambda processes=1: request.param)


def update_of(model: ModelConfig = STILL, precision: str = "float32", **settings: Any) -> TrainStep:
    network = LanguageModel(model, pad_id=PAD, precision=precision)
    network.assign_weights({name: weight.astype(np.float32) for name, weight in WEIGHTS.items()})
    return TrainStep(network, TrainingConfig(batch_size=B, sequence_length=T, **settings), Distribution())


def gradient_of(update: TrainStep, step: int = 0, loss_scale: float = 1.0, progress: float = 0.0) -> Gradient:
    state = tuple(tuple(tf.constant(array, tf.float32) for array in layer) for layer in STATE)
    return update.gradient(tf.constant(INPUTS), tf.constant(TARGETS), state, step, loss_scale, progress)


def assert_gradients(update: TrainStep, gradient: Gradient, loss: Callable[[Weights], float]) -> None:
    """They are those of `loss`, by central differences along a random direction of each weight."""
    names = {id(weight): name for name, weight in update._model.named_weights().items()}
    for weight, ours in zip(update.weights, gradient.gradients, strict=True):
        name = names[id(weight)]
        direction = np.random.default_rng(5).normal(size=ours.shape)
        losses = [loss(WEIGHTS | {name: WEIGHTS[name] + sign * STEP * direction}) for sign in (1, -1)]
        expected = (losses[0] - losses[1]) / (2 * STEP)
        assert abs(expected) > 1e-4, name
        assert float((ours.numpy() * direction).sum()) == pytest.approx(expected, rel=1e-4, abs=1e-5), name


def nats_of(weights: Weights) -> float:
    logits, _, _ = reference.forward(weights, INPUTS, STATE)
    return reference.cross_entropy(logits, TARGETS, PAD)[0]


@pytest.mark.usefixtures("cores")
def test_penalties_on_activations_are_means_over_the_tokens_that_count() -> None:
    def loss(weights: Weights) -> float:
        _, _, trace = reference.forward(weights, INPUTS, STATE)
        previous = np.concatenate([STATE[-1][0][:, None], trace.hidden[:, :-1]], 1)
        sizes, steps = ((array**2).mean(-1)[TARGETS != PAD].mean() for array in (trace.hidden, trace.hidden - previous))
        return nats_of(weights) + 2.0 * float(sizes) + 3.0 * float(steps)

    update = update_of(activation_penalty=2.0, temporal_penalty=3.0)
    gradient = gradient_of(update)
    assert gradient.nats == pytest.approx(nats_of(WEIGHTS), abs=1e-5)  # without the penalties
    assert_gradients(update, gradient, loss)


def test_one_penalty_is_on_outputs_after_dropout_and_the_other_on_those_before() -> None:
    model = update_of(ModelConfig(V, E, H, 2, dropout=0.5, embedding_dropout=0.0))._model
    _, state, (activations,) = model.read(INPUTS, noise=Noise(tf.constant([1, 2])))
    assert np.all(activations.outputs)
    np.testing.assert_allclose(activations.outputs[-1], state[-1][0], atol=1e-6)
    silent = activations.dropped.numpy() == 0
    assert 0 < silent.mean() < 1
    np.testing.assert_allclose(activations.dropped, np.where(silent, 0, 2 * activations.outputs.numpy()), atol=1e-6)
    assert not np.any(activations.before)


@pytest.mark.usefixtures("cores")
def test_label_smoothing_asks_for_a_share_of_every_piece() -> None:
    def loss(weights: Weights) -> float:
        logits, _, _ = reference.forward(weights, INPUTS, STATE)
        shifted = logits - np.log(np.exp(logits).sum(-1, keepdims=True))  # log p
        evenly = -shifted.mean(-1)[TARGETS != PAD].mean()
        return 0.8 * nats_of(weights) + 0.2 * float(evenly)

    update = update_of(label_smoothing=0.2)
    gradient = gradient_of(update)
    assert gradient.nats == pytest.approx(nats_of(WEIGHTS), abs=1e-5)
    assert_gradients(update, gradient, loss)


@pytest.mark.usefixtures("cores")
def test_marked_rows_are_read_from_zeros() -> None:
    marked, state = INPUTS.copy(), tuple(tuple(tf.constant(array, tf.float32) for array in layer) for layer in STATE)
    marked[1:3, 0] = ~marked[1:3, 0]
    is_kept = np.array([1, 0, 0, 1], np.float32)[:, None]
    zeroed = tuple(tuple(array * is_kept for array in layer) for layer in state)
    ours = update_of().gradient(tf.constant(marked), tf.constant(TARGETS), state, 0)
    expected = update_of().gradient(tf.constant(INPUTS), tf.constant(TARGETS), zeroed, 0)
    assert ours.nats == expected.nats != gradient_of(update_of()).nats
    pairs = zip(
        tf.nest.flatten([ours.gradients, ours.state]),
        tf.nest.flatten([expected.gradients, expected.state]),
        strict=True,
    )
    assert all(np.array_equal(one, other) for one, other in pairs)


def test_accumulated_batches_are_one_large_batch() -> None:
    """With dropout, and padding that is not shared out evenly."""
    model = ModelConfig(V, E, H, 2, dropout=0.4, embedding_dropout=0.2, word_dropout=0.2, weight_drop=0.3)
    update, whole = update_of(model), gradient_of(update_of(model))
    update._config = replace(update._config, batch_size=2, gradient_accumulation_steps=2)
    parts = gradient_of(update)
    assert parts.nats == pytest.approx(whole.nats, abs=1e-6)
    np.testing.assert_allclose(parts.norms, whole.norms, rtol=1e-5)
    for ours, theirs in zip(parts.gradients, whole.gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for ours, theirs in zip(tf.nest.flatten(parts.state), tf.nest.flatten(whole.state), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


SAMPLED: dict[str, Any] = {"sampled_softmax": 4, "full_softmax_fraction": 0.25}


def sampling_update(model: ModelConfig = STILL, **settings: Any) -> TrainStep:
    network = update_of(model)._model
    config = TrainingConfig(batch_size=B, sequence_length=T, **(SAMPLED | settings))
    update = TrainStep(network, config, Distribution(), np.arange(V))
    if config.gradient_accumulation_steps > 1:
        update._config = replace(config, batch_size=B // config.gradient_accumulation_steps)
    return update


def test_a_sampled_softmax_has_other_candidates_at_each_step_and_becomes_full_at_the_end() -> None:
    full, update = gradient_of(update_of()), sampling_update()
    losses = [gradient_of(update, step, progress=0.7).nats for step in (0, 0, 1)]
    assert losses[0] == losses[1]
    assert len({*losses, full.nats}) == 3
    late = gradient_of(update, progress=0.75)
    assert late.nats == full.nats
    for ours, theirs in zip(late.gradients, full.gradients, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert gradient_of(sampling_update(sampled_softmax=V)).nats == full.nats, "there is nothing to sample from"


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="shards"),
        pytest.param({"gradient_accumulation_steps": 2}, id="accumulated", marks=pytest.mark.slow),
    ],
)
def test_shards_and_accumulated_batches_share_their_candidates(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(STILL, dropout=0.4)
    monkeypatch.setattr("textgen.training.distributed.distribution.num_cores", lambda processes=1: 1)
    whole = gradient_of(sampling_update(model))
    monkeypatch.setattr("textgen.training.distributed.distribution.num_cores", lambda processes=1: 2)
    parts = gradient_of(sampling_update(model, **settings))
    assert parts.nats == pytest.approx(whole.nats, abs=1e-6)
    for ours, theirs in zip(parts.gradients, whole.gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_sampled_softmax_and_label_smoothing_exclude_each_other() -> None:
    """The advice fits also if only one of them was given, and the other one planned or in a file of settings."""
    with pytest.raises(ConfigError, match=r": set sampled_softmax to 0, or leave label_smoothing out\.$"):
        TrainingConfig(**SAMPLED, label_smoothing=0.1)


@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize("parts", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_batch_without_targets_has_a_loss_and_a_gradient_of_zero(parts: int) -> None:
    """Such as windows of one token, all of which are labels. No update is left out for it."""
    update = update_of(gradient_accumulation_steps=parts)
    state = tuple(tuple(tf.zeros((B * parts, H)) for _ in range(2)) for _ in range(2))
    ids = tf.ones((B * parts, T), tf.int32)
    gradient = update.gradient(ids, tf.fill(ids.shape, PAD), state, 0)
    assert gradient.is_finite
    assert (gradient.nats, gradient.norm) == (0.0, 0.0)


def test_clipping_by_value_bounds_each_number_and_leaves_the_length() -> None:
    update = update_of(clip_value=1e-3, clip_norm=1e-6, optimizer="sgd", weight_decay=0.0)
    before = update._model.weights_as_arrays()
    gradient = gradient_of(update)
    update.apply(gradient, 0.5)
    assert gradient.norm > 0.1
    names = {id(weight): name for name, weight in update._model.named_weights().items()}
    for weight, g in zip(update.weights, gradient.gradients, strict=True):
        expected = before[names[id(weight)]] - 0.5 * np.clip(g.numpy(), -1e-3, 1e-3)
        np.testing.assert_allclose(weight.numpy(), expected, atol=1e-7)


def test_a_scaled_loss_has_the_same_gradient() -> None:
    """To the last digit: the scale is a power of 2."""
    update = update_of()
    plain, scaled = gradient_of(update), gradient_of(update, loss_scale=1024.0)
    assert scaled.nats == plain.nats
    for ours, theirs in zip(scaled.gradients, plain.gradients, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_in_float16_a_scale_keeps_gradients_from_vanishing_and_too_much_of_it_overflows() -> None:
    exact, update = gradient_of(update_of()).gradients, update_of(precision="float16")

    def error(loss_scale: float) -> float:
        ours = gradient_of(update, loss_scale=loss_scale).gradients
        return max(float(tf.norm(a - b) / tf.norm(b)) for a, b in zip(ours, exact, strict=True))

    assert error(1024.0) < 0.01
    assert error(2.0**-20) > 0.1
    assert not gradient_of(update, loss_scale=2.0**30).is_finite


@pytest.mark.parametrize("apart", [1 << 31, *(pytest.param(1 << n, marks=pytest.mark.slow) for n in (32, 62))])
def test_seeds_far_apart_have_masks_of_their_own(apart: int) -> None:
    noisy = replace(STILL, dropout=0.5)
    update = update_of(noisy, seed=5)
    one, again, other = gradient_of(update), gradient_of(update), gradient_of(update_of(noisy, seed=5 + apart))
    assert one.nats == again.nats
    assert one.nats != other.nats


@pytest.mark.parametrize(("optimizer", "number"), [("adamw", np.inf), ("lamb", np.nan), ("sgd", np.nan)])
def test_an_update_that_is_left_out_on_a_gpu_leaves_everything_as_it_was(optimizer: str, number: float) -> None:
    """To the bit, with all that the optimizer remembers; nothing asks the processor whether to leave it out."""
    tuning: dict[str, Any] = {
        "momentum": 0.9 * (optimizer == "sgd"),
        "weight_decay": 0.1,
        "layer_learning_rate_decay": 0.9,
    }
    update = update_of(optimizer=optimizer, **tuning)
    sound = gradient_of(update)
    gradients = [each * number for each in sound.gradients]
    spoiled = replace(sound, gradients=gradients, norm_tensor=sound.norm_tensor * number)
    start = tf.nest.map_structure(tf.zeros_like, sound.state)
    before = [variable.numpy().copy() for variable in update.update.variables]
    state = update.apply_unread(sound, start, 0.1)
    after = [variable.numpy().copy() for variable in update.update.variables]
    assert all((old != new).any() for old, new in zip(before, after, strict=True))
    kept = update.apply_unread(spoiled, start, 0.1)
    for mine, own in zip(update.update.variables, after, strict=True):
        np.testing.assert_array_equal(mine, own)
    for mine, own in zip(tf.nest.flatten([state, kept]), tf.nest.flatten([sound.state, start]), strict=True):
        np.testing.assert_array_equal(mine, own)
    numbers = sound.gradients, sound.loss_tensor, sound.norm_tensor
    graph = update._compiled_apply_unread.get_concrete_function(*numbers, tf.constant(0.1), start, sound.state).graph
    assert not {"If", "StatelessIf", "While"} & {operation.type for operation in graph.get_operations()}
