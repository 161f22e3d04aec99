from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logits import batches, column, random_logits, softmax
from plain_fakes import WordsTokenizer

from textgen.generation.config import SAMPLERS, SamplingConfig
from textgen.generation.logit_filters import Candidates
from textgen.generation.sampler import (
    AHEAD,
    LOOKING_BACK,
    TRANSFORMS,
    Sampler,
    Uniforms,
    draw,
    row_generator,
    settings_of,
    steps_of,
    tokens_with,
    transform,
)
from textgen.tokenizer.tokenizer import ByteTokenizer

TOKENIZER = ByteTokenizer()
V, EOS = TOKENIZER.vocab_size, TOKENIZER.eos_id
PLAIN = SamplingConfig(temperature=1.0, min_p=0.0, dry_multiplier=0.0, repeat_penalty=1.0, seed=0)
EVERYTHING = SamplingConfig(
    temperature=0.9, dynatemp_range=0.3, top_k=60, top_p=0.97, min_p=0.01, typical_p=0.97, top_n_sigma=3.0,
    epsilon_cutoff=1e-4, eta_cutoff=1e-4, xtc_probability=0.4, xtc_threshold=0.05, repeat_penalty=1.1,
    presence_penalty=0.1, frequency_penalty=0.05, repeat_last_n=20, dry_multiplier=0.8, dry_penalty_last_n=100,
    no_repeat_ngram_size=3, logit_bias=("e=1", "th=2"), ban=("the", "q"), require=("fox",), min_tokens=20,
    max_tokens=60, seed=0,
)  # fmt: skip


@given(batches(), st.lists(st.floats(0, 1, exclude_max=True), min_size=4, max_size=4))
@settings(deadline=None)
def test_draw_never_takes_the_impossible(logits: np.ndarray, uniforms: list[float]) -> None:
    for wanted in (uniforms[: len(logits)], [0.0] * len(logits), [math.nextafter(1, 0)] * len(logits)):
        ids = draw(Candidates(logits), np.array(wanted))
        assert ids.shape == (len(logits),)
        for row, piece in zip(logits, ids.tolist(), strict=True):
            assert 0 <= piece < len(row)
            assert row[piece] > -np.inf


def test_draw_reaches_the_last_of_very_many_pieces() -> None:
    """64,000 float32 probabilities do not add up to 1."""
    size = 64_000
    logits = np.random.default_rng(0).normal(0, 1, (3, size)).astype(np.float32)
    logits[:, -10:] = -np.inf
    uniforms = np.array([0.0, 0.5, math.nextafter(1, 0)])
    first, middle, last = draw(Candidates(logits), uniforms).tolist()
    assert (first, last) == (0, size - 11)
    assert abs(middle - size / 2) < size / 50


def test_row_generator_is_a_function_of_its_seed() -> None:
    whole = row_generator(7).random(100)
    parts = row_generator(7)
    np.testing.assert_array_equal(np.concatenate([parts.random(n) for n in (1, 4, 32, 63)]), whole)
    assert not np.array_equal(row_generator(8).random(100), whole)
    row_generator((1 << 63) - 1).random()


def test_uniforms_are_those_of_the_rows_own_generator() -> None:
    """Also where they were made ahead, and when other rows leave."""
    uniforms = Uniforms([3, 4, 5], [False, True, False])
    alone, both = row_generator(5), row_generator(4)
    for _ in range(AHEAD + 10):
        to_exclude, to_draw = uniforms.draw()
        assert [to_exclude[1], to_draw[1]] == both.random(2).tolist()
        assert [to_exclude[2], to_draw[2]] == [0.0, alone.random()]
    uniforms.keep(np.array([2]))
    for _ in range(AHEAD + 10):
        to_exclude, to_draw = uniforms.draw()
        assert [*to_exclude, *to_draw] == [0.0, alone.random()]


