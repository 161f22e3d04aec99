"""What `textgen sample` prints when, and which settings it refuses, with a model of random weights."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from networks import random_weights

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.generation.decoding import Decoder
from textgen.model.config import ModelConfig
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return tmp_path / "prompts.jsonl"


def sample(models: Path, *arguments: str) -> Result:
    """The command with the model `tiny`; a bug shows its traceback."""
    command = ["sample", "tiny", "--models-dir", str(models), *arguments]
    return CliRunner().invoke(textgen, command, catch_exceptions=False, prog_name="textgen")


def from_lines(models: Path, prompts: Path, lines: list[dict[str, Any]], *arguments: str) -> Result:
    """The command with a .jsonl file of prompts."""
    prompts.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return sample(models, "--prompt-file", str(prompts), *arguments)


# === When texts appear ===


def test_ctrl_c_leaves_the_texts_that_are_finished(
    tiny_models: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, taken = Decoder.step, []

    def interrupted(decoder: Decoder) -> Any:
        taken.append(decoder)
        if len(taken) == 5:
            raise KeyboardInterrupt
        return step(decoder)

    monkeypatch.setattr(Decoder, "step", interrupted)
    lines = [{"prompt": "The", "max_tokens": 3}, {"prompt": "A", "max_tokens": 99, "min_tokens": 99}]
    result = from_lines(tiny_models, prompts, lines, "--json")
    assert (result.exit_code, result.stderr) == (130, "\nInterrupted.\n")
    (row,) = map(json.loads, result.stdout.splitlines())
    assert (row["prompt"], row["stop_reason"]) == ("The", "length")


# === Lines of a file of prompts ===


@pytest.fixture
def both_models(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """A folder of models with one in it, `tiny`, that reads in both directions."""
    config, folder = ModelConfig(tokenizer.vocab_size, 6, 8, direction="both"), tmp_path / "both"
    corpus = CorpusConfig(documents="line")
    save_model(folder / "tiny", random_weights(config), config, TokenizerConfig("char"), corpus, tokenizer)
    return folder


def refused(result: Result) -> str:
    """The error of a command that has written nothing, after its first word."""
    assert (result.exit_code, result.stdout) == (1, "")
    return result.stderr.splitlines()[-1].removeprefix("Error: ")


@pytest.mark.parametrize(
    ("settings", "flags", "expected"),
    [
        ({"logit_bias": ["#999999=1"]}, [], "logit_bias: there is no token #999999"),
        ({"require": ["The cat"], "max_tokens": 1}, [], "require must fit into max_tokens: its texts take 7 tokens"),
        ({"require": ["The cat"]}, ["--max-tokens", "3"], "require must fit into max_tokens: its texts take 7 tokens"),
        ({"no_copy": 20}, [], "{models}/tiny has no index of its training text"),
        ({"temperature": 0.5}, ["--num-beams", "2"], "A search makes no random draws: leave out temperature."),
        ({"seed": 5}, ["--num-beams", "2"], "A search makes no random draws: leave out seed."),
        ({"top_logprobs": 2}, ["--num-beams", "2", "--json"], "A search computes no probabilities of other tokens"),
    ],
    ids=str,
)
def test_a_line_that_cannot_be_is_named_before_anything_is_written(
    tiny_models: Path, prompts: Path, settings: dict[str, Any], flags: list[str], expected: str
) -> None:
    lines: list[dict[str, Any]] = [{"prompt": "The"}, {"prompt": "A", **settings}]
    batch = [] if "--num-beams" in flags else ["--batch-size", "1"]
    error = refused(from_lines(tiny_models, prompts, lines, *batch, *flags))
    assert error.startswith(f"{prompts}, line 2: {expected.format(models=tiny_models)}")


def test_a_line_that_copies_more_than_the_index_can_tell_is_named(
    tiny_models: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelFolder, "ngrams", lambda self: SimpleNamespace(ngram=9))
    lines: list[dict[str, Any]] = [{"prompt": "The"}, {"prompt": "A", "no_copy": 3}]
    error = refused(from_lines(tiny_models, prompts, lines, "--batch-size", "1"))
    assert error.startswith(f"{prompts}, line 2: no_copy must be at least 8")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"stop": ["b"]}, "stop follows the text from left to right, so it cannot be used with a suffix."),
        ({"max_seconds": 3.0}, "max_seconds follows the text from left to right"),
        ({"require": ["b"]}, "require follows the text from left to right"),
    ],
    ids=str,
)
def test_a_line_that_cannot_lead_to_an_ending_is_named(
    both_models: Path, prompts: Path, settings: dict[str, Any], expected: str
) -> None:
    lines = [{"prompt": "The"}, {"prompt": "A"}, {"prompt": "A", **settings}]
    error = refused(from_lines(both_models, prompts, lines, "--suffix", " cat", "--max-tokens", "2"))
    assert error.startswith(f"{prompts}, line 3: {expected}")
