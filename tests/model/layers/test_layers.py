from __future__ import annotations

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_scales import check_scale

from textgen.model import reference
from textgen.model.config import ModelConfig
from textgen.model.layers.dropout import Noise, variational_dropout, weight_mask, word_dropout
from textgen.model.layers.head import Head, _loss_and_gradient, _token_losses
from textgen.model.layers.lstm import LSTM
from textgen.model.layers.recurrent import RecurrentStack, make_layer
from textgen.system.runtime import load_tensorflow

load_tensorflow()

B, T, E, H, V = 4, 6, 3, 5, 7
RNG = np.random.default_rng(0)


def normal(*shape: int) -> tf.Tensor:
    return tf.constant(RNG.normal(0, 1, shape), tf.float32)


def noise(seed: int = 1, step: int = 2, first_row: int = 0, num_rows: int | None = None) -> Noise:
    return Noise(tf.constant([seed, step], tf.int32), first_row, num_rows)


# === recurrent ===


@pytest.fixture(scope="module")
def lstm() -> LSTM:
    layer = LSTM(H, return_sequences=True, return_state=True)
    layer.build((None, None, E))
    layer.cell.bias.assign(normal(4 * H))
    return layer


def test_lstm_is_the_equations(lstm: LSTM) -> None:
    x, h, c = normal(B, T, E), normal(B, H), normal(B, H)
    weights = {weight.name: weight.numpy() for weight in lstm.weights}
    expected, (last_h, last_c), _ = reference.layer_forward(reference.LSTM, x.numpy(), (h.numpy(), c.numpy()), weights)
    outputs, new_h, new_c = lstm(x, initial_state=[h, c])
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    np.testing.assert_allclose(new_h, last_h, atol=1e-5)
    np.testing.assert_allclose(new_c, last_c, atol=1e-5)
    for t in range(T):
        h, c = lstm.step(x[:, t], (h, c))
        np.testing.assert_allclose(h, expected[:, t], atol=1e-5)
    np.testing.assert_allclose(c, last_c, atol=1e-5)


def test_lstm_saturates_without_nan(lstm: LSTM) -> None:
    h, c = lstm.step(1e6 * normal(B, E), (normal(B, H), normal(B, H)))
    assert np.isfinite(h).all()
    assert np.isfinite(c).all()


def test_lstm_begins_with_forget_bias_one_and_orthogonal_kernel() -> None:
    layer = LSTM(H)
    layer.build((None, None, E))
    np.testing.assert_array_equal(layer.cell.bias, np.repeat([0.0, 1.0, 0.0, 0.0], H))
    kernel = layer.cell.recurrent_kernel.numpy()
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(H), atol=1e-5)


@pytest.fixture(scope="module")
def stack() -> RecurrentStack:
    stack = RecurrentStack(ModelConfig(V, E, H, 3, dropout=0.5))
    stack.build((None, None, E))
    return stack


def test_stack_builds_each_layer_for_the_one_below(stack: RecurrentStack) -> None:
    assert [layer.name for layer in stack.layers] == ["lstm_0", "lstm_1", "lstm_2"]
    assert [layer.weights[0].shape for layer in stack.layers] == [(E, 4 * H), (H, 4 * H), (H, 4 * H)]
    assert len(stack.trainable_weights) == 9


def test_stack_is_its_layers_one_after_the_other(stack: RecurrentStack) -> None:
    x = normal(B, T, E)
    state = tuple((normal(B, H), normal(B, H)) for _ in range(3))
    outputs, new_state = stack(x, state=state)
    expected = x
    for layer, (h, c), (new_h, new_c) in zip(stack.layers, state, new_state, strict=True):
        expected, last_h, last_c = layer(expected, initial_state=[h, c])
        np.testing.assert_allclose(new_h, last_h, atol=1e-6)
        np.testing.assert_allclose(new_c, last_c, atol=1e-6)
        np.testing.assert_allclose(new_h, expected[:, -1], atol=1e-6)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)