def test_a_sampler_draws_by_the_settings_and_the_seed_of_each_row() -> None:
    configs = [SamplingConfig(seed=1), SamplingConfig(seed=2, temperature=0.0), SamplingConfig(seed=1)]
    sampler = Sampler(configs, TOKENIZER)
    logits = np.full((3, V), -9.0, np.float32)
    logits[:, :8] = [9.0, 9.0, -9.0, 1.0, 0.5, 0.0, 0.7, 0.2]  # the first two are pad and unk
    drawn = np.array([sampler.draw(logits) for _ in range(100)])
    alone = Sampler(configs[:1], TOKENIZER)
    assert drawn[:, 0].tolist() == [alone.draw(logits[:1])[0] for _ in range(100)]
    assert set(drawn[:, 0]) == {3, 4, 5, 6, 7}
    assert set(drawn[:, 1]) == {3}
    np.testing.assert_array_equal(drawn[:, 2], drawn[:, 0])


# === The chain ===


def rows_of(pieces: Candidates) -> list[tuple[np.ndarray, np.ndarray]]:
    """The ids of the pieces that are left in each row, and their logits."""
    ids = np.broadcast_to(np.arange(pieces.logits.shape[-1]), pieces.logits.shape) if pieces.ids is None else pieces.ids
    return [(row[logits > -np.inf], logits[logits > -np.inf]) for row, logits in zip(ids, pieces.logits, strict=True)]


def kept(logits: np.ndarray, order: tuple[str, ...] = SAMPLERS, **values: float) -> list[int]:
    """Ids of the pieces that are left in the only row."""
    values |= {"dynatemp_range": 0.0, "dynatemp_exponent": 1.0}
    inputs = {name: column([value], name) for name, value in values.items()}
    ((ids, _),) = rows_of(transform(Candidates(logits.copy()), inputs, steps_of(inputs, order)))
    return ids.tolist()


def test_each_transform_sees_what_those_before_it_have_left() -> None:
    logits = np.log(np.array([[0.1, 0.4, 0.2, 0.3]], np.float32))
    assert kept(logits) == [0, 1, 2, 3]
    assert kept(logits, top_k=2, top_p=0.56) == [1]  # 0.4 of 0.7 is 57 %
    assert kept(logits, ("top_p", "top_k"), top_k=2, top_p=0.56) == [1, 3]
    assert kept(logits, min_p=0.76, temperature=100.0) == [1]  # by the model's own probabilities, however hot the draw
    assert kept(logits, ("temperature", "min_p"), min_p=0.76, temperature=100.0) == [0, 1, 2, 3]
    assert kept(logits, ("top_p",), top_k=2, top_p=0.56) == [1, 3]  # what the order leaves out is off
    assert kept(logits, (), top_k=2, top_p=0.56) == [0, 1, 2, 3]


@pytest.mark.parametrize("order", [SAMPLERS, SAMPLERS[::-1], ("min_p", "top_p"), ("min_p", "temperature", "penalties")])
@pytest.mark.parametrize("texts", [1, 9])
def test_carrying_on_few_pieces_changes_nothing(texts: int, order: tuple[str, ...]) -> None:
    """The chain gives what its transforms give one by one on all pieces."""
    logits, rng = random_logits(texts, 2000), np.random.default_rng(0)
    inputs = settings_of([EVERYTHING] * texts)
    inputs |= {"history": rng.integers(0, 2000, (texts, 100)), "breakers": rng.random((texts, 2000)) < 0.1}
    inputs["xtc_uniforms"] = rng.random((texts, 1))
    expected = logits.copy()
    for name in order:
        function, fields = TRANSFORMS[name]
        if name in LOOKING_BACK:
            rows, ids, values = function(expected, *(inputs[field] for field in fields))
            expected[rows, ids] = values
        else:
            expected = function(Candidates(expected), *(inputs[field] for field in fields)).logits
    left = transform(Candidates(logits.copy()), inputs, steps_of(inputs, order))
    actual = np.full_like(expected, -np.inf)
    for row, (ids, values) in enumerate(rows_of(left)):
        assert (np.diff(ids) > 0).all()
        actual[row, ids] = values
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    assert (left.logits.shape[1] < 500) == (order[-1] != "penalties")


