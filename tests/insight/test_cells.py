"""Cells that follow a property of the text are found, and no others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from networks import COLUMN_UNIT, OPEN, QUOTE_UNIT, UNITS, planted, quoted_text

from textgen.insight import cells as cells_module
from textgen.insight.cells import Finding, all_cells, find_cells
from textgen.insight.properties import Property, properties_of
from textgen.insight.reading import Reader
from textgen.insight.texts import read_documents
from textgen.model.config import ModelConfig
from textgen.model.reference import initial_weights

RUNS, ROWS = 100, 10
DIGIT_UNIT = 2


def found_in_planted() -> dict[str, Finding]:
    config, weights, tokenizer = planted()
    text = read_documents([quoted_text(4000, seed=1)], tokenizer, 3000)
    reader = Reader(config, weights)
    cells = all_cells(reader.read(text.ids[None]), "c")
    findings = find_cells(cells, properties_of(text), text.ids, UNITS)
    return {finding.follows: finding for finding in findings if finding.is_found}


def test_planted_cells_are_found_first_and_confirmed() -> None:
    findings = found_in_planted()
    quotes, column = findings["inside quotes"], findings["column"]
    assert (quotes.layer, quotes.unit) == (0, QUOTE_UNIT)
    assert quotes.first > 0.99
    assert quotes.second > 0.99
    assert (column.layer, column.unit) == (0, COLUMN_UNIT)
    assert column.first > 0.99
    assert column.second > 0.99
    assert next(iter(findings)) in ("inside quotes", "column")


def test_a_network_that_reads_backward_knows_what_it_has_read() -> None:
    """A cell that is high after a digit, and one that counts from a newline: to the end of the line it stands in."""
    config, weights, tokenizer = planted()
    text = read_documents([quoted_text(4000, seed=1)], tokenizer, 3000, "backward")
    digits = {tokenizer.encode(letter)[0] for letter in "aceg"}  # they stand for digits, which the text has not
    kernel, bias = weights["lstm_0/kernel"], weights["lstm_0/bias"]
    i, f, g, o = DIGIT_UNIT + UNITS * np.arange(4)
    kernel[:, [i, f, o]] = weights["lstm_0/recurrent_kernel"][:, [i, f, g, o]] = 0
    kernel[:, g] = [OPEN if id in digits else -OPEN for id in range(len(kernel))]
    bias[[i, f, g, o]] = OPEN, -OPEN, 0, 0  # it holds what the current token says, and nothing else
    cells = all_cells(Reader(config, weights).read(text.ids[None]), "c")
    with_digits = replace(text, text=text.text.translate(str.maketrans("aceg", "1357")))
    findings = {found.follows: found for found in find_cells(cells, properties_of(with_digits), text.ids, UNITS)}
    digit, column = findings["digit"], findings["column"]
    assert (digit.unit, digit.first, digit.second) == (DIGIT_UNIT, 1, 1)
    assert column.unit == COLUMN_UNIT
    assert min(column.first, column.second) > 0.99


def test_the_current_token_alone_does_not_tell_what_a_cell_remembers() -> None:
    findings = found_in_planted()
    assert abs(findings["inside quotes"].token_alone - 0.5) < 0.1
    assert findings["inside a word"].token_alone > 0.99


def random_runs(length: int, rng: np.random.Generator) -> np.ndarray:
    """On and off for some time, as quotes are, whatever the text says."""
    lengths = rng.geometric(1 / 25, length)
    return np.repeat(np.arange(length) % 2, lengths)[:length].astype(float)


@pytest.mark.parametrize("is_count", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_null_at_most_five_percent_of_random_networks_have_a_cell_for_a_property_that_is_none(is_count: bool) -> None:
    false_finds = 0
    for seed in range(RUNS // ROWS):
        rng = np.random.default_rng(seed)
        config = ModelConfig(12, embedding_dim=8, hidden_units=32, num_layers=2)
        ids = rng.integers(0, 12, [ROWS, 500]).astype(np.int32)
        reading = Reader(config, initial_weights(config, rng)).read(ids, keep=("c",))
        for row in range(ROWS):
            cells = np.concatenate([values["c"][row] for values in reading.layers], axis=-1)
            values = random_runs(500, rng)
            if is_count:
                values = np.cumsum(values) - np.maximum.accumulate(np.where(values == 0, np.cumsum(values), 0))
            findings = find_cells(cells, [Property("none", is_count, values)], ids[row], 32, seed)
            false_finds += any(finding.is_found for finding in findings)
    assert false_finds <= 0.05 * RUNS


def test_null_a_shuffled_property_is_not_found_in_planted_cells() -> None:
    config, weights, tokenizer = planted()
    text = read_documents([quoted_text(1500, seed=1)], tokenizer, 1200)
    cells = all_cells(Reader(config, weights).read(text.ids[None]), "c")
    (quotes,) = [each for each in properties_of(text) if each.name == "inside quotes"]
    false_finds = 0
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        starts = np.flatnonzero(np.diff(quotes.values, prepend=-1))
        runs = np.split(quotes.values, starts[1:])
        shuffled = np.concatenate([runs[run] for run in rng.permutation(len(runs))])
        findings = find_cells(cells, [Property("shuffled", False, shuffled)], text.ids, UNITS, seed)
        false_finds += any(finding.is_found for finding in findings)
    assert false_finds <= 0.05 * RUNS


def test_properties_that_hardly_occur_and_short_texts_have_no_findings() -> None:
    cells, ids = np.random.default_rng(0).normal(size=[400, 6]), np.zeros(400, np.int32)
    rare = np.zeros(400)
    rare[::80] = 1
    assert find_cells(cells, [Property("rare", False, rare)], ids, 6) == []
    often = (np.arange(400) % 7 == 0).astype(float)
    assert find_cells(cells[:150], [Property("often", False, often[:150])], ids[:150], 6) == []
    assert len(find_cells(cells, [Property("often", False, often)], ids, 6)) == 1


def test_equal_values_share_their_rank() -> None:
    ids = np.zeros(300, np.int32)
    constant = np.zeros([300, 2])
    half = Property("half", False, (np.arange(300) % 30 < 15).astype(float))
    (finding,) = find_cells(constant, [half], ids, 2)
    assert finding.first == finding.second == 0.5
    assert not finding.is_found


def test_chance_is_measured_with_properties_that_are_moved_far_from_their_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a tenth of the half at least, in both directions around: one that is moved a little still follows its cell."""
    given: list[np.ndarray] = []
    shifted = cells_module._shifted

    def noted(values: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        given.append(shifts)
        return shifted(values, shifts)

    monkeypatch.setattr(cells_module, "_shifted", noted)
    wanted = Property("wanted", False, (np.arange(400) % 30 < 15).astype(float))
    assert find_cells(np.random.default_rng(0).normal(size=[400, 2]), [wanted], np.zeros(400, np.int32), 2)
    assert len(given) == 2  # one of each half
    for shifts in given:
        assert shifts.min() >= 20
        assert shifts.max() < 180
