"""textgen embed: vectors for texts, and similar lines."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textgen.cli import output
from textgen.cli.command import SectionCommand
from textgen.cli.default_model import first_characters, hint_for_file, load_model_or_base, model_and_paths
from textgen.cli.options import (
    OutputFile,
    json_option,
    model_argument,
    models_dir_option,
    paths_argument,
    reading_options,
    settings_of,
    standard_bytes,
)
from textgen.cli.setting_options import IntegerRange
from textgen.corpus.config import CorpusConfig, ignoring_labels
from textgen.errors import TextgenError
from textgen.settings import MAX_COUNT
from textgen.wording import json_text

if TYPE_CHECKING:
    import numpy as np

    from textgen.corpus.corpus import Corpus
    from textgen.evaluation.embeddings import Embedder
    from textgen.saved_model.saved_model import ModelFolder
    from textgen.tokenizer.tokenizer import Tokenizer

    Result = tuple[str, tuple[int, ...], np.ndarray]  # a text; its tokens, or none; the vectors of these, or its own

Line = tuple[str, str]  # the place of a line, such as file:number, and its text
Part = dict[str, object] | str | bytes  # part of the output: an object for a line, text, or a binary file
FORMATS = ("jsonl", "tsv", "npy")


@click.command(cls=SectionCommand)
@model_argument(required=False)
@paths_argument()
@click.option(
    "--text", "texts", multiple=True, metavar="TEXT", help="Make a vector of this text. May be given several times."
)
@click.option("--tokens", is_flag=True, help="Make a vector for each token instead of one for the text.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    help="Format of the vectors: JSON objects with text and vector, lines of numbers, or rows of a NumPy array "
    f"[default: {FORMATS[0]}].",
)
@click.option(
    "--out", type=OutputFile(suffix=".jsonl, .tsv or .npy"), help="File to write the vectors to [default: print them]."
)
@click.option(
    "--search", metavar="TEXT", help="Print the texts that are most similar to this one, each once, instead of vectors."
)
@click.option(
    "--top", type=IntegerRange(1, MAX_COUNT), metavar="N", help="With --search, number of texts to print [default: 5]."
)
@json_option
@models_dir_option
@reading_options
def embed(
    model: str | None,
    paths: tuple[str, ...],
    texts: tuple[str, ...],
    tokens: bool,
    kind: str | None,
    out: Path | None,
    search: str | None,
    top: int | None,
    as_json: bool,
    models_dir: Path | None,
    **options: Any,
) -> None:
    """Make a vector of each text, or find similar lines.

    PATHS are files, folders, globs, or - for standard input, the default. Each line that is not blank is a text; so is
    each record of tables and JSON. Its vector has length 1. It is made of the embeddings of the tokens and the last
    layer's outputs after them, in both directions if the model has both (textgen train --direction both). Before any
    training MODEL may be left out: the default is a base, chinese if the text is mostly Chinese characters, english if
    it is mostly Latin letters. With --search each text is printed after its cosine similarity to TEXT and its file and
    number.

    \b
    Example:
      textgen embed novel sentences.txt > vectors.jsonl
      textgen embed novel sentences.txt --format npy --out vectors.npy
      textgen embed novel sentences.txt --search "It was raining." --top 3
      textgen embed novel --text "It was raining." --tokens
    """
    if search is None:
        _check_flags(kind, out, bool(top or as_json))
    else:
        _check_search_flags(search, bool(tokens or out or kind))
    model, paths = model_and_paths(model, paths, models_dir)
    if model is None and not (paths or texts):
        raise click.UsageError("Missing argument 'MODEL'.")
    lines = _Lines(texts, paths or (() if texts else ("-",)), options)
    saved = load_model_or_base(
        model,
        models_dir,
        lambda: first_characters([*texts, search or ""]) or first_characters(text for _, text in lines),
        hint_for_file(model),
    )
    lines.read_like_text_of(saved)
    if not all(texts):
        raise TextgenError("A text is empty: give --text one that is not, or leave it out.")
    every_line = iter(lines)  # which are read once: a file may change meanwhile
    every_line = chain([next(every_line)], every_line)  # raises if there is no text, before the network is loaded
    embedder = saved.embedder()
    if search is not None:
        _print_nearest(embedder, search, every_line, top or 5, as_json)
        lines.say_left_out()
        return
    results = _vectors(embedder, (text for _, text in every_line), tokens)
    kind = kind or FORMATS[0]
    if out:
        _write(out, results, kind, tokens, saved.tokenizer)
    else:
        for part in _formatted(results, kind, tokens, saved.tokenizer):
            _print(part)
    lines.say_left_out()


class _Lines:
    """Texts and the lines of files, with their places. They are read anew each time, so that none is kept.

    Args:
        texts: Texts that come first.
        paths: Files, folders, globs, or - for standard input.
        options: The options of the command; settings of the corpus among them are used.
    """

    def __init__(self, texts: Sequence[str], paths: Sequence[str], options: dict[str, Any]) -> None:
        if "-" in paths:
            standard_bytes()  # raises if it is closed
        self._texts, self._paths = texts, paths
        settings = settings_of(CorpusConfig, bool(paths), "PATHS", options)
        self._reading = ignoring_labels({"documents": "line", **settings})
        self._config = CorpusConfig(**self._reading)

    @cached_property
    def _corpus(self) -> Corpus | None:
        """The files, which are opened when their first line is asked for: standard input may be endless."""
        from textgen.corpus.corpus import Corpus

        if not self._paths:
            return None
        corpus = Corpus(self._paths, self._config)
        corpus.say_findings(output.note)
        return corpus

    def read_like_text_of(self, saved: ModelFolder) -> None:
        """Reads the files as the text of a model was read, unless they have been opened to choose the model."""
        self._config = saved.reading(self._reading)

    def __iter__(self) -> Iterator[Line]:
        from textgen.corpus.source_finder import STANDARD_INPUT

        yield from ((f"--text {number}", text) for number, text in enumerate(self._texts, 1))
        for name, number, line in self._corpus.lines() if self._corpus else ():
            yield f"{'-' if name == STANDARD_INPUT else name}:{number}", line

    def say_left_out(self) -> None:
        """Prints a note for each file in which the last reading skipped records."""
        if self._corpus:
            self._corpus.say_left_out(output.note)


def _check_flags(kind: str | None, out: Path | None, has_search_flags: bool) -> None:
    """Raises `click.UsageError` for flags that do not go together without --search."""
    if has_search_flags:
        raise click.UsageError("--top and --json need --search: without it, --format selects what is printed.")
    if kind == "npy" and not out and output.is_terminal():
        raise click.UsageError("A NumPy array cannot be printed: name a file with --out.")


def _check_search_flags(search: str, has_vector_flags: bool) -> None:
    """Raises `click.UsageError` for flags that do not go with --search, or an empty text."""
    if has_vector_flags:
        raise click.UsageError("--search prints lines: it cannot be combined with --tokens, --out or --format.")
    if not search.strip():
        raise click.UsageError("--search is empty: give a text to compare the lines with.")


def _vectors(embedder: Embedder, texts: Iterable[str], tokens: bool) -> Iterator[Result]:
    """Each text, and the vectors of its tokens, as they are made; or its own vector alone."""
    if tokens:
        return ((each.text, each.ids, each.token_vectors) for each in embedder.read(texts))
    kept, read = tee(texts)  # those read whose vectors are not made yet are kept
    return ((text, (), vector[None]) for text, vector in zip(kept, embedder.vectors(read), strict=True))


def _formatted(results: Iterable[Result], kind: str, tokens: bool, tokenizer: Tokenizer) -> Iterator[Part]:
    """The vectors, as they are made; a NumPy array at the end."""
    import numpy as np

    if kind == "npy":
        file = io.BytesIO()
        np.save(file, np.concatenate([vectors for _, _, vectors in results]))
        yield file.getvalue()
        return
    for text, ids, vectors in results:
        if kind == "tsv":
            yield "".join("\t".join(f"{number:.6g}" for number in row) + "\n" for row in vectors)
        elif tokens:
            yield {"text": text, "token_texts": [tokenizer.piece(id) for id in ids], "vectors": _rounded(vectors)}
        else:
            yield {"text": text, "vector": _rounded(vectors[0])}


def _write(path: Path, results: Iterable[Result], kind: str, tokens: bool, tokenizer: Tokenizer) -> None:
    """Writes the vectors into a file as they are made, so that they need not fit into memory."""
    from textgen.storage.files import write_chunks
    from textgen.storage.new_files import new_file

    with new_file(path) as temporary:
        if kind == "npy":
            _write_array(temporary, (vectors for _, _, vectors in results), path)
        else:
            write_chunks(temporary, map(_encoded, _formatted(results, kind, tokens, tokenizer)), message_path=path)


def _write_array(path: Path, arrays: Iterator[np.ndarray], message_path: Path) -> None:
    """Writes the rows of several arrays as one NumPy array. Their number is filled in at the end."""
    from textgen.storage.files import write_chunks, writing

    first, count = next(arrays), 0

    def chunks() -> Iterator[bytes]:
        nonlocal count
        yield _array_header(first, 0)
        for rows in chain([first], arrays):
            count += len(rows)
            yield rows.tobytes()

    write_chunks(path, chunks(), message_path=message_path)
    with writing(message_path), path.open("r+b") as file:
        file.write(_array_header(first, count))


def _array_header(rows: np.ndarray, count: int) -> bytes:
    """What is before the rows in a file of NumPy. It has room for any count: its length is always the same."""
    import numpy as np

    shape = (count, *rows.shape[1:])
    description = np.lib.format.dtype_to_descr(rows.dtype)
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": description, "fortran_order": False, "shape": shape})
    return file.getvalue()


def _print_nearest(embedder: Embedder, query: str, lines: Iterable[Line], top: int, as_json: bool) -> None:
    for cosine, (where, text) in embedder.nearest(query, lines, top):
        if as_json:
            output.json_line({"cosine": round(cosine, 6), "place": where, "text": text})
        else:
            output.line(f"{cosine:7.4f}  {where}  {text}")


def _print(part: Part) -> None:
    if isinstance(part, dict):
        output.json_line(part)
    elif isinstance(part, str):
        output.write(part)
    else:
        output.data(part)


def _encoded(part: Part) -> bytes:
    if isinstance(part, bytes):
        return part
    return (part if isinstance(part, str) else f"{json_text(part)}\n").encode()


def _rounded(array: np.ndarray) -> list[float] | list[list[float]]:
    return array.astype(float).round(6).tolist()
