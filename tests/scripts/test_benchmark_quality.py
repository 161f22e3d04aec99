"""The script that compares qualities: what PyTorch took minutes for is not lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from script_modules import load_script


def test_a_share_that_leaves_no_time_to_train_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, seconds = load_script("benchmark_quality", monkeypatch), list[float]()

    def by_torch(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        found = {"perplexity": 109.9, "seconds": 200.0, "parameters": 2_700_000}
        return subprocess.CompletedProcess(command, 0, json.dumps(found))

    def by_textgen(data: Path, time: float, models_dir: Path) -> dict[str, Any]:
        seconds.append(time)
        return {"perplexity": 83.8, "seconds": time, "parameters": 3_600_000}

    for part in ("train", "valid", "test"):
        (tmp_path / f"ptb-{part}.txt").touch()
    monkeypatch.setattr(script, "require_torch", lambda contenders: None)
    monkeypatch.setattr(script, "completed", by_torch)
    monkeypatch.setattr(script, "train_textgen", by_textgen)
    arguments = ["--data", str(tmp_path), "--shares", "0.15", "1", "0.1"]
    monkeypatch.setattr(sys, "argv", ["benchmark_quality.py", *arguments])
    script.main()
    said = capsys.readouterr()
    assert seconds == [200.0]
    assert "15% of 200 s leaves no time to train: left out." in said.err
    assert said.out.count("| textgen, 100% of the time | 83.8 |") == 1
    assert "| PyTorch word_language_model | 109.9 | 200 |" in said.out


def test_runs_before_one_that_fails_are_kept_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, runs = load_script("benchmark_quality", monkeypatch), list[str]()

    def by_torch(data: Path, epochs: int) -> dict[str, Any]:
        runs.append("PyTorch")
        return {"perplexity": 109.9, "seconds": 200.5, "parameters": 2_700_000}

    def by_textgen(data: Path, seconds: float) -> dict[str, Any]:
        runs.append(f"{seconds}")
        if runs.count("100.25") == 1 and seconds < 200:
            raise KeyboardInterrupt
        return {"perplexity": 83.8, "seconds": seconds, "parameters": 3_600_000}

    for part in ("train", "valid", "test"):
        (tmp_path / f"ptb-{part}.txt").touch()
    monkeypatch.setattr(script, "require_torch", lambda contenders: None)
    monkeypatch.setattr(script, "by_torch", by_torch)
    monkeypatch.setattr(script, "by_textgen", by_textgen)
    kept = tmp_path / "quality.jsonl"
    arguments = ["--data", str(tmp_path), "--shares", "1", "0.5", "--json", str(kept)]
    monkeypatch.setattr(sys, "argv", ["benchmark_quality.py", *arguments])
    with pytest.raises(KeyboardInterrupt):
        script.main()
    for _ in range(2):
        script.main()
        assert capsys.readouterr().out.count("| textgen, ") == 2
    assert runs == ["PyTorch", "200.5", "100.25", "100.25"]
    (tmp_path / "ptb-train.txt").write_text("another text\n", encoding="utf-8")
    script.main()
    assert runs[4:] == ["PyTorch", "200.5", "100.25"]
