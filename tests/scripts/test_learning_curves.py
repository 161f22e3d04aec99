"""The script that measures what a base is worth: its table, what it does not run again, and its six texts."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from script_modules import load_script, said_by_usage

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


TALES = "some words\n" * 2000


def result(size: int, seed: int, without: bool, score: float) -> str:
    base = {"base": None, "decided_by": "given"} if without else {"base": "english", "decided_by": "rule"}
    what: dict[str, Any] = {
        "sha256": hashlib.sha256(TALES.encode()).hexdigest(),
        "start": "none" if without else "",
        "settings": {},
    }
    return json.dumps(
        {"text": "tales", "kilobytes": size, "seed": seed, "without": without, "bits_per_byte": score, **base, **what}
    )


def test_the_table_compares_runs_of_the_same_seed(tmp_path: Path) -> None:
    (tmp_path / "tales.txt").write_text(TALES)
    lines = [result(10, seed, without, score) for seed, without, score in (
        (0, True, 3.0), (0, False, 2.0), (1, True, 4.0), (1, False, 3.0), (2, True, 9.0),
    )]  # fmt: skip
    (tmp_path / "curves.jsonl").write_text("\n".join(lines) + "\n")
    done = run(
        "learning_curves.py", "--text", f"tales={tmp_path / 'tales.txt'}", "--kilobytes", 10, 3000, "--json",
        tmp_path / "curves.jsonl",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # nothing was run: 3,000 KB are more than there is
    assert done.stdout.splitlines()[-1] == "| tales | 10 KB | 3.500 | 2.500 | -28.6 % | english (rule) | 2 |"


@pytest.mark.parametrize(
    ("text", "flags", "what"),
    [
        ("other words\n" * 2000, [], "another text called 'tales'"),
        (TALES, ["--from", "chinese"], "runs with another base or other settings"),
        (TALES, ["--set", "vocab_size=8000"], "runs with another base or other settings"),
    ],
    ids=["text", "base", "settings"],
)
def test_results_of_something_else_are_not_shown_for_this(
    text: str, flags: list[str], what: str, tmp_path: Path
) -> None:
    (tmp_path / "tales.txt").write_text(text)
    kept = tmp_path / "curves.jsonl"
    kept.write_text(f"{result(10, 0, True, 3.0)}\n{result(10, 0, False, 2.0)}\n")
    done = run("learning_curves.py", "--text", f"tales={tmp_path / 'tales.txt'}", "--kilobytes", 10, "--seeds", 1,
               "--json", kept, *flags)  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr
        == f"Error: {kept} has results of {what}, or does not say what it has results of: name another file.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--misfits", "--seeds", "-3"], "--seeds: expected a whole number from 1 on, not '-3'"),
        (["--misfits", "--seeds", "0"], "--seeds: expected a whole number from 1 on, not '0'"),
        (["--text", "tales=one.txt", "--kilobytes"], "--kilobytes: expected at least one argument"),
        ([], "--text and --misfits are missing, and curves.jsonl has no results to show: name a text."),
    ],
)
def test_a_script_that_would_measure_nothing_says_so(
    arguments: list[str],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["--json", "curves.jsonl", *arguments]
    assert problem in said_by_usage("learning_curves", given, tmp_path, monkeypatch, capsys)


def test_a_run_that_is_named_twice_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, runs = load_script("learning_curves", monkeypatch), list[Any]()

    def measured(_: bytes, run: dict[str, Any], *__: object) -> dict[str, Any]:
        runs.append(run["without"])
        return {**run, "bits_per_byte": 2.0, "seconds": 1.0, "base": None, "decided_by": "given"}

    monkeypatch.setattr(script, "measured", measured)
    (tmp_path / "tales.txt").write_text(TALES)
    arguments = ["--text", f"tales={tmp_path / 'tales.txt'}", "--kilobytes", "10", "10", "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", ["learning_curves.py", "--json", str(tmp_path / "curves.jsonl"), *arguments])
    script.main()
    assert runs == [True, False]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--text", "tales=one.txt", "--text", "tales=two.txt"], "tales"),
        (["--text", "dna=one.txt", "--misfits"], "dna"),
    ],
    ids=["given twice", "as a misfit"],
)
def test_two_texts_of_one_name_are_refused(arguments: list[str], name: str, tmp_path: Path) -> None:
    done = run("learning_curves.py", *arguments, "--json", tmp_path / "curves.jsonl")
    assert done.returncode == 2
    assert f"error: two texts are called '{name}': give each a name of its own." in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_base_that_is_named_but_not_there_is_said_so_and_nothing_is_added(tmp_path: Path) -> None:
    (tmp_path / "tales.txt").write_text("some words\n" * 2000)
    done = run(
        "learning_curves.py", "--text", f"tales={tmp_path / 'tales.txt'}", "--kilobytes", 10, "--seeds", 1, "--only",
        "with", "--from", "no-such-base", "--json", tmp_path / "curves.jsonl",
    )  # fmt: skip
    assert done.returncode == 1
    assert "There is no model 'no-such-base'" in done.stderr
    assert (tmp_path / "curves.jsonl").read_text() == ""


def test_the_six_texts_are_the_same_each_time_and_as_long_as_asked_for(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        done = run("misfit_texts.py", "--out", tmp_path / folder, "--bytes", 5000)
        assert done.returncode == 0, done.stderr
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("first", "second")
    )
    assert first == second
    assert set(first) == {"code.txt", "dna.txt", "tunes.txt", "thai.txt", "log.txt", "table.txt"}
    assert all(5000 <= len(text) < 5600 for text in first.values())
