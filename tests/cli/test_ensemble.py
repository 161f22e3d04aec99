"""textgen sample --ensemble, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from networks import random_weights

from textgen.cli import default_model, textgen
from textgen.corpus.config import CorpusConfig
from textgen.model.config import ModelConfig
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """Three models of one vocabulary, and one of another."""
    folder = tmp_path_factory.mktemp("models")
    labelled = tokenizer.with_labels(["verse"])
    for seed, (name, vocabulary) in enumerate(
        {"verse": tokenizer, "fables": tokenizer, "tales": tokenizer, "labelled": labelled}.items()
    ):
        config = ModelConfig(vocabulary.vocab_size, embedding_dim=6, hidden_units=8)
        weights, corpus = random_weights(config, seed), CorpusConfig(documents="line")
        save_model(folder / name, weights, config, TokenizerConfig("char"), corpus, vocabulary)
    return folder


def sample(models: Path, *arguments: str, stdin: str | None = None) -> Result:
    command = ("sample", "verse", "--seed", "3", "--max-tokens", "30", *arguments, "--models-dir", str(models))
    return CliRunner().invoke(textgen, command, input=stdin, catch_exceptions=False, prog_name="textgen")


def test_models_write_together(models: Path) -> None:
    ways = [(), ("--ensemble", "fables"), ("--ensemble", "fables", "--ensemble", str(models / "tales"))]
    texts = [sample(models, "--prompt", "The", *flags).stdout for flags in ways]
    assert len(set(texts)) == 3
    assert sample(models, "--prompt", "The", "--ensemble", "verse").stdout == texts[0]
    values = [json.loads(sample(models, *flags, "--json").stdout) for flags in ways]
    assert [(each["model"], each["ensemble"]) for each in values] == [
        ("verse", []),
        ("verse", ["fables"]),
        ("verse", ["fables", "tales"]),
    ]


def test_texts_side_by_side_are_those_written_alone(models: Path) -> None:
    flags = ("--ensemble", "fables", "--num", "5", "--json", "--batch-size")
    together, alone = (
        [json.loads(line)["text"] for line in sample(models, *flags, size).stdout.splitlines()] for size in ("4", "1")
    )
    assert together == alone
    assert len(together) == 5


def test_a_search_finds_texts_of_both(models: Path) -> None:
    flags = ("sample", "verse", "--num-beams", "2", "--max-tokens", "9", "--json", "--models-dir", str(models))
    alone, both = (
        json.loads(CliRunner().invoke(textgen, [*flags, *more], catch_exceptions=False).stdout)
        for more in ([], ["--ensemble", "fables"])
    )
    assert both["text"] != alone["text"] or both["logprobs"] != alone["logprobs"]


def test_a_state_belongs_to_the_models_it_was_written_with(models: Path, tmp_path: Path) -> None:
    state, ensemble = str(tmp_path / "a.state"), ("--ensemble", "fables")
    assert sample(models, *ensemble, "--save-state", state).exit_code == 0
    assert sample(models, *ensemble, "--load-state", state).exit_code == 0
    for flags in [(), ("--ensemble", "tales"), (*ensemble, "--ensemble", "tales")]:
        refused = sample(models, *flags, "--load-state", state)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert "is the state of another model" in refused.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--ensemble", "labelled"), "vocabulary of the other, which --tokenizer-from names."),
        (("--ensemble", "nobody"), "nobody"),
        (("--ensemble", "fables", "--novelty"), "has no index of its training text"),
        (("--ensemble", "fables", "--no-copy", "20"), "has no index of its training text"),
    ],
)
def test_what_cannot_be_is_one_line(models: Path, flags: tuple[str, ...], message: str) -> None:
    result = sample(models, "--prompt", "-", *flags, stdin="The")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert message in result.stderr


def test_each_model_is_looked_at_whether_it_is_being_trained(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    monkeypatch.setattr(default_model, "note_if_training", lambda saved: looked_at.append(saved.name))
    result = sample(models, "--ensemble", "fables", "--ensemble", "tales")
    assert result.exit_code == 0
    assert looked_at == ["verse", "fables", "tales"]
