"""How hard a text is for a model before it is fine-tuned."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from base_models import FABLES, save_base

from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.training.planning.relative_loss import EXCERPT_BYTES, EXCERPTS, relative_loss

PROJECT = Path(__file__).parents[3]
MANUAL = (PROJECT / "textgen" / "cli" / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return load_model(str(save_base(tmp_path_factory.mktemp("models"))))


def scored(base: ModelFolder, bits_per_byte: float) -> ModelFolder:
    return replace(base, training={"scores": {"bits_per_byte": bits_per_byte}})


@pytest.mark.parametrize("unit", ["The fox slept. ", "狐狸睡了。"])
def test_each_token_of_a_uniform_model_costs_the_logarithm_of_the_vocabulary(base: ModelFolder, unit: str) -> None:
    """The weights of the base are small, so that it predicts every token with nearly the same probability."""
    text = unit * 1000
    tokens = len(base.tokenizer.encode(text)) / len(text.encode())  # for each byte
    bits = math.log2(base.tokenizer.vocab_size) * tokens
    assert relative_loss(scored(base, 2.0), [text]) == pytest.approx(bits / 2, rel=0.02)


@pytest.mark.parametrize("training", [{}, {"scores": {"bits_per_byte": 0.0}}])
def test_a_model_without_a_loss_to_compare_with_has_no_relative_loss(
    base: ModelFolder, training: dict[str, Any]
) -> None:
    """One that predicts its own held-out text without any loss, too."""
    assert relative_loss(replace(base, training=training), ["The fox slept. "]) is None


def test_excerpts_are_spread_over_the_text(base: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = list[str]()
    scorer = type(base.scorer())
    scores = scorer.scores

    def recorded(self: object, excerpts: list[str], **options: bool) -> object:
        texts.extend(excerpts)
        return scores(self, excerpts, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(scorer, "scores", recorded)
    relative_loss(scored(base, 2.0), [FABLES[:30_000], FABLES[30_000:60_000]])
    places = [FABLES[:60_000].find(text[:200]) / 60_000 for text in texts if "\n" not in text or text in FABLES]
    assert len(texts) == EXCERPTS
    assert all(abs(len(text.encode()) - EXCERPT_BYTES) < 30 for text in texts)
    assert places == sorted(places)
    assert places[0] == 0
    assert places[-1] > 0.9


@pytest.mark.parametrize("indent", ["\u3000\u3000", "\u2003"])
def test_wide_spaces_at_the_start_of_lines_do_not_count(base: ModelFolder, indent: str) -> None:
    lines = FABLES[:5000].split("\n")
    losses = [relative_loss(scored(base, 2.0), [start + line for line in lines]) for start in ("", indent)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("text", ["", " \n", "Fox"])
def test_a_short_text_is_scored_whole_and_none_is_not(base: ModelFolder, text: str) -> None:
    assert (relative_loss(scored(base, 2.0), [text]) is None) == (not text.strip())


@pytest.mark.parametrize("training", [{}, {"scores": None}, {"scores": {}}])
def test_a_model_without_scores_tells_nothing(base: ModelFolder, training: dict[str, object]) -> None:
    assert relative_loss(replace(base, training=training), [FABLES]) is None


@pytest.mark.slow
def test_the_installed_base_finds_tales_easier_than_a_manual() -> None:
    english = load_model(str(PROJECT / "saved_models" / "bases" / "english"))
    tales, manual = relative_loss(english, [FABLES]), relative_loss(english, [MANUAL])
    assert tales == pytest.approx(1.05, abs=0.1)
    assert manual is not None
    assert manual > 1.6
