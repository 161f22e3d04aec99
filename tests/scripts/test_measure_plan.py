"""The script that compares plans with runs says how far off they are."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_plan.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_plan", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "measure_plan", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("took", "peak", "code"), [(50.0, 1e9, 0), (50.0, 2e9, 1), (20.0, 1e9, 1)])
def test_it_fails_where_a_plan_is_far_off(
    script: ModuleType, took: float, peak: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    runs = list[list[str]]()

    def textgen(*arguments: str) -> str:
        steps = int(arguments[arguments.index("--steps") + 1])
        return json.dumps({"seconds": 0.1 * steps, "memory_bytes": 1.1e9})

    def measured(text: str, flags: list[str], folder: str) -> tuple[float, float]:
        runs.append(flags)
        return took, peak

    monkeypatch.setattr(script, "textgen", textgen)
    monkeypatch.setattr(script, "measured", measured)
    monkeypatch.setattr(sys, "argv", ["measure_plan.py", "text.txt", "--seconds", "50", "--only", "char tiny"])
    assert script.main() == code
    assert runs == [["--tokenizer", "char", "--preset", "tiny", "--steps", "500"]]
    assert f"| char tiny | 50 ({100 * (50 / took - 1):+.0f} %) | {took:.0f} |" in capsys.readouterr().out
