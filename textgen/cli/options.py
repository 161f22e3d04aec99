"""Options and arguments that several commands share, and what is done with their values."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
from click.shell_completion import CompletionItem

from textgen.cli import output
from textgen.cli.command import INPUT, SectionOption
from textgen.cli.output_paths import REPLACED, OutputPath
from textgen.cli.setting_options import Decorator, flag_of, setting_options
from textgen.corpus.config import OF_ONE_TEXT, CorpusConfig
from textgen.errors import CorpusError, TextgenError
from textgen.settings import declared, from_dict, select
from textgen.storage.addresses import refuse_remote
from textgen.tokenizer.config import TokenizerConfig

if TYPE_CHECKING:
    from textgen.corpus.corpus import Corpus
    from textgen.dataset.ngram_index import Novelty
    from textgen.saved_model.saved_model import ModelFolder


class OutputFolder(OutputPath):
    """A folder of this machine. An address is refused, since nothing is written elsewhere."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Returns the path. Raises `TextgenError` for an address."""
        refuse_remote(str(value), "a folder")
        return Path(os.fsdecode(super().convert(value, param, ctx)))


class FilledFolder(OutputFolder):
    """A folder into which a command writes at its end. One that cannot be written into is refused at the start.

    So is the folder of a model, and a new folder in it.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Returns the path. Raises `TextgenError` if nothing can be written into it."""
        from textgen.saved_model.creation import refuse_in_model
        from textgen.storage.files import check_folder_writable

        path = super().convert(value, param, ctx)
        check_folder_writable(path)
        refuse_in_model(path, is_filled=True)
        return path


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a command that were given."""
    return {name: value for name, value in options.items() if value is not None}


AS_TRAINED = dict.fromkeys(declared(CorpusConfig).keys() - set(OF_ONE_TEXT), "as in training")
"""The defaults of commands that read a text for a model: `ModelFolder.reading` takes them from its training."""

corpus_options = setting_options(CorpusConfig)
corpus_options_of_model = setting_options(CorpusConfig, defaults=AS_TRAINED)
tokenizer_options = setting_options(TokenizerConfig)
reading_options = setting_options(
    CorpusConfig, leave_out=("documents", "newlines", "strict", "labels"), defaults=AS_TRAINED
)
"""How to read a file, for commands that otherwise read it as the model's training text."""
label_option = click.option("--label", metavar="NAME", help="Read each text as a document with this label.")
models_dir_option = click.option(
    "--models-dir",
    type=OutputFolder(),
    help="Folder of the saved models [default: $TEXTGEN_MODELS, else saved_models].",
)
novelty_option = click.option(
    "--novelty", is_flag=True, help="Report how much of the text occurs word for word in the training text."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def sectioned(section: str, *names: str, **kind: Any) -> Decorator:
    """An option that only `--help-all` shows, under a title."""
    return click.option(*names, cls=SectionOption, section=section, **kind)


def model_argument(*, required: bool = True) -> Decorator:
    """The MODEL that a command works on, its first argument."""
    return click.argument("model", required=required, shell_complete=completing_models())


def paths_argument(*, required: bool = False, metavar: str | None = None) -> Decorator:
    """The PATHS of the texts that a command reads, shown as `metavar`."""
    return click.argument("paths", nargs=-1, required=required, metavar=metavar, type=INPUT)


Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def completing_models(*words: str) -> Completion:
    """Completes the name of a model or a base, or a path if no name begins like that.

    Args:
        words: What may stand in place of a name.

    Returns:
        The function that click calls to complete an argument.
    """

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from textgen.saved_model.bases import installed_bases
        from textgen.saved_model.registry import list_models

        names = [*words, *(path.name for path in _listed(list_models, ctx)), *installed_bases()]
        return _beginning(names, incomplete) or INPUT.shell_complete(ctx, parameter, incomplete)

    return complete


def completing_runs(accepted: Callable[[Path], bool], *, or_path: bool) -> Completion:
    """Completes the name of a run, which may have saved no model yet.

    Args:
        accepted: Whether the command works on the run in this folder.
        or_path: Whether the command takes a path, too. It is completed if no name begins like that.

    Returns:
        The function that click calls to complete an argument.
    """

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from textgen.saved_model.registry import list_runs

        found = _beginning([path.name for path in _listed(list_runs, ctx) if accepted(path)], incomplete)
        return found or (INPUT.shell_complete(ctx, parameter, incomplete) if or_path else [])

    return complete


def _listed(folders: Callable[[Path | None], list[Path]], ctx: click.Context) -> list[Path]:
    """The folders that a function finds in the folder of models; none if it cannot be read."""
    try:
        return folders(ctx.params.get("models_dir"))
    except (TextgenError, OSError):
        return []


def _beginning(names: Sequence[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]


completing_tokenizers = completing_models("byte")
tokenizer_from_option = click.option(
    "--tokenizer-from",
    metavar="MODEL",
    shell_complete=completing_tokenizers,
    help="Use the vocabulary of this model or .model file.",
)


class OutputFile(OutputPath):
    """A file that a command writes at its end. A file that cannot be written is refused at the start.

    So is one in the folder of a model. The command refuses one that it reads (`textgen.cli.output_paths`).

    Args:
        dir_okay: Whether the command may write a folder instead.
        about_existing: What happens to a file that is there, in a sentence for the help.
        suffix: How its name usually ends, if what is written is plain text. Names of documents, such as a.docx, and of
            compressed files are then refused: programs could not open them.
    """

    def __init__(self, dir_okay: bool = False, about_existing: str = REPLACED, suffix: str = "") -> None:
        super().__init__(dir_okay=dir_okay, path_type=Path)
        self.about_existing, self.suffix = about_existing, suffix

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Returns the path. Raises `TextgenError` if nothing can be written there."""
        from textgen.corpus.formats.archives import format_of_name
        from textgen.saved_model.creation import refuse_in_model
        from textgen.storage.files import check_writable

        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if self.suffix and (what := format_of_name(path.name)):
            raise TextgenError(
                f"Plain text would be written, and by its name {path} would be {what}. Name a file that ends in "
                f"{self.suffix}."
            )
        if not path.is_dir():  # a folder that may be replaced is checked by the command
            check_writable(path)
        refuse_in_model(path)
        return path


def corpus_config(options: dict[str, Any]) -> CorpusConfig:
    """The settings of the corpus among a command's options."""
    return from_dict(CorpusConfig, select(CorpusConfig, given(options)))


def text_of(saved: ModelFolder, paths: Sequence[str], reading: Mapping[str, Any]) -> Corpus:
    """Opens a text for a saved model, and notes which files are skipped: see `textgen.saved_model.other_texts`."""
    from textgen.saved_model.other_texts import opened_text

    return opened_text(saved, paths, reading, output.note)


def settings_of(kind: type, on: bool, switch: str, options: dict[str, Any]) -> dict[str, Any]:
    """The given settings of a feature.

    Args:
        kind: Its `Settings` class.
        on: Whether it is used.
        switch: The flag or the argument that turns it on.
        options: The options of the command.

    Raises:
        click.UsageError: There are settings of the feature, but it is off.
    """
    settings = given(select(kind, options))
    if settings and not on:
        raise click.UsageError(f"{flag_of(next(iter(settings)))} needs {switch}.")
    return settings


def guessed(reason: str | None) -> str:
    """Why the document mode was guessed, in brackets. Empty if it was chosen."""
    from textgen.corpus.document_guess import RECORDS

    if not reason:
        return ""
    return f" ({reason})" if reason == RECORDS else f" ({reason}; --documents chooses another)"


def standard_bytes() -> BinaryIO:
    """Standard input as bytes. Raises `TextgenError` if it is closed."""
    if sys.stdin is None:
        raise TextgenError("Standard input is closed: pipe a text into it, or name a file.")
    return sys.stdin.buffer


def open_bytes(path: str) -> AbstractContextManager[BinaryIO]:
    """Opens a file, or for - standard input, which stays open. Raises `CorpusError` if a file cannot be read."""
    if path == "-":
        return nullcontext(standard_bytes())
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise CorpusError(f"Cannot read {path}: {error.strerror or error}. Name a file that can be read.") from None


def standard_input() -> str:
    """Reads all of standard input. Raises `TextgenError` if it is not UTF-8."""
    from textgen.corpus.text_decoding import utf8_text

    return utf8_text(standard_bytes().read(), "Standard input")


def read_text(path: str) -> str:
    """Reads a file, or standard input for -. Newlines become \\n, a byte-order mark is removed.

    Raises `TextgenError` if the text cannot be read or is not UTF-8.
    """
    from textgen.corpus.text_decoding import utf8_text

    name = "Standard input" if path == "-" else path
    try:
        data = standard_bytes().read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise TextgenError(f"Cannot read {name}: {error.strerror or error}. Name a UTF-8 text file.") from None
    return utf8_text(data, name).removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def novelty_line(novelty: Novelty) -> str:
    """A report on copied text, in a line for people. A long copy is shortened."""
    from textgen.wording import counted, excerpt, percent

    tokens = counted(novelty.ngram, "token")
    if novelty.copied_fraction is None:
        return f"novelty: too short to tell: it has no run of {tokens} without unknown words."
    line = f"novelty: {percent(novelty.copied_fraction)} of the runs of {tokens} occur in the training text"
    if novelty.false_positive_rate > 0.01:
        line += f" (up to {percent(novelty.false_positive_rate, 0)} by mistake)"
    if not novelty.longest_copy:
        return f"{line}."
    longest = counted(novelty.longest_copy, "token")
    return f"{line}; the longest copy has at most {longest}: {excerpt(novelty.longest_copy_text)}"