def test_stack_drops_between_layers_but_never_from_the_state(stack: RecurrentStack) -> None:
    x, state = normal(B, T, E), stack.initial_state(B)
    outputs, new_state = stack(x, state=state, noise=noise())
    _, clean = stack(x, state=state)
    np.testing.assert_allclose(new_state[0][0], clean[0][0], atol=1e-6)  # nothing was dropped below
    assert np.abs(new_state[1][0] - clean[1][0]).max() > 1e-4
    assert np.all(new_state[2][0])  # what the layer tells itself is whole
    dropped = outputs.numpy()[:, -1] == 0
    assert dropped.any()
    assert not dropped.all()
    np.testing.assert_allclose(outputs[:, -1], np.where(dropped, 0, 2 * new_state[2][0].numpy()), atol=1e-6)


def test_stack_needs_a_state_for_each_layer(stack: RecurrentStack) -> None:
    with pytest.raises(ValueError, match="shorter"):
        stack.step(normal(B, E), stack.initial_state(B)[:2])


# === dropout ===


def test_one_mask_over_time() -> None:
    x = tf.ones((B, T, 50))
    dropped = variational_dropout(x, 0.3, noise(), 0).numpy()
    np.testing.assert_array_equal(dropped, np.repeat(dropped[:, :1], T, axis=1))
    assert len(np.unique(dropped[:, 0], axis=0)) == B  # but each row has its own


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.95])
def test_the_share_dropped_is_the_rate_and_the_expectation_stays(rate: float) -> None:
    mask = variational_dropout(tf.ones((100, 1, 1000)), rate, noise(), 0).numpy()
    draws = mask.size
    assert set(np.unique(mask).tolist()) == {0.0, float(np.float32(1 / (1 - rate)))}
    deviation = math.sqrt(rate * (1 - rate) / draws)
    assert abs((mask == 0).mean() - rate) < 4 * deviation
    assert abs(mask.mean(dtype=np.float64) - 1) < 4 * deviation / (1 - rate)


def test_what_stays_is_scaled() -> None:
    x = normal(B, T, 20)
    dropped = variational_dropout(x, 0.25, noise(), 3).numpy()
    np.testing.assert_allclose(dropped, np.where(dropped == 0, 0, x.numpy() / 0.75), rtol=1e-6)


def test_no_noise_or_no_rate_is_no_dropout() -> None:
    x = normal(B, T, E)
    assert variational_dropout(x, 0.5, None, 0) is x
    assert variational_dropout(x, 0.0, noise(), 0) is x


def test_a_mask_is_a_function_of_seed_step_and_site() -> None:
    def mask(noise: Noise, site: int = 1) -> bytes:
        return variational_dropout(tf.ones((B, 1, 100)), 0.5, noise, site).numpy().tobytes()

    tf.random.set_seed(1)
    first = mask(noise(1, 2))
    tf.random.set_seed(2)
    assert mask(noise(1, 2)) == first
    others = [mask(noise(1, 3)), mask(noise(2, 2)), mask(noise(1, 2), 0), mask(noise(1, 2), 2)]
    assert len({first, *others}) == 5


def test_a_mask_is_drawn_on_a_gpu_from_a_seed_of_the_processor() -> None:
    """Where the integers of the seed would have to be copied from the GPU, the processor would wait for it."""
    with tf.Graph().as_default() as graph, tf.device("GPU:0"):
        weight_mask((2, 3), 0.5, noise(), site=1)
    made = [(each.type, each.device) for each in graph.get_operations() if each.type != "Const"]
    assert {device for kind, device in made[: [kind for kind, _ in made].index("Pack") + 1]} == {"/device:CPU:0"}
    assert dict(made)["StatelessRandomUniformV2"] == "/device:GPU:0"


