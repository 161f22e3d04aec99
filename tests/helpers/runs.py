"""A short run that several tests resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import random_weights

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.saved_model.creation import claimed
from textgen.saved_model.layout import CHECKPOINTS
from textgen.saved_model.saving import save_model, write_training
from textgen.training.checkpoints import Checkpoint, save_checkpoint
from textgen.training.planning.plan import Hardware, Plan, make_plan
from textgen.training.run_start import begin
from textgen.wording import Say, silent

SETTINGS: dict[str, Any] = {
    "tokenizer": "char", "hidden_units": 8, "embedding_dim": 6, "num_layers": 1, "batch_size": 2,
    "sequence_length": 8, "steps": 4, "dropout": 0.2, "seed": 3,
}  # fmt: skip
TEXT = "".join(f"the {word} sang a slow song of rain\n" for word in ("moon", "fox", "river", "old wind") * 15)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "songs.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def plan(text: Path) -> Plan:
    return make_plan(Corpus([text], CorpusConfig(documents="line")), dict(SETTINGS), hardware=Hardware(flops=1e11))


def begun(plan: Plan, folder: Path, *, saves: bool = True, say: Say = silent) -> Path:
    """A run that was killed after its first checkpoint, and with `saves` after its first model, without a training."""
    with claimed(folder):
        made = begin(plan, folder, say)
        made.record["progress"] = {"step": 1, "epochs": 0.1, "seconds": 1.0}
        write_training(folder, made.record)
        save_checkpoint(folder / CHECKPOINTS, 1, Checkpoint({"weights/a": np.zeros(3, np.float32)}, {"step": 1}))
        if saves:
            save_model(folder, random_weights(made.model_config), *made.model_configs, made.tokenizer)
    return folder


@pytest.fixture
def folder(plan: Plan, tmp_path: Path) -> Path:
    return begun(plan, tmp_path / "models" / "songs")
