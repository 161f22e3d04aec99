"""textgen tokenizer: train vocabularies, and see text as tokens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from textgen.cli import output
from textgen.cli.command import CommandGroup
from textgen.cli.options import (
    OutputFile,
    completing_tokenizers,
    corpus_config,
    corpus_options,
    given,
    json_option,
    models_dir_option,
    paths_argument,
    standard_input,
    tokenizer_options,
)
from textgen.cli.setting_options import Integer
from textgen.errors import TokenizerError
from textgen.settings import from_dict, select
from textgen.tokenizer.config import TokenizerConfig
from textgen.wording import counted, short_repr

TOKENS_SHOWN = 40
KEPT = "An existing file is kept, since models may depend on it; --force replaces it."


@click.group(cls=CommandGroup)
def tokenizer() -> None:
    """Train vocabularies, and see text as tokens.

    TOKENIZER is a .model file that `textgen tokenizer train` wrote, a saved model (its name or its folder),
    a base, or the word byte.
    """


@tokenizer.command()
@paths_argument(required=True)
@click.option("--out", type=OutputFile(about_existing=KEPT), required=True, help="File to write the vocabulary to.")
@tokenizer_options
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@corpus_options
def train(paths: tuple[str, ...], out: Path, force: bool, **options: Any) -> None:
    """Train a vocabulary on PATHS and write it to a SentencePiece model file.

    \b
    Example:
      textgen tokenizer train poems.txt --out poems.model
      textgen tokenizer train src/ --out code.model --tokenizer bpe --vocab-size 4000
    """
    from textgen.corpus.corpus import Corpus
    from textgen.tokenizer.vocabulary import learn_vocabulary

    config = from_dict(TokenizerConfig, select(TokenizerConfig, given(options)))
    if config.tokenizer == "byte":
        raise TokenizerError("The byte tokenizer needs no training: give byte in place of a TOKENIZER.")
    if out.exists() and not force:
        raise TokenizerError(
            f"{out} exists, and models may depend on it. Choose another name, or replace it with --force."
        )
    text = Corpus(paths, corpus_config(options))
    text.say_findings(output.note)
    trained = learn_vocabulary(text, config)
    text.say_left_out(output.note)
    trained.save(out)
    output.note(f"{out}: {counted(trained.vocab_size, 'token')} ({trained.kind}).")


@tokenizer.command()
@click.argument("tokenizer", shell_complete=completing_tokenizers)
@click.argument("text", required=False)
@click.option("--tokens", is_flag=True, help="Print the tokens as text instead of their ids.")
@json_option
@models_dir_option
def encode(tokenizer: str, text: str | None, tokens: bool, as_json: bool, models_dir: Path | None) -> None:
    """Print the token ids of TEXT, or of standard input.

    \b
    Example:
      textgen tokenizer encode poems.model "The moon" --tokens
      textgen tokenizer encode byte < poem.txt
    """
    from textgen.saved_model.registry import find_tokenizer

    loaded = find_tokenizer(tokenizer, models_dir)
    ids = loaded.encode(standard_input() if text is None else text)
    labels: list[Any] = [loaded.piece(id) for id in ids] if tokens else ids
    if as_json:
        output.json_line(labels)
    else:
        output.line(" ".join(map(str, labels)))


@tokenizer.command()
@click.argument("tokenizer", shell_complete=completing_tokenizers)
@click.argument("ids", nargs=-1, type=Integer())
@models_dir_option
def decode(tokenizer: str, ids: tuple[int, ...], models_dir: Path | None) -> None:
    """Print the text of token IDS, or of the ids on standard input, as `encode` prints them.

    No newline is added, except on a terminal.

    \b
    Example:
      textgen tokenizer decode byte 75 108 36
      textgen tokenizer encode poems.model "The moon" | textgen tokenizer decode poems.model
    """
    from textgen.saved_model.registry import find_tokenizer

    text = find_tokenizer(tokenizer, models_dir).decode(ids or _ids(standard_input()))
    output.data(text.encode())
    if output.is_terminal() and not text.endswith("\n"):
        output.line()


@tokenizer.command()
@click.argument("tokenizer", shell_complete=completing_tokenizers)
@click.option("--tokens", is_flag=True, help="List each token id and its text.")
@json_option
@models_dir_option
def info(tokenizer: str, tokens: bool, as_json: bool, models_dir: Path | None) -> None:
    """Print the kind and size of the vocabulary TOKENIZER, and some of its tokens.

    \b
    Example:
      textgen tokenizer info poems.model
      textgen tokenizer info poems.model --tokens | grep moon
    """
    from textgen.saved_model.registry import find_tokenizer

    loaded = find_tokenizer(tokenizer, models_dir)
    labels = loaded.pieces()
    if tokens:
        if as_json:
            output.json_line(labels)
        else:
            output.line("\n".join(f"{id}\t{label}" for id, label in enumerate(labels)))
        return
    facts = {
        "tokenizer": loaded.kind,
        "vocab_size": loaded.vocab_size,
        "pad_id": loaded.pad_id,
        "unk_id": loaded.unk_id,
        "eos_id": loaded.eos_id,
        "num_labels": len(loaded.labels),
        "bytes": len(loaded.serialized),
        "fingerprint": loaded.fingerprint(),
    }
    if as_json:
        output.json_line(facts, indent=2)
        return
    written = [label for label in labels if not re.fullmatch("<0x..>|<pad>|<unk>|<eos>", label)]
    shown = written[:: -(-len(written) // TOKENS_SHOWN)]
    output.line("\n".join(f"{name:11}  {value}" for name, value in [*facts.items(), ("tokens", " ".join(shown))]))


def _ids(text: str) -> list[int]:
    """Reads numbers separated by spaces, or a JSON list."""
    ids = []
    for word in text.strip().removeprefix("[").removesuffix("]").replace(",", " ").split():
        try:
            ids.append(int(word))
        except ValueError:  # also of thousands of digits
            raise click.UsageError(f"IDS must be whole numbers. Received: {short_repr(word)}.") from None
    return ids
