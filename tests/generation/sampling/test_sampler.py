from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from logits import EVERYTHING, PLAIN, random_logits, rows_of, softmax

from textgen.generation.config import SamplingConfig
from textgen.generation.sampling.logit_filters import Candidates
from textgen.generation.sampling.sampler import Sampler
from textgen.generation.sampling.sampler_chain import active_samplers, transform
from textgen.generation.sampling.sampler_settings import settings_of
from textgen.tokenizer.kinds import ByteTokenizer

TOKENIZER = ByteTokenizer()
V, EOS = TOKENIZER.vocab_size, TOKENIZER.eos_id


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
        ((left, _),) = rows_of(transform(Candidates(logits.copy()), inputs, active_samplers(inputs)))
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
    fractions = np.bincount(ids, minlength=13)[10:] / len(ids)
    assert fractions == pytest.approx([0.75 * 0.6, 0.75 * 0.3 + 0.25 * 0.75, 0.75 * 0.1 + 0.25 * 0.25], abs=0.015)


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
