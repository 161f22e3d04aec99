"""textgen score: how probable a saved model finds texts, or each line of a stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from textgen.cli import output
from textgen.cli.options import (
    corpus_options,
    given,
    json_option,
    label_option,
    models_dir_option,
    standard_bytes,
)
from textgen.corpus.config import CorpusConfig
from textgen.errors import CorpusError
from textgen.settings import select
from textgen.wording import counted

if TYPE_CHECKING:
    from textgen.corpus.records import LeftOut
    from textgen.evaluation.anomalies import LineScore
    from textgen.evaluation.scoring import Score, Scorer, TextScore
    from textgen.saved_model.saved_model import ModelFolder

TAKEN_BY_FOLLOW = ("documents", "encoding")  # of the options that say how text is read
LINE_BYTES = 1 << 18  # of a stream that are read at a time
HEADER = "log probability    perplexity  bits a byte   pieces  text"


@click.command()
@click.argument("model")
@click.argument("paths", nargs=-1)
@click.option("--pieces", is_flag=True, help="Print the surprisal of each piece, in bits.")
@click.option("--no-end", is_flag=True, help="Texts may go on: do not score the end of the document after each.")
@click.option(
    "--jsonl",
    is_flag=True,
    help="A line of the input is a JSON object: score its text field, print the object with the scores added.",
)
@click.option("--follow", is_flag=True, help="Score a growing file or an endless stream; print lines that surprise.")
@click.option("--all", "show_all", is_flag=True, help="With --follow: print the other lines too.")
@click.option(
    "--threshold",
    type=click.FloatRange(0.0),
    help="With --follow: median absolute deviations above the median, in bits a character, that surprise "
    "[default: 3.5].",
)
@click.option(
    "--window",
    type=click.IntRange(30, 1_000_000),
    metavar="N",
    help="With --follow: a line is compared with N lines before it [default: 1000].",
)
@label_option
@json_option
@models_dir_option
@corpus_options
def score(
    model: str,
    paths: tuple[str, ...],
    label: str | None,
    pieces: bool,
    no_end: bool,
    jsonl: bool,
    follow: bool,
    show_all: bool,
    threshold: float | None,
    window: int | None,
    as_json: bool,
    models_dir: Path | None,
    **options: Any,
) -> None:
    """Score how probable a model finds texts.

    PATHS are files, folders, globs, or - for standard input, as is none. Texts are the documents in them, cut as
    for training, unless options say otherwise. Each is scored by itself: its log probability in nats, and
    perplexity a piece and bits a byte, as `textgen evaluate` says them; of a word that a vocabulary of words does not
    know, its spelling included. Labels that stand beside them are not
    read: without --label they have none.

    With --follow the lines of one file or of standard input are one stream, scored as they come, for as long as
    they come. Printed are those that surprise, with their line number, bits a character, and how far they stand
    out from the lines before them. Lines at the beginning, 30 of them, only show what is usual.

    \b
    Example:
      textgen score novel chapter.txt
      echo "It was a dark and stormy night." | textgen score novel - --pieces --no-end
      textgen score news sentences.jsonl --jsonl > scored.jsonl
      tail -n 1000 -F /var/log/syslog | textgen score syslog - --follow
    """
    others = {name: value for name, value in options.items() if name not in TAKEN_BY_FOLLOW}
    of_files = {f"--{name}".replace("_", "-"): value for name, value in others.items()}
    for_texts = {"--jsonl": jsonl, "--pieces": pieces, "--no-end": no_end, **of_files}
    for_lines = {"--all": show_all, "--threshold": threshold is not None, "--window": window}
    _refuse_contradictions(paths, follow, for_texts, for_lines)
    from textgen.corpus.corpus import Corpus
    from textgen.evaluation.scoring import Scorer
    from textgen.saved_model.saved_model import load_model

    saved = load_model(model, models_dir)
    config = replace(saved.corpus_config, **select(CorpusConfig, given(options)))
    saved.tokenizer.opening(label)  # complains before anything is read
    paths = paths or ("-",)
    if follow:
        scorer = Scorer(saved.writer(), saved.tokenizer)
        limits = given({"threshold": threshold, "window": window})
        _follow(saved, scorer, paths[0], config, as_json, show_all, label, limits)
        return
    direction = saved.main_direction
    scorer = Scorer(saved.writer(direction), saved.tokenizer, direction)
    scores = partial(scorer.scores, ends=not no_end, label=label)
    if jsonl:
        _print_rows(saved, scores, paths, config, pieces)
        return
    text = Corpus(paths, config)
    results = scores(text.documents())
    if as_json:
        for result in results:
            _print_json({"text": result.text, "model": saved.name, **_as_dict(saved, result, pieces)})
    elif pieces:
        _print_pieces(saved, results)
    else:
        _print_table(results)
    text.say_left_out(output.note)


def _refuse_contradictions(
    paths: Sequence[str], follow: bool, for_texts: Mapping[str, Any], for_lines: Mapping[str, Any]
) -> None:
    """Flags for texts are wrong usage with --follow, and those for lines without it."""
    clash = [flag for flag, value in (for_texts if follow else for_lines).items() if value]
    if clash and follow:
        raise click.UsageError(f"--follow scores lines: it does not go with {clash[0]}.")
    if clash:
        raise click.UsageError(f"{clash[0]} is for --follow: without it each text is scored by itself.")
    if follow and len(paths) > 1:
        raise click.UsageError("--follow reads one file, or standard input: name only one.")


# === Texts ===


def _print_rows(
    saved: ModelFolder,
    scores: Callable[[Iterable[str]], Iterator[TextScore]],
    paths: Sequence[str],
    config: CorpusConfig,
    pieces: bool,
) -> None:
    """Each JSON line of some files, with the scores of its text."""
    from textgen.corpus.records import LeftOut

    left_out = LeftOut()
    rows, read = tee(_json_rows(paths, config, left_out))  # what is read and not yet printed is held
    for (row, _), result in zip(rows, scores(text for _, text in read), strict=False):
        _print_json({**row, "model": saved.name, **_as_dict(saved, result, pieces)})
    for line in left_out.lines():
        output.note(line)


def _json_rows(paths: Sequence[str], config: CorpusConfig, left_out: LeftOut) -> Iterator[tuple[dict[str, Any], str]]:
    """Each JSON line of some files that has a text, and the text."""
    from textgen.corpus.records import RecordFile, bounded_lines

    for path in paths:
        name = "standard input" if path == "-" else path
        with _open(path) as stream:
            lines = bounded_lines(_decoded(stream, config.encoding, name), name)
            file = RecordFile(name, ".jsonl", config, left_out=left_out, keeps_blank=True)
            for _, row, text in file.objects(lines):
                yield (row if isinstance(row, dict) else {config.text_field: text}), text


def _decoded(stream: BinaryIO, encoding: str, name: str) -> Iterator[str]:
    """The text of a stream, each line as soon as it is there."""
    from textgen.corpus.source import text_decoder

    decoder = text_decoder(encoding)
    number, data = 1, b"\n"
    while data:
        data = stream.readline(LINE_BYTES)
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeError as error:
            raise CorpusError(f"{name}, line {number}: not {encoding} ({error}). Set encoding to its own.") from None
        yield text.removeprefix("\ufeff") if number == 1 else text
        number += data.endswith(b"\n")


def _open(path: str) -> AbstractContextManager[BinaryIO]:
    """The bytes of a file, or of standard input, which stays open."""
    if path == "-":
        return nullcontext(standard_bytes())
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise CorpusError(f"Cannot read {path}: {error.strerror or error}.") from None


def _as_dict(saved: ModelFolder, result: TextScore, pieces: bool) -> dict[str, Any]:
    values: dict[str, Any] = result.total.to_dict()
    if pieces:
        values["pieces"] = [saved.tokenizer.piece(id) for id in result.ids]
        values["surprisal"] = [round(bits, 4) for bits in result.surprisal.tolist()]
    return values


def _print_json(values: dict[str, Any]) -> None:
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
    output.json_line(finite)


def _print_pieces(saved: ModelFolder, scores: Iterator[TextScore]) -> None:
    for number, result in enumerate(scores):
        if number:
            output.line()
        for id, bits in zip(result.ids, result.surprisal, strict=True):
            output.line(f"{bits:8.2f}  {saved.tokenizer.piece(id)}")


def _print_table(scores: Iterator[TextScore]) -> None:
    from textgen.evaluation.scoring import Score

    total, texts = Score(), 0
    output.line(HEADER)
    for result in scores:
        beginning = " ".join(result.text[:200].split())
        output.line(_row(result.total, beginning if len(beginning) <= 50 else f"{beginning[:49]}…"))
        total += result.total
        texts += 1
    if texts > 1:
        output.line(_row(total, f"all {counted(texts, 'text')}"))


def _row(score: Score, label: str) -> str:
    values = score.to_dict()
    return (
        f"{values['log_probability']:15,.2f}  {values['perplexity_per_token']:12,.2f}  "
        f"{values['bits_per_byte']:11.4f}  {values['tokens']:7,}  {label}"
    )


# === A stream ===


def _follow(
    saved: ModelFolder,
    scorer: Scorer,
    path: str,
    config: CorpusConfig,
    as_json: bool,
    show_all: bool,
    label: str | None,
    limits: Mapping[str, Any],
) -> None:
    from textgen.evaluation.anomalies import follow

    seen = flagged = 0
    with _lines(path, config.encoding) as lines:
        try:
            for result in follow(scorer, lines, config.documents or "file", label=label, **limits):
                seen += 1
                flagged += result.flagged
                if result.flagged or show_all:
                    _print_json({"model": saved.name, **asdict(result)}) if as_json else _print_line(result, show_all)
        finally:
            output.note(f"{counted(seen, 'line')}, {flagged:,} of them surprising.")


@contextmanager
def _lines(path: str, encoding: str) -> Iterator[Iterator[str]]:
    """Those of a file that may grow, without end; those of a pipe or standard input up to its end."""
    from textgen.evaluation.anomalies import file_lines, stream_lines

    if path != "-" and Path(path).is_file():
        yield file_lines(Path(path), encoding)
        return
    with _open(path) as stream:
        yield stream_lines(stream, encoding)


def _print_line(result: LineScore, show_all: bool) -> None:
    mark = "! " if show_all and result.flagged else "  " if show_all else ""
    deviation = "" if result.deviation is None else f"{result.deviation:+.1f}"
    line = f"{mark}{result.line:>7}  {result.bits_per_character:6.2f}  {deviation:>6}  {result.text}"
    output.line(line, fg="red" if result.flagged else None)
