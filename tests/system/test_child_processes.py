"""Programs that run where a user's own files have the names of modules: none of them is executed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from textgen.dataset import parallel_encoding
from textgen.dataset.parallel_encoding import encode_batches
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.training.distributed.workers import run_workers

OTHERS = (
    *("absl", "click", "google", "grpc", "h5py", "keras", "markdown", "ml_dtypes", "numpy", "optree", "packaging"),
    *("rich", "safetensors", "sentencepiece", "six", "tensorboard", "tensorflow", "werkzeug", "yaml"),
)
PLANTED = """
with open({log!r}, "a") as log:
    log.write(__name__ + " ")
raise SystemExit("the user's file was run")
"""


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a file for each module there is; those that are run leave their name in a log."""
    folder, log = tmp_path / "trap", tmp_path / "log"
    folder.mkdir()
    there = [name for name in sys.stdlib_module_names if find_spec(name)]  # on this system
    for name in {*there, *OTHERS, "textgen", "sitecustomize", "usercustomize"}:
        (folder / f"{name}.py").write_text(PLANTED.format(log=str(log)), encoding="utf-8")
    monkeypatch.chdir(folder)
    assert len(list(folder.iterdir())) > 200
    return folder


@pytest.fixture
def trap_for_program(trap: Path) -> Path:
    """Without what `python -m` loads before it comes to any program: there Python goes by the current folder."""
    (trap.parent / "probe").mkdir()
    (trap.parent / "probe" / "probe.py").write_text("import sys; print(*sys.modules)", encoding="utf-8")
    probe = subprocess.run([sys.executable, "-m", "probe"], cwd=trap.parent / "probe", capture_output=True, text=True)
    for name in {*probe.stdout.split(), "textgen", "sitecustomize", "usercustomize"}:
        (trap / f"{name}.py").unlink(missing_ok=True)
    assert len(list(trap.iterdir())) > 150
    return trap


def caught(trap: Path) -> str:
    """The names of the files that were run."""
    log = trap.parent / "log"
    return log.read_text(encoding="utf-8") if log.exists() else ""


def run(command: Sequence[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_the_trap_works(trap: Path) -> None:
    """A Python that looks in the current folder falls into it."""
    assert run([sys.executable, "-m", "textgen"]).returncode
    assert caught(trap)


def test_encoders_run_none_of_them(trap: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_encoding, "num_cores", lambda: 2)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", "lib"]))
    texts = ["the cat sat"] * 3
    batches = list(encode_batches([texts] * 20, tokenizer, np.dtype(np.uint16)))
    assert [ids.tolist() for ids in batches[-1]] == tokenizer.encode_batch(texts)
    assert caught(trap) == ""


def test_workers_run_none_of_them(
    trap: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep)
    assert run_workers(["--version"], list, 2, trap, max_restarts=0, say=print) == 0
    assert "textgen, version" in capfd.readouterr().out
    assert caught(trap) == ""


def test_tensorboard_runs_none_of_them(trap: Path, monkeypatch: pytest.MonkeyPatch, tiny_models: Path) -> None:
    from textgen.cli import textgen

    started: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr("os.execve", lambda program, arguments, environment: started.append((arguments, environment)))
    monkeypatch.setenv("PYTHONPATH", ".")
    textgen(["tensorboard", "--models-dir", str(tiny_models)], standalone_mode=False)
    arguments, environment = started[0]
    program = arguments[: arguments.index("--logdir")]
    done = subprocess.run([*program, "--version"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2.")
    assert caught(trap) == ""


COMMANDS: list[list[str]] = [
    ["models", "list", "--models-dir", "MODELS"],
    ["sample", "tiny", "--models-dir", "MODELS", "--max-tokens", "5", "--seed", "1"],
    ["score", "tiny", "TEXT", "--models-dir", "MODELS"],
    ["embed", "tiny", "TEXT", "--models-dir", "MODELS", "--out", "OUT/vectors.npz"],
    ["corpus", "stats", "TEXT"],
    ["tokenizer", "encode", "byte", "TEXT"],
    ["corpus", "prepare", "TEXT", "--out", "OUT/prepared", "--tokenizer", "char"],
    ["export", "tiny", "OUT/model.safetensors", "--models-dir", "MODELS"],
    ["train", "TEXT", "--models-dir", "OUT", "--steps", "1", "--tokenizer", "char", "--hidden-units", "8"],
]
MARKS = {"train": pytest.mark.slow}  # the others look for modules in the same way, and load no TensorFlow


@pytest.mark.parametrize(
    "arguments", [pytest.param(words, marks=MARKS.get(words[0], ()), id=words[0]) for words in COMMANDS]
)
def test_commands_run_none_of_them(arguments: list[str], trap_for_program: Path, tiny_models: Path) -> None:
    """Though Python is told to look in the current folder, by -m and by an empty entry of PYTHONPATH."""
    outside = trap_for_program.parent
    (outside / "text.txt").write_text("The cat sat on the mat.\n" * 100, encoding="utf-8")
    places = {"MODELS": str(tiny_models), "TEXT": str(outside / "text.txt"), "OUT": str(outside)}
    words = [places.get(word, word.replace("OUT/", f"{outside}/")) for word in arguments]
    done = run([sys.executable, "-m", "textgen", *words], PYTHONPATH=os.pathsep)
    assert done.returncode == 0, done.stderr
    assert caught(trap_for_program) == ""


PROGRAMS = {
    "textgen": [str(Path(sys.executable).with_name("textgen"))],
    "python -P -m textgen": [sys.executable, "-P", "-m", "textgen"],
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_program_is_not_taken_from_the_current_folder(program: str, trap: Path, tiny_models: Path) -> None:
    """`python -m textgen` without -P may be: Python itself runs a textgen.py there, before any code of ours."""
    done = run([*PROGRAMS[program], "models", "list", "--models-dir", str(tiny_models)])
    assert done.returncode == 0, done.stderr
    assert "tiny" in done.stdout
    assert caught(trap) == ""


def test_a_folder_that_is_meant_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meant.py").write_text("", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    code = "from textgen.__main__ import leave_out_current_folder as leave; leave(); import meant"
    assert run([sys.executable, "-c", code], PYTHONPATH=str(tmp_path)).returncode == 0
    for entry in ("", ".", os.pathsep):
        done = run([sys.executable, "-c", code], PYTHONPATH=entry)
        assert "No module named 'meant'" in done.stderr
