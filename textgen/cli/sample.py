"""textgen sample: write text with a saved model."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textgen.cli import output
from textgen.cli.adaptation_options import (
    NEEDS_NUMPY,
    adapt_options,
    cache_options,
    check_runtime,
    ensemble_option,
)
from textgen.cli.command import INPUT, INPUT_FILE, SectionCommand
from textgen.cli.default_model import first_characters, load_model_or_base, load_model_to_read
from textgen.cli.options import (
    OutputFile,
    given,
    json_option,
    model_argument,
    models_dir_option,
    novelty_option,
    sectioned,
    text_of,
)
from textgen.cli.output import errors_named_after
from textgen.cli.prompts import Located, has_settings, read_requests
from textgen.cli.sample_flags import (
    STATES,
    Arguments,
    arguments_of,
    defaults_of,
    first_flag,
    how_to_repeat,
    refuse_contradictions,
    refuse_unused,
    seeds_of_prompt,
)
from textgen.cli.setting_options import IntegerRange, flag_of, setting_options
from textgen.cli.text_printer import Printer
from textgen.corpus.config import ignoring_labels
from textgen.corpus.scripts import is_without_spaces
from textgen.errors import ConfigError
from textgen.evaluation.config import DynamicConfig
from textgen.generation.config import AUTO, MAX_TEXTS, RuntimeConfig, SamplingConfig, SearchConfig
from textgen.settings import from_dict, select
from textgen.wording import counted

if TYPE_CHECKING:
    from textgen.generation.generated_text import Generation
    from textgen.generation.generator import Generator
    from textgen.generation.infilling import Infill, Infiller
    from textgen.generation.request import Request
    from textgen.saved_model.saved_model import ModelFolder

STATE = "State"


@click.command(
    cls=SectionCommand,
    about_extra='To begin with a text, use --prompt "TEXT"; with that of a file, use --prompt-file FILE.',
)
@model_argument(required=False)
@click.option(
    "--prompt",
    "prompts",
    multiple=True,
    metavar="TEXT",
    help="Beginning of the text; - reads standard input, without its last newline. May be given several times.",
)
@click.option(
    "--prompt-file",
    type=INPUT,
    metavar="FILE",
    help="Read the prompt from a file, without its last newline. In a .jsonl file each line is an object with a "
    "prompt and any settings.",
)
@click.option(
    "--prompt-lines",
    type=INPUT,
    metavar="FILE",
    help="Read a prompt from each line of a file; - is standard input.",
)
@click.option(
    "--suffix",
    metavar="TEXT",
    help="End of the text. Needs a model trained with --direction backward, or with both to fill the gap after a "
    "prompt. For a gap, --best-of drafts [default: 16] of at most --max-tokens tokens [default: 40] are written, and "
    "the best are printed.",
)
@click.option(
    "--num",
    type=IntegerRange(1, MAX_TEXTS),
    metavar="N",
    default=1,
    help="Number of texts for each prompt [default: 1].",
)
@click.option(
    "--best-of",
    type=IntegerRange(1, MAX_TEXTS),
    metavar="N",
    help="Draw N texts for each prompt and keep the likeliest by mean log probability.",
)
@click.option(
    "--batch-size",
    type=IntegerRange(1, MAX_TEXTS),
    metavar="N",
    help="Maximum number of texts generated side by side; once half have ended, the next ones begin. With 1, rounding "
    "cannot make a text depend on the others [default: 64].",
)
@click.option(
    "--exact",
    is_flag=True,
    help="Compute in exact arithmetic: the same seed gives the same text on every machine, in every batch and in every "
    "program. textgen evaluate --exact measures the loss of accuracy.",
)
@setting_options(SamplingConfig)
@click.option(
    "--show-probabilities",
    is_flag=True,
    help="Color tokens by surprisal: green up to 1 bit, cyan up to 4, yellow up to 8, red above.",
)
@novelty_option
@click.option(
    "--clamp",
    multiple=True,
    metavar="CELL=NUMBER",
    help="Clamp a cell to a value, as in L1/89=3.8 (layer 1, unit 89), or a gate, as in L1/89.f=1; textgen inspect "
    "finds cells. May be given several times.",
)
@ensemble_option
@setting_options(RuntimeConfig)
@json_option
@models_dir_option
@setting_options(SearchConfig)
@cache_options
@adapt_options
@sectioned(STATE, "--save-state", type=OutputFile(), help="Save the state at the end of the text to this file.")
@sectioned(
    STATE,
    "--load-state",
    type=INPUT_FILE,
    metavar="FILE",
    help="Continue from the state in this file, made by --save-state or textgen tune-state.",
)
def sample(
    model: str | None,
    prompts: tuple[str, ...],
    prompt_file: str | None,
    prompt_lines: str | None,
    models_dir: Path | None,
    **options: Any,
) -> None:
    """Write text with a model.

    MODEL is a name in saved_models, a folder, or a base: english or chinese. The default is the newest model, and
    before any training a base: chinese if the prompt is mostly Chinese characters, english if it is mostly Latin
    letters.

    A prompt may be any text, or empty, and may end inside a word. A single text appears as it is written; several
    are separated as documents are in the corpus. With --json each is a line of JSON.

    A text that leads to a --suffix appears when it is finished. Samplers and penalties work with it; --stop, --until,
    --ban, --require, --logit-bias, --no-copy, --max-seconds and --top-logprobs do not. --json prints the log
    probabilities, in nats, that each network gives the whole document, and the score: their mean for each token. It
    also prints first_seed: the same options with this prompt alone and first_seed as --seed find its texts again.

    \b
    Example:
      textgen sample --prompt "It was a"
      textgen sample novel --num 3 --temperature 1.1 --seed 7
      textgen sample poems --label "Li Bai"
      textgen sample novel --prompt "It was" --until sentence --num-beams 5
      textgen sample novel --adapt letters.txt --neural-cache
      textgen sample novel --ensemble fables
      textgen sample novel --prompt "It was a" --suffix " and never came back." --num 3
      cat beginning.txt | textgen sample --prompt - --max-tokens 2000
    """
    settings = select(SamplingConfig, given(options))
    search = select(SearchConfig, given(options))
    arguments = arguments_of(options)
    seed = None if search or "seed" in settings else secrets.randbits(32)
    refuse_contradictions(arguments, settings, search)
    # lines may switch on what a flag needs: `read_requests` checks the flags together with them
    refuse_unused(search if has_settings(prompt_file) else settings | search)
    copies = seeds_of_prompt(arguments, search)
    defaults = partial(defaults_of, arguments)
    sampling = settings if seed is None else settings | {"seed": seed}
    read = cache(  # of standard input, once
        lambda: read_requests(prompts, prompt_file, prompt_lines, sampling, copies, defaults)
    )
    saved = load_model_or_base(
        model,
        models_dir,
        lambda: first_characters([*(each.prompt for _, each in read()), arguments.suffix or ""]),
        _hint_for_prompt(model),
    )
    has_ending = arguments.suffix is not None or saved.main_direction == "backward"
    others = [] if has_ending else _others(arguments, saved, models_dir)
    # After the models: a name that is mistyped is reported without waiting for standard input.
    placed = read()
    _check_prompts(placed, saved, arguments.as_json)
    printer = Printer(
        saved,
        others,
        as_json=arguments.as_json,
        show_probabilities=arguments.show_probabilities,
        how_to_repeat=how_to_repeat(arguments, placed, seed, copies),
        fingerprint=saved.fingerprint,
    )
    if has_ending:
        _infill(arguments, saved, placed, search, printer)
    else:
        searching = from_dict(SearchConfig, search) if search else None
        _generate(arguments, [saved, *others], placed, searching, settings, printer)
    printer.print_how_to_repeat()


def _hint_for_prompt(model: str | None) -> str:
    """What to do if what stands in place of the model seems to be a prompt; "" if it does not."""
    if model and os.path.isfile(model):
        return "To begin with the text of a file, use --prompt-file."
    name = model or ""
    is_text = re.search(r"[^\w./\\~:-]", name) or any(is_without_spaces(ord(c)) for c in name)
    return "To begin with a text, use --prompt." if is_text else ""


def _others(arguments: Arguments, saved: ModelFolder, models_dir: Path | None) -> list[ModelFolder]:
    """Loads the models that write together with the first. Raises `ConfigError` for one that cannot."""
    from textgen.saved_model.ensembles import check_ensemble

    others = [load_model_to_read(name, models_dir) for name in arguments.ensemble]
    check_ensemble(saved, others)
    return others


def _check_prompts(placed: Iterable[Located], saved: ModelFolder, as_json: bool) -> None:
    """Raises `TextgenError` for a prompt that the model cannot continue, before anything is written."""
    for place, request in placed:
        with errors_named_after(place):
            saved.tokenizer.encode(request.prompt)
            saved.tokenizer.opening(request.config.label)
            if request.config.top_logprobs and not as_json:
                raise ConfigError("top_logprobs needs --json.")


# === From the beginning ===


def _generate(
    arguments: Arguments,
    models: Sequence[ModelFolder],
    placed: Sequence[Located],
    search: SearchConfig | None,
    settings: dict[str, Any],
    printer: Printer,
) -> None:
    """Writes texts from their beginning, and prints them."""
    from textgen.generation.generator import BATCH_SIZE

    saved = models[0]
    _check_lines(placed, saved, search)
    requests = [request for _, request in placed]
    batch_size = arguments.batch_size or BATCH_SIZE
    needs_index = arguments.novelty or any(request.config.no_copy is not None for request in requests)
    if needs_index and (without := [model for model in models if not model.has_ngrams]):
        without[0].ngrams()  # raises, before the slow part
    if arguments.exact:
        check_runtime(arguments.runtime, ["--exact"])
        generator = saved.generator(exact=True)
    else:
        runtime = _runtime(arguments, saved, requests, batch_size, search)
        generator = _adapted(arguments, models, settings.get("label"), runtime)
    has_state = bool(first_flag(arguments, *STATES))
    is_single = len(requests) * arguments.num == 1 and not arguments.best_of
    if has_state and (not is_single or search):
        raise ConfigError("A state belongs to one text: give one prompt, and leave out num, best_of and num_beams.")
    printer = replace(
        printer,
        index=generator.index if arguments.novelty else None,
        fingerprint=generator.fingerprint,
        runtime=generator.runtime,
    )
    if search:
        printed = printer.print_all(_found(generator, requests, search, arguments.num))
        _note_fewer(printed, len(requests) * arguments.num, "num_beams")
    elif has_state or (is_single and not arguments.as_json):
        _write_one(generator, requests[0], printer, arguments.load_state, arguments.save_state)
    else:
        printer.print_all(generator.generate_requests(requests, arguments.num, arguments.best_of, batch_size))


def _check_lines(placed: Iterable[Located], saved: ModelFolder, search: SearchConfig | None) -> None:
    """Raises `TextgenError` for a line of a .jsonl file whose settings cannot be used, before anything is written.

    Those of flags are the same for all prompts, so the first text refuses them.
    """
    from textgen.generation.generator import refuse_draws
    from textgen.generation.request import with_seed
    from textgen.generation.sampling.sampler import Sampler

    if not (lines := [(place, request.config) for place, request in placed if place]):
        return
    index, checked, sampler = cache(saved.ngrams), set(), Sampler([], saved.tokenizer)
    for place, config in lines:
        with errors_named_after(place):
            if search:
                refuse_draws(config)
            if (unseeded := with_seed(config, 0)) not in checked:
                sampler.for_others([config], index=None if config.no_copy is None else index())
                checked.add(unseeded)


def _note_fewer(printed: int, asked: int, more: str) -> None:
    """Says that there are fewer texts than were asked for, since no others differ, and which setting may find more."""
    if printed < asked:
        output.note(
            f"Found {counted(printed, 'different text')} instead of {asked:,}. A larger {flag_of(more)} may find more."
        )


def _runtime(
    arguments: Arguments, saved: ModelFolder, requests: list[Request], batch_size: int, search: SearchConfig | None
) -> str:
    """What computes the network: what was asked for, or else a GPU if it is worth it and can do what was asked for."""
    from textgen.saved_model.writing_device import runtime_for

    needs_processor = search or first_flag(arguments, *NEEDS_NUMPY, *STATES)
    if arguments.runtime != AUTO or needs_processor:
        return arguments.runtime
    return runtime_for(saved.model_config.num_parameters, requests, arguments.best_of or arguments.num, batch_size)


def _adapted(arguments: Arguments, models: Sequence[ModelFolder], label: str | None, runtime: str) -> Generator:
    """A generator of the first model, with all that changes what it writes, where that is asked for."""
    from textgen.saved_model.adaptation import Adaptation, adapted_generator

    needs_numpy = [flag_of(name) for name in NEEDS_NUMPY if getattr(arguments, name)]
    check_runtime(runtime, needs_numpy)
    saved, *others = models
    reading = arguments.reading if label is None else ignoring_labels(arguments.reading)
    text = text_of(saved, [arguments.adapt], reading) if arguments.adapt is not None else None
    dynamic = arguments.dynamic or DynamicConfig()
    adaptation = Adaptation(text, dynamic, label, arguments.neural_cache, arguments.clamp, tuple(others))
    return adapted_generator(saved, adaptation, runtime=runtime, say=output.note)


def _write_one(
    generator: Generator, request: Request, printer: Printer, load_state: str | None, save_state: Path | None
) -> None:
    """Prints a text as it is written, or as JSON. It may continue from a state and save one."""
    from textgen.generation.generated_text import CUT, written_ids

    start = generator.load_state(load_state) if load_state else None
    writing = generator.tokens(request.prompt, request.config, start)
    keep = bool(save_state or request.config.require)
    tokens = list(writing) if printer.as_json else printer.print_as_written(request.prompt, writing, keep)
    result = writing.result(tokens)
    if printer.as_json:
        printer.print_all([result])
    else:
        printer.print_shortcomings([result])
    if save_state:
        state = writing.state
        if result.stop_reason in CUT:
            ids = written_ids(generator.tokenizer, start.ids if start else (), request.prompt, result.text)
            state = generator.read(ids, start, request.config.label)
        generator.save_state(save_state, state)


def _found(generator: Generator, requests: Iterable[Request], settings: SearchConfig, num: int) -> Iterator[Generation]:
    """The likeliest texts for each prompt."""
    if num > settings.num_beams:
        raise ConfigError(
            f"A search with num_beams {settings.num_beams} finds at most {counted(settings.num_beams, 'text')}, "
            f"not {num}."
        )
    for request in requests:
        yield from generator.search(request.prompt, request.config, settings)[:num]


# === Towards an ending ===


def _infill(
    arguments: Arguments, saved: ModelFolder, placed: Sequence[Located], search: dict[str, Any], printer: Printer
) -> None:
    """Writes texts towards a suffix, and prints them."""
    unfit = first_flag(arguments, "novelty", "show_probabilities") or ("--num-beams" if search else "")
    if unfit := unfit or first_flag(arguments, "batch_size", *NEEDS_NUMPY, *STATES, "exact"):
        raise click.UsageError(f"{unfit} cannot be used when writing towards an ending.")
    check_runtime(arguments.runtime, ["Writing towards an ending"])
    infiller, suffix = saved.infiller(), arguments.suffix or ""
    _check_infills(infiller, placed, suffix)
    requests = [request for _, request in placed]
    printed = printer.print_all(_infills(infiller, requests, suffix, arguments.num, arguments.best_of))
    _note_fewer(printed, len(requests) * arguments.num, "best_of")


def _check_infills(infiller: Infiller, placed: Iterable[Located], suffix: str) -> None:
    """Raises `TextgenError` for a prompt or settings that cannot lead to the suffix, before anything is written."""
    from textgen.generation.request import with_seed

    checked = set()
    for place, request in placed:
        kind = bool(request.prompt), with_seed(request.config, 0)
        if kind in checked:
            continue
        checked.add(kind)
        with errors_named_after(place):
            infiller.infill(request.prompt, suffix, request.config, best_of=1, wanted=lambda: False)  # one step


def _infills(
    infiller: Infiller, requests: Iterable[Request], suffix: str, num: int, best_of: int | None
) -> Iterator[Infill]:
    """The texts that lead from each prompt, if there is one, to the suffix."""
    for request in requests:
        yield from infiller.infill(request.prompt, suffix, request.config, num, best_of)
