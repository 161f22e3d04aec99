from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from repository import ROOT

from textgen.model import reference
from textgen.model.config import KERNEL_BLOCKS, ModelConfig
from textgen.model.numpy_model import NumpyModel
from textgen.model.reference import PLAIN, Stack, State, Weights
from textgen.model.reference.attention import attention_forward, attention_state

B, T, E, H, V = 2, 6, 3, 4, 7
SHAPES = [
    (hidden_units, tied, num_layers) for hidden_units in (H, E) for tied in (True, False) for num_layers in (1, 2)
]
CONFIG = ModelConfig(vocab_size=V, embedding_dim=E, hidden_units=H, num_layers=2)
CELLS = {
    "lstm": CONFIG,
    "gru": replace(CONFIG, cell="gru"),
    "gru, reset before": replace(CONFIG, cell="gru", reset_after=False),
    "rnn": replace(CONFIG, cell="rnn"),
    "rnn, relu": replace(CONFIG, cell="rnn", activation="relu"),
    "peephole": replace(CONFIG, cell="peephole"),
    "mogrifier": replace(CONFIG, cell="mogrifier", mogrifier_rounds=3),
    "mogrifier, low rank": replace(CONFIG, cell="mogrifier", mogrifier_rounds=4, mogrifier_rank=2),
    "residual": replace(CONFIG, residual=True),
    "layer norm": replace(CONFIG, layer_norm=True),
    "attention": replace(CONFIG, attention=4),
    "attention over more than a window": replace(CONFIG, cell="gru", attention=9),
    "all of it": replace(CONFIG, cell="peephole", hidden_units=E, residual=True, layer_norm=True, attention=3),
}


def random_weights(config: ModelConfig, seed: int = 0) -> Weights:
    """Large enough that every gate moves and every gradient shows."""
    rng = np.random.default_rng(seed)
    weights = reference.initial_weights(config, rng, np.float64)
    return {name: rng.normal(0, 0.5, value.shape) for name, value in weights.items()}


def random_state(weights: Weights, seed: int = 1, stack: Stack = PLAIN) -> State:
    """That of attention is half full in one row and full in the other."""
    rng = np.random.default_rng(seed)
    state = reference.initial_state(weights, B, stack)
    drawn = [tuple(rng.normal(0, 0.5, array.shape) for array in layer) for layer in state]
    if stack.attention:
        drawn[-1][1][:, 0] = stack.attention // 2, stack.attention
    return drawn


