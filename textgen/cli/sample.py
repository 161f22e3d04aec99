"""textgen sample: write text with a saved model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textgen.cli import output
from textgen.cli.adaptation import adapt_options, adapted_writer, cache_options, switched
from textgen.cli.options import (
    OutputFile,
    SectionCommand,
    SectionOption,
    given,
    json_option,
    models_dir_option,
    novelty_line,
    novelty_option,
    sampling_options,
    search_options,
)
from textgen.cli.prompts import read_requests
from textgen.errors import ConfigError
from textgen.evaluation.config import CacheConfig, DynamicConfig
from textgen.generation.config import SamplingConfig, SearchConfig
from textgen.settings import from_dict, select, to_dict

if TYPE_CHECKING:
    from textgen.dataset.ngram_index import NgramIndex
    from textgen.generation.generator import Generation, Generator, Request
    from textgen.generation.infilling import Infill
    from textgen.generation.row import Token
    from textgen.saved_model.saved_model import ModelFolder

SEPARATORS = {"line": "\n", "blank-line": "\n\n", "file": "\n\n---\n\n"}  # as documents stand in a corpus
Span = tuple[str, str | None]  # a stretch of text and its colour
COLOURS = ((1.0, "green"), (4.0, "cyan"), (8.0, "yellow"), (float("inf"), "red"))  # up to so many bits of surprisal


@click.command(cls=SectionCommand)
@click.argument("model", required=False)
@click.option(
    "--prompt",
    "prompts",
    multiple=True,
    metavar="TEXT",
    help="Begins the text; - reads standard input, but for its last newline.",
)
@click.option(
    "--prompt-file",
    metavar="FILE",
    help="A prompt: the text of a file, but for its last newline. Of a .jsonl file each line is one: an object with "
    "prompt and any settings.",
)
@click.option("--prompt-lines", metavar="FILE", help="Each line of a file is a prompt; - reads standard input.")
@click.option(
    "--suffix",
    metavar="TEXT",
    help="Ends the text: a model that reads backward writes towards it, and one of both directions fills the gap "
    "between a prompt and it with the best of --best-of texts [default: 16] of --max-tokens pieces [default: 40].",
)
@click.option("--num", type=click.IntRange(1), default=1, show_default=True, help="Texts for each prompt.")
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    metavar="N",
    help="Texts that are written side by side; at 1 each is to the last digit what it is alone [default: 64].",
)
@sampling_options
@click.option(
    "--show-probabilities",
    is_flag=True,
    help="Colour pieces by surprisal: green up to 1 bit, cyan to 4, yellow to 8, red above.",
)
@novelty_option
@json_option
@models_dir_option
@search_options
@cache_options
@adapt_options
@click.option("--save-state", type=OutputFile(), cls=SectionOption, section="State", help="Keep where the text stands.")
@click.option("--load-state", metavar="FILE", cls=SectionOption, section="State", help="Go on from there.")
def sample(
    model: str | None,
    prompts: tuple[str, ...],
    prompt_file: str | None,
    prompt_lines: str | None,
    suffix: str | None,
    num: int,
    batch_size: int | None,
    best_of: int | None,
    show_probabilities: bool,
    novelty: bool,
    cache: bool,
    adapt: str | None,
    save_state: Path | None,
    load_state: str | None,
    as_json: bool,
    models_dir: Path | None,
    **options: Any,
) -> None:
    """Write text with a model.

    MODEL is a name in saved_models or a folder; without one, the newest writes.

    A prompt may be any text, or empty, and may end inside a word. One text appears as it is written; several come
    one after the other, separated as documents are in the corpus. With --json each is a line of JSON.

    A text that leads to a --suffix appears when it is done, as it is written from its end. Samplers and penalties go
    with it; what goes by the text from left to right does not. With --json there are the log probabilities, in nats,
    that each network gives the whole document, and the score: the mean of both a piece.

    \b
    Example:
      textgen sample --prompt "It was a"
      textgen sample novel --num 3 --temperature 1.1 --seed 7
      textgen sample poems --label "Li Bai"
      textgen sample novel --prompt "It was" --until sentence --num-beams 5
      textgen sample novel --adapt letters.txt --cache
      textgen sample novel --prompt "It was a" --suffix " and never came back." --num 3
      cat beginning.txt | textgen sample --prompt - --max-tokens 2000
    """
    from textgen.generation.generator import BATCH_SIZE, Generator
    from textgen.saved_model.saved_model import load_model

    options = given(options)
    settings, search = select(SamplingConfig, options), select(SearchConfig, options)
    _refuse_contradictions(settings, search, given({"best_of": best_of, "batch_size": batch_size}), as_json)
    cache_config = switched(CacheConfig, cache, "--cache", options)
    dynamic_config = switched(DynamicConfig, adapt is not None, "--adapt", options)
    if show_probabilities:
        settings = {"top_logprobs": 0, **settings}
    if suffix is not None and (prompts or prompt_file or prompt_lines):
        from textgen.generation.infilling import GAP_TOKENS

        settings = {"max_tokens": GAP_TOKENS, **settings}
    requests = read_requests(prompts, prompt_file, prompt_lines, settings, best_of or num)
    saved = load_model(model, models_dir)
    for request in requests:
        saved.tokenizer.encode(request.prompt)  # complains before anything is written
        saved.tokenizer.opening(request.config.label)
    if suffix is not None or saved.main_direction == "backward":
        unfit = {"--novelty": novelty, "--show-probabilities": show_probabilities, "--num-beams": search}
        unfit |= {"--batch-size": batch_size}
        unfit |= {"--cache": cache, "--adapt": adapt, "--save-state": save_state, "--load-state": load_state}
        if flags := [flag for flag, value in unfit.items() if value]:
            raise click.UsageError(f"{flags[0]} is for texts written from their beginning, not towards a suffix.")
        Printer(saved, None, as_json, False).print_fillings(_filled(saved, requests, suffix or "", num, best_of))
        return
    ngrams = saved.ngrams() if novelty or any(request.config.no_copy is not None for request in requests) else None
    writer = adapted_writer(saved, adapt, cache_config, dynamic_config, settings.get("label"))
    adaptation = "".join(f" {each}" for each in (cache_config, adapt, dynamic_config) if each)
    generator = Generator(writer, saved.tokenizer, ngrams, fingerprint=saved.fingerprint + adaptation)
    if (save_state or load_state) and (len(requests) * num > 1 or best_of or search):
        raise ConfigError("A state is that of one text: it goes with one prompt, without a search or a choice.")
    printer = Printer(saved, ngrams if novelty else None, as_json, show_probabilities)
    if search:
        printer.print_all(_found(generator, requests, from_dict(SearchConfig, search), num))
    elif save_state or load_state or (len(requests) * num == 1 and not best_of and not as_json):
        _write_one(generator, requests[0], printer, load_state, save_state)
    else:
        printer.print_all(generator.generate_requests(requests, num, best_of, batch_size or BATCH_SIZE))


def _refuse_contradictions(
    settings: Mapping[str, Any], search: Mapping[str, Any], drawing: Mapping[str, Any], as_json: bool
) -> None:
    """Flags without effect are wrong usage. `drawing` are those that are no settings: a search draws nothing."""
    from textgen.generation.sampler import DRAWING

    if "top_logprobs" in settings and not as_json:
        raise click.UsageError("--top-logprobs goes with --json: --show-probabilities colours a text for people.")
    without_effect = {*DRAWING, "seed", "top_logprobs", *drawing}
    clash = [name for name in (*settings, *drawing) if name in without_effect]
    if search and clash:
        first = next(iter(search)).replace("_", "-")
        flag = clash[0].replace("_", "-")
        raise click.UsageError(f"--{first} looks for the likeliest text and draws none: leave out --{flag}.")


def _write_one(
    generator: Generator, request: Request, printer: Printer, load_state: str | None, save_state: Path | None
) -> None:
    """Shows a text as it is written, or prints it as JSON; it may go on from a state, and leave one."""
    start = generator.load_state(load_state) if load_state else None
    writing = generator.tokens(request.prompt, request.config, start)
    keep = bool(save_state or request.config.require)
    pieces = list(writing) if printer.as_json else printer.print_as_written(request.prompt, writing, keep)
    result = writing.result(pieces)
    if printer.as_json:
        printer.print_all([result])
    else:
        printer.print_shortcomings([result])
    if save_state:
        taken_back = result.stop_reason in ("stop", "until", "blocked")  # pieces that the text does not contain
        written = request.prompt + result.text
        state = generator.read(written, start, request.config.label) if taken_back else writing.state
        generator.save_state(save_state, state)


def _found(generator: Generator, requests: Iterable[Request], settings: SearchConfig, num: int) -> Iterator[Generation]:
    if num > settings.num_beams:
        raise ConfigError(f"A search with num_beams {settings.num_beams} finds no more texts than that, not {num}.")
    for request in requests:
        yield from generator.search(request.prompt, request.config, settings)[:num]


def _filled(
    saved: ModelFolder, requests: Iterable[Request], suffix: str, num: int, best_of: int | None
) -> Iterator[Infill]:
    """The texts that lead from each prompt, if there is one, to the suffix."""
    from textgen.generation.infilling import Infiller

    forward = saved.writer() if saved.main_direction == "forward" else None
    filler = Infiller(saved.writer("backward"), saved.tokenizer, forward)
    for request in requests:
        yield from filler.infill(request.prompt, suffix, request.config, num, best_of)


@dataclass(frozen=True)
class Printer:
    """Writes texts to standard output: as documents stand in the corpus, or as lines of JSON."""

    saved: ModelFolder
    ngrams: NgramIndex | None  # of the training text, to say how much of it stands in the texts
    as_json: bool
    show_probabilities: bool

    def print_all(self, results: Iterable[Generation]) -> None:
        """Each as soon as it is there."""
        said = []
        for number, result in enumerate(results):
            self._print(number, result, self._spans(result))
            said += [] if self.as_json else [*shortcomings(result), *self._novelty(result.text)]
        if not self.as_json:
            output.line()
        self._say(said)

    def print_fillings(self, results: Iterable[Infill]) -> None:
        """Each, with prompt and suffix, when those for its prompt are there."""
        said = []
        for number, result in enumerate(results):
            self._print(number, result, [(result.text, None)], result.suffix)
            said += shortcomings(result)
        if not self.as_json:
            output.line()
            self._say(said)

    def _print(self, number: int, result: Generation | Infill, spans: Iterable[Span], suffix: str = "") -> None:
        """The text, after others as documents stand in the corpus, or all that is known of it as JSON."""
        if self.as_json:
            output.json_line(self._values(result))
        else:
            output.write(SEPARATORS[self.saved.corpus_config.documents or "file"] if number else "")
            output.write(result.prompt, bold=True)
            for text, colour in spans:
                output.write(text, fg=colour)
            output.write(suffix, bold=True)

    def print_as_written(self, prompt: str, writing: Iterable[Token], keep: bool) -> list[Token]:
        """Shows each piece at once; gives all of them back where they are to be kept."""
        kept, written = [], ""
        output.write(prompt, bold=True)
        for piece in writing:
            output.write(piece.text, fg=self._colour(piece.logprob))
            if keep:
                kept.append(piece)
            if self.ngrams:
                written += piece.text
        output.line()
        self._say(self._novelty(written))
        return kept

    def print_shortcomings(self, results: Iterable[Generation]) -> None:
        """Says of texts that were printed where they are not what was asked for."""
        self._say(line for result in results for line in shortcomings(result))

    def _say(self, lines: Iterable[str]) -> None:
        for line in lines:
            output.note(line)

    def _novelty(self, text: str) -> list[str]:
        return [novelty_line(self.ngrams.novelty(text, self.saved.tokenizer))] if self.ngrams else []

    def _values(self, result: Generation | Infill) -> dict[str, Any]:
        defaults = to_dict(SamplingConfig(seed=result.seed))
        settings = {name: value for name, value in to_dict(result.config).items() if value != defaults[name]}
        values = {field.name: getattr(result, field.name) for field in fields(result)}
        if self.ngrams:
            values["novelty"] = asdict(self.ngrams.novelty(result.text, self.saved.tokenizer))
        return {"model": self.saved.name, **values, "config": settings}

    def _spans(self, result: Generation) -> Iterator[Span]:
        """The text, coloured piece by piece if that is wanted."""
        text, skip = result.text, result.healed
        if result.logprobs and not self.as_json:
            decoder = self.saved.tokenizer.decoder(line_start=not result.text.startswith(" "))
            for id, logprob in zip(result.ids, result.logprobs, strict=True):
                length = len(decoder.feed([id])[skip:])
                yield text[:length], self._colour(logprob)
                text, skip = text[length:], 0
        yield text, None

    def _colour(self, logprob: float | None) -> str | None:
        if not self.show_probabilities or logprob is None:
            return None
        bits = -logprob / math.log(2)
        return next(colour for most, colour in COLOURS if bits <= most)


def shortcomings(result: Generation | Infill) -> list[str]:
    """Where a text is not what was asked for, a line each."""
    lines = []
    if result.stop_reason == "blocked":
        lines.append(
            "The text ends early: the constraints (such as ban or no_repeat_ngram_size) leave no piece to draw."
        )
    if missing := getattr(result, "missing", ()):
        lines.append(f"Missing: {', '.join(map(repr, missing))} (require) did not come before the text ended.")
    return lines
