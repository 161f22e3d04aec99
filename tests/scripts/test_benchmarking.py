"""What the measuring scripts share: results that are kept in a file, and the heading of a table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from script_modules import SCRIPTS, load_script


def test_results_in_the_file_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmarking, path = load_script("benchmarking", monkeypatch), tmp_path / "results.jsonl"
    results = [{"name": "诗", "seconds": 1.5}, {"name": "b\n"}]
    assert benchmarking.known_results(path) == []
    for result in results:
        benchmarking.add_result(path, result)
    assert benchmarking.known_results(path) == results


def test_cores_are_counted_where_no_set_of_them_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert ", 3 cores, Python" in load_script("benchmarking", monkeypatch).machine()


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_no_script_asks_for_a_set_of_cores(script: Path) -> None:
    assert "sched_getaffinity" not in script.read_text(encoding="utf-8"), "use textgen.machine.processor_cores"
