from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streams import stream_of

from textgen.dataset.batches import Batches
from textgen.system import allocator
from textgen.system.runtime import load_tensorflow

HELPERS = Path(__file__).parents[1] / "helpers"
PROGRAM = """
import resource
import numpy as np
from textgen.system.allocator import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(2_500_000, np.float32) for _ in range(10)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

{call}
faults()
print(faults())
"""


READS = """
from streams import stream_of
from textgen.dataset.batches import Batches
from textgen.system.runtime import configure_process, load_tensorflow

configure_process()
load_tensorflow()
with stream_of([37, 2, 5]) as stream:
    list(Batches(stream, 2, 3, 0).dataset())
"""


def page_faults(call: str) -> int:
    """Pages that a process of its own waits for, when it takes 100 MB again that it has freed."""
    command = [sys.executable, "-c", PROGRAM.format(call=call)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HELPERS)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_memory_that_was_freed_is_taken_again() -> None:
    assert page_faults("keep_memory()") < page_faults("") / 10


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_batches_that_are_read_ahead_do_not_change_that() -> None:
    """TensorFlow's datasets would."""
    assert page_faults(READS) < page_faults("") / 10


@pytest.mark.parametrize(
    ("largest", "kept", "asked"),
    [
        (1 << 30, True, [(-3, 1 << 30), (-1, 1 << 30), (-2, 1 << 26)]),
        (1 << 25, True, [(-3, 1 << 30), (-3, 1 << 25), (-1, 1 << 30), (-2, 1 << 26)]),  # older ones of glibc
        (0, False, [(-3, 1 << 30), (-3, 1 << 25)]),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_where_the_allocator_refuses_a_setting_it_is_not_made_slower(
    largest: int, kept: bool, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other settings would end its own raising of the threshold from which buffers are handed back."""
    received: list[tuple[int, int]] = []

    def mallopt(parameter: int, size: int) -> int:
        received.append((parameter, size))
        return int(parameter != allocator.M_MMAP_THRESHOLD or size <= largest)

    monkeypatch.setattr(allocator, "_is_kept", False)
    monkeypatch.setattr("textgen.system.allocator.ctypes.CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    assert allocator.keep_memory() is kept
    assert received == asked
    allocator.keep_memory_still()
    assert received == asked * (2 if kept else 1)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_the_settings_are_repeated_after_a_dataset_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making one has undone them; that it then works is a slow test."""
    load_tensorflow()
    import tensorflow as tf

    done: list[str] = []
    make = tf.data.Dataset.from_generator

    def noted(*arguments: Any, **options: Any) -> Any:
        dataset = make(*arguments, **options)
        done.append("dataset")
        return dataset

    monkeypatch.setattr(tf.data.Dataset, "from_generator", noted)
    monkeypatch.setattr(allocator, "_is_kept", True)

    def mallopt(*setting: int) -> int:
        done.append("setting")
        return 1

    library = SimpleNamespace(mallopt=mallopt)
    monkeypatch.setattr("textgen.system.allocator.ctypes.CDLL", lambda name: library)
    with stream_of([37, 2, 5]) as stream:
        list(Batches(stream, 2, 3, 0).dataset())
    assert done == ["dataset", "setting", "setting", "setting"]


def test_a_process_that_is_not_ours_keeps_its_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "_is_kept", False)
    monkeypatch.setattr("textgen.system.allocator.ctypes.CDLL", lambda name: pytest.fail("mallopt was called"))
    allocator.keep_memory_still()
    assert not allocator._is_kept
