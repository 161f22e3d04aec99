"""Writes a text of any size to measure with: stories in words of the bundled fables and in words made up.

    .venv/bin/python scripts/make_large_corpus.py /tmp/large.txt --bytes 2e9

Each story is a title and some lines, and blank lines separate them. The same seed makes the same text.
"""

from __future__ import annotations

import re
from pathlib import Path

import click
import numpy as np
from benchmarking import run_script

FABLES = Path(__file__).parent.parent / "corpora" / "fables.txt"
SYLLABLES = [onset + vowel + coda for onset in "bdfgklmnprstvz" for vowel in "aeiou" for coda in ("", "n", "r", "s")]
MADE_UP = 20_000  # number of made-up words
SENTENCES = 100_000  # number of sentences from which all stories are made
STORIES = 20_000  # number of stories written at a time


@click.command(help=__doc__)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--bytes", "size", type=float, default=2e9, show_default=True, help="About how large.")
@click.option("--seed", default=0, show_default=True, help="Of everything.")
def main(path: Path, size: float, seed: int) -> None:
    """Writes the text."""
    rng = np.random.default_rng(seed)
    sentences = make_sentences(rng)
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            file.write(make_stories(rng, sentences))
    click.echo(f"{path}: {path.stat().st_size:,} bytes.")


def make_sentences(rng: np.random.Generator) -> list[str]:
    """Words follow one another as in the fables; one in eight is made up, common ones more often than rare."""
    words = re.findall("[a-z]+", FABLES.read_text(encoding="utf-8").lower())
    made_up = ["".join(rng.choice(SYLLABLES, 2 + n % 3)) for n in range(MADE_UP)]
    rank = np.arange(1, MADE_UP + 1)
    lengths = rng.integers(5, 15, SENTENCES)
    starts = rng.integers(0, len(words) - 15, SENTENCES)
    new = iter(rng.choice(made_up, lengths.sum(), p=(1 / rank) / (1 / rank).sum()).tolist())
    replaced = iter((rng.random(lengths.sum()) < 1 / 8).tolist())
    return [
        " ".join(next(new) if next(replaced) else word for word in words[start : start + length]).capitalize() + "."
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]


def make_stories(rng: np.random.Generator, sentences: list[str]) -> str:
    """Some stories, a blank line after each."""
    lengths = rng.integers(3, 12, STORIES)
    lines = iter([sentences[n] for n in rng.integers(0, len(sentences), lengths.sum())])
    titles = [" ".join(sentences[n].split()[:3]) for n in rng.integers(0, len(sentences), STORIES)]
    return "".join(
        "\n".join([title, *(next(lines) for _ in range(length)), "\n"])
        for title, length in zip(titles, lengths.tolist(), strict=True)
    )


if __name__ == "__main__":
    run_script(main)
