"""Child processes run the textgen of their parent, and never a user's own files that have the names of modules."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textgen.dataset import parallel_encoding
from textgen.dataset.parallel_encoding import encode_batches
from textgen.system.child_processes import child_command, child_environment, how_it_ended, last_words
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


def test_a_folder_of_a_variable_that_is_ignored_is_not_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(parallel_encoding.__file__).parents[2]
    leave = "from textgen.__main__ import leave_out_current_folder as leave; leave(); print(*sys.path)"
    (tmp_path / "probe.py").write_text(f"import sys; sys.path.insert(0, {str(here)!r}); {leave}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for options, is_there in ([], True), (["-E"], False):
        done = run([sys.executable, *options, "-m", "probe"], PYTHONPATH=str(tmp_path))
        assert (str(tmp_path) in done.stdout.split()) is is_there, done.stderr


# === The code, the path and the options of the parent ===

PROBE = """
import json, os, random, sys, textgen
flags = sys.flags
print(json.dumps({
    "textgen": textgen.__file__, "path": sys.path, "arguments": sys.argv[1:], "name": __name__,
    "isolated": flags.isolated, "environment": not flags.ignore_environment, "user site": not flags.no_user_site,
    "optimize": flags.optimize, "utf8": flags.utf8_mode, "warnings": sys.warnoptions, "safe": flags.safe_path,
    "PYTHONPATH": os.environ.get("PYTHONPATH"),
}))
"""
PARENT = """
import subprocess, sys
sys.path[:0] = sys.argv[1:]
from textgen.system.child_processes import child_command, child_environment
sys.exit(subprocess.run([*child_command("textgen.probe"), "one", "two"], env=child_environment()).returncode)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a textgen that is not installed, which tells how it was started, and a file that is not meant."""
    folder, installed = tmp_path / "checkout", Path(parallel_encoding.__file__).parents[1]
    for name in ("__init__.py", "system/__init__.py", "system/child_processes.py"):
        (folder / "textgen" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(installed / name, folder / "textgen" / name)
    (folder / "textgen" / "probe.py").write_text(PROBE, encoding="utf-8")
    (folder / "random.py").write_text("raise SystemExit('the file beside it was run')", encoding="utf-8")
    return folder


def told(command: Sequence[str], **variables: str) -> dict[str, Any]:
    """What the child tells of a parent."""
    done = run(command, **variables)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("options", [[], ["-I"], ["-S"]], ids=str)
@pytest.mark.parametrize("place", ["CHECKOUT", "", "."])
def test_children_run_the_textgen_of_their_parent(
    place: str, options: list[str], checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though another is installed, and without the other files of the current folder."""
    monkeypatch.chdir(checkout)
    found = told([sys.executable, *options, "-c", PARENT, place.replace("CHECKOUT", str(checkout))])
    assert found["textgen"] == str(checkout / "textgen" / "__init__.py")
    assert str(checkout) not in found["path"]
    assert (found["arguments"], found["name"]) == (["one", "two"], "__main__")


def test_children_run_the_textgen_of_a_relative_python_path(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    for start in (["-c", PARENT], ["-m", "parent"]):
        (checkout / "parent.py").write_text(PARENT, encoding="utf-8")
        (checkout / "random.py").unlink(missing_ok=True)  # which the parent itself may import
        found = told([sys.executable, *start], PYTHONPATH=".")
        assert found["textgen"] == str(checkout / "textgen" / "__init__.py")
        assert found["PYTHONPATH"] is None


def test_a_current_folder_that_a_pth_file_names_hides_nothing(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the parent, where Python looks there after everything else."""
    environment = checkout.parent / "environment"
    venv.create(environment, symlinks=os.name != "nt")
    python = str(environment / ("Scripts" if os.name == "nt" else "bin") / Path(sys.executable).name)
    asked = run([python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], PYTHONPATH="")
    (Path(asked.stdout.strip()) / "here.pth").write_text(str(checkout), encoding="utf-8")
    monkeypatch.chdir(checkout)
    found = told([python, "-P", "-c", PARENT], PYTHONPATH="")
    assert found["textgen"] == str(checkout / "textgen" / "__init__.py")
    assert found["path"][-1] == str(checkout)


def test_children_look_for_modules_where_their_parent_does(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its order, with folders relative to the current one, but never in that one."""
    monkeypatch.chdir(checkout.parent)
    (checkout / "random.py").unlink()  # which is meant here
    (checkout.parent / "lib").mkdir()
    (checkout.parent / "more").mkdir()
    entries = ["", ".", "lib", "lib/..", "nowhere", str(checkout)]
    found = told([sys.executable, "-c", PARENT, "more", str(checkout)], PYTHONPATH=os.pathsep.join(entries))
    lib, more = str(checkout.parent / "lib"), str(checkout.parent / "more")
    assert found["PYTHONPATH"] == os.pathsep.join([lib, str(checkout)])
    assert [entry for entry in found["path"] if entry in {lib, more, str(checkout)}] == [
        more,
        str(checkout),
        lib,
        str(checkout),
    ]
    assert str(checkout.parent) not in found["path"]


def test_children_have_the_options_of_the_interpreter(checkout: Path) -> None:
    (checkout / "random.py").unlink()
    other = checkout.parent / "other"
    other.mkdir()
    (other / "sitecustomize.py").write_text("raise SystemExit('PYTHONPATH was used')", encoding="utf-8")
    variables = {"PYTHONPATH": str(other)}
    options = ["-I", "-O", "-W", "error::UserWarning", "-X", "utf8"]
    found = told([sys.executable, *options, "-c", PARENT, str(checkout)], **variables)
    expected = {"isolated": 1, "environment": False, "user site": False, "optimize": 1, "utf8": 1, "safe": True}
    assert found == found | expected
    assert "error::UserWarning" in found["warnings"]
    assert str(other) not in found["path"]
    found = told([sys.executable, "-E", "-c", PARENT, str(checkout)], **variables)
    assert found == found | {"isolated": 0, "environment": False, "user site": True, "optimize": 0}
    found = told([sys.executable, "-s", "-c", PARENT, str(checkout)], PYTHONPATH="")
    assert found == found | {"isolated": 0, "environment": True, "user site": False}


def test_what_is_no_text_in_the_path_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python does."""
    monkeypatch.setattr(sys, "path", [Path("/"), None, *sys.path])
    assert subprocess.run([*child_command("textgen"), "--version"], capture_output=True).returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="there the current folder cannot be deleted")
def test_children_start_where_the_current_folder_was_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["lib", str(tmp_path)]))
    assert child_environment()["PYTHONPATH"] == str(tmp_path)
    assert child_command("textgen")[0] == sys.executable
    monkeypatch.undo()


# === How a process has ended ===


@pytest.mark.parametrize(
    ("code", "words"),
    [(3, "ended with exit code 3"), (-9, "was ended by SIGKILL"), (-40, "was ended by signal 40")],
)
def test_how_a_process_ended_is_said(code: int, words: str) -> None:
    assert how_it_ended(code) == words


def test_the_last_words_are_the_last_line() -> None:
    for written, words in (b"", ""), (b"\n\n", ""), (b"one\ntwo \xff\n\n", "two \ufffd"), (b"x" * 9000, "x" * 2000):
        assert last_words(io.BytesIO(written)) == words
