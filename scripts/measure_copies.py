"""How much of generated text is copied from the corpus, or from what the base model has read: a table.

    python scripts/measure_copies.py MODEL --corpus FILE --base-text MIX --models-dir DIRECTORY
    python scripts/measure_copies.py --texts FILE --corpus FILE --base-text MIX

Texts of up to 200 tokens are generated at the default settings until they have enough words; the second line looks at
what people have written instead, for comparison. A run is a number of words that follow each other in one text, in
any case and with any punctuation. The table has the share of the runs of each length that are found in the corpus, in
the base's text, and in either, and the longest run found. For a base, leave --corpus out. MIX is the text that
train_base.py has made, such as build/bases/english/english-train.jsonl.

For Chinese, --characters counts characters instead of words, and --either-script leaves out those that differ between
simplified and traditional script.

Runs are found by hashes of 64 bits. Only those of the generated texts are in memory; the other texts are read a
document at a time.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from base_mix import folded
from benchmarking import positive_int, run_script
from measure_words import BATCH, LENGTH, WORD

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.errors import CorpusError
from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Generator
from textgen.saved_model.loading import load_model
from textgen.wording import counted

LENGTHS = {"words": (8, 12, 16), "characters": (7, 10, 15, 20)}
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # factor of the hash of a run from each place to the next

Run = tuple[str, ...]
Split = Callable[[str], list[str]]


def words(text: str) -> list[str]:
    """Returns the words of a text in small letters."""
    return WORD.findall(text.casefold())


def characters(text: str) -> list[str]:
    """Returns the letters and digits of a text."""
    return [character for character in text if character.isalnum()]


def shared_characters(text: str) -> list[str]:
    """Returns the letters and digits that are the same in simplified and in traditional script."""
    return list(folded(text))


def run_hashes(numbers: np.ndarray, length: int) -> np.ndarray:
    """Returns the hash of each run of a length, uint64 [N - length + 1], from those of the words, uint64 [N]."""
    count = max(0, len(numbers) - length + 1)
    values = np.zeros(count, np.uint64)
    for place in range(length):
        values = values * FACTOR + numbers[place : place + count]
    return values


def hashes(text: Sequence[str]) -> np.ndarray:
    """Returns the hash of each word of a text, uint64 [N]."""
    return np.fromiter(map(_hash, text), np.uint64, len(text))


@functools.lru_cache(1 << 20)
def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(errors="replace"), digest_size=8).digest(), "little")


class Runs:
    """The runs of some texts, to be found in others.

    Example:
        >>> runs = Runs([["a", "b", "c", "d"], ["b", "d"]])
        >>> runs.found_in([["x", "a", "b", "c"]], least=2)[3]
        {('a', 'b', 'c')}
    """

    def __init__(self, texts: Iterable[Sequence[str]]) -> None:
        self.texts = [list(text) for text in texts]
        self._hashes = [hashes(text) for text in self.texts]
        self._indexes = dict[int, tuple[np.ndarray, dict[int, Run]]]()

    def of_length(self, length: int) -> list[Run]:
        """Returns all runs of a length, those that come several times too."""
        return [tuple(text[at : at + length]) for text in self.texts for at in range(len(text) - length + 1)]

    def found_in(self, documents: Iterable[Sequence[str]], least: int) -> dict[int, set[Run]]:
        """Returns the runs that a document has too, by length: from `least` to that of the longest one found."""
        found = defaultdict[int, set[Run]](set)
        for document in documents:
            numbers, length = hashes(document), least
            values = run_hashes(numbers, length)
            starts = np.arange(len(values))
            while len(starts):
                known, runs = self._index(length)
                is_found = _among(values, known)
                starts, values = starts[is_found], values[is_found]
                found[length].update(runs[value] for value in values.tolist())
                goes_on = starts + length < len(numbers)
                starts = starts[goes_on]
                values = values[goes_on] * FACTOR + numbers[starts + length]
                length += 1
        return {length: runs for length, runs in found.items() if runs}

    def _index(self, length: int) -> tuple[np.ndarray, dict[int, Run]]:
        """The hashes of the runs of a length, in order, and the run of each."""
        if length not in self._indexes:
            values = [value for each in self._hashes for value in run_hashes(each, length).tolist()]
            runs = dict(zip(values, self.of_length(length), strict=True))
            self._indexes[length] = np.array(sorted(runs), np.uint64), runs
        return self._indexes[length]


def _among(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Whether each value is among those of a sorted array, bool [len(values)]."""
    places = np.searchsorted(known, values)
    is_inside = places < len(known)
    is_inside[is_inside] = known[places[is_inside]] == values[is_inside]
    return is_inside