def test_the_rows_of_a_shard_have_the_masks_of_the_whole_batch() -> None:
    x = normal(8, T, 50)
    whole = variational_dropout(x, 0.5, noise(), 0).numpy()
    compiled = tf.function(lambda x, first: variational_dropout(x, 0.5, noise(1, 2, first, 8), 0))
    for rows in (slice(0, 8), slice(0, 4), slice(4, 8), slice(7, 8), slice(2, 5)):
        shard = variational_dropout(x[rows], 0.5, noise(first_row=rows.start, num_rows=8), 0)
        np.testing.assert_array_equal(shard, whole[rows])
        np.testing.assert_array_equal(compiled(x[rows], rows.start), whole[rows])


def test_word_dropout_silences_whole_rows_of_the_table() -> None:
    table, ids = normal(400, E), tf.constant(RNG.integers(0, 400, (B, T)), tf.int32)
    every = tf.range(400)[None]
    kept = word_dropout(tf.ones((1, 400, 1)), every, 400, 0.3, noise(), 7).numpy()[0]  # [V, 1]
    assert set(np.unique(kept).tolist()) == {0.0, float(np.float32(1 / 0.7))}
    assert abs((kept == 0).mean() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 400)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(table)
        ours = word_dropout(tf.gather(table, ids), ids, 400, 0.3, noise(), 7)
        plain = tf.gather(table * kept, ids)
        values = [tf.reduce_sum(tf.sin(x)) for x in (ours, plain)]
    np.testing.assert_allclose(ours, plain, rtol=1e-6)
    gradients = [tf.convert_to_tensor(tape.gradient(value, table)) for value in values]
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-6)
    shard = word_dropout(tf.gather(table, ids)[2:], ids[2:], 400, 0.3, noise(first_row=2, num_rows=B), 7)
    np.testing.assert_array_equal(shard, ours[2:])
    other = word_dropout(tf.ones((1, 400, 1)), every, 400, 0.3, noise(step=3), 7)
    assert np.any(other != kept)


def test_no_noise_or_no_rate_is_no_word_dropout() -> None:
    x, ids = normal(B, T, E), tf.zeros((B, T), tf.int32)
    assert word_dropout(x, ids, V, 0.5, None, 0) is x
    assert word_dropout(x, ids, V, 0.0, noise(), 0) is x


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_share_of_weights_dropped_is_the_rate(rate: float) -> None:
    assert weight_mask((3, 3), rate, None, 1) is None
    assert weight_mask((3, 3), 0.0, noise(), 1) is None
    mask = np.asarray(weight_mask((200, 800), rate, noise(), 1))
    assert set(np.unique(mask).tolist()) == {0.0, float(np.float32(1 / (1 - rate)))}
    assert abs((mask == 0).mean() - rate) < 4 * math.sqrt(rate * (1 - rate) / mask.size)
    shard, later = (weight_mask((200, 800), rate, seen, 1) for seen in (noise(first_row=3, num_rows=8), noise(step=3)))
    np.testing.assert_array_equal(mask, np.asarray(shard))
    assert not np.array_equal(mask, np.asarray(later))


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_mask_on_the_recurrent_kernel_is_a_masked_kernel(cell: str, dtype: tf.DType) -> None:
    """Forward and backward."""
    layer = make_layer(ModelConfig(V, E, H, cell=cell), "layer")
    layer.build((None, None, E))
    kernel = next(weight for weight in layer.trainable_weights if weight.name == "recurrent_kernel")
    x, state = tf.cast(normal(T, B, E), dtype), tuple(normal(B, H) for _ in layer.initial_state(B))
    mask = weight_mask(kernel.shape, 0.5, noise(), 1)
    assert mask is not None
    before = kernel.numpy()
    results = []
    for own, given in ((before, mask), (before * mask.numpy(), None)):
        kernel.assign(own)
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs, after = layer.scan(x, state, given)
            loss = tf.add_n([tf.reduce_sum(tf.sin(tf.cast(y, tf.float32))) for y in (outputs, *after)])
        results.append([outputs, *after, *tape.gradient(loss, [x, kernel.value])])
    *masked, d_kernel = results[0]
    *plain, d_masked = results[1]
    for ours, theirs in zip([*masked, d_kernel], [*plain, d_masked * mask], strict=True):
        np.testing.assert_array_equal(tf.cast(ours, tf.float32), tf.cast(theirs, tf.float32))
    assert np.abs(d_kernel).max() > 0


