"""textgen sample: write text with a saved model."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from textgen.cli.options import (
    SectionCommand,
    given,
    json_option,
    models_dir_option,
    novelty_line,
    novelty_option,
    sampling_options,
    standard_input,
)
from textgen.config import SamplingConfig, from_dict
from textgen.errors import TextgenError

SEPARATORS = {"line": "\n", "blank-line": "\n\n", "file": "\n\n---\n\n"}  # as documents stand in a corpus


@click.command(cls=SectionCommand)
@click.argument("model", required=False)
@click.option("--prompt", "prompts", multiple=True, metavar="TEXT", help="Begins the text; - reads standard input.")
@click.option("--prompt-file", type=click.Path(dir_okay=False), help="Read the prompt from a file.")
@click.option("--num", type=click.IntRange(1), default=1, show_default=True, help="Texts for each prompt.")
@sampling_options
@novelty_option
@json_option
@models_dir_option
def sample(
    model: str | None,
    prompts: tuple[str, ...],
    prompt_file: str | None,
    num: int,
    novelty: bool,
    as_json: bool,
    models_dir: Path | None,
    **options: Any,
) -> None:
    """Write text with a model.

    MODEL is a name in saved_models or a folder; without one, the newest writes.

    A prompt may be any text, or empty. One text appears as it is written; with several prompts or --num they
    come one after the other, separated as documents are in the corpus. With --json each is a line of JSON.

    \b
    Example:
      textgen sample --prompt "It was a"
      textgen sample novel --num 3 --temperature 1.1 --seed 7
      cat beginning.txt | textgen sample --prompt - --max-tokens 2000
    """
    from textgen.generator import Generator
    from textgen.saved_model import load_model

    config = from_dict(SamplingConfig, given(options))
    texts = _prompts(prompts, prompt_file)
    saved = load_model(model, models_dir)
    for text in texts:
        saved.tokenizer.encode(text)  # complains before anything is written
    ngrams = saved.ngrams() if novelty or config.no_copy is not None else None
    generator = Generator(saved.writer(), saved.tokenizer, ngrams)
    if len(texts) * num == 1 and not as_json:
        click.echo(_bold(texts[0]), nl=False)
        written = ""
        for text in generator.stream(texts[0], config):
            click.echo(text, nl=False)
            sys.stdout.flush()
            written += text
        click.echo()
        if ngrams and novelty:
            click.echo(novelty_line(ngrams.novelty(written, saved.tokenizer)), err=True)
        return
    results = generator.generate(texts, config, num)
    if as_json:
        for result in results:
            values = {"model": saved.name, **asdict(result)}
            if ngrams and novelty:
                values["novelty"] = asdict(ngrams.novelty(result.text, saved.tokenizer))
            click.echo(json.dumps(values, ensure_ascii=False))
    else:
        separator = SEPARATORS[saved.corpus_config.documents or "file"]
        click.echo(separator.join(_bold(result.prompt) + result.text for result in results))
        if ngrams and novelty:
            for result in results:
                click.echo(novelty_line(ngrams.novelty(result.text, saved.tokenizer)), err=True)


def _prompts(prompts: tuple[str, ...], prompt_file: str | None) -> list[str]:
    texts = [standard_input() if prompt == "-" else prompt for prompt in prompts]
    if prompt_file:
        try:
            texts.append(Path(prompt_file).read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise TextgenError(f"Cannot read the prompt in {prompt_file}: {error}.") from None
    return texts or [""]


def _bold(prompt: str) -> str:
    return click.style(prompt, bold=True) if prompt and sys.stdout.isatty() else prompt
