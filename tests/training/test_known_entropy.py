"""Texts whose entropy is known: no model can score better, and a good one comes close."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import textgen
from textgen.cli import textgen as textgen_command

pytestmark = pytest.mark.slow

Text = tuple[str, float]  # and what its choices cost, in bits per symbol

GRAMMAR = {  # what a capital letter becomes, and how often; no text has two readings
    "S": [("N V.\n", 0.5), ("N V N.\n", 0.35), ("S, S", 0.15)],
    "N": [("the A", 0.6), ("a A", 0.3), ("it", 0.1)],
    "A": [("fox", 0.5), ("old A", 0.25), ("hen", 0.125), ("sly A", 0.125)],
    "V": [("ran", 0.5), ("saw", 0.25), ("did not V", 0.25)],
}
KEYS, FILLING, SHARES = "ABCDEFGH", "xyz", (0.7, 0.2, 0.1)
SPAN = 16  # symbols of filling between a key and its return


def by_grammar(lines: int, seed: int) -> Text:
    """Sentences of a small grammar that contains itself."""
    rng, bits = np.random.default_rng(seed), 0.0

    def write(symbol: str) -> str:
        nonlocal bits
        if symbol not in GRAMMAR:
            return symbol
        rules = GRAMMAR[symbol]
        chosen = rng.choice(len(rules), p=[p for _, p in rules])
        bits -= math.log2(rules[chosen][1])
        return "".join(map(write, rules[chosen][0]))

    text = "".join(write("S") for _ in range(lines))
    return text, bits / len(text)


def with_memory(lines: int, seed: int) -> Text:
    """A line ends with the key that it began with: whoever has forgotten it pays for it twice, 13 % more."""
    rng = np.random.default_rng(seed)
    keys, filling = rng.choice(list(KEYS), lines), rng.choice(3, (lines, SPAN), p=SHARES)
    rows = ["".join(FILLING[number] for number in row) for row in filling]
    text = "".join(f"{key}{row}={key}\n" for key, row in zip(keys, rows, strict=True))
    bits = lines * math.log2(len(KEYS)) - np.log2(np.array(SHARES))[filling].sum()
    return text, float(bits) / len(text)


@pytest.mark.parametrize(("source", "lines"), [(by_grammar, 12_000), (with_memory, 10_000)])
def test_a_model_comes_within_two_per_cent_of_the_entropy(
    source: Callable[[int, int], Text], lines: int, tmp_path: Path
) -> None:
    train, test = tmp_path / "train.txt", tmp_path / "test.txt"
    train.write_text(source(lines, 0)[0], encoding="utf-8")
    text, entropy = source(2000, 1)
    test.write_text(text, encoding="utf-8")
    textgen.train(
        train, name="model", models_dir=tmp_path, tokenizer="char", documents="file", hidden_units=96, num_layers=1,
        embedding_dim=32, dropout=0.0, embedding_dropout=0.0, learning_rate=1e-2, batch_size=32, sequence_length=64,
        steps=6000, patience=None,
    )  # fmt: skip
    options = ["evaluate", "model", str(test), "--models-dir", str(tmp_path), "--documents", "file", "--json"]
    scores = json.loads(CliRunner().invoke(textgen_command, options).stdout)
    bits = scores["nats_per_token"] / math.log(2)
    assert 0.998 * entropy < bits < 1.02 * entropy
