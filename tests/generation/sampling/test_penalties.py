from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgen.generation.config import MAX_LOOK_BACK
from textgen.generation.sampling import penalties as penalties_module
from textgen.generation.sampling.exact_chain import dry as exact_dry
from textgen.generation.sampling.exact_chain import penalties as exact_penalties
from textgen.generation.sampling.exact_chain import possible
from textgen.generation.sampling.penalties import NEAR, Changes, DrySettings, History, dry, penalties

V = 6


def changed(logits: np.ndarray, changes: Changes) -> np.ndarray:
    result = logits.copy()
    rows, ids, values = changes
    result[rows, ids] = values
    assert values.dtype == np.float32
    return result


def column(*values: float) -> np.ndarray:
    return np.array(values, np.int64 if isinstance(values[0], int) else np.float32)[:, None]


@st.composite
def pasts(draw: Callable[[Any], Any]) -> tuple[np.ndarray, list[list[int]]]:
    """Logits [B, V], and texts of few kinds of pieces, so that much is repeated."""
    rows = draw(st.integers(1, 4))
    texts = draw(st.lists(st.lists(st.integers(0, V - 1), max_size=30), min_size=rows, max_size=rows))
    logits = np.random.default_rng(draw(st.integers(0, 99))).normal(0, 3, (rows, V)).astype(np.float32)
    return logits, texts


def history_of(texts: list[list[int]], width: int = 30) -> np.ndarray:
    history = History(len(texts), width)
    for row, text in enumerate(texts):
        history.read(row, text)
    return history.ids


# === Repetition, presence, frequency ===


def penalized(logits: list[float], text: list[int], repeat: float, presence: float, frequency: float) -> list[float]:
    """llama.cpp's documentation, piece by piece."""
    counts = Counter(text)
    result = list(logits)
    for piece, count in counts.items():
        result[piece] = result[piece] / repeat if result[piece] > 0 else result[piece] * repeat
        result[piece] -= count * frequency + presence
    return result


@given(pasts(), st.floats(0.5, 2), st.floats(-1, 2), st.floats(-1, 2), st.sampled_from((0, 1, 2, 5, 29, 30, 64)))
@settings(deadline=None)
def test_penalties(
    past: tuple[np.ndarray, list[list[int]]], repeat: float, presence: float, frequency: float, last_n: int
) -> None:
    logits, texts = past
    inputs = [column(*[value] * len(texts)) for value in (repeat, presence, frequency, last_n)]
    after = changed(logits, penalties(logits, history_of(texts), *inputs))
    for row, text in enumerate(texts):
        expected = penalized(logits[row].tolist(), text[max(len(text) - last_n, 0) :], repeat, presence, frequency)
        assert after[row].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.oracles("torch", "transformers.generation.logits_process")
@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.3, 5.0])
def test_repeat_penalty_equals_transformers(penalty: float) -> None:
    import torch
    from transformers.generation import logits_process as generation

    rng = np.random.default_rng(1)
    logits, ids = rng.normal(0, 3, (9, 50)).astype(np.float32), rng.integers(0, 50, (9, 40))
    logits[:, 3] = 0.0
    logits[:, 4] = -np.inf
    inputs = [column(*[value] * 9) for value in (penalty, 0.0, 0.0, 40)]
    ours = changed(logits, penalties(logits, ids, *inputs))
    processor = generation.RepetitionPenaltyLogitsProcessor(penalty)
    theirs = processor(torch.from_numpy(ids), torch.from_numpy(logits.copy())).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_each_row_has_its_own_penalties() -> None:
    logits = np.array([[2.0, -2.0, 1.0]] * 3, np.float32)
    history = history_of([[0, 1, 0, 1, 1], [0, 1, 1, 1, 2], []])
    inputs = column(2.0, 1.0, 2.0), column(0.0, 0.5, 1.0), column(0.0, 0.25, 1.0), column(5, 4, 5)
    after = changed(logits, penalties(logits, history, *inputs))
    assert after.tolist() == [[1.0, -4.0, 1.0], [2.0, -3.25, 0.25], [2.0, -2.0, 1.0]]


# === DRY ===


