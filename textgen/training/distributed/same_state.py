"""The check that all processes of a run go on from the same state of it.

Each process reads the record and the newest checkpoint from the folder of models by itself. If the folder is not
shared, or one process sees an older listing of it or a damaged file, the gradients of different networks would be
summed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from textgen.errors import TrainingError
from textgen.saved_model.layout import training_checksum
from textgen.storage.files import json_bytes
from textgen.training.checkpoints import Checkpoint
from textgen.training.distributed.distribution import Distribution

HASH_BYTES = 6  # a number of so many bytes is exact in float64
START = -1  # in place of a step: there is no checkpoint


def require_same_state(
    distribution: Distribution, checkpoint: Checkpoint | None, record: Mapping[str, Any] | None = None
) -> None:
    """Checks that all processes have read the same checkpoint and the same record. They must call it together.

    Args:
        distribution: Processes that train together.
        checkpoint: What this process goes on from; None for the beginning.
        record: Content of training.json, if that was read, too.

    Raises:
        TrainingError: They have not. It is raised in all processes.
    """
    if distribution.num_workers == 1:
        return
    number, step = _state_hash(checkpoint, record), _step(checkpoint)
    of_chief, chiefs_step = distribution.total([number, step] if distribution.is_chief else [0.0, 0.0])
    (others,) = distribution.total([float(number != of_chief)])
    if not others:
        return
    if number == of_chief:
        other = f"{int(others)} of {distribution.num_workers} processes from another state"
    elif step == chiefs_step:
        other = "this process has read another record or another checkpoint"
    else:
        other = f"this process from {_named_step(step)}"
    raise TrainingError(
        "The processes have read different states of the run: the chief goes on from "
        f"{_named_step(int(chiefs_step))}, and {other}. Share the folder of models between all machines, and restart "
        "all of them."
    )


def _state_hash(checkpoint: Checkpoint | None, record: Mapping[str, Any] | None) -> float:
    """A number that tells states apart.

    The position in a checkpoint has losses and the seconds of training, so it tells the tensors apart, too.
    """
    position = None if checkpoint is None else json.dumps(checkpoint.position, sort_keys=True)
    shared = None if record is None else training_checksum(json.loads(json_bytes(_without_places(record))))
    digest = hashlib.sha256(json.dumps([position, shared]).encode()).digest()
    return float(int.from_bytes(digest[:HASH_BYTES], "big"))


def _without_places(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without the paths where a process has found the text, and without their signature."""
    corpus, tokens = (dict(record.get(name, {})) for name in ("corpus", "tokens"))
    for section, names in ((corpus, ("paths", "valid")), (tokens, ("folder",))):
        for name in names:
            section.pop(name, None)
    shared = {name: value for name, value in record.items() if name != "signature"}
    return shared | {"corpus": corpus, "tokens": tokens}


def _step(checkpoint: Checkpoint | None) -> int:
    step = START if checkpoint is None else checkpoint.position.get("step")
    return step if isinstance(step, int) else 0  # a position without a step is refused when it is restored


def _named_step(step: int) -> str:
    return "the beginning" if step == START else f"step {step:,}"
