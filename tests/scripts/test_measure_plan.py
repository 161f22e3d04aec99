"""The script that compares plans with runs says how far off they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from script_modules import load_script

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_plan.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("measure_plan", monkeypatch)


@pytest.mark.parametrize(
    ("took", "busy", "peak", "flag", "code"),
    [(50.0, 1.0, 1e9, "", 0), (50.0, 1.0, 2e9, "", 1), (20.0, 50.0, 1e9, "", 1), (20.0, 50.0, 1e9, "--processor", 0)],
)
def test_it_fails_where_a_plan_is_far_off(
    script: ModuleType,
    took: float,
    busy: float,
    peak: float,
    flag: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    runs = list[Any]()

    def measured(text: str, settings: dict[str, Any], seconds: float) -> dict[str, Any]:
        runs.append((settings, seconds))
        expected = {"expected_seconds": seconds, "expected_memory": 1.1e9, "steps": 1234, "expected_speed": 2000.0}
        return {**expected, "speed": 1000.0, "seconds": took, "processor_seconds": busy, "memory": peak}

    monkeypatch.setattr(script, "measured", measured)
    arguments = ["measure_plan.py", "text.txt", "--seconds", "50", "--only", "char tiny", *filter(None, [flag])]
    monkeypatch.setattr(sys, "argv", arguments)
    assert script.main() == code
    assert runs == [({"preset": "tiny", "tokenizer": "char"}, 50.0)]
    seconds = busy if flag else took
    speed = 1000 * took / seconds  # in the seconds that count
    expected = f"| char tiny | 1,234 | 2,000 ({100 * (2000 / speed - 1):+.0f} %) | {speed:,.0f} "
    expected += f"| 50.0 ({100 * (50 / seconds - 1):+.0f} %) | {seconds:.1f} |"
    assert expected in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_memory_of_a_run_is_near_what_was_expected(tmp_path: Path) -> None:
    words = [f"word{number * number % 977}" for number in range(40_000)]
    (tmp_path / "text.txt").write_text("\n".join(map(" ".join, zip(*[iter(words)] * 8, strict=True))), encoding="utf-8")
    settings = {"preset": "small", "tokenizer": "char", "num_validations": 2}
    job = json.dumps({"text": str(tmp_path / "text.txt"), "settings": settings, "seconds": 1.0})
    done = subprocess.run([sys.executable, str(SCRIPT), "--worker", job], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["expected_memory"] == pytest.approx(found["memory"], rel=0.25)
    assert found["seconds"] > 0
    assert found["processor_seconds"] > 0