def dried(
    logits: list[float], text: list[int], breakers: set[int], multiplier: float, base: float, allowed: int
) -> list[float]:
    """As its author describes it: for each place where the end of the text stood before, how long is the match?"""
    longest: dict[int, int] = {}
    for place in range(len(text) - 1):
        length = 0
        while (
            length <= place
            and text[place - length] == text[len(text) - 1 - length]
            and text[place - length] not in breakers
        ):
            length += 1
        follower = text[place + 1]
        if follower not in breakers:
            longest[follower] = max(longest.get(follower, 0), length)
    result = list(logits)
    for piece, length in longest.items():
        if length >= allowed:
            result[piece] -= min(multiplier * base ** (length - allowed), 1e6)
    return result


@given(
    pasts(),
    st.sets(st.integers(0, V - 1), max_size=2),
    st.floats(0.1, 5),
    st.floats(1, 3),
    st.integers(1, 5),
    st.sampled_from((0, 1, 2, 5, 12, 30, 64)),
)
@settings(deadline=None, max_examples=200)
def test_dry(
    past: tuple[np.ndarray, list[list[int]]],
    breakers: set[int],
    multiplier: float,
    base: float,
    allowed: int,
    last_n: int,
) -> None:
    logits, texts = past
    marks = np.isin(np.arange(V), list(breakers))[None].repeat(len(texts), axis=0)
    inputs = [column(*[value] * len(texts)) for value in (multiplier, base, allowed, last_n)]
    after = changed(logits, dry(logits, history_of(texts), marks, DrySettings(*inputs)))
    for row, text in enumerate(texts):
        recent = text[max(len(text) - last_n, 0) :]
        expected = dried(logits[row].tolist(), recent, breakers, multiplier, base, allowed)
        assert after[row].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_dry_by_hand() -> None:
    """Row 0: "012 3 012" would go on with 3. Row 1 is off. Row 2: 1 breaks. Row 3: a long loop."""
    texts = [[0, 1, 2, 3, 0, 1, 2], [0, 1, 2, 3, 0, 1, 2], [0, 1, 2, 3, 0, 1, 2], [4, 5] * 200]
    breakers = np.zeros((4, V), bool)
    breakers[2, 1] = True
    inputs = column(0.5, 0.0, 0.5, 0.5), column(2.0, 2.0, 2.0, 2.0), column(2, 2, 2, 2), column(400, 400, 400, 400)
    after = changed(
        np.zeros((4, V), np.float32),
        dry(np.zeros((4, V), np.float32), history_of(texts, 400), breakers, DrySettings(*inputs)),
    )
    assert after[0].tolist() == [0, 0, 0, -1.0, 0, 0]
    assert not after[1].any()
    assert not after[2].any()
    assert after[3].tolist() == [0, 0, 0, 0, -1e6, 0]


def dried_by_match(logits: np.ndarray, history: np.ndarray, breakers: np.ndarray, settings: DrySettings) -> np.ndarray:
    """DRY by a definition that follows each earlier occurrence of the newest token backward, to the last bit."""
    result, width = logits.copy(), history.shape[-1]
    for row, ids in enumerate(history.tolist()):
        longest: dict[int, int] = {}
        multiplier, base, allowed, last_n = (values[row, 0] for values in settings)
        for at in range(max(width - int(last_n), 0), width - 1):
            length = 0
            while (
                at - length >= max(width - int(last_n), 0)
                and ids[at - length] == ids[-1 - length] >= 0
                and not breakers[row, ids[at - length]]
            ):
                length += 1
            if not breakers[row, ids[at + 1]]:
                longest[ids[at + 1]] = max(length, longest.get(ids[at + 1], 0))
        for id, length in longest.items():
            if multiplier > 0 and length >= max(allowed, 1):
                exponent = np.log(base) * np.int64(length - allowed) + np.log(multiplier)
                result[row, id] -= np.float32(np.exp(np.minimum(exponent, np.log(penalties_module.MAX_PENALTY))))
    return result


