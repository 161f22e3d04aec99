"""Writes textgen/cli/README.md, the reference of commands and options, from the program itself.

.venv/bin/python scripts/command_reference.py    # or: make readme
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from benchmarking import run_script

from textgen.settings import USUAL

REFERENCE = Path(__file__).parent.parent / "textgen" / "cli" / "README.md"
UNBROKEN = "\b\n"  # begins a paragraph that Click does not wrap
INTRODUCTION = """\
# Commands and options

This page is generated from the program: `make readme` writes it, and a test compares it. `--help` of a command shows
the same text. For a command with many options it shows the usual ones, and `--help-all` shows all.

`MODEL` is the name of a model in `saved_models/`, the path or the address (`s3://` and others) of its folder, or a base
(`english` or `chinese`). Where MODEL is optional, the default is the newest model, unless the command says otherwise.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | an error that you can fix, also in the text of an option such as `--name`, `--clamp` or `--track` |
| 2 | wrong usage, such as an unknown option, or a value out of the range or the choices of an option |
| 75 | a training process was lost |
| 130, 143, 129 | stopped by Ctrl-C, by SIGTERM or because the terminal closed; \
`train` (from its first step on, except during a trial of two starts) and `write` have saved. \
`serve` and `tensorboard` exit with 0 once they serve |
| 141 | the reader of standard output, such as `head`, has closed it |

Colors and bold text go to terminals only, and not where `TERM` is `dumb`. `NO_COLOR` switches off the colors, except
those that `--show-probabilities` asks for.

"""


def reference() -> str:
    """The page: a list of all commands, then each command with its options."""
    from textgen.cli import textgen

    found = list(commands(textgen, click.Context(textgen, info_name="textgen", **_settings(textgen))))
    index = [f"- [{context.command_path}](#{_anchor(context)}): {_short(command)}" for command, context in found]
    return INTRODUCTION + "\n".join(index) + "\n\n" + "\n".join(_entry(*pair) for pair in found)


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """A command and all commands below it, each with the context that knows its full name."""
    yield command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if child := command.get_command(context, name):
                yield from commands(child, click.Context(child, parent=context, info_name=name, **_settings(child)))


def _settings(command: click.Command) -> dict[str, Any]:
    return {**command.context_settings, "terminal_width": 100}


def _anchor(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _short(command: click.Command) -> str:
    return command.get_short_help_str(limit=200)


def _entry(command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"## {context.command_path}", f"```\n{usage}\n```", *_paragraphs(command.help or "")]
    return "\n\n".join([*parts, *_tables(command, context)]) + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith(UNBROKEN):
            title, *lines = paragraph.removeprefix(UNBROKEN).split("\n")
            yield "\n".join([title, "", "```", *(line.strip() for line in lines), "```"])
        else:
            yield _escaped(paragraph)


def _tables(command: click.Command, context: click.Context) -> Iterator[str]:
    """A table of options for each section, in the order of the help."""
    sections: dict[str, list[str]] = {USUAL: []}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record and "--help" not in record[0]:
            flags = record[0].replace("|", "\\|")
            row = f"| `{flags}` | {_escaped(record[1])} |"
            sections.setdefault(getattr(parameter, "section", USUAL), []).append(row)
    for title, rows in sections.items():
        if rows:
            yield "\n".join([f"| {title} | what it does |", "|---|---|", *rows])


def _escaped(text: str) -> str:
    """Help as Markdown: what a table or HTML would take for its own is shown as it is, outside `code`."""
    parts = re.split("(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([|<>*_\[\]\\])", r"\\\1", part) for part in parts)


def main() -> None:
    """Writes the page."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    REFERENCE.write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
