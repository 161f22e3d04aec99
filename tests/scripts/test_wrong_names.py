"""Scripts that read a text or a model say in one line what is missing."""

from __future__ import annotations

import sys

import pytest
from script_modules import load_script


@pytest.mark.parametrize(
    "arguments",
    [
        ["ablation", "--data", "no-such.txt", "--json", "no.jsonl"],
        ["benchmark_encoding", "no-such.txt"],
        ["gallery", "no-such-model", "--out", "pages"],
        ["learning_curves", "--text", "a=no-such.txt", "--json", "results.jsonl"],
        ["measure_cells", "no-such-model", "no-such.txt"],
        ["measure_copies", "no-such-model", "--corpus", "no-such.txt"],
        ["measure_loops", "no-such-model", "no-such.txt"],
        ["measure_words", "no-such.txt", "no-such-model", "--corpus", "no-such.txt"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_is_missing_is_one_line(
    arguments: list[str], tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(str(tmp_path))
    script = load_script(arguments[0], monkeypatch)
    monkeypatch.setattr(sys, "argv", [f"{arguments[0]}.py", *arguments[1:]])
    with pytest.raises(SystemExit) as caught:
        script.run_script(script.main)
    said = capsys.readouterr().err
    assert caught.value.code == 1
    assert "no-such" in said
    assert "\n" not in said.removesuffix("\n")
