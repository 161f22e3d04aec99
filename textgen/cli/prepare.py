"""textgen prepare: a large corpus, encoded ahead of training, by many machines if there are."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textgen.cli import output
from textgen.cli.options import corpus_options, find_tokenizer, json_option, models_dir_option, tokenizer_options
from textgen.wording import counted, shell_word

if TYPE_CHECKING:
    from textgen.dataset.prepared_corpus import PreparedCorpus


class ShardOf(click.ParamType):
    """`3/16` -> (3, 16)."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Fails, as wrong usage, for anything else."""
        match = re.fullmatch("([0-9]+)/([0-9]+)", value)
        if not match:
            self.fail(f"{value!r} is not of the form 3/16.", param, ctx)
        return int(match[1]), int(match[2])


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to fill.")
@click.option("--shard", type=ShardOf(), help="Make only the I-th of N shards, 1/N to N/N [default: all].")
@click.option(
    "--valid", "valid_fraction", type=float, metavar="SHARE", help="Share to hold out. Chosen when not given."
)
@click.option("--seed", type=int, metavar="N", help="Of the documents held out [default: 0].")
@click.option("--tokenizer-from", metavar="MODEL", help="Take over the vocabulary of a model or .model file.")
@json_option
@models_dir_option
@tokenizer_options
@corpus_options
def prepare(
    paths: tuple[str, ...],
    out: Path,
    shard: tuple[int, int] | None,
    tokenizer_from: str | None,
    as_json: bool,
    models_dir: Path | None,
    **settings: Any,
) -> None:
    """Encode a large corpus, for textgen train to take.

    PATHS are files, folders, globs, or - for standard input. The corpus is cut into shards, and each is there
    whole or not at all: run the same command again after an interruption, and it does what is left to do. With
    --shard, as many machines as there are shards can work side by side on a folder that all of them see; the
    first settles the vocabulary for all.

    \b
    Example:
      textgen prepare news/ --out news-prepared
      textgen prepare news/ --out news-prepared --shard 3/16
      textgen train news-prepared
    """
    from textgen.dataset.prepared_corpus import prepare_corpus

    tokenizer = find_tokenizer(tokenizer_from, models_dir) if tokenizer_from else None
    prepared = prepare_corpus(paths, out, settings, shard=shard, tokenizer=tokenizer, say=output.note)
    if as_json:
        output.json_line(_values(prepared), indent=2)
    else:
        output.line(_as_text(prepared))


def _values(prepared: PreparedCorpus) -> dict[str, Any]:
    missing = prepared.missing()
    streams = {} if missing else {"train": prepared.data().train, "valid": prepared.data().valid}
    values = prepared.settings.flat() | {"folder": str(prepared.folder), "missing": missing}
    return values | {split: asdict(stream.summary) for split, stream in streams.items()}


def _as_text(prepared: PreparedCorpus) -> str:
    if missing := prepared.missing():
        return f"{prepared.folder}: {len(missing)} of {prepared.settings.shards} shards are still to be made."
    data = prepared.data()
    return (
        f"{prepared.folder}: {counted(len(data.train), 'token')} to train on, {len(data.valid):,} held out.\n"
        f"Train on it: textgen train {shell_word(str(prepared.folder))}"
    )
