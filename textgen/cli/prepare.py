"""textgen corpus prepare: encode a large corpus ahead of training, on several machines if there are any."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textgen.cli import output
from textgen.cli.command import SectionCommand
from textgen.cli.options import (
    FilledFolder,
    corpus_options,
    json_option,
    models_dir_option,
    paths_argument,
    tokenizer_from_option,
    tokenizer_options,
)
from textgen.cli.setting_options import Integer, setting_options
from textgen.dataset.config import SplitConfig
from textgen.wording import counted, shell_word

if TYPE_CHECKING:
    from textgen.dataset.prepared_corpus import PreparedCorpus


class ShardOf(click.ParamType):
    """`3/16` -> (3, 16)."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Returns the two numbers. Anything else is wrong usage."""
        match = re.fullmatch("([0-9]+)/([0-9]+)", value)
        if not match:
            self.fail(f"{value!r} is not of the form 3/16.", param, ctx)
        return int(match[1]), int(match[2])


@click.command(cls=SectionCommand)
@paths_argument(required=True)
@click.option(
    "--out", type=FilledFolder(), required=True, metavar="FOLDER", help="Folder to write the prepared corpus to."
)
@click.option("--shard", type=ShardOf(), help="Make only shard I of N, from 1/N to N/N [default: all].")
@click.option("--dask", metavar="ADDRESS", help="Make the shards on the Dask cluster with this scheduler.")
@click.option("--shards", type=Integer(), metavar="N", help="Number of shards [default: one for 268 MB of text].")
@tokenizer_from_option
@setting_options(SplitConfig)
@json_option
@models_dir_option
@tokenizer_options
@corpus_options
def prepare(
    paths: tuple[str, ...],
    out: Path,
    shard: tuple[int, int] | None,
    dask: str | None,
    tokenizer_from: str | None,
    as_json: bool,
    models_dir: Path | None,
    **settings: Any,
) -> None:
    """Encode a large corpus for textgen train.

    PATHS are files, folders, globs, or - for standard input. The corpus is cut into shards, each of which is complete
    or absent: after an interruption, run the same command again and it writes the missing shards. If text has
    moved within the corpus since then, the folder is refused: prepare another one. With --shard, up to one machine per
    shard can work at the same time on a folder that all of them share; the first one makes the vocabulary. With --dask,
    the workers of a Dask cluster make the shards, and one that is lost is replaced.

    \b
    Example:
      textgen corpus prepare news/ --out news-prepared
      textgen corpus prepare news/ --out news-prepared --shard 3/16
      textgen corpus prepare news/ --out news-prepared --shards 64 --dask tcp://10.0.0.1:8786
      textgen train news-prepared
    """
    from textgen.dataset.corpus_preparation import prepare_corpus
    from textgen.saved_model.registry import find_tokenizer

    tokenizer = find_tokenizer(tokenizer_from, models_dir) if tokenizer_from else None
    prepared = prepare_corpus(paths, out, settings, shard=shard, dask=dask, tokenizer=tokenizer, say=output.note)
    if as_json:
        output.json_line(_values(prepared, is_single=shard is not None), indent=2)
    else:
        output.line(_as_text(prepared, is_single=shard is not None))


def _values(prepared: PreparedCorpus, *, is_single: bool) -> dict[str, Any]:
    """What is known of a folder; of all shards together only if they were made here, since all of them are read."""
    missing = prepared.missing()
    streams = {} if missing or is_single else {"train": prepared.data().train, "valid": prepared.data().valid}
    values = prepared.settings.flat() | {"folder": str(prepared.folder), "missing": missing}
    for split, stream in streams.items():
        summary = asdict(stream.summary)
        values[split] = {"num_documents": summary.pop("documents")} | summary  # `documents` is a setting
    return values


def _as_text(prepared: PreparedCorpus, *, is_single: bool) -> str:
    if missing := prepared.missing():
        return f"{prepared.folder}: {len(missing)} of {prepared.settings.shards} shards are missing."
    if is_single:
        return f"{prepared.folder}: none of its {counted(prepared.settings.shards, 'shard')} is missing."
    data = prepared.data()
    return (
        f"{prepared.folder}: {counted(len(data.train), 'token')} to train on, {len(data.valid):,} held out.\n"
        f"Train on it: textgen train {shell_word(str(prepared.folder))}"
    )
