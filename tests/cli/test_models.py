"""Models on the command line: by their names, and those that a killed training leaves."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import song_model
from click.testing import CliRunner, Result
from files import write
from model_folders import TRAINING_VALUES
from processes import child_process
from sample_text import LINES
from wcwidth import wcswidth

from textgen.cli import output, textgen
from textgen.corpus.labels import unknown_label
from textgen.errors import SavedModelError
from textgen.saved_model.saving import write_training
from textgen.storage.locks import locked
from textgen.system.child_processes import child_command, child_environment, without_interrupts
from textgen.tokenizer.tokenizer import Tokenizer

models = song_model.models  # fixture


def run(*arguments: str, stdin: str | None = None) -> Result:
    """One command in this process; a bug shows its traceback."""
    return CliRunner().invoke(textgen, arguments, input=stdin, catch_exceptions=False, prog_name="textgen")


def fingerprint(name: str) -> str:
    """Of the tokenizer that commands find by a name."""
    result = run("tokenizer", "info", name, "--json")
    assert result.exit_code == 0, result.stderr
    return str(json.loads(result.stdout)["fingerprint"])


# === Tokenizers by the names of models ===


@pytest.fixture
def at_work(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder; models are kept elsewhere."""
    monkeypatch.setenv("TEXTGEN_MODELS", str(tiny_models))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.mark.parametrize("corpus", ["tiny", "tiny/poems.txt"])
def test_a_corpus_may_have_the_name_of_its_model(at_work: Path, corpus: str, tokenizer: Tokenizer) -> None:
    path = at_work / corpus
    path.parent.mkdir(exist_ok=True)
    path.write_text(LINES * 30, encoding="utf-8")
    assert fingerprint("tiny") == tokenizer.fingerprint()
    arguments = ["--out", "out", "--tokenizer-from", "tiny", "--documents", "line"]
    assert run("corpus", "prepare", str(path), *arguments).exit_code == 0


