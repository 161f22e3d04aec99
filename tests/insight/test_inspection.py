"""The inspection as a whole: the texts that it writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from networks import planted, quoted_text

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.errors import SavedModelError
from textgen.insight.config import InspectConfig
from textgen.insight.inspection import ENOUGH_TOKENS, WRITTEN_TOKENS, Inspection, inspect_model
from textgen.saved_model.saved_model import load_model, save_model
from textgen.tokenizer.config import TokenizerConfig


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that ends many of its texts at once."""
    folder = tmp_path_factory.mktemp("models")
    config, weights, tokenizer = planted()
    weights["head/bias"][tokenizer.eos_id] += 1.2
    save_model(folder / "brief", weights, config, TokenizerConfig("char"), CorpusConfig(), tokenizer)
    return folder


def inspection(models: Path, seed: int) -> Inspection:
    return inspect_model(load_model("brief", models), [quoted_text(600, seed=1)], InspectConfig(seed=seed))


def sampled(models: Path, seed: int, *clamp: str) -> str:
    settings = ("--seed", str(seed), "--max-tokens", str(WRITTEN_TOKENS), "--models-dir", str(models))
    return CliRunner().invoke(textgen, ("sample", "brief", *settings, *clamp), catch_exceptions=False).stdout


def test_texts_with_a_held_cell_have_the_first_seed_whose_text_is_long_enough(models: Path) -> None:
    seeds = [seed for seed in range(8) if len(sampled(models, seed)) > ENOUGH_TOKENS + 1]
    assert seeds
    assert seeds[0] > 0  # the text of the first seed is too short
    written = inspection(models, 0).written[0]
    assert sampled(models, seeds[0]) == f"{written.free}\n"
    cell = f"L{written.layer}/{written.unit}"
    low = next(c.low.number for c in inspection(models, 0).interventions.cells if f"L{c.layer}/{c.unit}" == cell)
    assert sampled(models, seeds[0], "--clamp", f"{cell}={low!r}") == f"{written.low}\n"


@pytest.mark.parametrize("name", ["embedding/table", "head/bias"])
def test_weights_whose_predictions_are_not_finite_are_an_error(tmp_path: Path, name: str) -> None:
    config, weights, tokenizer = planted()
    weights[name] = np.full_like(weights[name], np.finfo(np.float32).max)  # finite, but not what is computed from it
    save_model(tmp_path / "brief", weights, config, TokenizerConfig("char"), CorpusConfig(), tokenizer)
    with pytest.raises(SavedModelError, match="predictions are not finite"):
        inspection(tmp_path, 0)
