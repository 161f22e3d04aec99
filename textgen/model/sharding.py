"""Divides the rows of a batch among processor cores."""

from __future__ import annotations

from typing import Any

from textgen.machine import num_cores
from textgen.runtime import may_run_side_by_side


def shard_rows(batch_size: int, cores: int | None = None) -> list[slice]:
    """The rows of a batch that each core works on.

    There is one shard on a GPU, and where XLA was used before `load_tensorflow`: two at once would not be safe then.

    Args:
        batch_size: Rows of the batch (B).
        cores: Number of cores; all of this process if None.

    Returns:
        Slices of equal length that cover the batch.
    """
    import tensorflow as tf

    is_whole = not may_run_side_by_side() or bool(tf.config.list_physical_devices("GPU"))
    shards = 1 if is_whole else cores or num_cores()
    shards = max(n for n in range(1, shards + 1) if batch_size % n == 0)
    size = batch_size // shards
    return [slice(start, start + size) for start in range(0, batch_size, size)]


def join_states(states: list[Any]) -> Any:
    """Concatenates the states of shards to the state of the whole batch."""
    import tensorflow as tf

    return tf.nest.map_structure(lambda *arrays: tf.concat(arrays, 0), *states)