def test_settings_of_names_only_what_some_row_uses() -> None:
    assert settings_of([PLAIN, PLAIN]) == {}
    mixed = settings_of([PLAIN, replace(PLAIN, top_k=5, temperature=0.0)])
    assert list(mixed) == ["top_k", "temperature", "dynatemp_range", "dynatemp_exponent"]
    assert mixed["top_k"].tolist() == [[0], [5]]
    assert mixed["top_k"].dtype == np.int64
    assert mixed["temperature"].tolist() == [[1.0], [0.0]]
    assert mixed["temperature"].dtype == np.float32
    assert settings_of([replace(PLAIN, top_k=5)], ("top_p", "min_p")) == {}


def test_mirostat_takes_the_place_of_what_leaves_pieces_out() -> None:
    configs = [replace(EVERYTHING, mirostat=2), replace(EVERYTHING, top_k=7)]
    mixed = settings_of(configs)
    assert mixed["top_k"].tolist() == [[0], [7]]
    assert mixed["xtc_probability"].tolist() == [[0.0], [pytest.approx(0.4)]]
    assert mixed["repeat_penalty"].tolist() == [[pytest.approx(1.1)]] * 2
    assert mixed["temperature"].tolist() == [[pytest.approx(0.9)]] * 2


# === Draws ===


@pytest.mark.parametrize(
    "values",
    [{}, {"temperature": 0.5}, {"top_k": 3}, {"min_p": 0.1}, {"typical_p": 0.7}, {"top_n_sigma": 1.0}, {"mirostat": 2}],
    ids=str,
)
def test_frequencies_are_those_of_softmax(values: dict[str, float]) -> None:
    """100,000 draws."""
    rounds, rows = 1000, 100
    config = replace(PLAIN, **{"mirostat_eta": 0.0, "mirostat_tau": 1.0, **values})  # type: ignore[arg-type]
    logits = np.full((1, V), -np.inf, np.float32)
    logits[0, 10:18] = [0.0, 1.0, -1.0, 0.5, 2.0, -2.0, 0.0, -np.inf]
    sampler = Sampler([replace(config, seed=seed) for seed in range(rows)], TOKENIZER)
    batch = logits.repeat(rows, axis=0)
    ids = np.concatenate([sampler.draw(batch) for _ in range(rounds)])
    likely = logits[0] / config.temperature
    if "mirostat" in values:  # at most 2 bits
        likely[np.array(softmax(likely.tolist())) < 0.25] = -np.inf
    else:
        inputs = settings_of([config])
        ((left, _),) = rows_of(transform(Candidates(logits.copy()), inputs, steps_of(inputs)))
        likely[~np.isin(np.arange(V), left)] = -np.inf
    counts, expected = np.bincount(ids, minlength=V), len(ids) * np.array(softmax(likely.tolist()))
    assert not counts[expected == 0].any()
    counts, expected = counts[expected > 0], expected[expected > 0]
    assert len(ids) == 100_000
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 24.3  # of 7 or fewer free numbers, exceeded by chance once in 1000


