"""Which tensors of a checkpoint a run goes on from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from textgen.training.config import TrainingConfig
from textgen.training.run_tensors import RunTensors


@pytest.mark.parametrize("section", ["start", "base"])
def test_the_weights_of_the_start_are_restored_also_from_the_section_of_older_versions(section: str) -> None:
    given: list[dict[str, np.ndarray]] = []
    model = SimpleNamespace(
        weights_as_arrays=lambda: {"kernel": np.zeros(2)}, assign_weights=given.append, initial_state=lambda rows: []
    )
    parts: Any = {
        "reader": SimpleNamespace(num_rows=1, rows=slice(None)),
        "averaging": SimpleNamespace(tensors=dict, restore=dict),
        "update": SimpleNamespace(optimizer=SimpleNamespace(variables=[]), set_start=given.append),
        "distribution": SimpleNamespace(split=list, gather=list),
    }
    tensors = RunTensors(model, TrainingConfig(decay_target="start"), **parts)  # type: ignore[arg-type]
    tensors.restore({"weights/kernel": np.ones(2), f"{section}/kernel": np.full(2, 3.0)})
    assert [weights["kernel"].tolist() for weights in given] == [[1.0, 1.0], [3.0, 3.0]]
    assert tensors.start_weights["kernel"].tolist() == [3.0, 3.0]
