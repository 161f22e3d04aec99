"""textgen score: how probable texts are, or the lines of a stream, for a saved model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import chain, groupby, tee
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from textgen.cli import output
from textgen.cli.command import SectionCommand
from textgen.cli.default_model import beginning_of, hint_for_file, load_model_or_base, model_and_paths
from textgen.cli.followed_lines import follow_lines
from textgen.cli.options import (
    AS_TRAINED,
    given,
    json_option,
    label_option,
    model_argument,
    models_dir_option,
    open_bytes,
    paths_argument,
    sectioned,
    text_of,
)
from textgen.cli.setting_options import IntegerRange, NumberRange, flag_of, setting_options
from textgen.cli.text_printer import between, colour_of
from textgen.corpus.config import CorpusConfig, ignoring_labels
from textgen.errors import CorpusError
from textgen.settings import select
from textgen.storage.streams import is_stream
from textgen.tokenizer.pieces import SPACE
from textgen.wording import counted, short

if TYPE_CHECKING:
    from textgen.corpus.left_out import LeftOut
    from textgen.evaluation.scoring import Score, TextScore
    from textgen.saved_model.saved_model import ModelFolder
    from textgen.tokenizer.tokenizer import Tokenizer

READ_BY_FOLLOW = ("documents", "encoding", "newlines")  # settings of the corpus that --follow uses
READ_BY_JSONL = ("encoding", "newlines", "text_field", "strict")  # settings of the corpus that --jsonl uses
OF_TOKENS = frozenset(("token_texts", "surprisal"))  # fields that --tokens adds
LINE_BYTES = 1 << 18  # maximum number of bytes of a stream that are read at a time
HEADER = "log probability    perplexity  bits/byte     tokens  text"

FOLLOWING = "Following a stream"
NEXT_WORD = re.compile(rf"(?:[^\S\n]|{SPACE})*(?:\n|[^\s{SPACE}]+)")  # or newline, with the white space before it
Row = tuple[str, Any, str]  # file and line, the JSON value, and its text


@dataclass(frozen=True)
class Arguments:
    """The flags of `textgen score` that are not settings of the corpus."""

    label: str | None
    tokens: bool
    show_probabilities: bool
    no_end: bool
    jsonl: bool
    follow: bool
    show_all: bool
    threshold: float | None
    window: int | None
    as_json: bool


@click.command(cls=SectionCommand)
@model_argument()
@paths_argument()
@click.option("--tokens", is_flag=True, help="Print the surprisal of each token, in bits.")
@click.option(
    "--show-probabilities",
    is_flag=True,
    help="Print the texts with tokens colored by surprisal: green up to 1 bit, cyan up to 4, yellow up to 8, red "
    "above.",
)
@click.option("--no-end", is_flag=True, help="Do not score the end of each document, as if the texts went on.")
@click.option(
    "--jsonl",
    is_flag=True,
    help="Read a JSON object from each line, score its text field, and print the object with the scores added.",
)
@click.option(
    "--follow", is_flag=True, help="Score the lines of a growing file or of an endless stream, and print unusual ones."
)
@label_option
@json_option
@models_dir_option
@setting_options(CorpusConfig, leave_out=("labels",), defaults=AS_TRAINED)
@sectioned(FOLLOWING, "--all", "show_all", is_flag=True, help="With --follow, print all lines, not only unusual ones.")
@sectioned(
    FOLLOWING,
    "--threshold",
    type=NumberRange(0.0),
    metavar="X",
    help="With --follow, print lines whose bits per character are more than X standard deviations above the median "
    "[default: 3.5].",
)
@sectioned(
    FOLLOWING,
    "--window",
    type=IntegerRange(30, 1_000_000),
    metavar="N",
    help="With --follow, compare each line with the N lines before it [default: 1000].",
)
def score(model: str, paths: tuple[str, ...], models_dir: Path | None, **options: Any) -> None:
    """Score how probable each text is.

    PATHS are files, folders, globs, or - for standard input, the default. Each document in them is a text, cut as in
    training unless options say otherwise. Each is scored by itself: its log probability in nats, perplexity per
    token and bits per byte, as in `textgen evaluate`. With a vocabulary of words, the log probability and the bits
    per byte include the cost of spelling unknown words. Labels in the files are not read: without --label the texts
    have none.

    With --jsonl an object may have other fields, but none with the name of a score and none with a number that JSON
    does not have, such as NaN: that is an error. If it has all scores, it was scored before, and they are replaced.

    Before any training MODEL may be left out: a base then scores the text, chinese if it is mostly Chinese
    characters, english if it is mostly Latin letters.

    With --follow the lines of one file or of standard input are a stream, scored as they arrive. A file may grow: at
    its end, more lines are waited for until Ctrl-C. It must be plain text, not a table, JSON, compressed or a document
    such as .pdf. Unusual lines are printed with their line number, bits per character, and deviation from the lines
    before them. The first 30 lines only show what is usual. MODEL must have been trained on such lines: a base, or a
    model of other text, does not know what is usual in them, and a note says so.

    \b
    Example:
      textgen score novel chapter.txt
      echo "It was a dark and stormy night." | textgen score novel - --tokens --no-end
      textgen score novel chapter.txt --show-probabilities
      textgen score news sentences.jsonl --jsonl > scored.jsonl
      tail -n 1000 -F /var/log/syslog | textgen score syslog - --follow
    """
    arguments = Arguments(**{field.name: options.pop(field.name) for field in fields(Arguments)})
    name, paths = model_and_paths(model, paths, models_dir, takes_one_path=arguments.follow)
    _refuse_contradictions(paths, arguments, options)
    paths = paths or ("-",)
    beginning = partial(beginning_of, paths, options, has_json_lines=arguments.jsonl)
    saved = load_model_or_base(name, models_dir, beginning, hint_for_file(name))
    reading = ignoring_labels(select(CorpusConfig, given(options)))
    saved.tokenizer.opening(arguments.label)  # raises before anything is read
    if arguments.follow:
        limits = given({"threshold": arguments.threshold, "window": arguments.window})
        follow_lines(
            saved,
            paths[0],
            saved.reading(reading),
            label=arguments.label,
            limits=limits,
            show_all=arguments.show_all,
            as_json=arguments.as_json,
        )
    else:
        _score_texts(saved, paths, reading, arguments)


def _refuse_contradictions(paths: Sequence[str], arguments: Arguments, options: dict[str, Any]) -> None:
    """Raises `click.UsageError` for flags of texts with --follow, and flags of lines without it."""
    of_files = {flag_of(name): value for name, value in options.items() if name not in READ_BY_FOLLOW}
    of_texts = ("jsonl", "tokens", "show_probabilities", "no_end")
    for_texts = {**{flag_of(name): getattr(arguments, name) for name in of_texts}, **of_files}
    for_lines = {
        "--all": arguments.show_all,
        "--threshold": arguments.threshold is not None,
        "--window": arguments.window,
    }
    clash = [flag for flag, value in (for_texts if arguments.follow else for_lines).items() if value]
    if clash and arguments.follow:
        raise click.UsageError(f"--follow scores lines: it cannot be combined with {clash[0]}.")
    if clash:
        raise click.UsageError(f"{clash[0]} needs --follow: without it, each text is scored separately.")
    printed = [name for name in ("tokens", "as_json", "jsonl") if getattr(arguments, name)]
    if arguments.show_probabilities and printed:
        flag = flag_of(printed[0].removeprefix("as_"))
        raise click.UsageError(f"--show-probabilities prints the texts: it cannot be combined with {flag}.")
    unread = [flag_of(name) for name, value in options.items() if value is not None and name not in READ_BY_JSONL]
    if arguments.jsonl and unread:
        raise click.UsageError(f"--jsonl scores a text field of each line: it cannot be combined with {unread[0]}.")
    if arguments.follow and len(paths) > 1:
        raise click.UsageError("--follow reads one file, or standard input: name only one.")
    if arguments.follow and paths and (problem := _problem_of_lines(paths[0])):
        raise click.UsageError(f"--follow reads plain lines, and {paths[0]} {problem}.")


def _problem_of_lines(path: str) -> str:
    """Why the lines of a file are not its texts, and what to do; "" for plain text and for streams."""
    from textgen.corpus.source import Source

    file = Source(Path(path), path, CorpusConfig(), is_copy=_is_stream(path))  # the name of a stream tells nothing
    if file.is_copy:
        return ""
    if file.compression:
        return "is compressed: leave out --follow, or pipe its unpacked lines"
    if file.rich:
        return f"is a {file.rich} document: leave out --follow, or pipe its text"
    if "json" in file.format:
        return "holds JSON: leave out --follow, or pipe the texts in it"
    return "is a table: leave out --follow, or pipe the column" if file.format else ""


# === Texts ===


def _score_texts(saved: ModelFolder, paths: Sequence[str], reading: Mapping[str, Any], arguments: Arguments) -> None:
    """Scores each text of some files, and prints the scores."""
    from textgen.evaluation.scoring import Scorer

    direction = saved.main_direction
    scorer = Scorer(saved.numpy_model(direction), saved.tokenizer, direction)
    scores = partial(scorer.scores, ends=not arguments.no_end, label=arguments.label)
    if arguments.jsonl:
        _print_rows(saved, scores, paths, saved.reading(reading), arguments.tokens)
        return
    text = text_of(saved, paths, reading)
    results = scores(text.documents())
    if arguments.as_json:
        for result in results:
            output.json_line({"text": result.text, "model": saved.name, **_as_dict(saved, result, arguments.tokens)})
    elif arguments.tokens:
        _print_tokens(saved, results)
    elif arguments.show_probabilities:
        _print_coloured(saved, results, between(text.config, text.documents_mode))
    else:
        _print_table(results)
    text.say_left_out(output.note)


def _print_rows(
    saved: ModelFolder,
    scores: Callable[[Iterable[str]], Iterator[TextScore]],
    paths: Sequence[str],
    config: CorpusConfig,
    tokens: bool,
) -> None:
    """Prints each JSON line of some files, with the scores of its text."""
    from textgen.corpus.left_out import LeftOut, no_text
    from textgen.corpus.source_finder import STANDARD_INPUT

    left_out, empty = LeftOut(), True
    readers = _row_readers(paths, config)
    rows, read = tee(chain.from_iterable(each(left_out) for each in readers))  # those read but not printed are kept
    for (place, row, text), result in zip(rows, scores(text for *_, text in read), strict=False):
        empty = False
        row = row if isinstance(row, dict) else {config.text_field: text}
        output.json_line(_scored(row, {"model": saved.name, **_as_dict(saved, result, tokens)}, place))
    if empty:
        raise no_text([STANDARD_INPUT if path == "-" else path for path in paths], left_out)
    for line in left_out.lines():
        output.note(line)


def _scored(row: dict[str, Any], scores: dict[str, Any], place: str) -> dict[str, Any]:
    """A row with its scores, which replace those of an earlier run.

    Args:
        row: The row.
        scores: The scores by name.
        place: File and line of the row.

    Raises:
        CorpusError: A field that is not of an earlier run has the name of a score, or a number that JSON does not have.
    """
    from textgen.evaluation.scoring import Score

    of_all = {"model", *Score().to_dict()}
    if of_all.issubset(row):
        earlier = of_all | {"unknown_words"} | (OF_TOKENS if OF_TOKENS.issubset(row) else set())
        row = {name: value for name, value in row.items() if name not in earlier}
    if clash := next((name for name in row if name in scores), None):
        raise CorpusError(f"{place}: the field {clash!r} has the name of a score, which would replace it. Rename it.")
    for name, value in row.items():
        try:
            json.dumps(value, allow_nan=False)
        except ValueError:
            raise CorpusError(
                f"{place}: the field {name!r} has a number that is infinite, too large or NaN, which JSON cannot pass "
                "on. Make it null or text."
            ) from None
    return {**row, **scores}


def _row_readers(paths: Sequence[str], config: CorpusConfig) -> list[Callable[[LeftOut], Iterator[Row]]]:
    """Functions that read the JSON lines of some files, folders and streams, in order. A stream is not read ahead."""
    from textgen.corpus.corpus import Corpus

    readers: list[Callable[[LeftOut], Iterator[Row]]] = []
    for is_endless, group in groupby(paths, _is_stream):
        if is_endless:
            readers += [partial(_stream_rows, path, config) for path in group]
        else:
            files, by_line = list(group), replace(config, documents="line")  # so that none is guessed
            corpus = Corpus(files, by_line, is_alone=len(files) == len(paths))
            corpus.say_findings(output.note)
            readers.append(corpus.json_lines)
    return readers


def _is_stream(path: str) -> bool:
    """Whether a path is standard input or another stream."""
    return path == "-" or is_stream(Path(path))


def _stream_rows(path: str, config: CorpusConfig, left_out: LeftOut) -> Iterator[Row]:
    """The JSON lines of a stream, each as soon as it arrives."""
    from textgen.corpus.formats.records import RecordFile
    from textgen.corpus.source_finder import STANDARD_INPUT

    name = STANDARD_INPUT if path == "-" else path
    file = RecordFile(name, ".jsonl", config, left_out=left_out, keeps_blank=True)
    with open_bytes(path) as stream:
        yield from file.json_lines(_decoded(stream, config.text_encoding, name))


def _decoded(stream: BinaryIO, encoding: str, name: str) -> Iterator[str]:
    """The lines of a stream as text, each as soon as it arrives. A byte-order mark names another encoding."""
    from textgen.corpus.encoding_guess import marked_encoding
    from textgen.corpus.encodings import text_decoder

    lines = iter(partial(stream.readline, LINE_BYTES), b"")
    first = next(lines, b"")
    marked = marked_encoding(first)
    encoding = marked or encoding
    advice = "Save it again in the encoding of its byte-order mark" if marked else "Set encoding to that of the file"
    decoder, number = text_decoder(encoding), 1
    for data in chain([first], lines, [b""]):
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeError as error:
            raise CorpusError(f"{name}, line {number}: not {encoding} ({error}). {advice}.") from None
        yield text.removeprefix("\ufeff") if number == 1 else text
        number += data.endswith(b"\n")


def _as_dict(saved: ModelFolder, result: TextScore, tokens: bool) -> dict[str, Any]:
    values: dict[str, Any] = result.total.to_dict()
    if tokens:
        values["token_texts"] = [saved.tokenizer.piece(id) for id in result.ids]
        values["surprisal"] = [round(bits, 4) for bits in result.surprisal.tolist()]
    return values


def _print_tokens(saved: ModelFolder, scores: Iterator[TextScore]) -> None:
    for number, result in enumerate(scores):
        if number:
            output.line()
        for id, bits in zip(result.ids, result.surprisal, strict=True):
            output.line(f"{bits:8.2f}  {saved.tokenizer.piece(id)}")


def _print_coloured(saved: ModelFolder, scores: Iterator[TextScore], separator: str) -> None:
    """Prints the texts, each token in the colour of its surprisal."""
    ends_line = False
    for number, result in enumerate(scores):
        output.write(separator if number else "")
        for part, bits in _parts(saved.tokenizer, result):
            output.write(part, fg=colour_of(bits), is_asked=True)
        ends_line = result.text.endswith("\n")
    output.write("" if ends_line else "\n")


def _parts(tokenizer: Tokenizer, result: TextScore) -> Iterator[tuple[str, float]]:
    """The parts of a text that its tokens stand for, in order, and their surprisals in bits.

    Tokens within a character are one part. A vocabulary of words loses white space: it belongs to the word after it.
    """
    decoder, position, bits = tokenizer.decoder(), 0, 0.0
    is_whole = tokenizer.decode(result.ids) == result.text
    for id, of_token in zip(result.ids, result.surprisal.tolist(), strict=True):
        if id == tokenizer.eos_id:
            continue
        bits += of_token
        if is_whole:
            length = len(decoder.feed([id]))
        else:
            length = found.end() - position if (found := NEXT_WORD.match(result.text, position)) else 0
        if length:
            yield result.text[position : position + length], bits
            position, bits = position + length, 0.0
    yield result.text[position:], bits


def _print_table(scores: Iterator[TextScore]) -> None:
    from textgen.evaluation.scoring import Score

    total, texts = Score(), 0
    for result in scores:
        if not texts:  # an error in the files has come before
            output.line(HEADER)
        beginning = " ".join(result.text[:200].split())
        output.line(_row(result.total, beginning if len(beginning) <= 50 else f"{beginning[:49]}…"))
        total += result.total
        texts += 1
    if texts > 1:
        output.line(_row(total, f"all {counted(texts, 'text')}"))


def _row(score: Score, label: str) -> str:
    values = score.to_dict()
    return (
        f"{values['log_probability']:15,.2f}  {short(values['perplexity_per_token'], 2):>12}  "
        f"{values['bits_per_byte']:11.4f}  {values['tokens']:7,}  {label}"
    )
