"""What a change of a cell does."""

from __future__ import annotations

import numpy as np
import pytest
from networks import QUOTE_UNIT, planted, quoted_text

from textgen.insight.cells import all_cells
from textgen.insight.estimates import Estimate
from textgen.insight.interventions import _read_clamped, intervene
from textgen.insight.properties import properties_of
from textgen.insight.reading import Reader
from textgen.insight.texts import read_documents
from textgen.model.clamping import Clamp, Place


def test_a_cell_that_the_output_layer_ignores_is_encoded_and_not_used() -> None:
    config, weights, tokenizer = planted()
    weights["projection/kernel"][QUOTE_UNIT] = 0
    weights["lstm_0/recurrent_kernel"][QUOTE_UNIT] = 0
    text = read_documents([quoted_text(1500, seed=1)], tokenizer, 1000)
    reader = Reader(config, weights)
    found = intervene(reader, reader.read(text.ids[None]), [(0, QUOTE_UNIT), (0, 0)], [None, None], text.is_scored)
    unused, other = found.cells
    assert unused.mean.bits == unused.low.bits == unused.high.bits == Estimate(0, 0)
    assert other.mean.bits.mean != 0
    assert len(found.random_bits) == 8


def test_cells_chosen_at_random_are_others_than_those_asked_for() -> None:
    config, weights, tokenizer = planted()
    text = read_documents([quoted_text(300, seed=1)], tokenizer, 200)
    reader = Reader(config, weights)
    reading, all_but_three = reader.read(text.ids[None]), [(0, unit) for unit in range(config.hidden_units - 3)]
    found = intervene(reader, reading, all_but_three, [None] * len(all_but_three), text.is_scored)
    (last,) = intervene(reader, reading, [(0, config.hidden_units - 1)], [None], text.is_scored).cells
    assert len(found.random_bits) == 3
    assert last.mean.bits.mean in found.random_bits


def test_a_cell_that_makes_quotes_end_is_used_where_quotes_are_open() -> None:
    config, weights, tokenizer = planted()
    (closing,) = tokenizer.encode("”")
    weights["projection/kernel"][:] = 0
    weights["projection/kernel"][QUOTE_UNIT, closing] = 8.0  # the embedding is the identity
    weights["projection/bias"][closing] = -6.0
    text = read_documents([quoted_text(3000, seed=1)], tokenizer, 2000)
    reader = Reader(config, weights)
    (quotes,) = [each.values for each in properties_of(text) if each.name == "inside quotes"]
    (effect,) = intervene(reader, reader.read(text.ids[None]), [(0, QUOTE_UNIT)], [quotes], text.is_scored).cells
    assert effect.high.rising[0][0] == closing
    assert effect.low.falling[0][0] == closing
    assert effect.high.number > effect.mean.number > effect.low.number
    assert effect.mean.bits_with is not None
    assert effect.mean.bits_without is not None
    assert effect.high.bits_without is not None
    assert effect.high.bits_without.mean > effect.high.bits.mean


def test_the_change_of_a_loss_has_the_error_that_several_texts_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """In texts without order, where tokens are independent."""
    monkeypatch.setattr("textgen.insight.interventions.NUM_RANDOM", 0)
    config, weights, tokenizer = planted()
    reader = Reader(config, weights)
    first, past = tokenizer.eos_id + 1, config.vocab_size
    ids = np.random.default_rng(0).integers(first, past, [16, 400]).astype(np.int32)
    found = [
        intervene(reader, reader.read(row[None]), [(0, 3)], [row % 2 == 0], np.ones(399, bool)).cells[0].high
        for row in ids
    ]
    for name in ("bits", "bits_with", "bits_without"):
        means, errors = np.array([getattr(change, name) for change in found]).T
        assert 0.5 < means.std(ddof=1) / errors.mean() < 1.7


def test_rows_of_a_batch_have_clamps_of_their_own() -> None:
    config, weights, tokenizer = planted()
    reader, ids = Reader(config, weights), np.tile(np.arange(20, dtype=np.int32) % tokenizer.vocab_size, (3, 1))
    rows = [[], [Clamp(Place(0, 3, "c"), 0.5)], [Clamp(Place(0, 4, "f"), 0.25)]]
    values = reader.read(ids, clamps=rows).layers[0]
    assert (values["c"][1, :, 3] == 0.5).all()
    assert (values["f"][2, :, 4] == 0.25).all()
    alone = reader.read(ids[:1]).layers[0]
    np.testing.assert_allclose(values["c"][0], alone["c"][0], rtol=1e-5, atol=1e-6)
    assert all_cells(reader.read(ids[:1]), "c").shape == (20, config.hidden_units)


def test_a_network_that_is_not_clamped_goes_on_from_where_the_text_is() -> None:
    """What stands before the measured tokens, such as an open quote and a begun line, is in its state."""
    config, weights, tokenizer = planted()
    text = read_documents([quoted_text(700, seed=1)], tokenizer, 500)
    reader = Reader(config, weights)
    reading = reader.read(text.ids[None])
    start, steps = len(text.ids) - 129, 128
    targets = text.ids[start + 1 :]
    losses, _ = _read_clamped(reader, reading, [[], []], start, targets, np.ones(steps, bool))
    expected = reader.losses(reading.features[0, start : start + steps], targets)
    np.testing.assert_allclose(losses, [expected] * 2, rtol=1e-4, atol=1e-5)
