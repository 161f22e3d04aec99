"""What happens to the text when a cell that `textgen inspect` found is held while the model writes: a table.

    python scripts/measure_cells.py MODEL FILE --models-dir DIRECTORY

The cells are those that `textgen inspect MODEL FILE` finds. The texts are those of `textgen sample MODEL --num 32
--max-tokens 600 --seed 0`: the cell is free, or `--clamp` holds it at its 5 % or its 95 % quantile in FILE. Each
property has a measure, such as the length of a line for the column: the mean over all texts together, with the standard
deviation of that mean when as many texts are drawn again from them. In the last column, cells of the same layer chosen
at random are held at their quantiles instead: from the least mean to the greatest.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from textgen.corpus.corpus import Corpus
from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Generator
from textgen.insight.cells import all_cells
from textgen.insight.config import InspectConfig
from textgen.insight.inspection import Inspection, inspect_model
from textgen.insight.interventions import HIGH, LOW
from textgen.insight.properties import RULES, VERSE_COMMAS, VERSE_STOPS, parse_tracks
from textgen.insight.texts import documents_of
from textgen.model.clamping import Clamp, Place
from textgen.saved_model.saved_model import load_model

NUM_DRAWS = 1000  # of the texts, for the standard deviation
LONG = 40  # characters of a line
WORD = re.compile(r"[^\W\d_]+")
STOPS, COMMAS = re.escape(VERSE_STOPS), re.escape(VERSE_COMMAS)
HALF_LINE = re.compile(f"[^{STOPS}{COMMAS}\n]+(?=[{STOPS}{COMMAS}])")
FIRST_HALF = re.compile(f"[^{STOPS}{COMMAS}\n]+(?=[{COMMAS}])")
SECOND_HALF = re.compile(f"(?<=[{COMMAS}])[^{STOPS}{COMMAS}\n]+(?=[{STOPS}])")

Measure = Callable[[str], Sequence[float]]  # a text -> numbers, whose mean over all texts shows the property


def lengths_of(pattern: re.Pattern[str]) -> Measure:
    """The length of each match."""
    return lambda text: [len(match) for match in pattern.findall(text)]


def line_lengths(text: str) -> list[int]:
    """The length of each line that has an end and is not blank."""
    return [len(line) for line in text.split("\n")[:-1] if line]


def long_lines(text: str) -> list[bool]:
    """Which of these lines are long."""
    return [length > LONG for length in line_lengths(text)]


def block_lengths(text: str) -> list[int]:
    """The length of each block that a blank line ends."""
    return [len(block) for block in text.split("\n\n")[:-1]]


def first_lines(text: str) -> list[int]:
    """The length of the first line of each of these blocks."""
    return [len(block.split("\n")[0]) for block in text.split("\n\n")[:-1]]


def line_counts(text: str) -> list[int]:
    """The lines of each of these blocks."""
    return [block.count("\n") + 1 for block in text.split("\n\n")[:-1]]


def capitals(text: str) -> list[bool]:
    """Which letters are capitals."""
    return [character.isupper() for character in text if character.isalpha()]


def places_with(name: str) -> Measure:
    """Which characters have a property."""
    return lambda text: RULES[name][1](text)[1:].astype(float).tolist()


def inside(pattern: re.Pattern[str]) -> Measure:
    """Which characters are inside a match."""

    def count(text: str) -> list[float]:
        there = np.zeros(len(text))
        for match in pattern.finditer(text):
            there[match.start() : match.end()] = 1
        return there.tolist()

    return count


MEASURES: dict[str, dict[str, Measure]] = {  # property -> what shows it
    "column": {"characters a line": line_lengths, f"share of lines over {LONG} characters": long_lines},
    "since a blank line": {"characters a block": block_lengths},
    "first line of a block": {"characters a first line": first_lines, "lines a block": line_counts},
    "inside a word": {"letters a word": lengths_of(WORD)},
    "capital letter": {"share of capitals": capitals},
    "inside quotes": {"share inside quotes": places_with("inside quotes")},
    "inside brackets": {"share inside brackets": places_with("inside brackets")},
    "bracket depth": {"bracket depth": places_with("bracket depth")},
    "digit": {"share of digits": places_with("digit")},
    "inside a URL": {"share inside URLs": places_with("inside a URL")},
    "title line": {"characters a title": lambda text: [len(text.split("\n")[0])]},
    "document position": {"characters a document": lambda text: [len(text)]},
    "place in the half-line": {"characters a half-line": lengths_of(HALF_LINE)},
    "second half of a couplet": {
        "characters a first half": lengths_of(FIRST_HALF),
        "characters a second half": lengths_of(SECOND_HALF),
    },
    "couplet number": {"lines a document": lambda text: [text.strip("\n").count("\n")]},
}


def mean_of(measure: Measure, texts: Sequence[str]) -> tuple[float, float]:
    """The mean of a measure over all texts together, and its standard deviation over draws of the texts."""
    found = [measure(text) for text in texts]
    sums, counts = np.array([sum(values) for values in found], float), np.array([len(values) for values in found])
    drawn = np.random.default_rng(0).integers(0, len(texts), [NUM_DRAWS, len(texts)])
    means = sums[drawn].sum(axis=1) / np.maximum(counts[drawn].sum(axis=1), 1)
    return float(sums.sum() / max(counts.sum(), 1)), float(means.std())


def quantiles(seen: Inspection, layer: int, unit: int) -> list[Clamp]:
    """The two clamps of a cell: low and high values that it has in the text."""
    memory = seen.reader.memory
    values = all_cells(seen.reading, memory)[:, layer * seen.reader.config.hidden_units + unit]
    return [Clamp(Place(layer, unit, memory), float(number)) for number in np.quantile(values, [LOW, HIGH])]


def row(cells: Sequence[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def measure_cells(seen: Inspection, options: argparse.Namespace) -> None:
    """Prints a row for each measure of each cell found."""
    tracks = parse_tracks(options.track)
    units, rng = seen.reader.config.hidden_units, np.random.default_rng(0)
    found_cells = {(finding.layer, finding.unit) for finding in seen.found}

    def write(*clamps: Clamp) -> list[str]:
        settings = SamplingConfig(max_tokens=options.max_tokens, seed=0)
        generator = Generator(seen.saved.writer(clamps=clamps), seen.saved.tokenizer, words=seen.saved.words)
        return [made.text for made in generator.generate("", settings, num=options.num)]

    free = write()
    at_random = {
        layer: [
            write(clamp)
            for unit in rng.choice([u for u in range(units) if (layer, u) not in found_cells], options.random, False)
            for clamp in quantiles(seen, layer, int(unit))
        ]
        for layer in sorted({layer for layer, _ in found_cells})
    }
    print(row(["cell", "follows", "measure", "free", "low", "high", "random cells"]))
    print(row(["---"] * 7))
    for finding in seen.found:
        low, high = quantiles(seen, finding.layer, finding.unit)
        texts = [free, write(low), write(high)]
        track = tracks.get(finding.follows)
        measures = {f"share of {finding.follows}": inside(track)} if track else MEASURES[finding.follows]
        for name, measure in measures.items():
            means = ["{:.3g} ± {:.2g}".format(*mean_of(measure, each)) for each in texts]
            others = [mean_of(measure, each)[0] for each in at_random[finding.layer]]
            held = [means[0], f"{means[1]} at {low.number:.2f}", f"{means[2]} at {high.number:.2f}"]
            cell = f"L{finding.layer}/{finding.unit}"
            print(row([cell, finding.follows, name, *held, f"{min(others):.3g} to {max(others):.3g}"]), flush=True)


def main() -> None:
    """Inspects the model and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("file")
    parser.add_argument("--models-dir", type=Path)
    parser.add_argument("--track", action="append", default=[], metavar="NAME=REGEX")
    parser.add_argument("--num", type=int, default=32, help="texts of each kind")
    parser.add_argument("--max-tokens", type=int, default=600, help="tokens of each text")
    parser.add_argument("--random", type=int, default=4, help="cells chosen at random in each layer")
    options = parser.parse_args()
    saved = load_model(options.model, options.models_dir)
    config = InspectConfig(track=tuple(options.track))
    corpus = Corpus([options.file], saved.corpus_config)
    measure_cells(inspect_model(saved, documents_of(corpus.parts(), config.max_tokens), config), options)


if __name__ == "__main__":
    main()
