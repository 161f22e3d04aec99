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


@pytest.mark.parametrize("length", [40, 1200])
def test_the_full_loss_is_the_mean_over_the_places_of_the_windows(length: int) -> None:
    """Not over the whole text, of which windows that end within it leave places out."""
    reader = Reader(*markov(2))
    text = np.random.default_rng(2).integers(0, 4, [1, length], dtype=np.int32)
    full = np.random.default_rng(3).exponential(np.linspace(1, 9, length - 1))
    found = context_loss(reader, reader.read(text), full)
    longest = found.lengths[-1]

    def measured(size: int, number: int, places: slice) -> list[float]:
        starts = np.unique(np.linspace(0, length - 1 - size, number).astype(int))
        return [value for start in starts for value in full[start : start + size][places] / np.log(2)]

    values = measured(min(16, longest), 96, slice(None))
    if longest > 16:
        values += measured(longest, 24, slice(19, None, 4))
    assert found.full == pytest.approx(np.mean(values))
    assert found.full != pytest.approx(full.mean() / np.log(2))


@pytest.mark.parametrize("length", [16, 25, 40, 70])
def test_short_texts_have_no_gaps_where_labels_do_not_count(length: int) -> None:
    reader = Reader(*markov(2))
    text = np.random.default_rng(2).integers(0, 4, [1, length], dtype=np.int32)
    reading = reader.read(text)
    full = reader.losses(reading.features[0, :-1], text[0, 1:])
    for place in range(length - 1):
        some = full.copy()
        some[place] = np.nan
        found = context_loss(reader, reading, some)
        assert np.isfinite([*found.dropped, *found.shuffled, found.full]).all()


def test_half_lives_follow_from_the_forget_gates() -> None:
    from textgen.insight.reading import Reading

    gates = np.full([1, 50, 2], 0.5)
    gates[..., 1] = 0.5 ** (1 / 20)
    reading = Reading(np.zeros([1, 50]), [{"f": gates}], [], np.zeros(0), ())
    lives = half_lives(reading, "lstm")
    assert lives is not None
    np.testing.assert_allclose(lives[0], [1, 20])
    assert half_lives(reading, "rnn") is None
