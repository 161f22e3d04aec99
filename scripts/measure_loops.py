"""How often texts go in circles, copy the corpus or invent words, at several settings: a table.

    python scripts/measure_loops.py MODEL CORPUS --models-dir DIRECTORY

A text loops when a line, or a sequence of four words, stands in it four times; the first row says how often stretches
of the corpus do. Copied is the share of its stretches of 32 characters that stand in the corpus; invented is the share
of its words that do not.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarking import run_script

from textgen.generation.config import SamplingConfig
from textgen.saved_model.saved_model import load_model

TIMES, WORDS, STRETCH = 4, 4, 32
NONE: dict[str, Any] = {"repeat_penalty": 1.0, "dry_multiplier": 0.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "no penalties": NONE,
    "repeat_penalty 1.1": {**NONE, "repeat_penalty": 1.1},
    "repeat_penalty 1.3": {**NONE, "repeat_penalty": 1.3},
    "frequency_penalty 0.1": {**NONE, "frequency_penalty": 0.1},
    "frequency_penalty 0.3": {**NONE, "frequency_penalty": 0.3},
    "no_repeat_ngram_size 4": {**NONE, "no_repeat_ngram_size": 4},
    **{
        f"dry {multiplier:g}, base {base:g}, allowed {length}": {
            **NONE, "dry_multiplier": multiplier, "dry_base": base, "dry_allowed_length": length
        }
        for multiplier, base in ((0.4, 1.2), (0.8, 1.2), (0.8, 1.75))
        for length in (2, 6, 12)
    },
}  # fmt: skip


def repeats(parts: Sequence[object]) -> bool:
    """Whether one of the parts stands among them four times."""
    return max(Counter(parts).values(), default=0) >= TIMES


def lines_loop(text: str) -> bool:
    """Whether a line comes four times: in a play, the name of a speaker does."""
    return repeats([line.strip() for line in text.splitlines() if line.strip()])


def words_loop(text: str) -> bool:
    """Whether a sequence of four words comes four times."""
    words = text.split()
    return repeats([tuple(words[start : start + WORDS]) for start in range(len(words) - WORDS + 1)])


def stretches(text: str) -> list[int]:
    """Of each stretch of 32 characters, a number."""
    return [hash(text[start : start + STRETCH]) for start in range(len(text) - STRETCH + 1)]


def loop_shares(texts: Sequence[str]) -> str:
    """Shares of the texts that loop, as two cells of the table."""
    return " | ".join(f"{np.mean([loop(text) for text in texts]):.1%}" for loop in (lines_loop, words_loop))


def main() -> None:
    """Prints a row for each setting and temperature."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--models-dir", type=Path)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--only", default="", help="settings with this in their name")
    options = parser.parse_args()
    corpus = options.corpus.read_text(encoding="utf-8")
    known, vocabulary = set(stretches(corpus)), set(corpus.split())
    generator = load_model(options.model, options.models_dir).generator(runtime="numpy")
    print("| settings | temperature | a line loops | words loop | copied | invented words |\n|---|---|---|---|---|---|")
    (sample,) = generator.generate("", SamplingConfig(seed=0, max_tokens=options.tokens))
    starts = range(0, len(corpus) - len(sample.text), len(corpus) // options.texts)
    print(f"| the corpus | | {loop_shares([corpus[start : start + len(sample.text)] for start in starts])} | | |")
    for name, values in SETTINGS.items():
        if options.only not in name:
            continue
        for temperature in (SamplingConfig.temperature, 0.3):
            config = replace(SamplingConfig(seed=0, max_tokens=options.tokens), temperature=temperature, **values)
            texts = [generation.text for generation in generator.generate("", config, num=options.texts)]
            copied = [stretch in known for text in texts for stretch in stretches(text)]
            invented = [word not in vocabulary for text in texts for word in text.split()]
            shares = f"{loop_shares(texts)} | {np.mean(copied):.1%} | {np.mean(invented):.1%}"
            print(f"| {name} | {temperature} | {shares} |", flush=True)


if __name__ == "__main__":
    run_script(main)