@given(
    pasts(),
    st.lists(st.sampled_from((0, 1, 2, 5, 12, 30, 64)), min_size=4, max_size=4),
    st.lists(st.sampled_from((0.0, 0.3, 1.0)), min_size=4, max_size=4),
    st.lists(st.sampled_from((1, 2, 3, 50, 51, 60)), min_size=4, max_size=4),
    st.sets(st.integers(0, V - 1), max_size=2),
    st.integers(1, 80),
    st.sampled_from((1, 4, 1024)),
)
@settings(deadline=None, max_examples=200)
def test_windows_of_any_length_give_the_same_penalties(
    past: tuple[np.ndarray, list[list[int]]],
    last: list[int],
    multipliers: list[float],
    allowed: list[int],
    breakers: set[int],
    times: int,
    near: int,
) -> None:
    logits, texts = past
    rows = len(texts)
    history = history_of([text * times for text in texts], 100)
    marks = np.isin(np.arange(V), list(breakers))[None].repeat(rows, axis=0)
    dry_settings = DrySettings(
        column(*multipliers[:rows]), column(*[1.75] * rows), column(*allowed[:rows]), column(*last[:rows])
    )
    factors = [*(column(*[value] * rows) for value in (1.3, 0.2, 0.1)), column(*last[:rows])]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(penalties_module, "NEAR", 1000)
        together = changed(logits, penalties(logits, history, *factors))
        patched.setattr(penalties_module, "NEAR", near)
        apart = changed(logits, penalties(logits, history, *factors))
        found = changed(logits, dry(logits, history, marks, dry_settings))
    np.testing.assert_array_equal(together, apart)
    np.testing.assert_array_equal(found, dried_by_match(logits, history, marks, dry_settings))


@given(pasts(), st.integers(0, 40), st.integers(1, 3))
@settings(deadline=None)
def test_exact_arithmetic_penalizes_the_same_tokens(
    past: tuple[np.ndarray, list[list[int]]], last_n: int, allowed: int
) -> None:
    logits, texts = past
    breakers = np.arange(V) == 1
    for row, text in enumerate(texts):
        history, left = history_of([text])[0], possible(logits[row].astype(np.float64))
        found = exact_dry(left, history, breakers, None, 0.5, 1.75, allowed, last_n).logits
        assert found.tolist() == pytest.approx(
            dried(left.logits.tolist(), text[max(len(text) - last_n, 0) :], {1}, 0.5, 1.75, allowed), rel=1e-12
        )
        found = exact_penalties(left, history, 1.3, 0.2, 0.1, last_n).logits
        assert found.tolist() == pytest.approx(
            penalized(left.logits.tolist(), text[max(len(text) - last_n, 0) :], 1.3, 0.2, 0.1), rel=1e-12
        )


def test_repetitions_that_are_never_long_enough_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(penalties_module, "_lengths", None)
    history, breakers = history_of([[1] * 20]), np.zeros((1, V), bool)
    never = DrySettings(column(1.0), column(1.75), column(20), column(64))
    assert all(len(each) == 0 for each in dry(np.zeros((1, V), np.float32), history, breakers, never))


@given(pasts(), st.sets(st.integers(0, V - 1), max_size=2), st.integers(0, 4))
@settings(deadline=None)
def test_long_repetitions_are_measured_as_short_ones(
    past: tuple[np.ndarray, list[list[int]]], breakers: set[int], passes: int
) -> None:
    logits, texts = past
    history = history_of([text * 4 for text in texts], 90)
    marks = np.isin(np.arange(V), list(breakers))[None].repeat(len(texts), axis=0)
    dry_settings = DrySettings(*[column(*[value] * len(texts)) for value in (0.5, 1.1, 2, 80)])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(penalties_module, "PASSES", passes)
        found = changed(logits, dry(logits, history, marks, dry_settings))
    np.testing.assert_array_equal(found, dried_by_match(logits, history, marks, dry_settings))


def test_longer_repetitions_are_not_measured_where_the_penalty_rises_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(penalties_module, "_long_lengths", None)
    history, breakers, zeros = history_of([[1] * 200], 200), np.zeros((1, V), bool), np.zeros((1, V), np.float32)
    for base, penalty in ((1.75, penalties_module.MAX_PENALTY), (1.0, 0.8)):
        dry_settings = DrySettings(column(0.8), column(base), column(2), column(1024))
        assert changed(zeros, dry(zeros, history, breakers, dry_settings))[0, 1] == pytest.approx(-penalty)
    with pytest.raises(TypeError):
        dry(zeros, history, breakers, DrySettings(column(0.8), column(1.05), column(2), column(1024)))


