"""What happens to the text when cells that `textgen inspect` found are clamped while the model writes: a table.

    python scripts/measure_cells.py MODEL FILE --models-dir DIRECTORY

The cells are those that `textgen inspect MODEL FILE` finds. The texts are those of `textgen sample MODEL --num 32
--max-tokens 600 --seed 0`, or four times as many with nothing clamped (free). Clamped are:

- the cell to its 5 % quantile in FILE (low), or to its 95 % quantile (high);
- that cell and the next best ones, up to five, each to the quantile that it has where the property is not (five off),
  or where it is, or is large (five on);
- cells chosen at random, one or five, to a low or a high quantile, which shows what clamping any cells does.

Each property has a measure, such as the length of a line for the column: the mean over all texts together, with its
standard error, by a bootstrap over texts; of random cells the least mean and the greatest.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarking import positive_int, run_script

from textgen.corpus.corpus import Corpus
from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Generator
from textgen.insight.cells import Finding, all_cells
from textgen.insight.config import InspectConfig
from textgen.insight.inspection import Inspection, inspect_model
from textgen.insight.interventions import HIGH, LOW
from textgen.insight.properties import RULES, VERSE_COMMAS, VERSE_STOPS, parse_tracks
from textgen.insight.texts import documents_of
from textgen.model.clamping import Clamp, Place
from textgen.saved_model.loading import load_model

TOGETHER = 5  # number of cells held at once
MORE_FREE = 4  # times as many texts with nothing held, since all others are compared with them
NUM_DRAWS = 1000  # number of draws from the texts, for the standard error
LONG = 60  # number of characters in a long line
WORD = re.compile(r"[^\W\d_]+")
STOPS, COMMAS = re.escape(VERSE_STOPS), re.escape(VERSE_COMMAS)
HALF_LINE = re.compile(f"[^{STOPS}{COMMAS}\n]+(?=[{STOPS}{COMMAS}])")
FIRST_HALF = re.compile(f"[^{STOPS}{COMMAS}\n]+(?=[{COMMAS}])")
SECOND_HALF = re.compile(f"(?<=[{COMMAS}])[^{STOPS}{COMMAS}\n]+(?=[{STOPS}])")

Cell = tuple[int, int]  # layer, unit
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
    return lambda text: RULES[name].forward(text)[1:].astype(float).tolist()


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


def mean_of(measure: Measure, texts: Sequence[str]) -> tuple[float, float] | None:
    """The mean of a measure over all texts together, and its standard error: a bootstrap over texts.

    Returns:
        Both, or None if there is nothing in the texts to measure, such as no line that ends.
    """
    found = [measure(text) for text in texts]
    sums, counts = np.array([sum(values) for values in found], float), np.array([len(values) for values in found])
    if not counts.any():
        return None
    drawn = np.random.default_rng(0).integers(0, len(texts), [NUM_DRAWS, len(texts)])
    of_draws, counts_of_draws = sums[drawn].sum(axis=1), counts[drawn].sum(axis=1)
    means = of_draws[counts_of_draws > 0] / counts_of_draws[counts_of_draws > 0]
    return float(sums.sum() / counts.sum()), float(means.std())


def shown(mean: tuple[float, float] | None) -> str:
    """A mean and its standard error, for people."""
    return "none" if mean is None else f"{mean[0]:.3g} ± {mean[1]:.2g}"


@dataclass(frozen=True)
class Held:
    """Cells of an inspected model, held while it writes.

    Attributes:
        seen: The inspection.
        num: Texts to write each time.
        max_tokens: Tokens of each text.
    """

    seen: Inspection
    num: int
    max_tokens: int

    def clamp(self, cell: Cell, *, is_high: bool) -> Clamp:
        """Holds a cell at a high or a low value that it has in the text."""
        memory, units = self.seen.reader.memory, self.seen.reader.config.hidden_units
        layer, unit = cell
        values = all_cells(self.seen.reading, memory)[:, layer * units + unit]
        return Clamp(Place(layer, unit, memory), float(np.quantile(values, HIGH if is_high else LOW)))

    def best(self, finding: Finding, is_on: bool) -> list[Clamp]:
        """Holds the best cells as they are where the property is, or where it is not."""
        chance = 0.0 if finding.is_count else 0.5
        cells = [(finding.layer, finding.unit, finding.first), *finding.others]
        return [self.clamp((layer, unit), is_high=(score > chance) == is_on) for layer, unit, score in cells]

    def write(self, clamps: Sequence[Clamp] = (), times: int = 1) -> list[str]:
        """Texts that the model writes with cells held, `times` times as many as usual."""
        saved = self.seen.saved
        generator = Generator(saved.numpy_model(clamps=clamps), saved.tokenizer, read_words=saved.words)
        settings = SamplingConfig(max_tokens=self.max_tokens, seed=0)
        return [made.text for made in generator.generate("", settings, num=times * self.num)]

    def at_random(self, number: int, together: int) -> list[list[str]]:
        """Texts with cells chosen at random, none of those found: `number` times, `together` cells at once."""
        config, rng = self.seen.reader.config, np.random.default_rng(together)
        found = {cell for f in self.seen.found for cell in [(f.layer, f.unit), *(other[:2] for other in f.others)]}
        others = [(n, unit) for n in range(config.num_layers) for unit in range(config.hidden_units)]
        others = [cell for cell in others if cell not in found]
        texts = []
        for _ in range(number):
            chosen = rng.choice(len(others), together, replace=False)
            texts.append(self.write([self.clamp(others[place], is_high=bool(rng.integers(2))) for place in chosen]))
        return texts


def row(cells: Sequence[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def spread(measure: Measure, kinds: Sequence[Sequence[str]]) -> str:
    """The least and the greatest mean of several sets of texts."""
    means = [mean[0] for texts in kinds if (mean := mean_of(measure, texts))]
    return f"{min(means):.3g} to {max(means):.3g}" if means else "none"


def measure_cells(held: Held, tracks: Mapping[str, re.Pattern[str]], number: int) -> None:
    """Prints a row for each measure of each cell found, beside `number` cells chosen at random."""
    free, one, five = held.write(times=MORE_FREE), held.at_random(number, 1), held.at_random(number, TOGETHER)
    head = ["cell", "follows", "measure", "free", "low", "high", "one at random", "five off", "five on"]
    print(row([*head, "five at random"]))
    print(row(["---"] * (len(head) + 1)))
    for finding in held.seen.found:
        name, cell = finding.follows, (finding.layer, finding.unit)
        clamps = [held.clamp(cell, is_high=False), held.clamp(cell, is_high=True)]
        kinds = [
            free,
            *(held.write([clamp]) for clamp in clamps),
            *(held.write(held.best(finding, on)) for on in (False, True)),
        ]
        measures = {f"share of {name}": inside(tracks[name])} if name in tracks else MEASURES[name]
        for title, measure in measures.items():
            if mean_of(measure, free) is None:
                continue  # as the length of blocks in texts without a blank line
            means = [shown(mean_of(measure, texts)) for texts in kinds]
            low, high = (f"{mean} at {clamp.number:.2f}" for mean, clamp in zip(means[1:3], clamps, strict=True))
            values = [means[0], low, high, spread(measure, one), *means[3:], spread(measure, five)]
            print(row([f"L{cell[0]}/{cell[1]}", name, title, *values]), flush=True)


def main() -> None:
    """Inspects the model and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("file")
    parser.add_argument("--models-dir", type=Path)
    parser.add_argument("--track", action="append", default=[], metavar="NAME=REGEX")
    parser.add_argument("--num", type=positive_int, default=32, help="texts of each kind")
    parser.add_argument("--max-tokens", type=positive_int, default=600, help="tokens of each text")
    parser.add_argument("--random", type=positive_int, default=8, help="times that cells are chosen at random")
    options = parser.parse_args()
    saved = load_model(options.model, options.models_dir)
    config = InspectConfig(track=tuple(options.track))
    corpus = Corpus([options.file], saved.corpus_config)
    seen = inspect_model(saved, documents_of(corpus.parts(), config.read_tokens), config)
    measure_cells(Held(seen, options.num, options.max_tokens), parse_tracks(options.track), options.random)


if __name__ == "__main__":
    run_script(main)
