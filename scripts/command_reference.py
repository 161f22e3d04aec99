"""The command reference of README.md, made from `--help`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- command reference: begin -->\n", "<!-- command reference: end -->\n"


def reference() -> str:
    """Every command with its help, as Markdown."""
    from textgen.cli import textgen

    return "\n".join(f"### {name}\n\n```\n{text}\n```\n" for name, text in _helps(textgen, "textgen"))


def _helps(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    settings = {**command.context_settings, "terminal_width": 100}
    with click.Context(command, info_name=name.split()[-1], parent=parent, **settings) as context:
        yield name, command.get_help(context)
        if isinstance(command, click.Group):
            for child in command.commands.values():
                yield from _helps(child, f"{name} {child.name}", context)


def with_reference(readme: str) -> str:
    """The README with the reference between its two marks replaced."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{reference()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_reference(README.read_text(encoding="utf-8")), encoding="utf-8")
