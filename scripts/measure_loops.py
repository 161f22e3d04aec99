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
from benchmarking import names_with, positive_int, read_text, run_script

from textgen.errors import CorpusError
from textgen.generation.config import SamplingConfig
from textgen.saved_model.loading import load_model
from textgen.wording import counted

TIMES, WORDS, STRETCH = 4, 4, 32
HEADER = "| settings | temperature | a line loops | words loop | copied | invented words |\n|---|---|---|---|---|---|"
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "repeat_penalty 1.1": {"repeat_penalty": 1.1},
    "repeat_penalty 1.3": {"repeat_penalty": 1.3},
    "frequency_penalty 0.1": {"frequency_penalty": 0.1},
    "frequency_penalty 0.3": {"frequency_penalty": 0.3},
    "no_repeat_ngram_size 4": {"no_repeat_ngram_size": 4},
    **{
        f"dry {multiplier:g}, base {base:g}, allowed {length}": {
            "dry_multiplier": multiplier, "dry_base": base, "dry_allowed_length": length
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


def share(flags: Sequence[bool]) -> str:
    """How many of some things are so; "" where there are none, as texts shorter than a stretch have."""
    return f"{np.mean(flags):.1%}" if flags else ""


def stretches_as_long(corpus: str, length: int, number: int) -> list[str]:
    """About `number` stretches of the corpus, each as long as a text. Raises `CorpusError` if it is no longer."""
    if len(corpus) <= length:
        raise CorpusError(
            f"The corpus has {counted(len(corpus), 'character')}, and a text of the model {length:,}: name a longer "
            "corpus, or ask for texts of fewer tokens."
        )
    starts = range(0, len(corpus) - length, max(1, len(corpus) // number))
    return [corpus[start : start + length] for start in starts]


def loop_shares(texts: Sequence[str]) -> str:
    """Shares of the texts that loop, as two cells of the table."""
    return " | ".join(share([loop(text) for text in texts]) for loop in (lines_loop, words_loop))


def main() -> None:
    """Prints a row for each setting and temperature."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--models-dir", type=Path)
    parser.add_argument("--texts", type=positive_int, default=64)
    parser.add_argument("--tokens", type=positive_int, default=500)
    parser.add_argument("--only", default="", help="settings with this in their name")
    parser.add_argument("--coin-words", action="store_true", help="write words that do not exist, too")
    options = parser.parse_args()
    settings = names_with(options.only, list(SETTINGS))
    corpus = read_text(options.corpus)
    known, vocabulary = set(stretches(corpus)), set(corpus.split())
    generator = load_model(options.model, options.models_dir).generator(runtime="numpy")
    common = SamplingConfig(seed=0, max_tokens=options.tokens, coin_words=options.coin_words)
    (sample,) = generator.generate("", common)
    pieces = stretches_as_long(corpus, len(sample.text), options.texts)
    print(HEADER)
    print(f"| the corpus | | {loop_shares(pieces)} | | |")
    for name in settings:
        for temperature in (SamplingConfig.temperature, 0.3):
            config = replace(common, temperature=temperature, **SETTINGS[name])
            texts = [generation.text for generation in generator.generate("", config, num=options.texts)]
            copied = [stretch in known for text in texts for stretch in stretches(text)]
            invented = [word not in vocabulary for text in texts for word in text.split()]
            shares = f"{loop_shares(texts)} | {share(copied)} | {share(invented)}"
            print(f"| {name} | {temperature} | {shares} |", flush=True)


if __name__ == "__main__":
    run_script(main)
