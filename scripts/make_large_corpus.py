"""Writes a text of any size to measure with: stories in words of the bundled fables and in words made up.

    .venv/bin/python scripts/make_large_corpus.py /tmp/large.txt --bytes 2e9

Each story is a title and some lines, and blank lines separate them. The text ends with the story that reaches the size.
The same seed makes the same text; that of a smaller size is its beginning.
"""

from __future__ import annotations

import re
from pathlib import Path

import click
import numpy as np
from benchmarking import run_script

from textgen.cli.setting_options import IntegerRange, NumberRange
from textgen.settings import MAX_COUNT

FABLES = Path(__file__).parent.parent / "corpora" / "fables.txt"
SYLLABLES = [onset + vowel + coda for onset in "bdfgklmnprstvz" for vowel in "aeiou" for coda in ("", "n", "r", "s")]
MADE_UP = 20_000  # number of made-up words
SENTENCES = 100_000  # number of sentences from which all stories are made
STORIES = 20_000  # number of stories made at a time
MAX_BYTES = 1e15  # bytes; what is infinite would fill the disk


@click.command(help=__doc__)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--bytes", "size", type=NumberRange(1, MAX_BYTES), default=2e9, show_default=True, help="How large, to a story."
)
@click.option("--seed", type=IntegerRange(0, MAX_COUNT), default=0, show_default=True, help="Of everything.")
def main(path: Path, size: float, seed: int) -> None:
    """Writes the text."""
    rng = np.random.default_rng(seed)
    sentences = make_sentences(rng)
    written = 0
    with path.open("w", encoding="ascii", newline="\n") as file:  # so that a character is a byte
        while written < size:
            stories = make_stories(rng, sentences)
            ends = np.cumsum([len(story) for story in stories])
            count = int(np.searchsorted(ends, size - written)) + 1  # up to the one that reaches the size, or all
            file.write("".join(stories[:count]))
            written += int(ends[min(count, len(stories)) - 1])
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


def make_stories(rng: np.random.Generator, sentences: list[str]) -> list[str]:
    """Some stories, a blank line at the end of each."""
    lengths = rng.integers(3, 12, STORIES)
    lines = iter([sentences[n] for n in rng.integers(0, len(sentences), lengths.sum())])
    titles = [" ".join(sentences[n].split()[:3]) for n in rng.integers(0, len(sentences), STORIES)]
    return [
        "\n".join([title, *(next(lines) for _ in range(length)), "\n"])
        for title, length in zip(titles, lengths.tolist(), strict=True)
    ]


if __name__ == "__main__":
    run_script(main)
