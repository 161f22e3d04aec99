"""textgen import-torch and textgen export: weights from PyTorch and back."""

from __future__ import annotations

from pathlib import Path

import click

from textgen.cli import output
from textgen.cli.options import OutputFile, find_tokenizer, models_dir_option
from textgen.model.config import ACTIVATIONS
from textgen.wording import counted


@click.command("import-torch")
@click.argument("state", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the saved model.")
@click.option("--tokenizer-from", required=True, metavar="MODEL", help="Whose pieces the rows of the embedding are.")
@click.option("--activation", type=click.Choice(ACTIVATIONS), default="tanh", help="Of an nn.RNN [default: tanh].")
@models_dir_option
def import_torch(state: Path, name: str, tokenizer_from: str, activation: str, models_dir: Path | None) -> None:
    """Make a saved model of PyTorch weights.

    STATE is a safetensors file with the state dict of an nn.Embedding, an nn.LSTM, nn.GRU or nn.RNN, and an nn.Linear,
    which may share the embedding's weights. Row i of the embedding stands for piece i of the tokenizer.

    \b
    Example:
      textgen import-torch state.safetensors --name novel-torch --tokenizer-from novel
    """
    from textgen.corpus.config import CorpusConfig
    from textgen.errors import SavedModelError
    from textgen.export.pytorch import from_torch, read_torch
    from textgen.saved_model.registry import check_name, claimed, models_folder
    from textgen.saved_model.saved_model import load_model, save_model
    from textgen.tokenizer.config import TokenizerConfig

    folder = models_folder(models_dir) / check_name(name)
    config, weights = from_torch(read_torch(state), activation)
    tokenizer = find_tokenizer(tokenizer_from, models_dir)
    if tokenizer.vocab_size != config.vocab_size:
        raise SavedModelError(
            f"{state} has an embedding of {counted(config.vocab_size, 'row')} and the tokenizer of {tokenizer_from} "
            f"{counted(tokenizer.vocab_size, 'piece')}: name the tokenizer that the weights were trained with."
        )
    kind = TokenizerConfig(tokenizer.tokenizer)
    with claimed(folder):
        save_model(folder, weights, config, kind, CorpusConfig(documents="file"), tokenizer)
        load_model(str(folder.absolute())).weights()  # "saved" is what can be loaded
    output.note(f"Saved {folder}: {counted(config.num_parameters, 'parameter')}.")


@click.command()
@click.argument("model")
@click.argument("file", type=OutputFile())
@click.option("--format", "kind", type=click.Choice(["torch"]), default="torch", help="Of the file [default: torch].")
@models_dir_option
def export(model: str, file: Path, kind: str, models_dir: Path | None) -> None:
    """Write the weights of MODEL to FILE for another program.

    torch is a safetensors file with the state dict of a PyTorch module whose parts are `encoder` (nn.Embedding), `rnn`
    (nn.LSTM, nn.GRU or nn.RNN) and `decoder` (nn.Linear).

    \b
    Example:
      textgen export novel novel.safetensors --format torch
    """
    from textgen.export.pytorch import to_torch, write_torch
    from textgen.saved_model.saved_model import load_model

    saved = load_model(model, models_dir)
    tensors = to_torch(saved.model_config, saved.weights())
    write_torch(file, tensors)
    output.note(f"Wrote {file}: {', '.join(tensors)}.")
