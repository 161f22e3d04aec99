from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from textgen.memory import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(700_000, np.float32) for _ in range(10)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

{call}
faults()
print(faults())
"""


def page_faults(call: str) -> int:
    """Pages that a process of its own waits for, when it takes 28 MB again that it has freed."""
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(call=call)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_memory_that_was_freed_is_taken_again() -> None:
    assert page_faults("keep_memory()") < page_faults("") / 10
