"""textgen tokenizer: make vocabularies, and see text as pieces."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textgen.cli.options import corpus_config, corpus_options, given
from textgen.config import TOKENIZERS, TokenizerConfig, from_dict
from textgen.errors import TokenizerError

if TYPE_CHECKING:
    from textgen.tokenizer import Tokenizer

SAVED_MODELS = Path("saved_models")
PIECES_SHOWN = 40


@click.group()
def tokenizer() -> None:
    """Make vocabularies, and see text as pieces.

    TOKENIZER is a .model file that `textgen tokenizer train` wrote, a saved model (its folder, or its name in
    saved_models/), or the word byte.
    """


@tokenizer.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File to write.")
@click.option("--tokenizer", "kind", type=click.Choice(TOKENIZERS), help="Kind of pieces [default: unigram].")
@click.option("--vocab-size", type=int, help="Pieces, special ones included. Chosen when not given.")
@click.option("--sample-bytes", type=int, help="Learn from at most so much text [default: 20000000].")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@corpus_options
def train(
    paths: tuple[str, ...],
    out: Path,
    kind: str | None,
    vocab_size: int | None,
    sample_bytes: int | None,
    force: bool,
    **options: Any,
) -> None:
    """Learn a vocabulary from PATHS and write it to a SentencePiece model file.

    \b
    Example:
      textgen tokenizer train poems.txt --out poems.model
      textgen tokenizer train src/ --out code.model --tokenizer bpe --vocab-size 4000
    """
    from textgen.corpus import Corpus
    from textgen.tokenizer import train_tokenizer

    settings = given({"tokenizer": kind, "vocab_size": vocab_size, "sample_bytes": sample_bytes})
    config = from_dict(TokenizerConfig, settings)
    if config.tokenizer == "byte":
        raise TokenizerError("The byte tokenizer learns nothing: say byte where a TOKENIZER is asked for.")
    if out.exists() and not force:
        raise TokenizerError(f"{out} exists. Choose another name, or replace it with --force.")
    corpus = Corpus(paths, corpus_config(options))
    stats = corpus.stats()
    trained = train_tokenizer(
        (part.text for part in corpus.parts()),
        config,
        total_bytes=stats.bytes,
        character_counts=stats.character_counts,
    )
    trained.save(out)
    click.echo(f"{out}: {trained.vocab_size:,} pieces ({trained.tokenizer}).", err=True)


@tokenizer.command()
@click.argument("tokenizer")
@click.argument("text", required=False)
@click.option("--pieces", is_flag=True, help="Print the pieces instead of their ids.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def encode(tokenizer: str, text: str | None, pieces: bool, as_json: bool) -> None:
    """Print the ids of TEXT, or of standard input.

    \b
    Example:
      textgen tokenizer encode poems.model "The moon" --pieces
      textgen tokenizer encode byte < poem.txt
    """
    loaded = _tokenizer(tokenizer)
    ids = loaded.encode(_standard_input() if text is None else text)
    labels: list[Any] = [loaded.piece(id) for id in ids] if pieces else ids
    click.echo(json.dumps(labels, ensure_ascii=False) if as_json else " ".join(map(str, labels)))


@tokenizer.command()
@click.argument("tokenizer")
@click.argument("ids", nargs=-1, type=int)
def decode(tokenizer: str, ids: tuple[int, ...]) -> None:
    """Print the text of IDS, or of the ids on standard input, as `encode` prints them.

    The text is written exactly: no newline is added, except on a terminal.

    \b
    Example:
      textgen tokenizer decode byte 75 108 36
      textgen tokenizer encode poems.model "The moon" | textgen tokenizer decode poems.model
    """
    text = _tokenizer(tokenizer).decode(ids or _ids(_standard_input()))
    add_newline = sys.stdout.isatty() and not text.endswith("\n")
    click.echo(text.encode(), nl=add_newline)


@tokenizer.command()
@click.argument("tokenizer")
@click.option("--pieces", is_flag=True, help="List every id and its piece.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(tokenizer: str, pieces: bool, as_json: bool) -> None:
    """Print what kind of vocabulary TOKENIZER is, and some of its pieces.

    \b
    Example:
      textgen tokenizer info poems.model
      textgen tokenizer info poems.model --pieces | grep moon
    """
    loaded = _tokenizer(tokenizer)
    labels = loaded.pieces()
    if pieces:
        listing = [f"{id}\t{label}" for id, label in enumerate(labels)]
        click.echo(json.dumps(labels, ensure_ascii=False) if as_json else "\n".join(listing))
        return
    facts = {
        "tokenizer": loaded.tokenizer,
        "vocab_size": loaded.vocab_size,
        "pad_id": loaded.pad_id,
        "unk_id": loaded.unk_id,
        "eos_id": loaded.eos_id,
        "bytes": len(loaded.serialized),
        "fingerprint": loaded.fingerprint(),
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    written = [label for label in labels if not re.fullmatch("<0x..>|<pad>|<unk>|<eos>", label)]
    shown = written[:: -(-len(written) // PIECES_SHOWN)]
    click.echo(
        "\n".join(f"{name:11}  {value}" for name, value in [*facts.items(), ("pieces", " ".join(shown))])
    )


def _tokenizer(name: str) -> Tokenizer:
    from textgen.tokenizer import load_tokenizer, read_tokenizer

    if name == "byte":
        return load_tokenizer(b"")
    saved = SAVED_MODELS / name
    return read_tokenizer(saved if saved.is_dir() and not Path(name).exists() else name)


def _standard_input() -> str:
    try:
        return click.get_binary_stream("stdin").read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"Standard input is not UTF-8 text: {error}.") from None


def _ids(text: str) -> list[int]:
    """Numbers between spaces or as a JSON list."""
    try:
        return [
            int(number)
            for number in text.strip().removeprefix("[").removesuffix("]").replace(",", " ").split()
        ]
    except ValueError as error:
        raise click.UsageError(f"IDS are whole numbers: {error}.") from None
