"""The script that compares the texts of all exact engines: its table, how it goes on, what it says of a difference."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from javascript import needs_node

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "compare_engines.py"


def compare(models: Path, out: Path, only: str = "node") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, "tiny", "--only", only, "--seeds", "2", "--tokens", "5", "--out", out]
    environment = {**os.environ, "TEXTGEN_MODELS": str(models)}
    return subprocess.run([*map(str, command)], capture_output=True, text=True, env=environment, check=False)


@needs_node
def test_texts_are_compared_kept_and_not_written_again(tiny_models: Path, tmp_path: Path) -> None:
    out = tmp_path / "texts.jsonl"
    first = compare(tiny_models, out)
    assert first.returncode == 0, first.stderr
    header, _, one, two = [line.strip("| ").split(" | ") for line in first.stdout.splitlines()]
    assert header == ["engine", "tiny, default"]
    assert [one[0], two[0]] == ["Node", "Node, plain"]
    assert one[1] == two[1]
    assert one[1].startswith("2 of 2, `")
    lines = out.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4
    altered = json.loads(lines[-1])
    altered["text"] = altered["text"][:1] + "\0"
    out.write_text("\n".join([*lines[:-1], json.dumps(altered)]) + "\n", encoding="utf-8")
    again = compare(tiny_models, out)
    assert again.returncode == 1
    assert "Node, plain, tiny, default, seed 1: differs from character 1 on" in again.stderr
    assert "1 of 2" in again.stdout.splitlines()[-1]
    assert "texts ..." not in again.stderr


def test_fewer_than_two_engines_are_an_error(tiny_models: Path, tmp_path: Path) -> None:
    done = compare(tiny_models, tmp_path / "texts.jsonl", only="no-such-engine")
    assert done.returncode == 1
    assert "Nothing was compared: 0 engines wrote, and two are needed." in done.stderr
