"""How generated texts are printed: as they are written, one after the other, or as JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from textgen.cli import output
from textgen.cli.options import novelty_line
from textgen.corpus.config import CorpusConfig, separator_of
from textgen.generation.config import NUMPY, SamplingConfig
from textgen.settings import to_dict

if TYPE_CHECKING:
    from textgen.dataset.ngram_index import NgramIndex
    from textgen.generation.generated_text import Generation
    from textgen.generation.infilling import Infill
    from textgen.generation.row import Token
    from textgen.saved_model.saved_model import ModelFolder

SEPARATORS = {"line": "\n", "blank-line": "\n\n", "file": "\n\n---\n\n"}  # text between documents, by mode
COLOURS = ((1.0, "green"), (4.0, "cyan"), (8.0, "yellow"), (float("inf"), "red"))  # by maximum surprisal in bits
Span = tuple[str, str | None]  # a part of a text and its colour


@dataclass(frozen=True)
class Printer:
    """Prints texts: separated as documents are in the corpus, or as lines of JSON.

    Args:
        saved: The model.
        others: The other models of an ensemble.
        index: Index of the training text, to report how much of a text is copied; None to report nothing.
        as_json: Whether to print JSON.
        show_probabilities: Whether to colour tokens by surprisal.
        how_to_repeat: A line that says how to write the texts again; "" to say nothing.
        fingerprint: Tells what wrote the texts from others: see `textgen.generation.fingerprint`.
        runtime: What computed the network.
    """

    saved: ModelFolder
    others: Sequence[ModelFolder] = ()
    index: NgramIndex | None = None
    _: KW_ONLY
    as_json: bool = False
    show_probabilities: bool = False
    how_to_repeat: str = ""
    fingerprint: str
    runtime: str = NUMPY

    def print_all(self, results: Iterable[Generation | Infill]) -> int:
        """Prints each text with its prompt and suffix, as soon as it is finished. Returns how many there are."""
        notes: list[str] = []
        printed = 0
        with self._repeatable(lambda: printed > 0):
            for result in results:
                self._print(printed, result)
                printed += 1
                if not self.as_json:
                    notes += [*shortcomings(result), *self._novelty(result.text)]
        if not self.as_json:
            output.line()
        self._note(notes)
        return printed

    def _print(self, number: int, result: Generation | Infill) -> None:
        """Prints a text after the others, or everything about it as JSON."""
        if self.as_json:
            output.json_line(self._values(result))
        else:
            output.write(between(self.saved.corpus_config) if number else "")
            output.write(result.prompt, bold=True)
            for text, colour in self._spans(result):
                output.write(text, fg=colour, is_asked=True)
            output.write(getattr(result, "suffix", ""), bold=True)

    def print_as_written(self, prompt: str, writing: Iterable[Token], keep: bool) -> list[Token]:
        """Prints each token at once, or with those after it up to the first that makes its text final.

        Returns:
            The tokens if `keep` is set.
        """
        kept, written, bits = [], "", 0.0
        output.write(prompt, bold=True)
        with self._repeatable():
            for token in writing:
                bits += self._bits(token.id, token.logprob)
                if token.text:
                    output.write(token.text, fg=self._colour(bits, token.logprob), is_asked=True)
                    bits = 0.0
                if keep:
                    kept.append(token)
                if self.index:
                    written += token.text
        output.line()
        self._note(self._novelty(written))
        return kept

    def print_shortcomings(self, results: Iterable[Generation]) -> None:
        """Reports where printed texts are not what was asked for."""
        self._note(line for result in results for line in shortcomings(result))

    def print_how_to_repeat(self) -> None:
        """Says how to write the texts again."""
        self._note(filter(None, [self.how_to_repeat]))

    @contextmanager
    def _repeatable(self, has_printed: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Adds how to write the texts again to what Ctrl-C says in the block, if something has been printed."""
        try:
            yield
        except KeyboardInterrupt as interrupt:
            if str(interrupt) or not self.how_to_repeat or not has_printed():  # signals of the system have a text
                raise
            raise KeyboardInterrupt(f"Interrupted. {self.how_to_repeat}") from interrupt

    def _note(self, lines: Iterable[str]) -> None:
        for line in lines:
            output.note(line)

    def _novelty(self, text: str) -> list[str]:
        return [novelty_line(self.index.novelty(text, self.saved.tokenizer))] if self.index else []

    def _values(self, result: Generation | Infill) -> dict[str, Any]:
        defaults = to_dict(SamplingConfig(seed=result.seed))
        settings = {name: value for name, value in to_dict(result.config).items() if value != defaults[name]}
        values = {field.name: getattr(result, field.name) for field in fields(result)}
        if self.index:
            values["novelty"] = asdict(self.index.novelty(result.text, self.saved.tokenizer))
        computed = {"fingerprint": self.fingerprint, "runtime": self.runtime}
        names = {"model": self.saved.name, "ensemble": [model.name for model in self.others]}
        return {**names, **values, "config": settings, **computed}

    def _spans(self, result: Generation | Infill) -> Iterator[Span]:
        """The text, with a colour for each token if colours are asked for; those within a character are one part."""
        from textgen.generation.generated_text import Generation

        text, bits = result.text, 0.0
        if isinstance(result, Generation) and result.logprobs and not self.as_json:
            skip = result.healed
            decoder = self.saved.tokenizer.decoder(line_start=not result.text.startswith(" "))
            for id, logprob in zip(result.ids, result.logprobs, strict=True):
                bits += self._bits(id, logprob)
                length, skip = len(decoder.feed([id])[skip:]), 0
                if length:
                    yield text[:length], self._colour(bits, logprob)
                    text, bits = text[length:], 0.0
        yield text, None

    def _bits(self, id: int, logprob: float | None) -> float:
        """The surprisal of a token of a text; the end is none."""
        return 0.0 if logprob is None or id == self.saved.tokenizer.eos_id else -logprob / math.log(2)

    def _colour(self, bits: float, logprob: float | None) -> str | None:
        return colour_of(bits) if self.show_probabilities and logprob is not None else None


def colour_of(bits: float) -> str:
    """The colour of a token, or of those within a character, by their surprisal."""
    return next(colour for most, colour in COLOURS if bits <= most)


def shortcomings(result: Generation | Infill) -> list[str]:
    """Where a text is not what was asked for, a line for each point."""
    lines = []
    if result.stop_reason == "blocked":
        lines.append(
            "The text ends early: the constraints (such as ban or no_repeat_ngram_size) leave no token to draw."
        )
    if missing := getattr(result, "missing", ()):
        lines.append(f"Missing: {', '.join(map(repr, missing))} (require) did not come before the text ended.")
    return lines


def between(config: CorpusConfig, documents: str | None = None) -> str:
    """What separates texts: as documents are separated in the corpus, once it is read.

    Args:
        config: Settings of the corpus.
        documents: The documents mode that was found if the settings have none.
    """
    mode = config.as_read(config.documents or documents or "file")
    separator = separator_of(mode)
    return SEPARATORS[mode] if separator is None else "\n{}\n".format(separator.strip("\n"))
