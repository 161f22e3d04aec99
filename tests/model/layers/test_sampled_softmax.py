"""Sampled softmax beside the full one: gradients, expectation, the draw."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from loss_scales import check_scale

from textgen.model.layers.head import Head
from textgen.model.layers.sampled_softmax import Candidates, CandidateSampler, candidate_probabilities, sampled_loss
from textgen.system.runtime import load_tensorflow

load_tensorflow()

B, T, E, V, PAD = 3, 4, 5, 12, 0
COUNTS = np.array([0, 400, 150, 80, 40, 20, 12, 9, 5, 3, 1, 0])
ALL = Candidates(tf.range(V), tf.zeros(V))


def head_and_inputs(tied: bool, dtype: tf.DType = tf.float32) -> tuple[Head, tf.Tensor, tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(0)
    head = Head(V, tied)
    features, table = (tf.constant(rng.normal(size=shape), tf.float32) for shape in ((B, T, E), (V, E)))
    head(features, table)
    head.bias.assign(rng.normal(size=V))
    targets = tf.constant(rng.integers(0, V, (B, T)), tf.int32)
    return head, tf.cast(features, dtype), table, targets


def dense_loss(
    head: Head, features: tf.Tensor, table: tf.Tensor, targets: tf.Tensor, candidates: Candidates
) -> tf.Tensor:
    """The same loss by plain operations on all logits, whose gradient TensorFlow derives."""
    logits = tf.reshape(head(features, table), (-1, V))
    flat = tf.reshape(targets, (-1,))
    log_counts = tf.tensor_scatter_nd_update(
        tf.fill((V,), -np.inf), candidates.ids[:, None], -candidates.log_probabilities
    )
    is_target = tf.one_hot(flat, V, on_value=True, off_value=False)
    others = tf.where(is_target, -np.inf, logits + log_counts)
    own = tf.gather(logits, flat, batch_dims=1)
    nats = tf.reduce_logsumexp(tf.concat([others, own[:, None]], 1), 1) - own
    return tf.reduce_sum(tf.where(flat == PAD, 0.0, nats))


@pytest.mark.parametrize("chunk_elements", [5 * 4, 1 << 22])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_loss_and_gradients_are_those_of_plain_operations(
    tied: bool, chunk_elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textgen.model.layers.head.CHUNK_ELEMENTS", chunk_elements)
    head, features, table, targets = head_and_inputs(tied)
    candidates = CandidateSampler(COUNTS, 5).draw(tf.constant([1, 2]))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([features, table])
        ours = 0.7 * sampled_loss(head, features, table, targets, PAD, candidates)
        plain = 0.7 * dense_loss(head, features, table, targets, candidates)
    assert float(ours) == pytest.approx(float(plain), rel=1e-5)
    for source in (features, head.bias.value, table if head.kernel is None else head.kernel.value):
        gradients = [tf.convert_to_tensor(tape.gradient(loss, source)) for loss in (ours, plain)]
        assert np.abs(gradients[0]).max() > 0.01
        np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-5)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_with_all_tokens_as_candidates_it_is_the_full_softmax(tied: bool) -> None:
    head, features, table, targets = head_and_inputs(tied)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([features, table])
        ours = sampled_loss(head, features, table, targets, PAD, ALL)
        full = head.summed_loss(features, table, targets, PAD)
    assert float(ours) == pytest.approx(float(full), rel=1e-5)
    for source in (features, head.bias.value, table if head.kernel is None else head.kernel.value):
        gradients = [tf.convert_to_tensor(tape.gradient(loss, source)) for loss in (ours, full)]
        np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-5)


def test_products_in_bfloat16_change_the_gradient_little() -> None:
    gradients = []
    for dtype in (tf.float32, tf.bfloat16):
        head, features, table, targets = head_and_inputs(True, dtype)
        with tf.GradientTape() as tape:
            tape.watch([features, table])
            loss = sampled_loss(
                head, features, table, targets, PAD, CandidateSampler(COUNTS, 5).draw(tf.constant([1, 2]))
            )
        of_features, of_table = tape.gradient(loss, [features, table])
        assert of_features.dtype == dtype
        gradients.append([tf.cast(of_features, tf.float32), tf.convert_to_tensor(of_table)])
    for exact, low in zip(*gradients, strict=True):
        assert float(tf.norm(exact - low) / tf.norm(exact)) < 0.02


@pytest.mark.parametrize("upstream", [1.0, 1024.0])
def test_a_scale_keeps_small_gradients_in_float16_and_changes_no_others(upstream: float) -> None:
    check_scale(
        lambda head, features, table, targets, scale: sampled_loss(head, features, table, targets, PAD, ALL, scale),
        upstream, (B, T, E), V,
    )  # fmt: skip


def test_the_expected_sum_of_exponentials_is_exact() -> None:
    head, features, table, _ = head_and_inputs(True)
    sampler, target = CandidateSampler(COUNTS, 5), 9
    logits = head(features[:1, :1], table)[0, 0].numpy()

    @tf.function
    def total(seed: tf.Tensor) -> tf.Tensor:
        nats = sampled_loss(head, features[:1, :1], table, tf.constant([[target]]), PAD, sampler.draw(seed))
        return tf.exp(nats + logits[target])

    totals = np.array([float(total(tf.constant([0, step]))) for step in range(1500)])
    error = totals.std() / np.sqrt(len(totals))
    full = np.exp(logits).sum()
    assert error < 0.05 * full
    assert abs(totals.mean() - full) < 4 * error


def test_draws_have_the_promised_size_and_probabilities() -> None:
    sampler, probabilities = CandidateSampler(COUNTS, 5), candidate_probabilities(COUNTS, 5)
    assert probabilities.sum() == pytest.approx(5)
    assert probabilities[1] == 1.0
    assert np.all(probabilities > 0)
    assert np.all(probabilities <= 1)
    seen, steps = np.zeros(V), 2000
    draw = tf.function(sampler.draw)
    for step in range(steps):
        candidates = draw(tf.constant([7, step]))
        ids = candidates.ids.numpy()
        assert len(set(ids.tolist())) == 5
        np.testing.assert_allclose(candidates.log_probabilities, np.log(probabilities[ids]), rtol=1e-5)
        seen[ids] += 1
    error = np.sqrt(probabilities * (1 - probabilities) / steps)
    assert np.all(np.abs(seen / steps - probabilities) <= 4 * error + 1e-9)


def test_a_draw_is_a_function_of_seed_and_step() -> None:
    sampler = CandidateSampler(COUNTS, 5)
    one, again = (sampler.draw(tf.constant([3, 4])).ids.numpy().tolist() for _ in range(2))
    assert one == again
    others = {tuple(sampler.draw(tf.constant([3, step])).ids.numpy().tolist()) for step in range(20)}
    assert len(others) > 5


def test_a_draw_is_made_by_the_processor() -> None:
    """A GPU would have to be waited for."""
    sampler = CandidateSampler(np.arange(9, 0, -1), 4)
    with tf.Graph().as_default() as graph, tf.device("GPU:0"):
        sampler.draw(tf.constant([1, 2]))
    drawn = [operation for operation in graph.get_operations() if operation.type != "Const"]
    assert len(drawn) > 5
    assert all(operation.device.upper().endswith("CPU:0") for operation in drawn)
