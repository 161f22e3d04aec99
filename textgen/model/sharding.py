"""Splitting the rows of a batch across processor cores."""

from __future__ import annotations

from typing import Any

from textgen.machine import num_cores
from textgen.runtime import runs_side_by_side


def shard_rows(batch_size: int, cores: int | None = None) -> list[slice]:
    """Splits the rows of a batch into equal shards, one per core.

    Returns a single shard on a GPU, or if running two shards at once is not safe because XLA was used before
    `load_tensorflow`. The number of shards is the largest divisor of `batch_size` that does not exceed `cores`.

    Args:
        batch_size: Rows of the batch (B).
        cores: Maximum number of shards. By default the number of processor cores.

    Returns:
        The rows of each shard.
    """
    import tensorflow as tf

    is_whole = not runs_side_by_side() or bool(tf.config.list_physical_devices("GPU"))
    shards = 1 if is_whole else cores or num_cores()
    shards = max(n for n in range(1, shards + 1) if batch_size % n == 0)
    size = batch_size // shards
    return [slice(start, start + size) for start in range(0, batch_size, size)]


def join_states(states: list[Any]) -> Any:
    """Concatenates the states of the shards of a batch.

    Args:
        states: State of each shard: nested structures of arrays [rows, ...].

    Returns:
        The state of the whole batch, with arrays [B, ...].
    """
    import tensorflow as tf

    return tf.nest.map_structure(lambda *arrays: tf.concat(arrays, 0), *states)
