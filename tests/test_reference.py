from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from textgen import reference
from textgen.config import ModelConfig
from textgen.reference import State, Weights

B, T, E, H, V = 2, 6, 3, 4, 7
SHAPES = [
    pytest.param(hidden_units, tied == "tied", num_layers, id=f"H{hidden_units}-{tied}-L{num_layers}")
    for hidden_units in (H, E)
    for tied in ("tied", "untied")
    for num_layers in (1, 2)
]
CONFIG = ModelConfig(vocab_size=V, embedding_dim=E, hidden_units=H, num_layers=2)


def random_weights(config: ModelConfig, seed: int = 0) -> Weights:
    """Large enough that every gate moves and every gradient shows."""
    rng = np.random.default_rng(seed)
    weights = reference.initial_weights(config, rng, np.float64)
    return {name: rng.normal(0, 0.5, value.shape) for name, value in weights.items()}


def random_state(weights: Weights, seed: int = 1) -> State:
    rng = np.random.default_rng(seed)
    state = reference.initial_state(weights, B)
    return [(rng.normal(0, 0.5, h.shape), rng.normal(0, 0.5, c.shape)) for h, c in state]


def random_window(seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, some of them padding."""
    text = np.random.default_rng(seed).integers(1, V, [B, T + 1])
    text[0, -2:] = 0
    return text[:, :-1], text[:, 1:]


def state_arrays(state: State) -> Iterator[tuple[str, np.ndarray]]:
    for layer, (h, c) in enumerate(state):
        yield f"h{layer}", h
        yield f"c{layer}", c


@pytest.mark.parametrize(("hidden_units", "tied", "num_layers"), SHAPES)
def test_gradients_are_central_differences(hidden_units: int, tied: bool, num_layers: int) -> None:
    weights = random_weights(ModelConfig(V, E, hidden_units, num_layers, tie_embeddings=tied))
    inputs, targets = random_window()
    state = random_state(weights)

    def loss() -> float:
        return reference.cross_entropy(reference.forward(weights, inputs, state)[0], targets)[0]

    _, gradients, _, dstate = reference.loss_and_gradients(weights, inputs, targets, state)
    assert gradients.keys() == weights.keys()
    values = weights | dict(state_arrays(state))
    for name, gradient in (gradients | dict(state_arrays(dstate))).items():
        value, differences = values[name], np.empty_like(gradient)
        assert gradient.shape == value.shape
        for index in np.ndindex(*value.shape):
            here, step = value[index], 1e-5
            value[index] = here + step
            up = loss()
            value[index] = here - step
            differences[index] = (up - loss()) / (2 * step)
            value[index] = here
        assert np.abs(gradient).max() > 1e-4, name
        np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-9, err_msg=name)


def test_state_carries_over() -> None:
    weights = random_weights(CONFIG)
    inputs, _ = random_window()
    state = random_state(weights)
    whole, last, _ = reference.forward(weights, inputs, state)
    for size in (T // 2, 1):
        parts, carried = [], state
        for start in range(0, T, size):
            logits, carried, _ = reference.forward(weights, inputs[:, start : start + size], carried)
            parts.append(logits)
        np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-12)
        np.testing.assert_allclose(carried, last, rtol=1e-12)


def test_rows_are_independent() -> None:
    weights = random_weights(CONFIG)
    inputs, _ = random_window()
    state = random_state(weights)
    both, _, _ = reference.forward(weights, inputs, state)
    second, _, _ = reference.forward(weights, inputs[1:], [(h[1:], c[1:]) for h, c in state])
    np.testing.assert_allclose(second, both[1:], rtol=1e-12)


def test_truncation_cuts_the_gradient_of_the_state_and_nothing_else() -> None:
    """Two windows with the state's gradient handed across the border equal one long window."""
    weights = random_weights(CONFIG)
    inputs, targets = random_window()
    state, half = random_state(weights), T // 2
    _, whole, _, whole_dstate = reference.loss_and_gradients(weights, inputs, targets, state)

    first_logits, border, first = reference.forward(weights, inputs[:, :half], state)
    second_logits, last, second = reference.forward(weights, inputs[:, half:], border)
    logits = np.concatenate([first_logits, second_logits], axis=1)
    _, dlogits = reference.cross_entropy(logits, targets)
    nothing = [(np.zeros_like(h), np.zeros_like(c)) for h, c in last]
    late, border_dstate = reference.backward(weights, second, dlogits[:, half:], nothing)
    early, dstate = reference.backward(weights, first, dlogits[:, :half], border_dstate)
    truncated, _ = reference.backward(weights, first, dlogits[:, :half], nothing)

    for name in weights:
        np.testing.assert_allclose(early[name] + late[name], whole[name], atol=1e-14, err_msg=name)
    np.testing.assert_allclose(dstate, whole_dstate, atol=1e-14)
    assert not np.allclose(truncated["lstm_0/kernel"], early["lstm_0/kernel"])
    np.testing.assert_array_equal(truncated["head/bias"], early["head/bias"])


def test_memory_hands_its_gradient_back_through_the_forget_gate() -> None:
    rng = np.random.default_rng(0)
    x, h, c, dc = (rng.normal(size=[B, H]) for _ in range(4))
    kernels = rng.normal(size=[H, 4 * H]), rng.normal(size=[H, 4 * H])
    _, _, step = reference.lstm_step(x, h, c, *kernels, rng.normal(size=4 * H))
    _, _, old_dc = reference.lstm_step_backward(np.zeros([B, H]), dc, step, kernels[1])
    np.testing.assert_array_equal(old_dc, step.f * dc)


def test_layer_is_keras_lstm() -> None:
    import keras

    rng = np.random.default_rng(0)
    x = rng.normal(size=[B, T, E]).astype(np.float32)
    h, c = rng.normal(size=[2, B, H]).astype(np.float32)
    layer = keras.layers.LSTM(H, return_sequences=True, return_state=True, bias_initializer="normal")
    expected_hs, expected_h, expected_c = (np.asarray(y) for y in layer(x, initial_state=[h, c]))
    hs, (last_h, last_c), _ = reference.lstm_forward(x, h, c, *layer.get_weights())
    assert hs.dtype == np.float32
    np.testing.assert_allclose(hs, expected_hs, atol=1e-6)
    np.testing.assert_allclose(last_h, expected_h, atol=1e-6)
    np.testing.assert_allclose(last_c, expected_c, atol=1e-6)


def test_uniform_logits_cost_log_vocabulary() -> None:
    _, targets = random_window()
    loss, _ = reference.cross_entropy(np.full([B, T, V], 3.0), targets)
    assert loss == pytest.approx(math.log(V))


def test_cross_entropy_of_known_probabilities() -> None:
    logits = np.log([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.2, 0.2, 0.6]]])
    loss, dlogits = reference.cross_entropy(logits, np.array([[1, 2, 0]]))
    assert loss == pytest.approx(-(math.log(0.25) + math.log(0.8)) / 2)
    expected = [[0.25, -0.375, 0.125], [0.05, 0.05, -0.1], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(dlogits, [expected], atol=1e-15)


def test_gradient_of_logits_sums_to_zero() -> None:
    _, targets = random_window()
    _, dlogits = reference.cross_entropy(np.random.default_rng(0).normal(size=[B, T, V]), targets)
    np.testing.assert_allclose(dlogits.sum(axis=-1), 0, atol=1e-15)
    assert not dlogits[targets == 0].any()
    assert (np.abs(dlogits[targets != 0]) > 0).all()


def test_only_padding_costs_nothing() -> None:
    loss, dlogits = reference.cross_entropy(np.ones([B, T, V]), np.zeros([B, T], np.int32))
    assert loss == 0
    assert not dlogits.any()


def test_large_numbers_stay_finite() -> None:
    gates = reference.sigmoid(np.array([-1e4, -1, 0, 1e4]))
    np.testing.assert_allclose(gates, [0, 1 / (1 + math.e), 0.5, 1])
    loss, dlogits = reference.cross_entropy(np.array([[[1e4, 0, -1e4]]]), np.array([[1]]))
    assert loss == pytest.approx(1e4)
    np.testing.assert_allclose(dlogits, [[[1, -1, 0]]])


def test_gradient_descent_lowers_the_loss() -> None:
    weights = random_weights(CONFIG)
    inputs, targets = random_window()
    losses = []
    for _ in range(30):
        state = reference.initial_state(weights, B)
        loss, gradients, _, _ = reference.loss_and_gradients(weights, inputs, targets, state)
        losses.append(loss)
        gradients, _ = reference.clip_by_global_norm(gradients, 1.0)
        for name in weights:
            weights[name] -= 0.5 * gradients[name]
    assert losses[-1] < 0.85 * losses[0]


def test_network_that_knows_nothing_costs_log_vocabulary() -> None:
    weights = reference.initial_weights(CONFIG, np.random.default_rng(0))
    loss, _, _, _ = reference.loss_and_gradients(weights, *random_window(), reference.initial_state(weights, B))
    assert loss == pytest.approx(math.log(V), abs=0.01)


def test_clipping_keeps_the_direction() -> None:
    gradients = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    clipped, length = reference.clip_by_global_norm(gradients, 0.5)
    assert length == 5
    np.testing.assert_allclose(clipped["a"], [0.3, 0])
    np.testing.assert_allclose(clipped["b"], [[0.4]])
    unclipped, _ = reference.clip_by_global_norm(gradients, 6)
    np.testing.assert_array_equal(unclipped["a"], gradients["a"])
    zero, length = reference.clip_by_global_norm({"a": np.zeros(2)}, 0.5)
    assert length == 0
    assert not zero["a"].any()


@pytest.mark.parametrize(("hidden_units", "tied", "num_layers"), SHAPES)
def test_initial_weights(hidden_units: int, tied: bool, num_layers: int) -> None:
    config = ModelConfig(V, E, hidden_units, num_layers, tie_embeddings=tied)
    weights = reference.initial_weights(config, np.random.default_rng(0))
    size = hidden_units
    expected: dict[str, tuple[int, ...]] = {"embedding/table": (V, E), "head/bias": (V,)}
    for layer in range(num_layers):
        expected[f"lstm_{layer}/kernel"] = (size if layer else E, 4 * size)
        expected[f"lstm_{layer}/recurrent_kernel"] = (size, 4 * size)
        expected[f"lstm_{layer}/bias"] = (4 * size,)
    if size != E:
        expected |= {"projection/kernel": (size, E), "projection/bias": (E,)}
    if not tied:
        expected["head/kernel"] = (E, V)
    assert {name: value.shape for name, value in weights.items()} == expected
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}

    recurrent = weights["lstm_0/recurrent_kernel"]
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(size), atol=1e-6)
    assert np.abs(weights["lstm_0/kernel"]).max() <= math.sqrt(6 / (E + 4 * size))
    assert np.abs(weights["embedding/table"]).max() <= 0.05
    np.testing.assert_array_equal(weights["lstm_0/bias"].reshape(4, size)[:, 0], [0, 1, 0, 0])
    np.testing.assert_array_equal(weights["lstm_0/bias"][size : 2 * size], 1)
    assert not weights["head/bias"].any()


