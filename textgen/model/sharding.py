"""Divides the rows of a batch among processor cores."""

from __future__ import annotations

from typing import Any

from textgen.machine import num_cores
from textgen.runtime import runs_side_by_side


def shard_rows(batch_size: int, cores: int | None = None) -> list[slice]:
    """The rows of a batch that each of the `cores` (by default all) works on: on a GPU all of them.

    All of them, too, where two shards at once would not be safe: XLA was used before `load_tensorflow`.
    """
    import tensorflow as tf

    is_whole = not runs_side_by_side() or bool(tf.config.list_physical_devices("GPU"))
    shards = 1 if is_whole else cores or num_cores()
    shards = max(n for n in range(1, shards + 1) if batch_size % n == 0)
    size = batch_size // shards
    return [slice(start, start + size) for start in range(0, batch_size, size)]


def join_states(states: list[Any]) -> Any:
    """The state of a whole batch from those of its shards."""
    import tensorflow as tf

    return tf.nest.map_structure(lambda *arrays: tf.concat(arrays, 0), *states)