def test_tokenizers_are_found_by_path(at_work: Path, tiny_models: Path, tokenizer: Tokenizer) -> None:
    (at_work / "folder").mkdir()
    for path in ("own.model", "own", "folder/tokenizer.model"):
        tokenizer.save(at_work / path)
    for name in ("own.model", "own", "folder", str(tiny_models / "tiny")):
        assert fingerprint(name) == tokenizer.fingerprint()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("poems", "Cannot read the tokenizer poems/tokenizer.model: No such file or directory. Name a .model file"),
        ("poems/one.txt", "poems/one.txt: "),
        ("nothing", "There is no model 'nothing' in"),
    ],
)
def test_what_is_no_tokenizer_is_said(at_work: Path, name: str, expected: str) -> None:
    (at_work / "poems").mkdir()
    (at_work / "poems" / "one.txt").write_text(LINES, encoding="utf-8")
    result = run("tokenizer", "info", name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {expected}")


# === A model that was not trained here ===


def test_a_model_without_a_training_is_shown(tiny_models: Path) -> None:
    where = ["--models-dir", str(tiny_models)]
    shown = run("models", "show", "tiny", *where)
    assert shown.exit_code == 0
    assert shown.stdout.startswith("# tiny\n\nA recurrent language model, of whose training nothing is known here.\n")
    assert "LSTM layers of 8 units" in shown.stdout
    record = json.loads(run("models", "show", "tiny", "--json", *where).stdout)
    assert record["model"]["hidden_units"] == 8
    assert "scores" not in record


def test_a_card_that_a_person_has_changed_is_shown_as_it_is(training: tuple[Path, Result], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(training[0] / "my-songs", tmp_path / "songs"))
    where = ["--models-dir", str(tmp_path)]
    own = (folder / "README.md").read_text(encoding="utf-8")
    (folder / "README.md").write_text(f"{own}\n## My notes\n\nFor 月 and me.", encoding="utf-8")
    assert run("models", "show", "songs", *where).stdout == f"{own}\n## My notes\n\nFor 月 and me.\n"
    (folder / "README.md").unlink()
    assert "My notes" not in run("models", "show", "songs", *where).stdout


def test_a_model_that_no_list_can_hold_is_noted(tiny_models: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_models / "tiny", tmp_path / "tiny")
    shutil.copytree(tiny_models / "tiny", tmp_path / "tiny\n2")
    listed = run("models", "list", "--models-dir", str(tmp_path))
    assert listed.stdout.count("tiny") == 1
    assert f"{tmp_path}/tiny\\n2 holds a model, but a model cannot be called so: " in listed.stderr
    shutil.rmtree(tmp_path / "tiny\n2")
    assert run("models", "list", "--models-dir", str(tmp_path)).stderr == ""


def test_no_text_of_a_model_forges_a_line_of_a_list_or_a_message(tiny_models: Path, tmp_path: Path) -> None:
    forged = "x\nforged  1  2  3  finished"
    shutil.copytree(tiny_models / "tiny", tmp_path / "tiny")
    write_training(tmp_path / "tiny", TRAINING_VALUES | {"status": forged, "scores": {forged: 1.0}, "labels": [forged]})
    for command in (["models", "list"], ["models", "show", "tiny"], ["sample", "tiny", "--label", "no"]):
        result = run(*command, "--models-dir", str(tmp_path))
        assert "\nforged" not in result.stdout + result.stderr, command
    assert "There are: x\\nforged" in unknown_label("no", [forged])


def test_the_columns_of_the_list_stand_below_each_other_in_a_terminal(tiny_models: Path, tmp_path: Path) -> None:
    for name in ("tiny", "唐诗三百首", "cafe\u0301"):
        shutil.copytree(tiny_models / "tiny", tmp_path / name)
    (tmp_path / "坏的" / "checkpoints" / "step-000000000").mkdir(parents=True)
    (tmp_path / "坏的" / "training.json").write_text("{}", encoding="utf-8")
    head, *rows = run("models", "list", "--models-dir", str(tmp_path)).stdout.split("\n\n")[0].splitlines()
    assert head.startswith("MODEL       ")
    starts = {row.split()[0]: wcswidth(row[: re.match(r"\S+ +", row).end()]) for row in rows}  # type: ignore[union-attr]
    assert starts.pop("坏的") == len("MODEL       ")  # what follows is left-aligned, numbers are not
    assert starts.keys() == {"tiny", "唐诗三百首", "cafe\u0301"}
    assert len({*starts.values()}) == 1


def test_models_list_show_and_remove(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copied"
    shutil.copytree(models / "songs", folder / "songs")  # other tests may have trained beside it
    assert "songs" in run("models", "list", "--models-dir", str(folder)).stdout
    assert json.loads(run("models", "list", "--models-dir", str(folder), "--json").stdout)[0]["name"] == "songs"
    assert "1 LSTM layer of 16 units" in run("models", "show", "--models-dir", str(folder)).stdout
    assert run("models", "remove", "songs", "--models-dir", str(folder), stdin="n\n").exit_code == 1
    assert (folder / "songs").exists()
    assert run("models", "remove", "songs", "--yes", "--models-dir", str(folder)).exit_code == 0
    assert not (folder / "songs").exists()


# === Where stdout is not UTF-8 ===


@pytest.mark.parametrize(
    "command",
    [
        ["sample", "tiny", "--prompt", "caf\u00e9 \u6708 \u2019", "--max-tokens", "3", "--no-heal", "--seed", "0"],
        ["sample", "tiny", "--prompt", "\u6708", "--max-tokens", "3", "--json", "--seed", "0"],
        ["tokenizer", "encode", "tiny", "\u6708\u2019", "--tokens"],
        ["tokenizer", "info", "tiny", "--tokens"],
    ],
    ids=["text", "json", "tokens", "vocabulary"],
)
def test_what_an_encoding_lacks_is_escaped_and_said(tiny_models: Path, command: list[str]) -> None:
    environment = os.environ | {"TEXTGEN_MODELS": str(tiny_models), "PYTHONIOENCODING": "latin-1"}
    result = subprocess.run([sys.executable, "-m", "textgen", *command], env=environment, capture_output=True)
    assert result.returncode == 0
    assert b"\\u6708" in result.stdout
    assert b"?" not in result.stdout.replace(b"\t?\n", b"")  # but for the piece
    if "--json" in command:
        assert json.loads(result.stdout.decode("latin-1"))["prompt"] == "\u6708"
        assert result.stderr == b""
    else:
        assert result.stderr.startswith(b"Standard output is iso8859-1, which lacks some characters")
        assert len(result.stderr.splitlines()) == 1


# === A training that was killed before it saved a model ===


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """What is in the folder of models then."""
    folder = tmp_path / "models" / "killed"
    (folder / "checkpoints" / "step-000000000").mkdir(parents=True)
    (folder / "logs").mkdir()
    (folder / "training.json").write_text("{}")
    return folder


def test_a_killed_training_is_listed_and_can_be_removed(killed: Path) -> None:
    (row,) = json.loads(run("models", "list", "--json").stdout)
    assert row["name"] == "killed"
    assert "has saved no model yet: resume it, or remove it." in row["problem"]
    assert row["problem"] in run("models", "list").stdout
    assert "has saved no model yet" in run("sample", "killed").stderr
    assert run("models", "remove", "killed", "--yes").exit_code == 0
    assert not killed.exists()
    assert run("models", "remove", "killed", "--yes").exit_code == 1


def test_a_killed_training_can_be_watched(killed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("os.execve", lambda program, arguments, environment: started.append(arguments))
    assert run("tensorboard", "killed", "--port", "0").exit_code == 0
    assert started[0][started[0].index("--logdir") + 1] == str(killed / "logs")
    assert run("tensorboard", "nobody").exit_code == 1


def test_on_windows_the_command_lasts_as_long_as_tensorboard(killed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes over its exit code; only subprocess quotes a folder with a space there."""
    started: list[list[str]] = []

    def ended(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        started.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr("textgen.cli.tensorboard.os", SimpleNamespace(name="nt"))
    monkeypatch.setattr("textgen.cli.tensorboard.subprocess.run", ended)
    assert run("tensorboard", "killed").exit_code == 3
    assert started[0][started[0].index("--logdir") + 1] == str(killed / "logs")


TENSORFLOW = """
import os
class config:
    def get_visible_devices(*_):
        os.write(2, b'E0000 failed call to cuInit\\n')
        return []
os.write(2, b'I0000 oneDNN is on\\n')
"""
TENSORBOARD = """
import os, sys
def run_main():
    print(*sys.argv[1:], 'tensorflow' in sys.modules)
    os.write(2, b'TensorBoard at http://localhost\\n')
"""
INTERRUPTED = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"


def run_tensorboard(folder: Path, tensorflow: str = TENSORFLOW, main: str = TENSORBOARD, sent: int = 0) -> list[Any]:
    """Runs the process of TensorBoard with other code in place of the libraries.

    Args:
        folder: Folder for the code.
        tensorflow: Code of TensorFlow.
        main: Code of TensorBoard.
        sent: A signal that is sent as the process starts; 0 for none.

    Returns:
        The exit code, standard output and standard error.
    """
    write(folder, "tensorflow.py", tensorflow)
    write(folder, "tensorboard/__init__.py", "")
    write(folder, "tensorboard/main.py", main)
    with pytest.MonkeyPatch.context() as patch:  # the process looks for modules where this one does
        patch.syspath_prepend(folder)
        command = [*child_command("textgen.cli.tensorboard_process"), "--port", "0"]
    pipe = subprocess.PIPE
    with (
        without_interrupts(),
        child_process(command, env=child_environment(), stdout=pipe, stderr=pipe, text=True) as process,
    ):
        process.send_signal(sent)
        written = process.communicate()
    return [process.returncode, *written]


def test_tensorboard_says_nothing_of_tensorflow(tmp_path: Path) -> None:
    assert run_tensorboard(tmp_path) == [0, "--port 0 True\n", "TensorBoard at http://localhost\n"]


@pytest.mark.parametrize(
    "given",
    [
        {"sent": signal.SIGINT},
        {"tensorflow": INTERRUPTED + TENSORFLOW},
        {"main": INTERRUPTED + TENSORBOARD},
    ],
    ids=["at the start", "in TensorFlow", "in TensorBoard"],
)
def test_ctrl_c_while_tensorboard_loads_ends_it_without_a_traceback(tmp_path: Path, given: Mapping[str, Any]) -> None:
    assert run_tensorboard(tmp_path, **given) == [130, "", ""]


def test_ctrl_c_waits_until_tensorboard_handles_it(killed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked: list[set[int]] = []
    monkeypatch.setattr("os.execve", lambda *_: blocked.append(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
    assert run("tensorboard", "killed").exit_code == 0
    assert signal.SIGINT in blocked[0]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


# === Names ===


@pytest.mark.parametrize("name", ["..", "../outside", "a/b", "", ".hidden", "/etc", "a\x1b[31m"])
@pytest.mark.parametrize(
    "command",
    [
        ["train", "songs.txt", "--name"],
        ["train", "--resume", "--name"],
        ["models", "remove", "--yes"],
        ["import", "state.safetensors", "--tokenizer-from", "byte", "--name"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_name_is_one_part_of_a_path(at_work: Path, command: list[str], name: str) -> None:
    """Nothing outside the folder of models is made, changed or deleted."""
    (at_work / "songs.txt").write_text(LINES * 20, encoding="utf-8")
    (at_work / "README.md").write_text("# My project", encoding="utf-8")
    (at_work / "outside").mkdir()
    (at_work / "outside" / "training.json").write_text("{}")
    before = {path: path.read_bytes() for path in at_work.rglob("*") if path.is_file()}
    result = run(*command, name, "--models-dir", "models")
    if command[0] == "models" and not name:  # an argument that is empty is refused before
        assert result.exit_code == 2
        assert "'MODEL' is empty" in result.stderr
    else:
        assert result.exit_code == 1
        assert f"A model cannot be called {name!r}: " in result.stderr
    assert {path: path.read_bytes() for path in at_work.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["..", "../outside", "a/b", "", "/etc"])
def test_a_name_given_in_python_is_one_part_of_a_path(at_work: Path, name: str) -> None:
    import textgen as package

    with pytest.raises(SavedModelError, match="A model cannot be called"):
        package.train("songs.txt", name=name, models_dir="models")
    assert list(at_work.iterdir()) == []


@pytest.mark.parametrize("path", ["../work/outside", "outside", "prepared", "nothing"])
def test_only_what_is_in_the_folder_of_models_is_removed(
    at_work: Path, tiny_models: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTGEN_MODELS", str(at_work / "models"))
    shutil.copytree(tiny_models / "tiny", at_work / "outside")
    (at_work / "models" / "prepared").mkdir(parents=True)
    (at_work / "models" / "prepared" / "MANIFEST.json").write_text('{"files": {}}')
    (at_work / "models" / "prepared" / "prepared.json").write_text("{}")
    before = sorted(at_work.rglob("*"))
    result = run("models", "remove", path, "--yes")
    assert result.exit_code == 1
    assert sorted(at_work.rglob("*")) == before


def test_a_model_that_is_missing_is_missing_for_every_command(own: Path) -> None:
    commands = (["remove", "nope", "--yes"], ["remove", "nope"], ["show", "nope"], ["compress", "nope"])
    expected = (1, f"Error: There is no model 'nope' in {own}. There are: tiny.\n")
    results = [run("models", *command) for command in commands]
    assert [(result.exit_code, result.stderr) for result in results] == [expected] * len(commands)


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (KeyboardInterrupt, 130, "Interrupted.\n"),
        (EOFError, 1, "Error: Not confirmed: standard input is at its end. Use --yes.\n"),
        ("n", 1, "Aborted!\n"),
    ],
    ids=["Ctrl-C", "end of input", "no"],
)
def test_only_a_yes_removes_a_model(
    answer: str | type[BaseException],
    code: int,
    said: str,
    killed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def reply(question: str) -> str:
        if isinstance(answer, str):
            return answer
        raise answer

    monkeypatch.setattr("click.termui.visible_prompt_func", reply)
    with pytest.raises(SystemExit) as ended:
        textgen.main(["models", "remove", "killed"], prog_name="textgen")
    assert ended.value.code == code
    assert capsys.readouterr().err.endswith(f"\n{said}" if code == 130 or answer is EOFError else said)
    assert killed.exists()


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_without_somebody_to_ask_no_model_is_removed(
    stream: str, killed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `<&-` in a shell."""
    monkeypatch.setattr(sys, stream, None)
    with pytest.raises(output.Failure, match=r"^Not confirmed: standard \w+ is closed\. Use --yes\.$"):
        textgen.main(["models", "remove", "killed"], standalone_mode=False)
    assert killed.exists()


def test_one_bad_folder_does_not_take_down_the_list(tiny_models: Path, tmp_path: Path) -> None:
    models = tmp_path / "many"
    for number, text in enumerate(['{"status": 5}', "{", "[" * 100_000, "[]", "1e999", "\xff"]):
        shutil.copytree(tiny_models / "tiny", models / f"bad-{number}")
        (models / f"bad-{number}" / "training.json").write_text(text, encoding="latin-1")
    for name in ("huge", "pipe", "linked"):
        shutil.copytree(tiny_models / "tiny", models / name)
    with (models / "huge" / "training.json").open("wb") as file:
        file.truncate(12 << 30)
    os.mkfifo(models / "pipe" / "training.json")
    (models / "linked" / "training.json").symlink_to("/dev/zero")
    (models / "no-model").mkdir()
    (models / "a-file").write_text("")
    shutil.copytree(tiny_models / "tiny", models / "good")
    result = run("models", "list", "--json", "--models-dir", str(models))
    assert result.exit_code == 0
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert sorted(rows) == [*[f"bad-{number}" for number in range(6)], "good", "huge", "linked", "pipe"]
    assert [name for name, row in rows.items() if "problem" not in row] == ["good"]
    assert all("training.json" in row["problem"] for row in rows.values() if "problem" in row)
    assert "it has more than" in rows["huge"]["problem"]
    assert run("models", "list", "--models-dir", str(models)).exit_code == 0


# === Compressing ===


@pytest.fixture
def own(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models with `tiny` in it, to be changed."""
    models = tmp_path / "own"
    shutil.copytree(tiny_models / "tiny", models / "tiny")
    monkeypatch.setenv("TEXTGEN_MODELS", str(models))
    return models


def test_a_model_is_compressed_and_writes_as_before(own: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(LINES, encoding="utf-8")
    before = run("sample", "tiny", "--max-tokens", "5", "--temperature", "0").stdout
    result = run("models", "compress", "tiny", str(tmp_path / "text.txt"))
    assert result.exit_code == 0, result.stderr
    size, cost = result.stdout.splitlines()
    assert re.fullmatch(r"tiny: [\d.]+ MB -> [\d.]+ MB of weights, int8", size)
    assert re.fullmatch(r"cost: [\d.,]+ % more bits per byte \(\d\.\d{4} -> \d\.\d{4}\), measured on \d+ tokens", cost)
    assert result.stderr == ""
    assert run("sample", "tiny", "--max-tokens", "5", "--temperature", "0").stdout == before
    assert run("models", "list").stdout.splitlines()[1].endswith(", int8")
    assert json.loads(run("models", "list", "--json").stdout)[0]["precision"] == "int8"
    assert "| weights stored as | int8 |" in run("models", "show", "tiny").stdout
    again = run("models", "compress", "tiny")
    assert (again.exit_code, again.stdout) == (1, "")
    assert "is stored as int8 already" in again.stderr


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_model_whose_compressing_was_interrupted_is_finished(
    own: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    def killed(*paths: Path, replace: bool = False) -> None:
        raise KeyboardInterrupt

    shutil.copytree(own / "tiny", own / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("textgen.storage.manifests.rename", killed)
        assert run("models", "compress", "tiny").exit_code != 0
    assert list((own / "tiny").glob("*.new"))
    other = run("models", "compress", "tiny", "--out", "small")
    assert (other.exit_code, "is stored as int8 already" in other.stderr) == (1, True)
    result = run("models", "compress", "tiny", *more)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == "It was stored as int8 already. What an interrupted command had left to do is done now.\n"
    if more:
        found, copy = json.loads(result.stdout), run("models", "compress", "whole", "--out", "small", *more)
        known = {name for name, value in found.items() if value is not None}
        assert (list(found), known) == (list(json.loads(copy.stdout)), {"name", "precision", "bytes_after"})
    else:
        assert result.stdout.endswith(" MB of weights, int8\n")
    assert not list((own / "tiny").glob("*.new"))
    assert "| weights stored as | int8 |" in (own / "tiny" / "README.md").read_text(encoding="utf-8")
    assert run("models", "compress", "tiny").exit_code == 1


def test_a_copy_is_compressed_and_the_model_stays(own: Path) -> None:
    files = {path: path.read_bytes() for path in (own / "tiny").iterdir()}
    result = run("models", "compress", "tiny", "--out", "small", "--precision", "float16", "--json")
    found = json.loads(result.stdout)
    assert (found["name"], found["precision"], found["cost_unit"]) == ("small", "float16", "token")
    assert found["bytes_after"] < found["bytes_before"]
    assert found["same_top_fraction"] > 0.99
    assert {path: path.read_bytes() for path in (own / "tiny").iterdir()} == files
    assert run("score", "small", "-", stdin="The cat").exit_code == 0
    taken = run("models", "compress", "tiny", "--out", "small")
    assert (taken.exit_code, "is there already: choose another name" in taken.stderr) == (1, True)


def test_a_model_that_would_suffer_is_left_as_it_is(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textgen.saved_model.compression.MAX_RISE", 1e-9)
    files = {path: path.read_bytes() for path in (own / "tiny").iterdir()}
    result = run("models", "compress", "tiny")
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.search(
        r"tiny was left as it is: as int8 it needs [\d.,]+ % more bits per token .*, or use --accept-loss\.",
        result.stderr,
    )
    assert {path: path.read_bytes() for path in (own / "tiny").iterdir()} == files
    assert not (own / "small").exists()
    assert "tiny was left as it is" in run("models", "compress", "tiny", "--out", "small").stderr
    assert not (own / "small").exists()
    assert run("models", "compress", "tiny", "--accept-loss").exit_code == 0


def test_what_is_not_compressed(own: Path, tiny_models: Path, tmp_path: Path) -> None:
    with locked(own / "tiny"):
        result = run("models", "compress", "tiny")
        assert (result.exit_code, "Another process is writing" in result.stderr) == (1, True), result.stderr
        assert run("models", "compress", "tiny", "--out", "small").exit_code == 0
    shutil.copytree(tiny_models / "tiny", tmp_path / "bases" / "english")
    assert (
        "english is a base, which is a part of the program: name a copy" in run("models", "compress", "english").stderr
    )
    assert run("models", "compress", "english", "--out", "mine").exit_code == 0
    assert run("models", "compress", "tiny", "--without-index").exit_code == 2
    assert "A model cannot be called '../x'" in run("models", "compress", "tiny", "--out", "../x").stderr
    assert "There is no model 'novel'" in run("models", "compress", "novel").stderr
    (tmp_path / "empty.txt").write_text("")
    assert run("models", "compress", "tiny", str(tmp_path / "empty.txt")).exit_code == 1
    assert sorted(path.name for path in own.iterdir()) == ["mine", "small", "tiny"]


@pytest.mark.parametrize("more", [[], ["--out", "small"]])
def test_where_nothing_can_be_written_nothing_is_measured(
    own: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    def refuse(**options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("textgen.storage.files.tempfile.TemporaryFile", refuse)
    monkeypatch.setattr("textgen.saved_model.compression.checked_cost", lambda *given, **options: pytest.fail("late"))
    result = run("models", "compress", "tiny", *more)
    place = own if more else own / "tiny"
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"Cannot write {place}: Permission denied" in result.stderr


def test_checkpoints_keep_the_full_weights(own: Path) -> None:
    (own / "tiny" / "checkpoints" / "step-000000001").mkdir(parents=True)
    result = run("models", "compress", "tiny")
    assert result.stderr == (
        "A resumed run goes on from its checkpoints and saves float32 again once it finds better weights.\n"
    )
    assert (own / "tiny" / "checkpoints" / "step-000000001").exists()


def test_a_models_folder_that_may_not_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str | Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)  # rights do not bind the root user
    advice = "Change the permissions, or ask the owner to."
    for command in (("models", "list"), ("models", "show"), ("sample",)):
        result = CliRunner().invoke(textgen, [*command, "--models-dir", str(tmp_path)])
        assert result.exit_code == 1
        assert result.stderr == f"Error: Cannot read the models folder {tmp_path}: Permission denied. {advice}\n"
