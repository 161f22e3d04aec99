"""The pieces of the training loop that can be told exactly."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from textgen.config import TrainingConfig
from textgen.model import LanguageModel
from textgen.tokenizer import Tokenizer
from textgen.trainer import scheduled_learning_rate, total_steps


def test_schedules_at_their_corners() -> None:
    config = TrainingConfig(learning_rate=1.0, warmup=0.1, final_learning_rate=0.2)
    for schedule, middle in (("cosine", 0.6), ("linear", 0.6), ("constant", 1.0)):
        changed = replace(config, schedule=schedule)
        assert scheduled_learning_rate(changed, 0.0) == 0.0
        assert scheduled_learning_rate(changed, 0.05) == pytest.approx(0.5)
        assert scheduled_learning_rate(changed, 0.1) == pytest.approx(1.0)
        assert scheduled_learning_rate(changed, 0.55) == pytest.approx(middle)
        assert scheduled_learning_rate(changed, 1.0) == pytest.approx(1.0 if schedule == "constant" else 0.2)


def test_a_run_of_nothing_but_warm_up_only_rises() -> None:
    config = TrainingConfig(learning_rate=1.0, warmup=1.0)
    assert [scheduled_learning_rate(config, p) for p in (0.0, 0.5, 1.0)] == [0.0, 0.5, 1.0]


def test_the_budget_in_steps() -> None:
    assert total_steps(TrainingConfig(epochs=2.5), 10) == 25
    assert total_steps(TrainingConfig(steps=7), 10) == 7
    assert total_steps(TrainingConfig(epochs=0.01), 10) == 1
    assert total_steps(TrainingConfig(minutes=1.0), 10) == math.inf
    assert total_steps(TrainingConfig(steps=7, epochs=0.5), 10) == 5


def test_one_update_is_adamw_on_the_clipped_mean_gradient(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the reference network's gradients and AdamW written out, with the batch in one and in two shards."""
    from textgen import runtime, trainer
    from textgen.config import CorpusConfig, ModelConfig
    from textgen.corpus import Corpus
    from textgen.reference import clip_by_global_norm, initial_state, loss_and_gradients
    from textgen.tokens import prepare

    (tmp_path / "text.txt").write_text("abc cab bca acb " * 40, encoding="utf-8")
    data = prepare(Corpus([tmp_path / "text.txt"], CorpusConfig(documents="file")), tokenizer)
    shape = ModelConfig(
        tokenizer.vocab_size, embedding_dim=6, hidden_units=8, num_layers=2, dropout=0.0, embedding_dropout=0.0
    )
    config = TrainingConfig(batch_size=4, sequence_length=5, steps=1, clip_norm=0.05, weight_decay=0.1, warmup=0.0)
    results = []
    for cores in (1, 2):
        monkeypatch.setattr(runtime, "num_cores", lambda cores=cores: cores)
        model = LanguageModel(shape, pad_id=tokenizer.pad_id)
        before = {name: array.astype(np.float64) for name, array in model.weights_as_arrays().items()}
        loop = trainer.Trainer(model, data, config, tmp_path / f"checkpoints-{cores}", save_best=lambda scores: None)
        inputs, targets = next(iter(loop._batches.epoch(0)))
        gradient = loop._step(inputs, targets, 0.01)
        results.append(model.weights_as_arrays())

        loss, gradients, _, _ = loss_and_gradients(before, inputs, targets, initial_state(before, 4))
        clipped, length = clip_by_global_norm(gradients, config.clip_norm)
        assert gradient.nats == pytest.approx(loss, abs=1e-5)
        assert gradient.norm == pytest.approx(length, rel=1e-4)
        for name, weight in before.items():
            decay = 0.0 if name.endswith("bias") else config.weight_decay
            step = clipped[name] / (np.abs(clipped[name]) + 1e-8 / math.sqrt(1 - 0.99))  # Adam's first step
            expected = weight - 0.01 * decay * weight - 0.01 * step
            moved = np.abs(clipped[name]) > 1e-5  # where the gradient is more than rounding
            np.testing.assert_allclose(results[-1][name][moved], expected[moved], atol=2e-5)
    for name, array in results[0].items():
        np.testing.assert_allclose(array, results[1][name], atol=2e-5)
