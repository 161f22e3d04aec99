"""textgen corpus: fetch a text, look at it before training on it, or prepare a large one."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import click

from textgen.cli import output
from textgen.cli.command import CommandGroup
from textgen.cli.fetch import fetch, list_
from textgen.cli.options import corpus_config, corpus_options, guessed, json_option, paths_argument
from textgen.cli.prepare import prepare
from textgen.wording import with_escapes

if TYPE_CHECKING:
    from textgen.corpus.corpus import Corpus


@click.group(cls=CommandGroup)
def corpus() -> None:
    """Look at a text, fetch a well-known one, or prepare a large one."""


@corpus.command()
@paths_argument(required=True)
@corpus_options
@json_option
def stats(paths: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Count the documents, lines, words and characters of PATHS.

    PATHS are files, folders, globs, or - for standard input. Files may be plain text, .jsonl, .json, .csv,
    .tsv, .html, .rtf, .srt or .vtt, also compressed with gzip, bzip2, xz or zstd; or .parquet, .docx, .odt, .epub
    or .pdf.
    Words are not counted if most letters are of scripts without spaces between words, such as Chinese.

    \b
    Example:
      textgen corpus stats poems.txt more-poems/
      zcat news.txt.gz | textgen corpus stats - --documents line --json
    """
    from textgen.corpus.corpus import Corpus

    text = Corpus(paths, corpus_config(options))
    text.labels()  # raises if they are asked for and there are none
    text.stats()
    text.say_findings(output.note)
    text.say_left_out(output.note)
    if as_json:
        output.json_line(_values(text), indent=2)
    else:
        output.line(_as_table(text))


def _values(text: Corpus) -> dict[str, Any]:
    """The counts for programs, none of which has the name of a setting or of a section of training.json."""
    values = asdict(text.stats())
    del values["character_counts"], values["typical_document"]
    if not text.stats().has_words:
        values["words"] = None
    renamed = {"files": "num_files", "documents": "num_documents", "labels": "label_counts"}
    return {renamed.get(name, name): value for name, value in values.items()} | {
        "documents_mode": text.documents_mode,
        "skipped_records": sum(text.left_out.counts.values()),
    }


def _as_table(text: Corpus) -> str:
    """A count on each line, numbers right-aligned."""
    counts = text.stats()
    names = [
        field.name for field in fields(counts) if field.type == "int" and (field.name != "words" or counts.has_words)
    ]
    rows = [(name.replace("_", " "), f"{getattr(counts, name):,}") for name in names]
    width = max(len(name) for name, _ in rows)
    digits = max(len(number) for _, number in rows)
    table = [f"{name:{width}}  {number:>{digits}}" for name, number in rows]
    for label, count in counts.labels.items():
        table.append(f"{'label':{width}}  {count:>{digits}}  {label}")
    commonest = " ".join(_visible(character) for character, _ in counts.characters_by_frequency)
    reason = guessed(text.guess_reason)
    table.append(f"{'commonest':{width}}  {commonest}")
    table.append(f"{'documents by':{width}}  {with_escapes(text.documents_mode)}{reason}")
    return "\n".join(table)


def _visible(character: str) -> str:
    names = {" ": "space", "\n": "newline"}
    return names.get(character, character if character.isprintable() else f"U+{ord(character):04X}")


corpus.add_command(list_)
corpus.add_command(fetch)
corpus.add_command(prepare)