def random_window(seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, some of them padding."""
    text = np.random.default_rng(seed).integers(1, V, [B, T + 1])
    text[0, -2:] = 0
    return text[:, :-1], text[:, 1:]


def state_arrays(state: State) -> Iterator[tuple[str, np.ndarray]]:
    for layer, arrays in enumerate(state):
        for name, array in zip("hc", arrays, strict=False):
            yield f"{name}{layer}", array


def assert_same(state: State, expected: State) -> None:
    for (name, array), (_, other) in zip(state_arrays(state), state_arrays(expected), strict=True):
        np.testing.assert_allclose(array, other, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    "config",
    [
        *(ModelConfig(V, E, shape[0], shape[2], tie_embeddings=shape[1]) for shape in SHAPES),
        *list(CELLS.values())[1:],
    ],
    ids=[*("-".join(map(str, shape)) for shape in SHAPES), *list(CELLS)[1:]],
)
def test_gradients_are_central_differences(config: ModelConfig) -> None:
    weights, stack = random_weights(config), reference.stack_of(config)
    inputs, targets = random_window()
    state = random_state(weights, stack=stack)

    def loss() -> float:
        return reference.cross_entropy(reference.forward(weights, inputs, state, stack)[0], targets)[0]

    _, gradients, _, dstate = reference.loss_and_gradients(weights, inputs, targets, state, stack=stack)
    assert gradients.keys() == weights.keys()
    values, all_gradients = weights | dict(state_arrays(state)), gradients | dict(state_arrays(dstate))
    if stack.attention:
        assert not all_gradients.pop(f"c{config.num_layers}").any()  # how many there are
    for name, gradient in all_gradients.items():
        value, differences = values[name], np.empty_like(gradient)
        assert gradient.shape == value.shape
        for index in np.ndindex(*value.shape):
            here, step = value[index], 1e-5
            value[index] = here + step
            up = loss()
            value[index] = here - step
            differences[index] = (up - loss()) / (2 * step)
            value[index] = here
        assert np.abs(gradient).max() > 1e-5, name
        np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("config", CELLS.values(), ids=CELLS)
def test_state_carries_over(config: ModelConfig) -> None:
    weights, stack = random_weights(config), reference.stack_of(config)
    inputs, _ = random_window()
    state = random_state(weights, stack=stack)
    whole, last, _ = reference.forward(weights, inputs, state, stack)
    for size in (T // 2, 1):
        parts, carried = [], state
        for start in range(0, T, size):
            logits, carried, _ = reference.forward(weights, inputs[:, start : start + size], carried, stack)
            parts.append(logits)
        np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-12)
        assert_same(carried, last)


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
    weights = {"kernel": rng.normal(size=[H, 4 * H]), "recurrent_kernel": rng.normal(size=[H, 4 * H])}
    weights["bias"] = rng.normal(size=4 * H)
    _, record = reference.lstm_step(x, (h, c), weights)
    _, (_, old_dc), _ = reference.lstm_step_backward((np.zeros([B, H]), dc), record, weights)
    np.testing.assert_array_equal(old_dc, record.f * dc)


@pytest.mark.parametrize("kind", ["lstm", "gru", "gru, reset before", "rnn", "rnn, relu"])
def test_layers_are_keras_s(kind: str) -> None:
    import keras

    config = CELLS[kind]
    options: dict[str, dict[str, Any]] = {
        "lstm": {},
        "gru": {"reset_after": config.reset_after},
        "rnn": {"activation": config.activation},
    }
    layer = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}[config.cell](
        H, return_sequences=True, return_state=True, bias_initializer="normal", **options[config.cell]
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=[B, T, E]).astype(np.float32)
    cell = reference.cell_of(config)
    state = tuple(rng.normal(size=[cell.state_size, B, H]).astype(np.float32))
    expected_hs, *expected_state = (np.asarray(y) for y in layer(x, initial_state=list(state)))
    weights = dict(zip(config.cell_shapes(E), layer.get_weights(), strict=True))
    assert {name: weight.shape for name, weight in weights.items()} == config.cell_shapes(E)
    hs, last, _ = reference.layer_forward(cell, x, state, weights)
    assert hs.dtype == np.float32
    np.testing.assert_allclose(hs, expected_hs, atol=1e-6)
    np.testing.assert_allclose(last, expected_state, atol=1e-6)


def test_peepholes_of_zero_and_rounds_that_say_nothing_are_an_lstm() -> None:
    weights, inputs = random_weights(CONFIG), random_window()[0]
    state = random_state(weights)
    expected, expected_state, _ = reference.forward(weights, inputs, state)
    for kind in ("peephole", "mogrifier"):
        config = CELLS[kind]
        same = {name.replace("lstm", kind): weight for name, weight in weights.items()}
        same |= {name: np.zeros(shape) for name, shape in config.weight_shapes().items() if name not in same}
        logits, last, _ = reference.forward(same, inputs, state, reference.stack_of(config))
        np.testing.assert_allclose(logits, expected, rtol=1e-12)
        assert_same(last, expected_state)


def test_attention_looks_at_the_outputs_before_and_at_no_others() -> None:
    config = replace(CONFIG, attention=3)
    weights, rng = reference.of_layer(random_weights(config), "attention"), np.random.default_rng(0)
    x, state = rng.normal(size=[1, T, H]), attention_state(1, 3, H, np.dtype(np.float64))
    y, (memory, count), look = attention_forward(x, state, weights)
    can_see = look.shares[0] > 0
    expected = [[max(3, t) <= place <= t + 3 for place in range(3 + T)] for t in range(T)]
    np.testing.assert_array_equal(can_see, expected)
    np.testing.assert_allclose(look.shares.sum(axis=-1), 1)
    np.testing.assert_array_equal(memory, look.keys[:, -3:])
    assert count == [[3]]
    for t in range(T):
        changed = x.copy()
        changed[:, t] += rng.normal(size=H)
        others = attention_forward(changed, state, weights)[0]
        moved = (others != y).any(axis=-1)[0]
        np.testing.assert_array_equal(moved, [t <= later <= t + 3 for later in range(T)])


def test_attention_says_nothing_at_first() -> None:
    config = replace(CONFIG, attention=3)
    weights = reference.initial_weights(config, np.random.default_rng(0))
    stack, inputs = reference.stack_of(config), random_window()[0]
    logits, _, _ = reference.forward(weights, inputs, reference.initial_state(weights, B, stack), stack)
    without, _, _ = reference.forward(weights, inputs, reference.initial_state(weights, B))
    np.testing.assert_array_equal(logits, without)


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


@pytest.mark.parametrize("config", CELLS.values(), ids=CELLS)
def test_initial_weights(config: ModelConfig) -> None:
    weights = reference.initial_weights(config, np.random.default_rng(0))
    assert {name: value.shape for name, value in weights.items()} == config.weight_shapes()
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}
    layer = {name.split("/")[1]: value for name, value in weights.items() if name.startswith(config.cell)}
    recurrent = layer["recurrent_kernel"]
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(config.hidden_units), atol=1e-6)
    assert 0 < np.abs(layer["kernel"]).max() <= math.sqrt(6 / sum(layer["kernel"].shape))
    assert 0 < np.abs(weights["embedding/table"]).max() <= 0.05
    forget = [0, 1, 0, 0] if config.cell in ("lstm", "peephole", "mogrifier") else [0]
    np.testing.assert_array_equal(layer["bias"], np.resize(np.repeat(forget, config.hidden_units), layer["bias"].shape))
    assert not weights["head/bias"].any()


@pytest.mark.parametrize("cell", sorted(KERNEL_BLOCKS))
def test_only_forget_gates_have_a_bias_at_first(cell: str) -> None:
    """Also where a bias of another layer is as long as that of the gates."""
    config = ModelConfig(64, embedding_dim=64, hidden_units=16, num_layers=1, cell=cell)
    weights = reference.initial_weights(config, np.random.default_rng(0))
    biases = {name: value for name, value in weights.items() if "bias" in name and value.any()}
    assert set(biases) == ({f"{cell}_0/bias"} if KERNEL_BLOCKS[cell] == 4 else set())


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


@pytest.mark.parametrize("config", CELLS.values(), ids=CELLS)
def test_generate_writes_what_the_fast_network_writes(config: ModelConfig) -> None:
    config = replace(config, tie_embeddings=False)  # a token with large weights would repeat itself
    weights = {name: (0 if "bias" in name else 3) * value for name, value in random_weights(config).items()}
    model, num, different = NumpyModel(config, weights), 5, set[int]()
    for prompt in np.random.default_rng(4).integers(1, V, [20, 4]).tolist():
        written = reference.generate(weights, prompt, num, np.random.default_rng(0), 0.0, reference.stack_of(config))
        state, expected = model.read(np.array([prompt[:-1]]), model.initial_state(1)), prompt[-1:]
        for _ in range(num):
            logits, state = model.step(np.array(expected[-1:]), state)
            expected.append(int(logits[0].argmax()))
        assert written == expected[1:]
        different |= set(written)
    assert len(different) > 1


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


def test_the_training_on_the_page_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a text that is easier and shorter than that of the page."""
    page = (ROOT / "textgen" / "model" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora" / "fables.txt").write_text("abc" * 4000, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    first, _, last = (float(nats) for nats in re.findall(r": ([\d.]+) nats", capsys.readouterr().out))
    assert last < 0.5 < first
