"""The learning rates that are tried before a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import runs
from runs import SETTINGS

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.batches import Batches
from textgen.errors import ConfigError
from textgen.system.runtime import load_tensorflow
from textgen.training.loss_scale import LossScale
from textgen.training.planning.plan import Hardware, make_plan

text = runs.text  # fixture


def test_learning_rates_are_tried_with_all_that_a_run_does(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows, labels, scale of the loss and devices are those of the plan, not of another run."""
    load_tensorflow()
    import tensorflow as tf

    from textgen.training import lr_finder, trainer
    from textgen.training.distributed.distribution import Distribution
    from textgen.training.lr_sweep import sweep_planned_run
    from textgen.training.train_step import TrainStep

    seen: list[tuple[Any, ...]] = []
    gradient = TrainStep.gradient

    def watched(self: TrainStep, inputs: Any, targets: Any, state: Any, step: int, scale: float, *more: Any) -> Any:
        seen.append((tuple(inputs.shape), scale, self._distribution))
        return gradient(self, inputs, targets, state, step, scale, *more)

    made: list[trainer.Trainer] = []
    begin = trainer.Trainer.__init__

    def noted(self: trainer.Trainer, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        made.append(self)

    monkeypatch.setattr(lr_finder, "STEPS", 3)
    monkeypatch.setattr(TrainStep, "gradient", watched)
    monkeypatch.setattr(trainer.Trainer, "__init__", noted)
    lines = text.read_text(encoding="utf-8").splitlines()
    table = text.with_suffix(".csv")
    table.write_text(
        "\n".join(["by,text", *(f"{'ab'[n % 2]},{line}" for n, line in enumerate(lines))]), encoding="utf-8"
    )
    settings: dict[str, Any] = {"random_bptt": 0.5, "label_dropout": 0.5, "subword_alpha": 0.3, "tokenizer": "unigram"}
    corpus = Corpus([table], CorpusConfig(labels="by"))
    settings |= {"precision": "float16", "vocab_size": 280, "batch_size": 4, "sequence_length": 16}
    plan = make_plan(corpus, {**SETTINGS, **settings}, hardware=Hardware(flops=1e11))
    distribution = Distribution(tf.distribute.OneDeviceStrategy("/cpu:0"))
    points = sweep_planned_run(plan, distribution=distribution)
    assert len(points) == 3
    (used,) = made
    batches = used.reader.batches
    assert batches == Batches(batches.stream, 4, 16, 0, plan.training_config.seed, 0.5, 0.5, "forward", has_fresh=True)
    assert type(batches.stream).__name__ == "SampledStream"
    assert {shape[1] for shape, _, _ in seen} > {16}  # short windows, too
    assert {scale for _, scale, _ in seen} == {LossScale().scale}
    assert {of for _, _, of in seen} == {distribution}
    monkeypatch.setattr(distribution, "num_workers", 2)
    with pytest.raises(ConfigError, match="are tried in one process"):
        sweep_planned_run(plan, distribution=distribution)
