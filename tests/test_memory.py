from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import resource
import numpy as np
from textgen.memory import keep_memory

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
from textgen.batches import Batches
from textgen.runtime import load_tensorflow

load_tensorflow()
with stream_of([37, 2, 5]) as stream:
    list(Batches(stream, 2, 3, 0).dataset())
"""


def page_faults(call: str) -> int:
    """Pages that a process of its own waits for, when it takes 100 MB again that it has freed."""
    command = [sys.executable, "-c", PROGRAM.format(call=call)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_memory_that_was_freed_is_taken_again() -> None:
    assert page_faults("keep_memory()") < page_faults("") / 10


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_batches_that_are_read_ahead_do_not_change_that() -> None:
    """TensorFlow's datasets would."""
    assert page_faults(READS) < page_faults("") / 10