def test_a_cell_without_a_layer_is_no_lstm() -> None:
    config = ModelConfig(V, E, H)
    object.__setattr__(config, "cell", "new")
    with pytest.raises(ValueError, match="no layer for the cell 'new'"):
        make_layer(config, "new_0")


def test_dropout_keeps_the_dtype() -> None:
    x = tf.ones((B, T, E), tf.bfloat16)
    assert variational_dropout(x, 0.5, noise(), 0).dtype == tf.bfloat16


# === head ===


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_head(tied: bool) -> None:
    head = Head(V, tied)
    features, table = normal(B, T, E), normal(V, E)
    head(features, table)
    head.bias.assign(normal(V))
    assert [tuple(w.shape) for w in head.weights] == ([(V,)] if tied else [(V,), (E, V)])
    kernel = table.numpy().T if tied else head.weights[-1].numpy()
    expected = features.numpy() @ kernel + head.bias.numpy()
    np.testing.assert_allclose(head(features, table), expected, atol=1e-5)
    np.testing.assert_allclose(head(features[:, 0], table), expected[:, 0], atol=1e-5)

    targets = RNG.integers(0, V, (B, T)).astype(np.int32)
    targets[0] = [0, 1, 2, 2, 0, 5]
    for pad_id in (0, 2):
        losses = head.token_losses(features, table, targets, pad_id).numpy()
        assert losses.shape == (B, T)
        for at in np.ndindex(B, T):
            nats = math.log(sum(math.exp(score) for score in expected[at].tolist())) - expected[at][targets[at]]
            assert losses[at] == (0.0 if targets[at] == pad_id else pytest.approx(nats, abs=1e-5))


