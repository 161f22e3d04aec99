"""The script that trains by a preset: a run that was interrupted goes on, one that has ended is only scored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from processes import child_process
from script_modules import SCRIPTS, load_script

from textgen.saved_model.folder_contents import has_steps

PRESET = "tinyshakespeare-char-2x256-100s"
MINUTES = 1.667  # of the preset
RUN = {"parameters": 1_000_000, "progress": {"epochs": 2.0, "seconds": 90.0}}
Command = tuple[str, ...]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Command]:
    """The working folder has the text. The commands of textgen are listed, not run."""
    monkeypatch.chdir(tmp_path)
    Path("tinyshakespeare.txt").write_text("to be or not to be, that is the question. " * 100, encoding="utf-8")
    return []


@pytest.fixture
def script(commands: list[Command], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_script("reproduce", monkeypatch)

    def textgen(*words: str | Path) -> dict[str, Any]:
        commands.append(tuple(map(str, words)))
        return RUN if words[0] == "train" else {"nats_per_token": 1.5}

    monkeypatch.setattr(module, "textgen", textgen)
    return module


def run(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    monkeypatch.setattr(sys, "argv", ["reproduce.py", PRESET, "--data", ".", "--models-dir", "models", *flags])
    script.main()


def earlier_run(script: ModuleType, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes what an earlier run of the preset leaves."""
    Path("models", f"{PRESET}-0", "checkpoints", "step-1").mkdir(parents=True)
    Path("models", f"{PRESET}-0", "training.json").touch()
    record = {**RUN, "status": status, "training": {"minutes": MINUTES}}
    monkeypatch.setattr(script, "read_training", lambda folder: record)


def test_a_new_run_reads_parts_of_the_text_that_stay(
    script: ModuleType, commands: list[Command], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(script, monkeypatch)
    (train, evaluate), text = commands, Path("tinyshakespeare.txt").read_bytes()
    assert "--resume" not in train
    parts = Path(train[1]), Path(train[train.index("--valid-file") + 1])
    assert b"".join(part.read_bytes() for part in parts) == text
    assert evaluate[1:3] == (f"{PRESET}-0", str(parts[1]))
    assert f"| {PRESET} | nats per character | 1.5 |" in capsys.readouterr().out


def test_parts_that_are_there_are_not_written_again(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run may be reading them."""
    run(script, monkeypatch)
    before = {path: path.stat().st_ino for path in Path("models").rglob("*.txt")}
    run(script, monkeypatch)
    assert len(before) == 2
    assert before == {path: path.stat().st_ino for path in Path("models").rglob("*.txt")}


@pytest.mark.parametrize(
    ("status", "flags"), [("interrupted", []), ("running", []), ("finished: minutes reached", ["--minutes", "30"])]
)
def test_a_run_that_is_not_finished_goes_on(
    script: ModuleType, commands: list[Command], status: str, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier_run(script, status, monkeypatch)
    run(script, monkeypatch, *flags)
    assert [command[0] for command in commands] == ["train", "evaluate"]
    assert commands[0][-1] == "--resume"


@pytest.mark.parametrize("flags", [[], ["--minutes", f"{MINUTES}"]])
def test_a_run_that_is_finished_is_only_scored(
    script: ModuleType,
    commands: list[Command],
    flags: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    earlier_run(script, "finished: minutes reached", monkeypatch)
    run(script, monkeypatch, *flags)
    assert [command[0] for command in commands] == ["evaluate"]
    assert "| 1.0 M | 2.0 | 1.5 min |" in capsys.readouterr().out


@pytest.mark.parametrize("is_saved", [True, False])
def test_an_interruption_tells_that_the_run_goes_on_if_it_is_saved(
    script: ModuleType, is_saved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*words: str | Path) -> None:
        if is_saved:
            earlier_run(script, "interrupted", monkeypatch)
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "textgen", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        run(script, monkeypatch)
    assert str(caught.value) == ("Interrupted. The same command goes on from what is saved." if is_saved else "")


@pytest.mark.parametrize(("code", "shown"), [(1, 1), (-signal.SIGTERM, 128 + signal.SIGTERM)])
def test_a_command_that_fails_ends_it_with_the_same_code(
    code: int, shown: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = load_script("reproduce", monkeypatch)
    monkeypatch.setattr(script, "completed", lambda command, **_: subprocess.CompletedProcess(command, code))
    with pytest.raises(SystemExit) as caught:
        script.textgen("train")
    assert caught.value.code == shown


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
def test_a_real_run_that_ctrl_c_ends_is_saved_and_goes_on(tmp_path: Path) -> None:
    text = "to be or not to be, that is the question. " * 3000
    (tmp_path / "tinyshakespeare.txt").write_text(text, encoding="utf-8")
    command = [sys.executable, str(SCRIPTS / "reproduce.py"), PRESET, "--data", str(tmp_path)]
    command += ["--models-dir", str(tmp_path / "models")]
    model = tmp_path / "models" / f"{PRESET}-0"
    with child_process([*command, "--minutes", "1"], stderr=subprocess.PIPE, start_new_session=True) as process:
        until = time.monotonic() + 240
        while not has_steps(model):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=240)[1].decode()
    assert process.returncode == 130
    assert said.endswith("The same command goes on from what is saved.\n")
    done = subprocess.run([*command, "--minutes", "0.02"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Resuming" in done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"| {PRESET} | nats per character | ")