def test_dtype_follows_the_weights() -> None:
    weights = reference.initial_weights(CONFIG, np.random.default_rng(0))
    inputs, targets = random_window()
    state = reference.initial_state(weights, B)
    logits, new_state, _ = reference.forward(weights, inputs, state)
    _, gradients, _, dstate = reference.loss_and_gradients(weights, inputs, targets, state)
    arrays = [logits, *gradients.values(), *(a for s in (new_state, dstate) for _, a in state_arrays(s))]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


def test_generate_takes_the_likeliest_piece_at_temperature_zero() -> None:
    weights = random_weights(CONFIG)
    prompt = [3, 1]
    written = reference.generate(weights, prompt, 5, np.random.default_rng(0), temperature=0)
    whole = np.array([prompt + written])
    logits, _, _ = reference.forward(weights, whole, reference.initial_state(weights, 1))
    assert logits[0].argmax(axis=-1)[1:-1].tolist() == written


def test_generate_draws_from_the_softmax() -> None:
    weights = {name: np.zeros_like(value) for name, value in random_weights(CONFIG).items()}
    p = np.array([0.05, 0.05, 0.1, 0.1, 0.1, 0.2, 0.4])
    weights["head/bias"] = np.log(p)
    num = 4000
    rng = np.random.default_rng(0)
    for temperature in (1.0, 0.5):
        expected = p ** (1 / temperature) / (p ** (1 / temperature)).sum()
        counts = np.bincount(reference.generate(weights, [1], num, rng, temperature), minlength=V)
        np.testing.assert_allclose(counts / num, expected, atol=0.03)
