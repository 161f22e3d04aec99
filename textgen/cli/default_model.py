"""The model of a command that names none: the newest, or before any training the base for the text."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from textgen.cli import output
from textgen.cli.options import corpus_config, standard_bytes
from textgen.errors import CorpusError, SavedModelError
from textgen.storage.addresses import is_remote, local_path

if TYPE_CHECKING:
    from textgen.corpus.config import CorpusConfig
    from textgen.saved_model.saved_model import ModelFolder

BEGINNING = 1 << 14  # characters, or bytes of standard input, by which the base for a text is chosen
_ESCAPE = re.compile(r"\\u([\da-fA-F]{4})")  # of a character in JSON


def load_model_to_read(name: str | None, models_dir: Path | None = None, hint: str = "") -> ModelFolder:
    """Loads the model of a command that does not change it. A note says if the model is being trained.

    Args:
        name: Name or path of the model, or None for the newest.
        models_dir: The models folder, or None for the usual one.
        hint: A sentence for the error if there is no such model.

    Returns:
        The model.

    Raises:
        SavedModelError: There is no such model, or it is damaged.
    """
    from textgen.saved_model.loading import load_model

    with _hinted(hint):
        saved = load_model(name, models_dir)
    note_if_training(saved)
    return saved


def note_if_training(saved: ModelFolder) -> None:
    """Prints a note if a model is being trained."""
    from textgen.saved_model.registry import status_of
    from textgen.saved_model.run_status import RUNNING

    if saved.training and status_of(saved.folder, saved.training) == RUNNING:
        output.note(f"{saved.name} is being trained at the moment; this is what was saved last.")


def load_model_or_base(
    name: str | None, models_dir: Path | None, beginning: Callable[[], str], hint: str = ""
) -> ModelFolder:
    """Loads the model of a command. A note says if it is a base that nobody named.

    Args:
        name: Name or path of the model, or None.
        models_dir: The models folder, or None for the usual one.
        beginning: Called for the beginning of the text, if its writing system has to choose a base.
        hint: A sentence for the error if there is no model of this name.

    Returns:
        The model.

    Raises:
        SavedModelError: There is no such model. Without a name: there is neither a model nor a base for this
            writing system, or no folder `models_dir`.
    """
    from textgen.saved_model.bases import BASES, base_folder, base_for, installed_bases
    from textgen.saved_model.registry import list_models, require_models_folder, why_empty

    if name is None:
        require_models_folder(models_dir)
    if name is not None or list_models(models_dir) or not installed_bases():
        return load_model_to_read(name, models_dir, hint)
    text = beginning()
    base = base_for(text if any(map(str.isalpha, text)) else "")  # digits are of any language
    if base is None:
        raise SavedModelError(
            f"{why_empty(models_dir)} There is no base for the writing system of this text (there are: "
            f"{'; '.join(f'{name}, for {BASES[name]}' for name in installed_bases())}): train a model on such text "
            "first."
        )
    saved = load_model_to_read(str(base_folder(base).absolute()))
    output.note(f"{why_empty(models_dir)} Using the base {base}. To train your own model: textgen train FILE")
    return saved


def model_and_paths(
    model: str | None, paths: Sequence[str], models_dir: Path | None, *, takes_one_path: bool = False
) -> tuple[str | None, tuple[str, ...]]:
    """Decides whether the first argument of a command is the model, or a path because there is no model yet.

    Args:
        model: The first argument of the command, or None.
        paths: The others.
        models_dir: The models folder, or None for the usual one.
        takes_one_path: Whether the command reads only one path, so that the first of two arguments is the model.

    Returns:
        The model, or None, and the paths.

    Raises:
        SavedModelError: There is no model yet, and the first argument names no base, and no text that is read.
    """
    from textgen.saved_model.bases import installed_bases
    from textgen.saved_model.registry import (
        NoSuchModel,
        about_bases,
        find_model,
        list_runs,
        require_models_folder,
        why_empty,
    )

    model = None if model is None else local_path(model)
    if model is None or is_remote(model) or list_runs(models_dir):
        return model, tuple(paths)
    try:
        find_model(model, models_dir)
    except SavedModelError as error:
        is_path = model == "-" or os.path.lexists(model)
        if is_path and not (paths and takes_one_path):
            return None, (model, *paths)
        if is_path or not isinstance(error, NoSuchModel):
            raise
        require_models_folder(models_dir)
        bases = about_bases(installed_bases(), model)
        raise NoSuchModel(f"There is neither a file nor a model {model!r}. {why_empty(models_dir)}{bases}") from None
    return model, tuple(paths)


def refuse_file_as_model(model: str | None, models_dir: Path | None) -> None:
    """Checks that the model is not left out, where a command has one argument and needs a model and a text.

    Args:
        model: The argument, or None.
        models_dir: The models folder, or None for the usual one.

    Raises:
        SavedModelError: It names a file.
    """
    from textgen.saved_model.registry import find_model

    if hint := hint_for_file(model):
        with _hinted(hint):
            find_model(model, models_dir)


@contextmanager
def _hinted(hint: str) -> Iterator[None]:
    """Adds a hint to the error of the block if there is no such model."""
    from textgen.saved_model.registry import NoSuchModel

    try:
        yield
    except NoSuchModel as error:
        raise NoSuchModel(f"{error} {hint}".rstrip()) from None


def hint_for_file(model: str | None) -> str:
    """A hint for the error if the model argument names a file; "" otherwise."""
    return "Name a model before it." if model and os.path.isfile(model) else ""


def beginning_of(paths: Sequence[str], options: dict[str, Any], *, has_json_lines: bool = False) -> str:
    """Reads the beginning of the text in some files. Standard input is looked at only if there is nothing else.

    Args:
        paths: Files, folders, globs, or - for standard input.
        options: The options of the command; settings of the corpus among them are used.
        has_json_lines: Whether the command reads a text field of each line, whatever the names of the files.

    Returns:
        The first characters of the text.

    Raises:
        CorpusError: A file cannot be read, or there is no such encoding.
    """
    from textgen.corpus.corpus import Corpus
    from textgen.corpus.left_out import LeftOut

    config = corpus_config(options)
    files = [path for path in paths if path != "-"]
    if not files:
        return _beginning_of_input(config, has_json_lines)
    corpus = Corpus(files, config)
    if has_json_lines:
        return first_characters(text for *_, text in corpus.json_lines(LeftOut()))
    return first_characters(part.text for part in corpus.parts())


def _beginning_of_input(config: CorpusConfig, has_json_lines: bool) -> str:
    """The beginning of the text on standard input, which stays in it. Mistakes in it are left to those who read it."""
    from textgen.corpus.encoding_guess import marked_encoding
    from textgen.corpus.encodings import text_decoder

    data = _ahead(standard_bytes())
    text = text_decoder(marked_encoding(data) or config.text_encoding, "ignore").decode(data)
    if not has_json_lines:
        return text
    fields = first_characters(_json_texts(text.splitlines(), config))
    return fields or _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)  # the first line is longer than this


def _json_texts(lines: Iterable[str], config: CorpusConfig) -> Iterator[str]:
    """The texts of JSON lines. Lines that are no JSON are skipped, such as the last one, which may be cut."""
    from textgen.corpus.formats.records import RecordFile
    from textgen.corpus.source_finder import STANDARD_INPUT

    file = RecordFile(STANDARD_INPUT, ".jsonl", config, is_whole=False)
    for line in lines:
        with suppress(CorpusError):
            yield from [text for *_, text in file.json_lines([line])]


def first_characters(texts: Iterable[str]) -> str:
    """Returns the first texts, as far as they are needed to tell the writing system."""
    found: list[str] = []
    for text in texts:
        found.append(text[:BEGINNING])
        if sum(map(len, found)) >= BEGINNING:
            break
    return "".join(found)


def _ahead(stream: BinaryIO) -> bytes:
    """The next bytes of a stream, which stay in it."""
    if hasattr(stream, "peek"):
        return bytes(stream.peek(BEGINNING)[:BEGINNING])
    place = stream.tell()
    data = stream.read(BEGINNING)
    stream.seek(place)
    return data
