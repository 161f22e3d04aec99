"""textgen import and textgen export: weights of other programs."""

from __future__ import annotations

from pathlib import Path

import click

from textgen.cli import output
from textgen.cli.command import SectionCommand
from textgen.cli.options import OutputFile, find_tokenizer, model_argument, models_dir_option
from textgen.export.formats import FORMATS, check_export, export_model, format_for
from textgen.model.config import ACTIVATIONS
from textgen.wording import counted

IMPORTS = ("pytorch",)


def _export_help() -> str:
    """The help of `textgen export`, with a line for each format."""
    width = max(map(len, FORMATS))
    formats = "\n      ".join(f"{name.ljust(width)}  {format_.help}" for name, format_ in FORMATS.items())
    return f"""Write a model in the format of another program.

    FILE is compared with the model before it is left; a file that exists is replaced.

    \b
    Formats:
      {formats}

    \b
    Example:
      textgen export novel novel.safetensors --format pytorch
    """


@click.command("import", cls=SectionCommand)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "kind",
    type=click.Choice(IMPORTS),
    default="pytorch",
    help="Format of the weights [default: pytorch].",
)
@click.option("--name", metavar="NAME", required=True, help="Name of the saved model.")
@click.option(
    "--tokenizer-from",
    required=True,
    metavar="MODEL",
    help="Model or .model file with the vocabulary of the weights.",
)
@click.option(
    "--activation", type=click.Choice(ACTIVATIONS), default="tanh", help="Activation of an nn.RNN [default: tanh]."
)
@models_dir_option
def import_(file: Path, kind: str, name: str, tokenizer_from: str, activation: str, models_dir: Path | None) -> None:
    """Make a saved model from the weights of another program.

    With --format pytorch, FILE is a safetensors file with the state dict of an nn.Embedding, an nn.LSTM, nn.GRU or
    nn.RNN, and an nn.Linear, which may share the embedding's weights. Row i of the embedding belongs to token i of
    the vocabulary.

    \b
    Example:
      textgen import state.safetensors --format pytorch --name novel-torch --tokenizer-from novel
    """
    from textgen.corpus.config import CorpusConfig
    from textgen.errors import SavedModelError
    from textgen.export.pytorch import from_torch, read_torch
    from textgen.saved_model.registry import check_name, claimed, models_folder
    from textgen.saved_model.saved_model import load_model, save_model
    from textgen.tokenizer.config import TokenizerConfig

    folder = models_folder(models_dir) / check_name(name)
    config, weights = from_torch(read_torch(file), activation)
    tokenizer = find_tokenizer(tokenizer_from, models_dir)
    if tokenizer.vocab_size != config.vocab_size:
        raise SavedModelError(
            f"{file} has an embedding of {counted(config.vocab_size, 'row')} and the tokenizer of {tokenizer_from} "
            f"{counted(tokenizer.vocab_size, 'token')}: name the tokenizer that the weights were trained with."
        )
    with claimed(folder):
        settings = TokenizerConfig(tokenizer.tokenizer)
        save_model(folder, weights, config, settings, CorpusConfig(documents="file"), tokenizer)
        load_model(str(folder.absolute())).weights()  # report success only for a model that can be loaded
    output.note(f"Saved {folder}: {counted(config.num_parameters, 'parameter')}.")


@click.command(cls=SectionCommand, help=_export_help())
@model_argument()
@click.argument("file", type=OutputFile(dir_okay=True))
@click.option(
    "--format", "format_name", type=click.Choice(tuple(FORMATS)), help="Format [default: that of the suffix of FILE]."
)
@models_dir_option
def export(model: str, file: Path, format_name: str | None, models_dir: Path | None) -> None:
    """Writes a model in a format."""
    from textgen.saved_model.saved_model import load_model

    format_ = format_for(file, format_name)
    if file.is_dir() and not format_.folder:
        raise click.BadParameter(f"File '{file}' is a directory.", param_hint="'FILE'")
    check_export(format_, file)
    output.note(export_model(format_, load_model(model, models_dir), file))
