"""The report about GPUs, on whatever machine this is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_gpu.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_results_losses_and_writing_are_right_here() -> None:
    sections = ("devices", "results", "losses", "kernels", "writing")
    only = [word for section in sections for word in ("--only", section)]
    done = subprocess.run([sys.executable, str(SCRIPT), *only], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line[2:] for line in lines if line.startswith("# ")] == list(sections)
    assert sum(line.endswith(": right") for line in lines) >= 3 * 3 + 3 + 1 + 1
    assert "WRONG" not in done.stdout
    assert "operations per second in float32 products" in done.stdout
    assert "add gradients by " in done.stdout
