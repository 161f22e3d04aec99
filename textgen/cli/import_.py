"""textgen import: a saved model from weights of another program, or from a page of textgen export."""

from __future__ import annotations

import os
from pathlib import Path

import click

from textgen.cli import output
from textgen.cli.command import InputFile, SectionCommand
from textgen.cli.options import completing_tokenizers, models_dir_option
from textgen.errors import TextgenError
from textgen.export.formats import exported_format
from textgen.model.config import ACTIVATIONS, CELLS
from textgen.wording import counted

IMPORTS = ("pytorch", "html")


@click.command("import", cls=SectionCommand)
@click.argument("file", type=InputFile(path_type=Path))
@click.option(
    "--format",
    "kind",
    type=click.Choice(IMPORTS),
    help="Format of the file [default: html for a file that ends in .html, otherwise pytorch].",
)
@click.option("--name", metavar="NAME", required=True, help="Name of the saved model.")
@click.option(
    "--tokenizer-from",
    metavar="MODEL",
    shell_complete=completing_tokenizers,
    help="Use the vocabulary of this model or .model file; weights from PyTorch need one.",
)
@click.option(
    "--activation",
    type=click.Choice(ACTIVATIONS),
    help="Activation function of an nn.RNN [default: the one that a file of textgen export names, otherwise tanh].",
)
@models_dir_option
def import_(
    file: Path,
    kind: str | None,
    name: str,
    tokenizer_from: str | None,
    activation: str | None,
    models_dir: Path | None,
) -> None:
    """Make a saved model from an exported HTML page, or from weights of another program.

    With --format pytorch, FILE is a safetensors file with the state dict of an nn.Embedding, an nn.LSTM, nn.GRU or
    nn.RNN, and an nn.Linear, which may share the embedding's weights. Row i of the embedding belongs to token i of
    the vocabulary.

    With --format html, FILE is a page that `textgen export` wrote; it gives back the model that it holds.

    \b
    Example:
      textgen import state.safetensors --format pytorch --name novel-torch --tokenizer-from novel
      textgen import novel.html --name novel-again
    """
    from textgen.saved_model.model_names import check_name
    from textgen.saved_model.registry import models_folder
    from textgen.storage.file_reading import check_readable

    folder = models_folder(models_dir) / check_name(name)
    if kind is None and (found := exported_format(file)) and found.name not in IMPORTS:
        if not os.path.isdir(file):  # an export may be a folder
            check_readable(file, "Name a page of textgen export, or a .safetensors file of weights.")
        raise TextgenError(
            f"{file} is in the format {found.name}, and textgen import reads {' and '.join(IMPORTS)} only. Use the "
            "model that it was exported from."
        )
    if (kind or ("html" if file.suffix.lower() == ".html" else "pytorch")) == "html":
        if tokenizer_from or activation:
            flag = "--tokenizer-from" if tokenizer_from else "--activation"
            raise click.UsageError(f"{flag} cannot be used with a page, which holds the whole model.")
        parameters = _import_page(file, folder)
    elif not tokenizer_from:
        if kind is None:
            _refuse_no_weights(file)
        raise click.UsageError("--tokenizer-from is required with --format pytorch.")
    else:
        parameters = _import_weights(file, folder, tokenizer_from, activation, models_dir)
    output.note(f"Saved {folder}: {counted(parameters, 'parameter')}.")


def _refuse_no_weights(file: Path) -> None:
    """Raises `TextgenError` for a file without weights of PyTorch if no format was named."""
    from textgen.export.pytorch import read_activation

    try:
        read_activation(file)
    except TextgenError as error:
        if not file.is_file():
            raise
        raise TextgenError(
            f"{file} is neither a page of textgen export, whose name ends in .html, nor a safetensors file. If it is "
            "such a page, set --format to html."
        ) from error


def _import_page(file: Path, folder: Path) -> int:
    """Makes the saved model that a page holds. Returns the number of its parameters."""
    from textgen.export.html import import_html

    return import_html(file, folder).model_config.num_parameters


def _import_weights(
    file: Path, folder: Path, tokenizer_from: str, activation: str | None, models_dir: Path | None
) -> int:
    """Makes a saved model from a state dict. Returns the number of its parameters."""
    from textgen.corpus.config import CorpusConfig
    from textgen.errors import SavedModelError
    from textgen.export.pytorch import from_torch, read_activation, read_torch
    from textgen.saved_model.creation import claimed
    from textgen.saved_model.loading import load_model
    from textgen.saved_model.registry import find_tokenizer
    from textgen.saved_model.saving import save_model
    from textgen.tokenizer.config import TokenizerConfig

    config, weights = from_torch(read_torch(file), activation or read_activation(file) or "tanh")
    if activation and config.cell != "rnn":
        raise click.UsageError(
            f"--activation is for an nn.RNN, and {file} has layers of kind {CELLS[config.cell]}: leave it out."
        )
    tokenizer = find_tokenizer(tokenizer_from, models_dir)
    if tokenizer.vocab_size != config.vocab_size:
        raise SavedModelError(
            f"{file} has an embedding of {counted(config.vocab_size, 'row')} and the tokenizer of {tokenizer_from} "
            f"{counted(tokenizer.vocab_size, 'token')}: name the tokenizer that the weights were trained with."
        )
    with claimed(folder):
        settings = TokenizerConfig(tokenizer.kind)
        save_model(folder, weights, config, settings, CorpusConfig(documents="file"), tokenizer)
        load_model(str(folder.absolute())).weights()  # report success only for a model that can be loaded
    return config.num_parameters