def test_the_compiled_loss_has_no_part_that_two_shards_cannot_begin_at_once() -> None:
    """XLA's fusions for YNNPACK, which it makes of sums over many numbers, end the process now and then."""
    arguments = tf.zeros((1024, 65), tf.bfloat16), tf.zeros(65), tf.zeros(1024, tf.int32)
    for function, more in (
        (_loss_and_gradient, (0, 0.0, None)),
        (_loss_and_gradient, (0, 0.0, tf.constant(2.0))),
        (_token_losses, ()),
    ):
        compiled = function.compiled().experimental_get_compiler_ir(*arguments, *more)("optimized_hlo")
        assert "reduce" in compiled
        assert "ynn_fusion" not in compiled


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("chunk_elements", [V, 3 * V, 1 << 22])
def test_the_summed_loss_and_its_gradients_are_those_of_plain_operations(
    tied: bool, chunk_elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textgen.model.layers.head.CHUNK_ELEMENTS", chunk_elements)
    head, features, table = Head(V, tied), normal(B, T, E), normal(V, E)
    head(features, table)
    head.bias.assign(normal(V))
    targets = tf.constant(RNG.integers(0, V, (B, T)), tf.int32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([features, table])
        ours = 0.7 * head.summed_loss(features, table, targets, 2)
        plain = 0.7 * tf.reduce_sum(head.token_losses(features, table, targets, 2))
    assert float(ours) == pytest.approx(float(plain), rel=1e-5)
    for source in (features, head.bias.value, table if head.kernel is None else head.kernel.value):
        np.testing.assert_allclose(tape.gradient(ours, source), tape.gradient(plain, source), atol=1e-5)


@pytest.mark.parametrize("upstream", [1.0, 1024.0])
def test_a_scale_keeps_small_gradients_of_a_float16_head_and_changes_no_others(upstream: float) -> None:
    check_scale(
        lambda head, features, table, targets, scale: head.summed_loss(features, table, targets, 2, 0.0, scale),
        upstream, (B, T, E), V,
    )  # fmt: skip


@pytest.mark.parametrize("chunk_elements", [3 * V, 1 << 22])
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_label_smoothing_is_in_the_gradient_and_not_in_the_nats(
    chunk_elements: int, dtype: tf.DType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras's smoothed cross-entropy on plain logits has the same gradient."""
    monkeypatch.setitem(globals(), "RNG", np.random.default_rng(0))  # of some draws both sums are nearly the same
    monkeypatch.setattr("textgen.model.layers.head.CHUNK_ELEMENTS", chunk_elements)
    head, features, table = Head(V, tied=True), tf.cast(normal(B, T, E), dtype), normal(V, E)
    head(features, table)
    head.bias.assign(normal(V))
    targets = tf.constant(RNG.integers(0, V, (B, T)), tf.int32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([features, table])
        ours = head.summed_loss(features, table, targets, 2, 0.3)
        one_hot = tf.one_hot(targets, V)
        losses = keras.losses.categorical_crossentropy(one_hot, head(features, table), True, 0.3)
        smoothed = tf.reduce_sum(tf.where(targets == 2, 0.0, losses))
    assert float(ours) == pytest.approx(float(head.summed_loss(features, table, targets, 2)), rel=1e-6)
    assert abs(float(smoothed - ours)) > 0.1
    for source in (features, head.bias.value, table):
        gradients = [tf.cast(tape.gradient(loss, source), tf.float32) for loss in (ours, smoothed)]
        np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-5 if dtype == tf.float32 else 0.05)


def test_no_more_logits_exist_at_once_than_a_chunk_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, losses = [], _token_losses

    def watched(logits: tf.Tensor, *others: tf.Tensor) -> tf.Tensor:
        seen.append(logits.shape[0])
        return losses(logits, *others)

    monkeypatch.setattr("textgen.model.layers.head._token_losses", watched)
    monkeypatch.setattr("textgen.model.layers.head.CHUNK_ELEMENTS", 5 * V)
    head, features, table = Head(V, tied=True), normal(B, T, E), normal(V, E)
    head(features, table)
    head.token_losses(features, table, tf.ones((B, T), tf.int32), 0)
    assert seen == [5, 5, 5, 5, 4]


def test_chunks_of_a_compiled_loss_come_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else TensorFlow may hold the logits, or the gradients of the kernel, of all chunks at once."""
    monkeypatch.setattr("textgen.model.layers.head.CHUNK_ELEMENTS", 5 * V)
    head, features, table = Head(V, tied=True), normal(B, T, E), normal(V, E)
    head(features, table)

    @tf.function
    def gradients() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([features, table])
            loss = head.summed_loss(features, table, tf.ones((B, T), tf.int32), 0)
        result: list[tf.Tensor] = tape.gradient(loss, [features, table])
        return result

    operations = gradients.get_concrete_function().graph.get_operations()
    before: dict[str, set[str]] = {}  # what an operation waits for
    for operation in operations:
        needed = [each.name for each in (*(tensor.op for tensor in operation.inputs), *operation.control_inputs)]
        before[operation.name] = set(needed).union(*(before.get(name, set()) for name in needed))
    losses = [operation.name for operation in operations if "loss_and_gradient" in str(operation.node_def.attr["f"])]
    assert len(losses) == -(-B * T // 5)
    for first, second in itertools.pairwise(losses):
        made = {name for name, needed in before.items() if first in needed and "MatMul" in name}
        assert len(made & before[second]) >= 3, "the gradients of features, kernel and bias are there before"


def test_head_losses_are_finite_for_extreme_logits() -> None:
    head, features, table = Head(V, tied=True), 1e4 * normal(B, T, E), 1e4 * normal(V, E)
    head(features, table)
    losses = head.token_losses(features, table, tf.ones((B, T), tf.int32), 0)
    assert np.isfinite(losses).all()


def test_head_gives_float32_from_bfloat16_features() -> None:
    head = Head(V, tied=True)
    features = tf.cast(normal(B, T, E), tf.bfloat16)
    assert head(features, normal(V, E)).dtype == tf.float32
