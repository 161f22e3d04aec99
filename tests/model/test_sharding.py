"""Batches are split where that pays."""

from __future__ import annotations

import pytest

from textgen.model import sharding
from textgen.model.sharding import shard_rows


@pytest.mark.parametrize(
    ("batch_size", "cores", "shards"),
    [
        (32, 1, 1), (32, 2, 2), (4, 2, 2), (2, 2, 2), (1, 2, 1), (5, 2, 1),
        (32, 4, 4), (32, 16, 4), (64, 16, 8), (128, 16, 16), (4, 16, 2), (96, 16, 12), (40, 16, 5),
    ],
)  # fmt: skip
def test_each_core_has_a_shard_until_shards_are_too_small(
    batch_size: int, cores: int, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharding, "runs_side_by_side", lambda: True)
    rows = shard_rows(batch_size, cores)
    assert len(rows) == shards
    assert [row for part in rows for row in range(batch_size)[part]] == list(range(batch_size))
    assert len({part.stop - part.start for part in rows}) == 1


def test_a_gpu_computes_a_batch_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["gpu"])
    assert shard_rows(64, 16) == [slice(0, 64)]
