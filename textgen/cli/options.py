"""Options that several commands share: config fields with hyphens, None when not given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from textgen.config import DOCUMENT_MODES, NEWLINES, CorpusConfig, from_dict, select

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def option_group(*options: Decorator) -> Decorator:
    """One decorator out of several; `--help` lists them in the order given."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Those of a command's options that were given."""
    return {name: value for name, value in options.items() if value is not None}


corpus_options = option_group(
    click.option(
        "--documents",
        type=click.Choice(DOCUMENT_MODES),
        help="What one document is: a file, a block between blank lines, or a line. Guessed when not given.",
    ),
    click.option("--encoding", help="Encoding of the files: utf-8 (the default), latin-1, gb18030, ..."),
    click.option(
        "--newlines",
        type=click.Choice(NEWLINES),
        help="Whether \\r\\n and \\r become \\n (normalize, the default) or are kept.",
    ),
    click.option(
        "--text-field", metavar="NAME", help="Field of .jsonl files that holds the text [default: text]."
    ),
    click.option(
        "--text-column", metavar="NAME", help="Column of .csv and .tsv files with the text [default: text]."
    ),
)


def corpus_config(options: dict[str, Any]) -> CorpusConfig:
    """The config that a command's options ask for; other options may be among them."""
    return from_dict(CorpusConfig, select(CorpusConfig, given(options)))