def test_xtc_leaves_out_the_likeliest_as_often_as_it_says() -> None:
    logits = np.full((200, V), -np.inf, np.float32)
    logits[:, 10:13] = np.log([0.6, 0.3, 0.1])
    config = replace(PLAIN, xtc_probability=0.25, xtc_threshold=0.2)
    sampler = Sampler([replace(config, seed=seed) for seed in range(200)], TOKENIZER)
    ids = np.concatenate([sampler.draw(logits) for _ in range(50)])
    share = np.bincount(ids, minlength=13)[10:] / len(ids)
    assert share == pytest.approx([0.75 * 0.6, 0.75 * 0.3 + 0.25 * 0.75, 0.75 * 0.1 + 0.25 * 0.25], abs=0.015)


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_steers_to_its_surprise(version: int) -> None:
    """Basu et al. 2021: the mean surprisal comes to tau, whatever it would have been."""
    logits = np.full((1, V), -np.inf, np.float32)
    logits[0, 3:] = -1.2 * np.log(np.arange(1, V - 2))
    log_p = logits[0] - np.log(np.exp(logits[0]).sum())
    for tau in (2.0, 3.5):
        sampler = Sampler([replace(PLAIN, mirostat=version, mirostat_tau=tau, mirostat_eta=0.1)], TOKENIZER)
        surprises = [-float(log_p[sampler.draw(logits)[0]]) / math.log(2) for _ in range(1500)]
        assert np.mean(surprises[300:]) == pytest.approx(tau, abs=0.2)


# === Rows ===


def walk(configs: list[SamplingConfig], lengths: list[int], prompts: list[str]) -> list[list[int]]:
    """Draws from logits that depend on the row's own last piece; a row that is long enough leaves the batch."""
    table = np.random.default_rng(3).normal(0, 3, (V, V)).astype(np.float32)
    table[:, EOS] -= 5
    sampler = Sampler(configs, TOKENIZER)
    texts = [[EOS, *TOKENIZER.encode(prompt)] for prompt in prompts]
    for row, text in enumerate(texts):
        sampler.read(row, text)
    live = list(range(len(configs)))
    for step in range(max(lengths)):
        if ended := [row for row in live if lengths[row] <= step]:
            sampler.keep([number for number, row in enumerate(live) if row not in ended])
            live = [row for row in live if row not in ended]
        for row, piece in zip(live, sampler.draw(table[[texts[row][-1] for row in live]]).tolist(), strict=True):
            texts[row].append(piece)
    return texts


@pytest.mark.parametrize("rows", [7, 64])
def test_a_row_is_the_same_alone(rows: int) -> None:
    """Each with its own settings, prompt, order and length."""
    kinds = [
        EVERYTHING,
        PLAIN,
        SamplingConfig(),
        replace(EVERYTHING, samplers="temperature,top-k,penalties,xtc"),
        replace(EVERYTHING, mirostat=2),
        replace(PLAIN, mirostat=1),
        replace(PLAIN, temperature=0.0),
        replace(PLAIN, typical_p=0.5),
        replace(PLAIN, dry_multiplier=1.0, dry_sequence_breakers=("a", "b")),
        replace(PLAIN, top_p=0.8, samplers="top_p"),
    ]
    configs = [replace(kinds[row % len(kinds)], seed=row) for row in range(rows)]
    prompts = ["abc" * (row % 4) for row in range(rows)]
    lengths = [30 - row * 7 % 23 for row in range(rows)]
    together = walk(configs, lengths, prompts)
    for row in range(rows):
        assert walk([configs[row]], [lengths[row]], [prompts[row]]) == [together[row]], row


def test_a_row_of_many_pieces_is_the_same_alone() -> None:
    """Beside rows of which nearly all pieces stay, and rows of which few do."""
    size, rng = 3000, np.random.default_rng(0)
    tokenizer = ByteTokenizer()
    tokenizer.piece_bytes += [b"?"] * (size - V)
    kinds = [EVERYTHING, SamplingConfig(), replace(EVERYTHING, top_k=0), replace(EVERYTHING, mirostat=1), PLAIN]
    kinds = [replace(kind, require=(), no_repeat_ngram_size=0) for kind in kinds]
    configs = [replace(kinds[row % len(kinds)], seed=row) for row in range(15)]
    logits = rng.normal(0, 1, (30, 15, size)).astype(np.float32) * np.array([0.1, 1, 3] * 5, np.float32)[:, None]
    sampler = Sampler(configs, tokenizer)
    together = np.array([sampler.draw(step) for step in logits])
    for row, config in enumerate(configs):
        alone = Sampler([config], tokenizer)
        assert [int(alone.draw(step[[row]])[0]) for step in logits] == together[:, row].tolist()


