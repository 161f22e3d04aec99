"""textgen corpus list and textgen corpus fetch: well-known corpora."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from textgen.cli import output
from textgen.cli.command import SectionCommand
from textgen.cli.options import OutputFile, json_option

if TYPE_CHECKING:
    from textgen.corpus.fetching.catalogue import CatalogueEntry
    from textgen.corpus.fetching.download import Progress


@click.command("list", cls=SectionCommand)
@json_option
def list_(as_json: bool) -> None:
    """List the well-known corpora that textgen corpus fetch downloads.

    \b
    Example:
      textgen corpus list
    """
    from textgen.corpus.fetching.catalogue import GUTENBERG_NAME, entries

    found = entries()
    if as_json:
        output.json_line([asdict(entry) | {"is_pinned": entry.is_pinned} for entry in found], indent=2)
        return
    rows = [(entry.name, f"{entry.size / 1e6:.1f} MB", entry.title, entry.licence) for entry in found]
    rows.append((GUTENBERG_NAME, "", "a book of Project Gutenberg", "public domain in the USA"))
    width = max(len(name) for name, *_ in rows)
    output.line(f"{'NAME':{width}}  {'DOWNLOAD':>8}  TEXT (LICENCE)")
    for name, size, title, licence in rows:
        output.line(f"{name:{width}}  {size:>8}  {title} ({licence})")


@click.command(cls=SectionCommand)
@click.argument("name")
@click.option("--out", type=OutputFile(suffix=".txt"), metavar="FILE", help="Also write the text to this file.")
@json_option
def fetch(name: str, out: Path | None, as_json: bool) -> None:
    """Download a well-known corpus, and print the path of its text.

    NAME is one that textgen corpus list shows, or gutenberg: and the number of a book of Project Gutenberg. The text
    is kept in the cache folder, so it is downloaded once. Files are checked by their published SHA-256; where there
    is none, as for books, the checksum of the first download is recorded, and a later one must be the same. Of a book,
    the licence text at both ends is removed. Set HTTPS_PROXY if your network has a proxy.

    \b
    Example:
      textgen corpus fetch tinyshakespeare
      textgen corpus fetch gutenberg:1342 --out pride.txt
      textgen train $(textgen corpus fetch tinyshakespeare)
    """
    from textgen.corpus.fetching import fetched_text
    from textgen.corpus.fetching.catalogue import find_entry
    from textgen.errors import TextgenError

    entry = find_entry(name)
    if not out and not fetched_text.has_lasting_cache():
        raise TextgenError(
            "No cache folder can be written, so the text would be lost: set TEXTGEN_CACHE, or use --out FILE."
        )
    with _progress(entry) as progress:
        path, fetched = fetched_text.fetch(entry, output.note, progress)
    if out:
        fetched_text.copy_text(path, out)
    written = out or path
    output.note(fetched.title + (f", by {fetched.author}" if fetched.author else ""))
    output.note(f"Licence: {fetched.licence}.")
    output.note(f"SHA-256 {fetched.sha256} ({_checked(fetched.checked)}).")
    if as_json:
        output.json_line(asdict(fetched) | {"path": os.fspath(written)}, indent=2)
    else:
        output.line(os.fspath(written))


def _checked(how: str) -> str:
    if how == "published":
        return "checked against the published checksum"
    return "recorded at the first download, since none is published"


@contextmanager
def _progress(entry: CatalogueEntry) -> Iterator[Progress]:
    """A bar on standard error for each file, if that is a terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = output.console()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        console.show_cursor(True)  # hidden, it would stay so for the shell after Ctrl-Z or SIGKILL
        task = bars.add_task(entry.name, total=None, start=False)

        def show(done: int, total: int | None) -> None:
            bars.start_task(task)
            bars.update(task, completed=done, total=total)

        yield show
