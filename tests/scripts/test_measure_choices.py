"""The script that compares the settings of a plan with others."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from script_modules import load_script, said_by_usage

from textgen.errors import ConfigError, Interrupted, TextgenError, TokenizerError
from textgen.storage.files import CannotWrite


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        (["--set", "preset=small"], ["as planned", "preset=small"]),
        (["--set", "preset=small", "--only", "batch x 2"], ["batch x 2", "preset=small"]),
        (["--only", "batch x 2"], ["batch x 2"]),
        (["--random", "2"], ["as planned", "batch x 2 + dropout x 1.5", "1 x 128 + learning rate x 0.5"]),
    ],
)
def test_settings_are_compared_with_the_plan(
    arguments: list[str],
    changes: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script, runs = load_script("measure_choices", monkeypatch), list[str]()

    def by_worker(path: str, job: dict[str, Any], name: str) -> dict[str, Any]:
        runs.append(job["change"])
        return {"bits_per_byte": 2.0 + len(runs), "epochs": 1.0}

    monkeypatch.setattr(script, "by_worker", by_worker)
    (tmp_path / "tales.txt").write_text("once upon a time\n", encoding="utf-8")
    where = ["--text", f"tales={tmp_path / 'tales.txt'}", "--json", str(tmp_path / "choices.jsonl")]
    monkeypatch.setattr(sys, "argv", ["measure_choices.py", *where, *arguments])
    script.main()
    assert runs == changes
    assert ("| +33.3 % |" in capsys.readouterr().out) == ("as planned" in changes)


def test_changes_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    script = load_script("measure_choices", monkeypatch)
    plan = SimpleNamespace(
        model_config=SimpleNamespace(vocab_size=500, dropout=0.6, embedding_dropout=0.2),
        training_config=SimpleNamespace(batch_size=32, learning_rate=0.01),
    )
    assert script.settings_of("as planned", plan) == {}
    assert script.settings_of("vocabulary x 0.5 + 1 x 128 + dropout x 1.5 + seed=1,gradient_clip=0.5", plan) == {
        "vocab_size": 250, "preset": "tiny", "dropout": 0.8, "embedding_dropout": pytest.approx(0.3),
        "seed": 1, "gradient_clip": 0.5,
    }  # fmt: skip
    drawn = script.random_changes(40)
    assert len(set(drawn)) == 40
    assert drawn[:20] == script.random_changes(20)
    assert all(script.settings_of(change, plan) for change in drawn)


def test_runs_by_the_clock_and_by_the_processor_are_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, runs = load_script("measure_choices", monkeypatch), list[bool]()

    def by_worker(path: str, job: dict[str, Any], name: str) -> dict[str, Any]:
        runs.append(job["by_processor"])
        return {"bits_per_byte": 2.0 if job["by_processor"] else 9.0, "epochs": 1.0}

    monkeypatch.setattr(script, "by_worker", by_worker)
    monkeypatch.chdir(tmp_path)
    Path("tales.txt").write_text("once upon a time\n", encoding="utf-8")
    arguments = ["measure_choices.py", "--text", "tales=tales.txt", "--json", "choices.jsonl", "--only", "as planned"]
    for how in ([], ["--processor"], ["--processor"]):
        monkeypatch.setattr(sys, "argv", arguments + how)
        script.main()
        assert ("9.0000" in capsys.readouterr().out) == (not how)
    assert runs == [False, True]


@pytest.mark.parametrize(
    "kept",
    [{"sha256": "0" * 64}, {}],
    ids=["another text", "as earlier files have it"],
)
def test_results_of_another_text_are_not_shown_for_this_one(
    kept: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tales.txt").write_text("once upon a time\n", encoding="utf-8")
    line = {"text": "tales", "minutes": 1.0, "change": "as planned", "bits_per_byte": 9.0, "epochs": 1.0}
    Path("choices.jsonl").write_text(f"{json.dumps({**line, **kept})}\n", encoding="utf-8")
    script = load_script("measure_choices", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["measure_choices.py", "--text", "tales=tales.txt", "--json", "choices.jsonl"])
    with pytest.raises(ConfigError, match="has results of another text called 'tales', or does not say"):
        script.main()


def test_a_change_that_the_text_does_not_allow_is_reported_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("All the letters, and then the same once more.\n" * 100, encoding="utf-8")
    script = load_script("measure_choices", monkeypatch)
    monkeypatch.setattr(script, "by_worker", lambda path, job, name: script.train(**job))
    arguments = ["--text", f"letters={text}", "--json", str(tmp_path / "choices.jsonl"), "--set", "vocab_size=12"]
    arguments += ["--set", "batch_size=4000"]
    monkeypatch.setattr(sys, "argv", ["measure_choices.py", *arguments, "--only", "1 x 128"])
    script.main()
    captured = capsys.readouterr()
    assert "1 x 128: the same as planned" in captured.err
    assert "vocab_size=12: refused: vocab_size 12 is too small" in captured.err
    assert "batch_size=4000: refused: The corpus makes about" in captured.err


@pytest.mark.parametrize(
    "error",
    [
        Interrupted("Saved.", 15),
        CannotWrite(Path("model"), "No space left on device", "Free some space."),
        TokenizerError("Cannot start a process that encodes the corpus: End other programs."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_later_try_may_change_is_no_result(
    error: TextgenError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise error

    text, kept = tmp_path / "text.txt", tmp_path / "choices.jsonl"
    text.write_text("All the letters, and then the same once more.\n" * 100, encoding="utf-8")
    script = load_script("measure_choices", monkeypatch)
    monkeypatch.setattr(script, "by_worker", lambda path, job, name: script.train(**job))
    monkeypatch.setattr("textgen.training.run.train", fail)
    arguments = ["--text", f"letters={text}", "--json", str(kept), "--only", "batch x 0.5"]
    monkeypatch.setattr(sys, "argv", ["measure_choices.py", *arguments])
    with pytest.raises(type(error)):
        script.main()
    assert kept.read_text(encoding="utf-8") == ""


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("batch_sise=8", "There is no setting 'batch_sise' (did you mean 'batch_size'?)."),
        ("batch x 2 + learning rate x 3", "expected a name, = and a value, not 'learning rate x 3'"),
        ("dropout=much", "dropout must be a number"),
        ("cell=lstn", "cell must be one of"),
        ("preset=huge", "there is no preset 'huge'; there are: tiny, small"),
        ("seed=1,", "expected a name, = and a value, not ''"),
    ],
)
def test_an_unknown_setting_ends_the_script_before_anything_is_measured(
    change: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--json", "choices.jsonl", "--text", "a=no-such.txt", "--set", change]
    assert problem in said_by_usage("measure_choices", given, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "--text is missing, and choices.jsonl has no results to show: name a text."),
        (["--text", "a=one.txt", "--text", "a=two.txt"], "two texts are called 'a': give each a name of its own."),
        (["--text", "a=no-such.txt", "--minutes"], "--minutes: expected at least one argument"),
        (["--text", "a=no-such.txt", "--random", "-3"], "--random: expected a whole number from 1 on, not '-3'"),
        (["--text", "a=no-such.txt", "--random", "0"], "--random: expected a whole number from 1 on, not '0'"),
        (["--text", "a=no-such.txt", "--random", "201"], "--random: 201 is too many: give at most 200"),
    ],
)
def test_a_script_that_would_measure_nothing_says_so(
    arguments: list[str],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["--json", "choices.jsonl", *arguments]
    assert problem in said_by_usage("measure_choices", given, tmp_path, monkeypatch, capsys)


def test_results_of_another_machine_are_neither_continued_nor_mixed_with_those_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor those of earlier files, which do not say on which machine they were measured. A run named twice runs once."""
    script, runs, bits = load_script("measure_choices", monkeypatch), list[str](), {"here": 2.0, "elsewhere": 9.0}
    places = ["here"]

    def by_worker(path: str, job: dict[str, Any], name: str) -> dict[str, Any]:
        runs.append(places[0])
        return {"bits_per_byte": bits[places[0]], "epochs": 1.0}

    monkeypatch.setattr(script, "by_worker", by_worker)
    monkeypatch.setattr(script, "machine", lambda: places[0])
    monkeypatch.chdir(tmp_path)
    Path("tales.txt").write_text("once upon a time\n", encoding="utf-8")
    line = {"text": "tales", "minutes": 1.0, "change": "as planned", "bits_per_byte": 7.0, "epochs": 1.0}
    sha256 = script.digest(Path("tales.txt").read_bytes())
    Path("choices.jsonl").write_text(f"{json.dumps({**line, 'sha256': sha256})}\n", encoding="utf-8")
    only = ["--only", "as planned", "--only", "as planned"]
    arguments = ["measure_choices.py", "--text", "tales=tales.txt", "--json", "choices.jsonl", *only]
    monkeypatch.setattr(sys, "argv", arguments)
    for place in ("elsewhere", "here", "here", "elsewhere"):
        places[0] = place
        script.main()
    assert runs == ["elsewhere", "here"]
    shown = capsys.readouterr().out.split("Choices (")[-3:]
    assert [part.partition(")")[0] for part in shown] == ["a machine that the file does not name", "elsewhere", "here"]
    for part, score in zip(shown, ("7.0000", "9.0000", "2.0000"), strict=True):
        assert part.count("| tales |") == 1
        assert score in part


def test_results_are_shown_without_a_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {"text": "tales", "minutes": 1.0, "change": "as planned", "bits_per_byte": 9.0, "epochs": 1.0}
    (tmp_path / "choices.jsonl").write_text(f"{json.dumps(line)}\n", encoding="utf-8")
    script = load_script("measure_choices", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["measure_choices.py", "--json", str(tmp_path / "choices.jsonl")])
    script.main()
    assert "| tales | 1 | as planned | 9.0000 |" in capsys.readouterr().out
