"""textgen import and textgen export: weights of other programs."""

from __future__ import annotations

from pathlib import Path

import click

from textgen.cli import output
from textgen.cli.command import SectionCommand
from textgen.cli.options import OutputFile, find_tokenizer, model_argument, models_dir_option
from textgen.model.config import ACTIVATIONS
from textgen.wording import counted

FORMATS = ("pytorch",)
format_option = click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    default="pytorch",
    help="Format of the weights [default: pytorch].",
)


@click.command("import", cls=SectionCommand)
@click.argument("file", type=click.Path(path_type=Path))
@format_option
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


@click.command(cls=SectionCommand)
@model_argument()
@click.argument("file", type=OutputFile())
@format_option
@models_dir_option
def export(model: str, file: Path, kind: str, models_dir: Path | None) -> None:
    """Write the weights of a model for another program.

    With --format pytorch, FILE becomes a safetensors file with the state dict of a module whose parts are `encoder`
    (nn.Embedding), `rnn` (nn.LSTM, nn.GRU or nn.RNN) and `decoder` (nn.Linear).

    \b
    Example:
      textgen export novel novel.safetensors --format pytorch
    """
    from textgen.export.pytorch import to_torch, write_torch
    from textgen.saved_model.saved_model import load_model

    saved = load_model(model, models_dir)
    tensors = to_torch(saved.model_config, saved.weights())
    write_torch(file, tensors)
    output.note(f"Wrote {file}: {', '.join(tensors)}.")