def test_what_was_read_counts_for_the_penalties() -> None:
    logits = np.zeros((1, V), np.float32)
    logits[0, 10:12] = 50.0, 49.0
    config = replace(PLAIN, temperature=0.0, presence_penalty=2.0)
    for read, piece in [
        ([], 10),
        ([10], 11),
        ([10, 11], 10),
        ([10, EOS], 10),
        ([EOS, 10, *[12] * 63], 11),
        ([10, *[12] * 64], 10),
    ]:
        sampler = Sampler([config], TOKENIZER)
        sampler.read(0, read)
        assert sampler.draw(logits).tolist() == [piece], read
    sampler = Sampler([config], TOKENIZER)
    assert [sampler.draw(logits)[0] for _ in range(4)] == [10, 11, 10, 10]


def test_looking_back_at_nothing_changes_nothing() -> None:
    logits = random_logits(1, V)
    off = replace(PLAIN, seed=1)
    back = replace(off, repeat_penalty=2.0, repeat_last_n=0, dry_multiplier=2.0, dry_penalty_last_n=0)
    samplers = [Sampler([config], TOKENIZER) for config in (off, back)]
    for sampler in samplers:
        sampler.read(0, [5, 6, 7] * 9)
    for _ in range(20):
        assert samplers[0].draw(logits) == samplers[1].draw(logits)


def test_the_end_of_a_document_is_where_the_past_begins() -> None:
    logits = np.zeros((1, V), np.float32)
    logits[0, [10, EOS]] = 50.0, 49.0
    sampler = Sampler([replace(PLAIN, temperature=0.0, presence_penalty=2.0)], TOKENIZER)
    assert [sampler.draw(logits)[0] for _ in range(4)] == [10, EOS, 10, EOS]


def test_the_breakers_of_a_text_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many texts join and leave beside it."""
    found: list[tuple[str, ...]] = []

    def noted(texts: tuple[str, ...], tokenizer: ByteTokenizer) -> np.ndarray:
        found.append(texts)
        return tokens_with(texts, tokenizer)

    monkeypatch.setattr("textgen.generation.sampler.tokens_with", noted)
    dry = replace(PLAIN, temperature=0.0, dry_multiplier=50.0, dry_allowed_length=1)
    sampler = Sampler([PLAIN], TOKENIZER)
    for number in range(30):
        breakers = tuple(TOKENIZER.decode([3 + byte]) for byte in (64 + number, 10))
        sampler.join(sampler.for_others([replace(dry, seed=number, dry_sequence_breakers=breakers)]))
    sampler.keep(range(1, 31))
    sampler.keep(range(1, 30))
    assert len(found) == len(set(found)) == 30
    for row in range(29):  # each writes its own breaker again, and no other token
        sampler.read(row, [3 + 64 + row + 1, 3 + 48] * 2 + [3 + 64 + row + 1])
    logits = np.zeros((29, V), np.float32)
    logits[:, 3 + 48] = 10.0
    assert sampler.draw(logits).tolist() == [3 + 48] * 29
    for row in range(29):
        sampler.read(row, [3 + 64, 3 + 48] * 2 + [3 + 64])
    assert 3 + 48 not in sampler.draw(logits).tolist()


@given(st.lists(st.text(max_size=3), max_size=4))
@settings(deadline=None)
def test_tokens_with_texts_are_those_of_brute_force(texts: list[str]) -> None:
    tokenizer = WordsTokenizer(["ab", "aab", "ba", "éa", "aé", "a\n", ".a."])
    expected = [any(text.encode() in piece for text in texts) for piece in tokenizer.piece_bytes]
    assert tokens_with(texts, tokenizer).tolist() == expected


def test_tokens_with_a_text() -> None:
    assert np.flatnonzero(tokens_with(("a", "\n"), TOKENIZER)).tolist() == [13, 100]
    assert not tokens_with((), TOKENIZER).any()