def test_the_longest_repetitions_are_penalized() -> None:
    """After a repetition as long as it may be without a penalty, and with a base that grows slowly."""
    most = MAX_LOOK_BACK - 1  # the highest value of dry_allowed_length
    history, breakers = np.full((1, MAX_LOOK_BACK), 4, np.int32), np.zeros((1, V), bool)
    one, zeros = column(1.0), np.zeros((1, V), np.float32)
    for allowed, base in ((most, 2.0), (most - 3, 2.0), (most - 100, 1.01)):
        dry_settings = DrySettings(one, base * one, column(allowed), column(MAX_LOOK_BACK))
        after = changed(zeros, dry(zeros, history, breakers, dry_settings))
        assert after[0, 4] == pytest.approx(-(base ** (most - allowed)), rel=1e-4)
        left = exact_dry(
            possible(zeros[0].astype(float)), history[0], breakers[0], None, 1.0, base, allowed, MAX_LOOK_BACK
        )
        assert left.logits[4] == pytest.approx(-(base ** (most - allowed)), rel=1e-9)


def test_a_long_text_of_one_token_takes_not_much_longer_than_another() -> None:
    width = 1 << 14
    one = np.ones((1, 1), np.float32)
    dry_settings = DrySettings(one, 1.75 * one, column(2), column(width))
    logits, breakers = np.zeros((1, 500), np.float32), np.zeros((1, 500), bool)

    def seconds(history: np.ndarray) -> float:
        times = []
        for _ in range(5):
            begin = time.thread_time()
            dry(logits, history, breakers, dry_settings)
            times.append(time.thread_time() - begin)
        return min(times)

    other = np.random.default_rng(1).integers(0, 500, (1, width)).astype(np.int32)
    assert seconds(np.full((1, width), 5, np.int32)) < 100 * seconds(other)


# === History ===


@given(st.lists(st.tuples(st.sampled_from(["read", "append", "clear"]), st.lists(st.integers(0, 9), max_size=9))))
def test_history_holds_the_last_pieces(steps: list[tuple[str, list[int]]]) -> None:
    width, history = 5, History(2, 5)
    texts: list[list[int]] = [[], []]
    for kind, ids in steps:
        if kind == "read":
            history.read(0, ids)
            texts[0] += ids
        elif kind == "clear":
            history.clear(1)
            texts[1] = []
        else:
            for piece in ids:
                history.append(np.array([piece, piece + 1]))
                texts[0].append(piece)
                texts[1].append(piece + 1)
        expected = [([-1] * width + text)[-width:] for text in texts]
        number = history.ids.shape[-1]
        assert number >= max(1, *(min(width, len(text)) for text in texts))
        assert history.ids.tolist() == [row[width - number :] for row in expected]


def test_a_wide_history_is_as_narrow_as_the_texts_in_it() -> None:
    history = History(3, 1 << 16)
    assert history.ids.shape == (3, 1)
    assert history._table.size < 1000
    history.read(1, [4, 5, 6])
    history.append(np.array([1, 2, 3]))
    assert history.ids.tolist() == [[-1, -1, -1, 1], [4, 5, 6, 2], [-1, -1, -1, 3]]
    history.keep(np.array([0, 2]))
    assert history.ids.tolist() == [[1], [3]]
    other = History(1, 2)
    other.read(0, [7, 8, 9])
    history.join(other)
    assert history.ids.tolist() == [[-1, 1], [-1, 3], [8, 9]]
    history.keep(np.array([2]), 1)
    assert history.ids.tolist() == [[9]]


def test_a_text_that_looks_far_back_is_counted_apart() -> None:
    """Nobody else's past is sorted over its width, and nobody's penalties change."""
    rng = np.random.default_rng(3)
    history = rng.integers(0, V, (3, 2 * NEAR)).astype(np.int32)
    logits = rng.normal(0, 3, (3, V)).astype(np.float32)
    one = np.ones((3, 1), np.float32)
    settings = [1.3 * one, 0.2 * one, 0.1 * one, np.array([[8], [2 * NEAR], [3]])]
    together = logits.copy()
    rows, ids, changed = penalties(logits, history, *settings)
    together[rows, ids] = changed
    for row in range(3):
        _, ids, changed = penalties(logits[[row]], history[[row]], *(values[[row]] for values in settings))
        alone = logits[row].copy()
        alone[ids] = changed
        np.testing.assert_array_equal(together[row], alone)


def test_a_history_of_nothing() -> None:
    history = History(2, 0)
    history.read(0, [1, 2])
    history.append(np.array([1, 2]))
    assert history.ids.shape == (2, 0)
    assert math.prod(history.ids.shape) == 0
