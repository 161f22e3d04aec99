"""The script that changes one setting at a time: its table, and what it does not run again."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import child_process
from script_modules import load_script

from textgen.cli.train import train

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "ablation.py"


def ablation(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = ["--data", folder / "text.txt", "--json", folder / "results.jsonl", *flags]
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, command)], capture_output=True, text=True)


TEXT = "some words\n" * 100


def result(change: str, seed: int, nats: float, epochs: float = 3.0, text: str = TEXT) -> str:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps({"change": change, "seed": seed, "epochs": epochs, "nats": nats, "sha256": sha256}) + "\n"


def test_the_table_is_made_of_what_was_measured(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    lines = [result("as it is", seed, 3.0 + seed / 10) for seed in (0, 1)]
    lines += [result("forget bias 0", seed, 3.05 + seed / 10) for seed in (1, 0)]
    lines += [
        result("weight drop 0.2", 0, 2.9),
        result("weight drop 0.2", 2, 1.0),
        result("weight drop 0.2", 0, 9, 4.0),
    ]
    (tmp_path / "results.jsonl").write_text("".join(lines))
    done = ablation(tmp_path, "--epochs", "3", "--seeds", "2", "--only", "as it is")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == [
        "| as it is | 3.000 3.100 |  |",
        "| weight drop 0.2 | 2.900 | -0.100 |",
        "| forget bias 0 | 3.050 3.150 | +0.050 |",
    ]
    assert (tmp_path / "results.jsonl").read_text() == "".join(lines)


@pytest.mark.parametrize("seeds", ["0", "-3"])
def test_a_number_of_seeds_that_measures_nothing_is_refused(seeds: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    done = ablation(tmp_path, "--seeds", seeds)
    assert done.returncode == 2
    assert f"--seeds: expected a whole number from 1 on, not '{seeds}'" in done.stderr


OF_ANOTHER_TEXT = result("as it is", 0, 3.0, text="other words\n")
OF_NO_TEXT = json.dumps({"change": "as it is", "seed": 0, "epochs": 3, "nats": 3.0}) + "\n"


@pytest.mark.parametrize("line", [OF_ANOTHER_TEXT, OF_NO_TEXT], ids=["another text", "as earlier files have it"])
def test_results_of_another_text_are_not_shown_for_this_one(line: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "results.jsonl").write_text(line)
    done = ablation(tmp_path, "--epochs", "3", "--seeds", "1", "--only", "as it is")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {tmp_path / 'results.jsonl'} has results of another text, or does not say")
    assert (tmp_path / "results.jsonl").read_text() == line


@pytest.mark.parametrize("lines", [100, 60_000])
def test_nothing_is_both_trained_on_and_held_out(lines: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"".join(b"line %d\n" % number for number in range(lines))
    files = load_script("ablation", monkeypatch).divide(text, tmp_path)
    trained, held_out = (path.read_bytes() for path in files)
    assert text.startswith(trained)
    assert text.endswith(held_out)
    assert len(trained) + len(held_out) <= len(text)
    assert 0.08 * len(text) < len(held_out) < 0.12 * len(text)


def test_every_change_is_an_option_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load_script("ablation", monkeypatch)
    known = {flag for option in train.params for flag in (*option.opts, *option.secondary_opts)}
    changes = [module.BASE, *module.CHANGES.values()]
    assert {f"--{name}" for change in changes for name in change} - known == set()


TRAINING = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a script in the background gets it
signal.signal(signal.SIGTERM, lambda *_: pathlib.Path("asked").touch())
pathlib.Path("folder").write_text(sys.argv[-2])
pathlib.Path("training").write_text(str(os.getpid()))
time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_second_signal_ends_it_with_its_trainings_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    number = getattr(signal, name)
    (tmp_path / "text.txt").write_text(TEXT)
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import ablation, benchmarking\n"
        f"ablation.child_command = lambda _: [sys.executable, '-S', '-c', {TRAINING!r}]\n"
        "benchmarking.run_script(ablation.main)"
    )
    command = [sys.executable, "-c", code, "--data", "text.txt", "--json", "results.jsonl"]
    with child_process(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as script:
        wait_for(tmp_path / "training")
        os.kill(script.pid, number)
        wait_for(tmp_path / "asked")
        os.kill(script.pid, number)
        errors = script.communicate(timeout=60)[1]
    assert script.returncode == 128 + number, errors
    assert "Traceback" not in errors
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "training").read_text()), 0)
    assert not Path((tmp_path / "folder").read_text()).exists()


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"{path.name} never came"
        time.sleep(0.01)


@pytest.mark.slow
def test_a_run_is_added_and_not_repeated(tmp_path: Path) -> None:
    lot = random.Random(0)
    words = ["".join(lot.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(2000)]  # enough for its vocabulary
    (tmp_path / "text.txt").write_text("\n".join(" ".join(lot.choices(words, k=8)) for _ in range(1500)))
    flags = ["--epochs", "0.2", "--seeds", "1", "--only", "as it is", "--only", "forget bias 0", "--only", "as it is"]
    tables = [ablation(tmp_path, *flags) for _ in range(2)]
    assert not any(done.returncode for done in tables), tables[0].stderr
    assert tables[0].stdout == tables[1].stdout
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert {row["change"] for row in rows} == {"as it is", "forget bias 0"}
    assert len(rows) == 2
    assert all(0 < row["nats"] < 8 and row["epochs"] == 0.2 for row in rows)
    assert rows[0]["nats"] != rows[1]["nats"]
