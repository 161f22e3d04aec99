"""The script that counts texts that go in circles."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from script_modules import load_script


def test_texts_are_those_that_a_saved_model_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the words that it knows, which a generator of its network alone does not have."""
    script, runtimes = load_script("measure_loops", monkeypatch), list[str]()

    def generate(prompt: str, config: object, num: int = 1) -> list[Any]:
        return [SimpleNamespace(text="a new cat\n" * 5)] * num

    def generator(runtime: str) -> Any:
        runtimes.append(runtime)
        return SimpleNamespace(generate=generate)

    monkeypatch.setattr(script, "load_model", lambda model, models_dir: SimpleNamespace(generator=generator))
    (tmp_path / "corpus.txt").write_text("a cat on a mat\n" * 40, encoding="utf-8")
    arguments = ["model", str(tmp_path / "corpus.txt"), "--only", "default", "--texts", "4"]
    monkeypatch.setattr(sys, "argv", ["measure_loops.py", *arguments])
    script.main()
    assert runtimes == ["numpy"]
    assert "| default | 0.3 | 100.0% | 100.0% | 0.0% | 33.3% |" in capsys.readouterr().out
