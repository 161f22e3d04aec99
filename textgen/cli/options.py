"""Options that several commands share: config fields with hyphens, None when not given."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textgen.config import DOCUMENT_MODES, NEWLINES, TOKENIZERS, CorpusConfig, from_dict, select
from textgen.errors import TextgenError

if TYPE_CHECKING:
    from textgen.tokenizer import Tokenizer

Decorator = Callable[[Any], Any]


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
    click.option("--text-field", metavar="NAME", help="Field of .jsonl files that holds the text [default: text]."),
    click.option("--text-column", metavar="NAME", help="Column of .csv and .tsv files with the text [default: text]."),
)

tokenizer_options = option_group(
    click.option("--tokenizer", type=click.Choice(TOKENIZERS), help="Kind of pieces [default: unigram]."),
    click.option("--vocab-size", type=int, metavar="N", help="Pieces, special ones included. Chosen when not given."),
    click.option(
        "--sample-bytes",
        type=int,
        metavar="N",
        help="Learn pieces from at most so much text [default: 20000000].",
    ),
)

sampling_options = option_group(
    click.option(
        "--temperature",
        type=float,
        help="Below 1 is safer, above 1 wilder, 0 always the likeliest [default: 0.8].",
    ),
    click.option("--top-k", type=int, metavar="N", help="Draw from the N likeliest pieces; 0 is off [default: 0]."),
    click.option(
        "--top-p",
        type=float,
        help="Draw from the likeliest pieces that hold this probability [default: 1.0].",
    ),
    click.option(
        "--min-p",
        type=float,
        help="Leave out pieces less likely than this share of the likeliest [default: 0.05].",
    ),
    click.option("--max-tokens", type=int, metavar="N", help="Pieces at most [default: 500]."),
    click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; may be given several times."),
    click.option("--seed", type=int, metavar="N", help="The same seed gives the same text [default: random]."),
)

models_dir_option = click.option(
    "--models-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where models are kept [default: $TEXTGEN_MODELS, else saved_models].",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def corpus_config(options: dict[str, Any]) -> CorpusConfig:
    """The config that a command's options ask for; other options may be among them."""
    return from_dict(CorpusConfig, select(CorpusConfig, given(options)))


def find_tokenizer(name: str, models_dir: Path | None = None) -> Tokenizer:
    """The tokenizer in a .model file or a saved model, or the byte tokenizer."""
    from textgen.saved_model import find_model
    from textgen.tokenizer import load_tokenizer, read_tokenizer

    if name == "byte":
        return load_tokenizer(b"")
    return read_tokenizer(Path(name) if Path(name).exists() else find_model(name, models_dir))


def standard_input() -> str:
    """All of standard input, which must be UTF-8."""
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise TextgenError(f"Standard input is not UTF-8 text: {error}. Convert it first.") from None
