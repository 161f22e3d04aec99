"""The script that measures the exported page in browsers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from script_modules import load_script


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_a_thread_that_has_just_ended_has_no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    script = load_script("measure_page", monkeypatch)

    def read_text(path: Path) -> str:
        raise ProcessLookupError(3, "No such process", str(path))

    monkeypatch.setattr(script.Path, "read_text", read_text)
    assert list(script.descendants(os.getpid())) == [os.getpid()]
