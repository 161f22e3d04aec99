"""How many words of generated text do not exist, with and without the guard: a table.

    python scripts/measure_words.py WORDLIST MODEL --corpus FILE --models-dir DIRECTORY

Texts of up to 200 tokens are generated at the default settings until they have enough words. A word is a run of letters
and apostrophes. It exists if it is in the corpus or in the word list, in any case, also without 's or an apostrophe at
its end. A word list has a word a line, such as /usr/share/dict/american-english-huge of Debian's package
wamerican-huge. The time is that of the processor for a token, 16 texts side by side.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarking import positive_int, read_text, run_script

from textgen.dataset.words import letters_of
from textgen.errors import CorpusError
from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Generator
from textgen.saved_model.loading import load_model
from textgen.wording import counted

WORD = re.compile("[^\\W\\d_]+(?:'[^\\W\\d_]+)*")
ENDINGS = ("'s", "'")
BATCH, LENGTH = 16, 200  # texts side by side, tokens of each


@dataclass(frozen=True)
class Shares:
    """What the words of some texts are."""

    words: int
    unknown: list[str]  # those neither in the corpus nor in the list
    new: list[str]  # those not in the corpus

    def row(self) -> str:
        """Returns cells of the table."""
        return f"{self.words:,} | {len(self.unknown) / self.words:.2%} | {len(self.new) / self.words:.2%}"


def words_of(text: str) -> list[str]:
    """Returns the words of a text in small letters; letters of scripts without spaces are none."""
    return WORD.findall(letters_of(text))


def exists(word: str, words: set[str]) -> bool:
    """Returns whether a word is among others, as it is or without a genitive ending."""
    return word in words or any(word.endswith(end) and word.removesuffix(end) in words for end in ENDINGS)


def shares(texts: Iterable[str], number: int, corpus: set[str], listed: set[str]) -> Shares:
    """Returns what the first `number` words of texts are."""
    words = [word for text in texts for word in words_of(text)][:number]
    new = [word for word in words if not exists(word, corpus)]
    return Shares(len(words), [word for word in new if not exists(word, listed)], new)


def generate(generator: Generator, number: int, **values: Any) -> tuple[list[str], float]:
    """Returns texts of `number` words together, and the time of the processor for a token, in milliseconds.

    Raises:
        CorpusError: Texts have no words, so that there would never be enough.
    """
    texts, words, tokens, seed = list[str](), 0, 0, 0
    start = time.process_time()
    while words < number:
        batch = generator.generate("", SamplingConfig(seed=seed, max_tokens=LENGTH, **values), num=BATCH)
        found = sum(len(words_of(generation.text)) for generation in batch)
        if not found:
            raise CorpusError(
                f"{counted(BATCH, 'text')} of the model had no words: name a model that writes words with "
                "spaces between them."
            )
        texts += [generation.text for generation in batch]
        words += found
        tokens += sum(len(generation.ids) for generation in batch)
        seed += BATCH
    return texts, 1000 * (time.process_time() - start) / tokens


def main() -> None:
    """Prints a row with the guard and one without."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wordlist", type=Path)
    parser.add_argument("model")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--models-dir", type=Path)
    parser.add_argument("--words", type=positive_int, default=8000)
    options = parser.parse_args()
    corpus = set(words_of(read_text(options.corpus)))
    listed = set(words_of(read_text(options.wordlist)))
    generator = load_model(options.model, options.models_dir).generator()
    print("| writes | words | do not exist | new to the corpus | ms a token |\n|---|---|---|---|---|")
    unknown = {}
    for name, coin_words in (("known words", False), ("any words", True)):
        texts, milliseconds = generate(generator, options.words, coin_words=coin_words)
        found = shares(texts, options.words, corpus, listed)
        unknown[name] = found.unknown
        print(f"| {name} | {found.row()} | {milliseconds:.2f} |", flush=True)
    for name, words in unknown.items():
        print(f"\n{name}: {' '.join(sorted(set(words)))}")


if __name__ == "__main__":
    run_script(main)
