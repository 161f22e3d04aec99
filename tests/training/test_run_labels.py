"""Runs on labelled documents: a label says what is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trained_runs
from trained_runs import TINY, Watch

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Generator
from textgen.training.planning.plan import Hardware, Sources, make_plan
from textgen.training.run import resume, train
from textgen.training.run_setup import RunOptions

tensorflow = trained_runs.tensorflow  # fixture


@pytest.fixture
def two_alphabets(tmp_path: Path) -> Path:
    """Documents labelled low, of the letters a to e, and high, of v to z; a few are without a label."""
    rng = np.random.default_rng(0)
    path = tmp_path / "alphabets.csv"
    rows = ["by,text"]
    for number in range(160):
        label, letters = (("low", "abcde"), ("high", "vwxyz"))[number % 2]
        rows.append(f"{label if number % 15 else ''},{''.join(rng.choice(list(letters), 30))}")
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


@pytest.mark.slow
def test_labels_say_what_is_written_also_by_a_run_that_was_resumed(two_alphabets: Path, tmp_path: Path) -> None:
    settings = {**TINY, "tokenizer": "byte", "learning_rate": 0.03, "steps": 150, "patience": None}
    plan = make_plan(Corpus([two_alphabets], CorpusConfig(labels="by")), settings, hardware=Hardware(flops=1e11))
    assert set(plan.facts.labels) == {"low", "high"}
    train(plan, tmp_path / "model", options=RunOptions(observers=[Watch(70)]))
    saved = resume(tmp_path / "model")
    assert saved.tokenizer.labels == plan.facts.labels
    assert saved.training["labels"] == list(plan.facts.labels)
    assert f"| labels | {', '.join(plan.facts.labels)} |" in (saved.folder / "README.md").read_text(encoding="utf-8")
    generator = Generator(saved.numpy_model(), saved.tokenizer)
    for label, letters in (("low", "abcde"), ("high", "vwxyz")):
        texts = generator.generate("", SamplingConfig(label=label, seed=1, max_tokens=8), num=20)
        found = [character in letters for text in texts for character in text.text]
        assert len(found) > 100
        assert sum(found) > 0.95 * len(found)
    unlabelled = "".join(text.text for text in generator.generate("", SamplingConfig(seed=1, max_tokens=8), num=40))
    assert all(set(letters) & set(unlabelled) for letters in ("abcde", "vwxyz"))


@pytest.mark.slow
def test_fine_tuning_keeps_labels_and_takes_on_more(two_alphabets: Path, tmp_path: Path) -> None:
    settings = {**TINY, "steps": 3}
    first = train(
        make_plan(Corpus([two_alphabets], CorpusConfig(labels="by")), settings, hardware=Hardware(flops=1e11)),
        tmp_path / "first",
    )
    other = two_alphabets.with_name("other.csv")
    other.write_text(two_alphabets.read_text().replace("high,", "new,"), encoding="utf-8")
    corpus = Corpus([other], CorpusConfig(labels="by"))
    said: list[str] = []
    tuned = train(
        make_plan(
            corpus,
            {"batch_size": 4, "sequence_length": 16, "steps": 1, "learning_rate": 0.0},
            sources=Sources(start=first),
            hardware=Hardware(flops=1e11),
        ),
        tmp_path / "tuned",
        options=RunOptions(say=said.append),
    )
    assert "Labels that first does not know: new." in said
    assert tuned.tokenizer.labels == (*first.tokenizer.labels, "new")
    size = first.tokenizer.vocab_size
    for name, array in tuned.weights().items():
        before = first.weights()[name]
        kept = array[:size] if len(array) > len(before) else array
        np.testing.assert_array_equal(kept, before)
    assert tuned.ngrams().novelty(next(corpus.documents()), tuned.tokenizer).longest_copy
    Generator(tuned.numpy_model(), tuned.tokenizer).generate("", SamplingConfig(label="new", max_tokens=2))
