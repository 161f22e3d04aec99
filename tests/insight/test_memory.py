"""The loss against the length of the context, and the half-lives of cells."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from networks import markov

from textgen.insight.memory import ContextLoss, context_loss, half_lives
from textgen.insight.reading import Reader

SHORT_ONES = (1, 2, 3, 4, 6, 8, 12, 16)  # lengths that are measured at one token of a window


def written(reader: Reader, length: int, seed: int = 1) -> np.ndarray:
    """A text from the network's own probabilities, [1, length]."""
    rng, ids, state = np.random.default_rng(seed), [0], reader.model.initial_state(1)
    while len(ids) < length:
        logits, state = reader.model.step(np.array(ids[-1:]), state)
        ids.append(int(np.argmax(logits[0] + rng.gumbel(size=logits.shape[-1]))))
    return np.array([ids], np.int32)


def measured(reader: Reader, text: np.ndarray, noise: float = 0.0) -> ContextLoss:
    """The curves of a text; `noise` changes the losses with the whole text."""
    reading = reader.read(text)
    full = reader.losses(reading.features[0, :-1], text[0, 1:])
    return context_loss(reader, reading, full + noise * np.random.default_rng(3).normal(size=full.shape))


@pytest.mark.parametrize("order", [1, 2, 4, 24])
def test_context_of_a_markov_source_is_flat_from_its_order_on(order: int) -> None:
    reader = Reader(*markov(order))
    found = measured(reader, written(reader, 1500))
    assert found.lengths[-1] == 256
    for length, dropped, shuffled in zip(found.lengths, found.dropped, found.shuffled, strict=True):
        if length >= order:
            assert abs(dropped) < 1e-4
            assert abs(shuffled) < 1e-4
        elif order < 24 or length in (1, 16):  # few tokens of so many change little
            assert dropped > 0.02
            assert shuffled > 0.02


def test_both_curves_are_measured_at_the_same_places() -> None:
    """Whatever the losses are there: they are the same in both."""
    reader = Reader(*markov(2))
    found = measured(reader, written(reader, 900), noise=3.0)
    for length, dropped, shuffled in zip(found.lengths, found.dropped, found.shuffled, strict=True):
        if length >= 2:
            assert abs(dropped) > 1e-3
            assert shuffled == pytest.approx(dropped, abs=1e-4)


def test_two_texts_of_one_source_agree_within_the_stated_errors() -> None:
    reader = Reader(*markov(12))
    found = [measured(reader, written(reader, 1200, seed)) for seed in (1, 2, 3)]
    for one, other in itertools.combinations(found, 2):
        for at, length in enumerate(one.lengths):
            if length < 12:
                error = math.hypot(one.dropped_error[at], other.dropped_error[at])
                assert 0.01 < error < 0.5
                assert abs(one.dropped[at] - other.dropped[at]) < 3 * error
                gap, error = (
                    one.shuffled[at] - one.dropped[at] - other.shuffled[at] + other.dropped[at],
                    math.hypot(one.difference_error[at], other.difference_error[at]),
                )
                assert abs(gap) < 3 * error


def test_the_error_is_that_of_independent_places() -> None:
    """Losses with the whole text that are noise, and nothing else: known are the mean and its standard deviation."""
    reader = Reader(*markov(1))
    found = measured(reader, written(reader, 4000), noise=2.0)
    for dropped, error, places in zip(found.dropped, found.dropped_error, found.places, strict=True):
        known = 2 / math.log(2) / math.sqrt(places)
        assert error == pytest.approx(known, rel=0.5)
        assert abs(dropped) < 3.5 * known


@pytest.mark.parametrize("length", [40, 1200])
def test_the_full_loss_is_the_mean_over_the_places_that_were_measured(length: int) -> None:
    """Not over the whole text, of which windows that end within it leave places out."""
    reader = Reader(*markov(2))
    text = np.random.default_rng(2).integers(0, 4, [1, length], dtype=np.int32)
    full = np.random.default_rng(3).exponential(np.linspace(1, 9, length - 1))
    found = context_loss(reader, reader.read(text), full)
    places, of_length, before = list[int](), list[list[int]](), min(64, (length - 1 - found.lengths[-1]) // 2)
    assert found.num_shuffled == before
    for size, number, lengths in ((16, 384, SHORT_ONES), (64, 48, (32, 64)), (256, 12, (128, 256))):
        own = [each for each in lengths if each in found.lengths]
        if own:
            last = length - 1 - own[-1]
            apart = max(1, own[-1] // 8) if size > 16 else 1
            starts = np.unique(np.linspace(before, last, min(number, 1 + (last - before) // apart)).astype(int))
            for each in own:
                narrow = range(each - 1, each) if each <= 16 else range(each - each // 8, each)
                of_length.append([start + column for start in starts for column in narrow])
                places += of_length[-1]
    assert sum(found.places) == len(places)
    assert found.full == pytest.approx(full[places].mean() / np.log(2))
    assert found.full != pytest.approx(full.mean() / np.log(2))
    assert found.full_at == pytest.approx([full[own].mean() / np.log(2) for own in of_length])


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
