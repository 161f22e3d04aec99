"""The flags of `textgen sample` that are no settings: read, refused where they contradict each other, told again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from textgen.cli.adaptation_options import NEEDS_NUMPY, switched
from textgen.cli.options import given, settings_of
from textgen.cli.prompts import Located
from textgen.cli.setting_options import flag_of
from textgen.corpus.config import CorpusConfig
from textgen.evaluation.config import DynamicConfig, NeuralCacheConfig
from textgen.generation.config import AUTO

STATES = ("save_state", "load_state")  # fields of `Arguments`


@dataclass(frozen=True)
class Arguments:
    """The flags of `textgen sample` that are not settings of sampling or search."""

    suffix: str | None
    num: int
    batch_size: int | None
    best_of: int | None
    show_probabilities: bool
    novelty: bool
    as_json: bool
    neural_cache: NeuralCacheConfig | None
    adapt: str | None
    reading: dict[str, Any]
    dynamic: DynamicConfig | None
    save_state: Path | None
    load_state: str | None
    clamp: tuple[str, ...]
    ensemble: tuple[str, ...]
    exact: bool
    runtime: str


def arguments_of(options: dict[str, Any]) -> Arguments:
    """Takes the flags that are no settings out of the options."""
    values: dict[str, Any] = {field.name: options.get(field.name) for field in fields(Arguments)}
    values["neural_cache"] = switched(NeuralCacheConfig, options["neural_cache"], "--neural-cache", options)
    values["dynamic"] = switched(DynamicConfig, options["adapt"] is not None, "--adapt", options)
    values["reading"] = settings_of(CorpusConfig, options["adapt"] is not None, "--adapt", options)
    values["runtime"] = options["runtime"] or AUTO
    return Arguments(**values)


def refuse_contradictions(arguments: Arguments, settings: dict[str, Any], search: dict[str, Any]) -> None:
    """Raises `click.UsageError` for flags that would have no effect."""
    from textgen.generation.sampling.sampler_settings import DRAWING

    if "top_logprobs" in settings and not arguments.as_json:
        raise click.UsageError("--top-logprobs needs --json. To see probabilities as colors, use --show-probabilities.")
    if arguments.exact and (flag := _inexact(arguments, search)):
        raise click.UsageError(f"--exact cannot be combined with {flag}: leave out one of them.")
    drawing = given({"best_of": arguments.best_of, "batch_size": arguments.batch_size})
    without_effect = {*DRAWING, "seed", "top_logprobs", *drawing}
    clash = [name for name in (*settings, *drawing) if name in without_effect]
    if search and clash:
        raise click.UsageError(
            f"{flag_of(next(iter(search)))} searches for the likeliest text, without random draws: "
            f"leave out {flag_of(clash[0])}."
        )


def refuse_unused(settings: Mapping[str, Any]) -> None:
    """Raises `click.UsageError` for settings that need others."""
    from textgen.generation.needed_settings import unused

    for reason in unused(settings, flag_of).values():
        raise click.UsageError(reason)


def _inexact(arguments: Arguments, search: dict[str, Any]) -> str:
    """The first of the flags that do not compute in exact arithmetic; "" if there is none."""
    return first_flag(arguments, *NEEDS_NUMPY, "suffix") or next(map(flag_of, search), "")


def first_flag(arguments: Arguments, *names: str) -> str:
    """The first of some flags, named by their fields, that was given; "" if none was."""
    return next((flag_of(name) for name in names if getattr(arguments, name)), "")


def defaults_of(arguments: Arguments, prompt: str) -> dict[str, Any]:
    """Settings of a prompt that follow from flags."""
    defaults: dict[str, Any] = {"top_logprobs": 0} if arguments.show_probabilities else {}
    if arguments.suffix is not None:
        from textgen.generation.infilling import draft_tokens

        defaults["max_tokens"] = draft_tokens(bool(prompt))
    return defaults


def seeds_of_prompt(arguments: Arguments, search: Mapping[str, Any]) -> int:
    """The number of texts that are drawn for each prompt, each with a seed of its own; 0 for a search.

    Drafts of a gap count, too: with fewer seeds the next prompt would draw the same ones again.
    """
    if search:
        return 0
    if arguments.suffix is None or arguments.best_of:
        return arguments.best_of or arguments.num
    from textgen.generation.infilling import CANDIDATES

    return max(arguments.num, CANDIDATES)


def how_to_repeat(arguments: Arguments, placed: Sequence[Located], seed: int | None, copies: int) -> str:
    """A line with the seed that was chosen at random and how to write the texts again; "" where it decides none.

    Args:
        arguments: The flags.
        placed: The prompts.
        seed: The seed of the first text; None if it was given, or nothing is drawn.
        copies: Number of seeds for each prompt.
    """
    from textgen.generation.sampling.sampler_settings import makes_draws

    if seed is None or arguments.as_json or _replaces_state(arguments):
        return ""
    configs = [request.config for _, request in placed]
    is_own = [config.seed != seed + number * copies for number, config in enumerate(configs)]  # of a line of a file
    if not any(makes_draws(config) for config, own in zip(configs, is_own, strict=True) if not own):
        return ""
    again = "again, as far as the time allows" if any(config.max_seconds for config in configs) else "again"
    if len(placed) * arguments.num == 1:
        return f"Seed {seed}: add --seed {seed} to write this text {again}."
    if arguments.best_of or arguments.suffix is not None or any(is_own):
        return f"Seed {seed}: add --seed {seed} to write these texts {again}."
    last = seed + len(placed) * copies - 1
    return f"Seeds {seed} to {last}, one for each text: add --seed {seed} to write them {again}."


def _replaces_state(arguments: Arguments) -> bool:
    """Whether the state that a text goes on from is replaced by the one at its end."""
    before, after = arguments.load_state, arguments.save_state
    return bool(before and after) and os.path.realpath(str(before)) == os.path.realpath(str(after))
