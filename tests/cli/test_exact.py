"""textgen sample --exact and textgen evaluate --exact, as a user runs them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from exact_models import KINDS, TEXT, golden_texts, save_models
from networks import random_weights

from textgen import load
from textgen.cli import textgen
from textgen.model.exact_model import ExactModel, exact_weights
from textgen.saved_model.layout import INT8
from textgen.saved_model.loading import load_model
from textgen.saved_model.precision import compressed
from textgen.saved_model.saving import save_model

WRITE = ("--prompt", "The", "--seed", "3", "--max-tokens", "30", "--temperature", "1")


def run(models: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        textgen, (*arguments, "--models-dir", str(models)), catch_exceptions=False, prog_name="textgen"
    )


def sample(models: Path, *arguments: str) -> Result:
    return run(models, "sample", "tiny", *WRITE, *arguments)


def test_the_same_text_in_every_batch_and_from_python(tiny_models: Path) -> None:
    texts = [
        [json.loads(line)["text"] for line in sample(tiny_models, *flags).stdout.splitlines()]
        for size in ("1", "2", "5")
        for flags in [("--exact", "--num", "5", "--json", "--batch-size", size)]
    ]
    assert len(set(texts[0])) == 5
    assert texts[0] == texts[1] == texts[2]
    assert sample(tiny_models, "--exact").stdout == f"The{texts[0][0]}\n"
    generator = load("tiny", models_dir=tiny_models, exact=True)
    assert generator.fingerprint != load("tiny", models_dir=tiny_models).fingerprint


def test_a_state_is_continued_exactly(tiny_models: Path, tmp_path: Path) -> None:
    state, half = str(tmp_path / "a.state"), ("--max-tokens", "15", "--temperature", "0", "--min-tokens", "15")
    whole = sample(tiny_models, "--exact", "--temperature", "0", "--min-tokens", "30").stdout
    first = sample(tiny_models, "--exact", *half, "--save-state", state).stdout
    flags = ("sample", "tiny", "--exact", *half, "--load-state", state)
    assert first.removesuffix("\n") + run(tiny_models, *flags).stdout == whole
    refused = sample(tiny_models, "--load-state", state)
    assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert "exact arithmetic" in refused.stderr


@pytest.mark.parametrize(
    "flags",
    [
        ("--adapt", "x.txt"),
        ("--neural-cache",),
        ("--clamp", "L0/3=5"),
        ("--ensemble", "tiny"),
        ("--num-beams", "2"),
        ("--suffix", " end"),
    ],
    ids=lambda flags: flags[0],
)
def test_what_is_not_exact_is_refused_by_name(tiny_models: Path, flags: tuple[str, ...]) -> None:
    result = run(tiny_models, "sample", "tiny", "--exact", "--prompt", "The", *flags)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--exact cannot be combined with {flags[0]}" in result.stderr


def text_file(folder: Path) -> str:
    path = folder / "text.txt"
    path.write_text(TEXT * 20, encoding="utf-8")
    return str(path)


def test_the_cost_is_printed(tiny_models: Path, tmp_path: Path) -> None:
    result = run(tiny_models, "evaluate", "tiny", text_file(tmp_path), "--exact", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["perplexity_per_token"] == pytest.approx(found["exact_perplexity_per_token"], rel=2e-3)
    assert 0 <= abs(found["perplexity_change"]) < 0.003
    assert 0 < found["divergence_nats"] < 2e-3
    assert found["same_top_fraction"] > 0.95
    assert "divergence nats" in run(tiny_models, "evaluate", "tiny", text_file(tmp_path), "--exact").stdout


def test_a_model_that_loses_too_much_is_refused_with_the_figures(tiny_models: Path, tmp_path: Path) -> None:
    tiny = load_model("tiny", tiny_models)
    weights = random_weights(tiny.model_config, scale=1.0)
    weights["embedding/table"][:, 0] = 300.0  # beside which the other numbers of a row are rounded away
    weights["lstm_1/bias"][:] = 0
    configs = (tiny.model_config, tiny.tokenizer_config, tiny.corpus_config, tiny.tokenizer)
    save_model(tmp_path / "models" / "bad", weights, *configs)
    result = run(tmp_path / "models", "evaluate", "bad", text_file(tmp_path), "--exact", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["divergence_nats"] > 0.002
    assert result.stderr.startswith("Error: Exact arithmetic changes this model too much: its perplexity by ")


@pytest.mark.parametrize("flag", ["--neural-cache", "--dynamic", "--novelty"])
def test_evaluate_refuses_what_has_no_effect(tiny_models: Path, tmp_path: Path, flag: str) -> None:
    result = run(tiny_models, "evaluate", "tiny", text_file(tmp_path), "--exact", flag)
    assert (result.exit_code, result.stdout) == (2, "")
    assert flag in result.stderr


def test_directions(tiny_models: Path, tmp_path: Path) -> None:
    tiny = load_model("tiny", tiny_models)
    for direction in ("both", "backward"):
        config = replace(tiny.model_config, direction=direction)
        rest = (tiny.tokenizer_config, tiny.corpus_config, tiny.tokenizer)
        save_model(tmp_path / direction, random_weights(config, scale=0.25), config, *rest)
    both = load_model("both", tmp_path)
    forward = {name: array for name, array in both.weights().items() if not name.startswith("backward_")}
    config = replace(tiny.model_config, direction="forward")
    expected = ExactModel(exact_weights(config, compressed(forward, INT8)))
    logits, _ = both.exact_model().step(np.array([5]), both.exact_model().initial_state(1))
    assert logits.tolist() == expected.step(np.array([5]), expected.initial_state(1))[0].tolist()
    result = run(tmp_path, "evaluate", "backward", text_file(tmp_path), "--exact")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "backward only" in result.stderr


def test_int8_models_keep_their_integers(tmp_path: Path) -> None:
    (name, other) = save_models(tmp_path, ("lstm",))
    saved = load_model(name, tmp_path)
    weights, exact = saved.weights(), saved.exact_weights()
    for key, matrix in exact.matrices.items():
        rows = weights[key] if key == "embedding/table" else weights[key].T
        assert np.array_equal(matrix.integers.astype(np.float32) * matrix.scales[:, None], rows)
    texts = golden_texts(tmp_path, [name, other], max_tokens=20)
    assert len({text["text"] for text in texts}) > 20
    assert len(KINDS) > 10
