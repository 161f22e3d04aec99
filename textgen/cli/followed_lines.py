"""The lines of a stream, scored as they arrive, for `textgen score --follow`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgen.cli import output
from textgen.cli.options import open_bytes
from textgen.corpus.config import CorpusConfig
from textgen.wording import counted

if TYPE_CHECKING:
    from textgen.evaluation.anomalies import LineScore
    from textgen.saved_model.saved_model import ModelFolder

TRAIN_ON_THEM = (
    "it does not know what is usual in them: train on the log first (textgen train FILE), and name that model."
)


def follow_lines(
    saved: ModelFolder,
    path: str,
    config: CorpusConfig,
    *,
    label: str | None,
    limits: Mapping[str, Any],
    show_all: bool,
    as_json: bool,
) -> None:
    """Scores the lines of a stream as they arrive, and prints the unusual ones.

    Args:
        saved: The model that scores them.
        path: The file, which may grow, or - for standard input.
        config: Its encoding and newlines, and how documents begin in it.
        label: Label of the lines.
        limits: The threshold and the window of `textgen.evaluation.anomalies.follow`, those that are given.
        show_all: Whether usual lines are printed, too.
        as_json: Whether lines are printed as JSON.

    Raises:
        CorpusError: The stream cannot be read, or its encoding cannot be split into lines.
        ConfigError: The separator of its documents spans lines.
    """
    from textgen.evaluation.anomalies import WARM_UP, are_foreign, check_separator, follow
    from textgen.evaluation.scoring import Scorer
    from textgen.saved_model.bases import is_base

    of_books = is_base(saved.folder)
    if of_books:
        output.note(f"The base {saved.name} has read books, not such lines, so {TRAIN_ON_THEM}")
    held_out = ((saved.training or {}).get("scores") or {}).get("bits_per_byte")
    first: list[LineScore] = []
    scorer = Scorer(saved.numpy_model(), saved.tokenizer)
    seen = flagged = 0

    def say_waiting() -> None:
        output.note(f"{counted(seen, 'line')} read; waiting for more (Ctrl-C ends).")

    documents = config.as_read(config.documents or "file")
    check_separator(documents)  # before anything is counted
    with _lines(path, config, say_waiting) as lines:
        try:
            for result in follow(scorer, lines, documents, label=label, **limits):
                seen += 1
                flagged += result.flagged
                if seen <= WARM_UP and held_out and not of_books:
                    first.append(result)
                    if are_foreign(first, held_out):
                        output.note(f"{saved.name} was trained on other text than these lines, so {TRAIN_ON_THEM}")
                if result.flagged or show_all:
                    _print_line(result, saved.name, show_all=show_all, as_json=as_json)
        finally:
            output.note(f"{counted(seen, 'line')}, {flagged:,} of them unusual.")


@contextmanager
def _lines(path: str, config: CorpusConfig, on_end: Callable[[], None]) -> Iterator[Iterator[str]]:
    """The lines of a file, which may grow, without end; or of a pipe or standard input, to its end.

    Args:
        path: The file, or - for standard input.
        config: Its encoding and newlines.
        on_end: Called when the end of a file is reached for the first time, before more is waited for.
    """
    from textgen.evaluation.anomalies import file_lines, stream_lines

    if path != "-" and Path(path).is_file():
        yield file_lines(Path(path), config.text_encoding, config.newlines, on_end)
        return
    with open_bytes(path) as stream:
        yield stream_lines(stream, config.text_encoding, config.newlines)


def _print_line(result: LineScore, name: str, *, show_all: bool, as_json: bool) -> None:
    """Prints a line with its scores by the model of a name."""
    if as_json:
        output.json_line({"model": name, **asdict(result)})
        return
    mark = "! " if show_all and result.flagged else "  " if show_all else ""
    deviation = "" if result.deviation is None else f"{result.deviation:+.1f}"
    line = f"{mark}{result.line:>7}  {result.bits_per_character:6.2f}  {deviation:>6}  {result.text}"
    output.line(line, fg="red" if result.flagged else None)