def share(runs: Sequence[Run], found: set[Run]) -> float:
    """Returns the share of runs that were found."""
    return sum(run in found for run in runs) / max(1, len(runs))


def first_words(texts: Iterable[str], split: Split, number: int) -> Iterator[list[str]]:
    """Iterates over texts, each as its words, until there are `number` words."""
    for text in map(split, texts):
        yield text[:number]
        number -= len(text)
        if number <= 0:
            return


def generated(generator: Generator, split: Split) -> Iterator[str]:
    """Iterates over texts at the default settings, without an end. Raises `CorpusError` if they have no words."""
    for seed in itertools.count(0, BATCH):
        batch = generator.generate("", SamplingConfig(seed=seed, max_tokens=LENGTH), num=BATCH)
        if not any(split(generation.text) for generation in batch):
            raise CorpusError(
                f"{counted(BATCH, 'text')} of the model had nothing to count: name a model that writes "
                "words, or count characters."
            )
        yield from (generation.text for generation in batch)


def documents(path: Path) -> Iterator[str]:
    """Iterates over the documents of a file."""
    return Corpus([path], CorpusConfig()).documents()


def main() -> None:
    """Prints a row for each length, and the longest runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?")
    parser.add_argument("--texts", type=Path, metavar="FILE", help="text to look at instead of a model's")
    parser.add_argument("--corpus", type=Path, metavar="FILE", help="what the model was trained on")
    parser.add_argument("--base-text", type=Path, metavar="MIX", help="what its base was trained on")
    parser.add_argument("--models-dir", type=Path, metavar="DIRECTORY")
    parser.add_argument("--words", type=positive_int, default=8000, metavar="N", help="words or characters to look at")
    parser.add_argument("--characters", action="store_true", help="count characters instead of words")
    parser.add_argument("--either-script", action="store_true", help="count those that are the same in both scripts")
    options = parser.parse_args()
    if (options.model is None) == (options.texts is None):
        parser.error("Name a model, or else a file with --texts.")
    places = {"corpus": options.corpus, "base's text": options.base_text}
    places = {name: path for name, path in places.items() if path}
    if not places:
        parser.error("Name a text to look in, with --corpus or --base-text.")
    split = shared_characters if options.either_script else characters if options.characters else words
    lengths = LENGTHS["words" if split is words else "characters"]
    if options.texts:
        texts = documents(options.texts)
    else:
        texts = generated(load_model(options.model, options.models_dir).generator(), split)
    runs = Runs(first_words(texts, split, options.words))
    found = {name: runs.found_in(map(split, documents(path)), min(lengths)) for name, path in places.items()}
    print(f"| run | runs | {' | '.join(places)} | either |\n|{'---|' * (len(places) + 3)}")
    for length in lengths:
        all_runs, sets = runs.of_length(length), [found[name].get(length, set()) for name in places]
        cells = [f"{share(all_runs, each):.2%}" for each in (*sets, set[Run]().union(*sets))]
        print(f"| {length} | {len(all_runs):,} | {' | '.join(cells)} |")
    for name, by_length in found.items():
        longest = max(by_length, default=0)
        example = min(by_length.get(longest, {()}))
        print(f"\nLongest in the {name}: {longest}. {(' ' if split is words else '').join(example)}")


if __name__ == "__main__":
    run_script(main)
