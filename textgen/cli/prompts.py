"""Prompts of `textgen sample`: from flags, from files, and from lines of JSON with settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from textgen.cli.options import read_text
from textgen.cli.output import errors_named_after
from textgen.cli.setting_options import flag_of
from textgen.errors import ConfigError, TextgenError
from textgen.generation.config import SamplingConfig
from textgen.schema import RepeatedName, decoded_json
from textgen.settings import from_dict

if TYPE_CHECKING:
    from textgen.generation.request import Request

Located = tuple[str, "Request"]  # the file and line of a prompt, "" if it is not from a .jsonl file, and the prompt


def read_requests(
    prompts: Sequence[str],
    prompt_file: str | None,
    prompt_lines: str | None,
    settings: Mapping[str, Any],
    copies: int,
    defaults: Callable[[str], Mapping[str, Any]] = lambda prompt: {},
) -> list[Located]:
    """Reads all prompts, in the order of the arguments.

    A prompt without a seed of its own gets the `copies` seeds after those of the prompt before it. A flag that does
    nothing for any prompt is refused: a line of a .jsonl file may switch on what it needs, or take its place.

    Args:
        prompts: Prompts; "-" is read from standard input.
        prompt_file: Path of a file that is one prompt, or of a .jsonl file of prompts with settings of their own.
        prompt_lines: Path of a file of which each line is a prompt.
        settings: Sampling settings of all prompts.
        copies: Number of texts that are drawn for each prompt; 0 where nothing is drawn, so that no seeds are given.
        defaults: Returns the settings of a prompt where neither flags nor its line have any.

    Returns:
        The requests, each with the file and line that it is from.

    Raises:
        TextgenError: A file cannot be read, or a setting is not allowed or does nothing; the message names file and
            line.
        click.UsageError: A flag does nothing.
    """
    from textgen.generation.needed_settings import unused
    from textgen.generation.request import Request, later_seed, seeded

    first = seeded(from_dict(SamplingConfig, settings))
    unused_flags: dict[str, str] | None = None  # each with the reason for the first prompt
    requests: list[Located] = []
    for place, entry in _entries(prompts, prompt_file, prompt_lines):
        with errors_named_after(place):
            values = {**settings, **entry}
            if copies and entry.get("seed") is None:
                values["seed"] = later_seed(first, len(requests) * copies).seed
            prompt = values.pop("prompt", None)
            if not isinstance(prompt, str):
                raise ConfigError('a line must be an object with "prompt", a text, and optional settings.')
            requests.append((place, Request(prompt, from_dict(SamplingConfig, {**defaults(prompt), **values}))))
            without_effect = unused(values)
            if own := [reason for name, reason in without_effect.items() if name in entry]:
                raise ConfigError(own[0])
            there = without_effect if unused_flags is None else unused_flags
            unused_flags = {name: there[name] for name in there if name in without_effect and name not in entry}
    for name, reason in (unused_flags or {}).items():
        alone = unused(settings, flag_of).get(name)
        raise click.UsageError(alone or f"{flag_of(name)} does nothing for any of the prompts: {reason}")
    return requests


def has_settings(prompt_file: str | None) -> bool:
    """Whether the prompts of a file have settings of their own."""
    return bool(prompt_file and prompt_file.lower().endswith(".jsonl"))


def _entries(
    prompts: Sequence[str], prompt_file: str | None, prompt_lines: str | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The file and line of each prompt, if it is from a .jsonl file, and its values."""
    for prompt in prompts:
        yield "", {"prompt": read_prompt(prompt) if prompt == "-" else prompt}
    if prompt_file and has_settings(prompt_file):
        for number, line in _lines(prompt_file):
            place = f"{prompt_file}, line {number}"
            yield place, _json_object(line, place)
    elif prompt_file:
        yield "", {"prompt": read_prompt(prompt_file)}
    if prompt_lines:
        for _, line in _lines(prompt_lines):
            yield "", {"prompt": line}
    if not (prompts or prompt_file or prompt_lines):
        yield "", {"prompt": ""}


def read_prompt(path: str) -> str:
    """Reads a prompt from a file, without its last newline, so that the text may continue in the same line."""
    return read_text(path).removesuffix("\n")


def _json_object(line: str, place: str) -> dict[str, Any]:
    try:
        value = decoded_json(line)
    except RepeatedName as error:
        raise TextgenError(f"{place}: {error}. Give each value a name of its own.") from None
    except ValueError as error:
        raise TextgenError(f"{place} is not JSON: {error}.") from None
    return value if isinstance(value, dict) else {}


def _lines(path: str) -> list[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers. A prompt may contain any character but a newline."""
    lines = enumerate(read_text(path).split("\n"), 1)
    found = [(number, line.removesuffix("\r")) for number, line in lines if line.strip()]
    if not found:
        raise TextgenError(f"There is no prompt in {'standard input' if path == '-' else path}.")
    return found
