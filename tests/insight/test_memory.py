"""The loss against the length of the context, and the half-lives of cells."""

from __future__ import annotations

import numpy as np
import pytest
from networks import markov

from textgen.insight.memory import context_loss, half_lives
from textgen.insight.reading import Reader


@pytest.mark.parametrize("order", [1, 2, 4])
def test_context_of_a_markov_source_is_flat_after_its_order(order: int) -> None:
    reader = Reader(*markov(order))
    rng, ids, state = np.random.default_rng(1), [0], reader.model.initial_state(1)
    for _ in range(1500):
        logits, state = reader.model.step(np.array(ids[-1:]), state)
        ids.append(int(np.argmax(logits[0] + rng.gumbel(size=4))))
    text = np.array([ids], np.int32)
    reading = reader.read(text)
    full = reader.losses(reading.features[0, :-1], text[0, 1:])
    found = context_loss(reader, reading, full)
    for length, dropped, shuffled in zip(found.lengths, found.dropped, found.shuffled, strict=True):
        if length < order:
            assert dropped > 0.02
            assert shuffled > 0.02
        elif length >= max(order, 1) and length not in (order,):
            assert abs(dropped) < 1e-4
            assert abs(shuffled) < 1e-4


def test_half_lives_follow_from_the_forget_gates() -> None:
    from textgen.insight.reading import Reading

    gates = np.full([1, 50, 2], 0.5)
    gates[..., 1] = 0.5 ** (1 / 20)
    reading = Reading(np.zeros([1, 50]), [{"f": gates}], [], np.zeros(0), ())
    lives = half_lives(reading, "lstm")
    assert lives is not None
    np.testing.assert_allclose(lives[0], [1, 20])
    assert half_lives(reading, "rnn") is None
