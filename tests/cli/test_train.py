"""What textgen train says of the model that a run starts from."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from base_models import FABLES, save_base
from click.testing import CliRunner, Result
from files import write
from model_folders import TRAINING_VALUES

from textgen import evaluate, load, train
from textgen.cli import output, textgen
from textgen.cli.distribution import command_line
from textgen.cli.signals import Ended
from textgen.errors import Interrupted, TextgenError, TrainingError, UnreadableCorpus
from textgen.saved_model.saving import write_training
from textgen.storage.cache_folder import filling_cache
from textgen.storage.files import WRITING_ADVICE, CannotWrite, writing
from textgen.storage.locks import locked
from textgen.storage.manifests import MANIFEST
from textgen.storage.system_errors import DISK_ADVICE, OPEN_FILES_ADVICE, Obstacle
from textgen.system import machine, runtime
from textgen.training.config import TrainingConfig
from textgen.training.lr_finder import Point


@pytest.fixture
def fables(tmp_path: Path) -> Path:
    """Fables, with a base installed that suits them."""
    save_base(tmp_path / "bases")
    (tmp_path / "fables.txt").write_text(FABLES[60_000:], encoding="utf-8")
    return tmp_path / "fables.txt"


def dry_run(path: Path, *flags: str) -> Any:
    return CliRunner().invoke(textgen, ["train", str(path), "--dry-run", *flags])


def test_a_run_chooses_a_base_by_itself_and_its_plan_says_why(fables: Path) -> None:
    made = json.loads(dry_run(fables, "--json").stdout)["start"]
    assert (made["name"], made["decided_by"], made["tries_both"]) == ("english", "rule", False)
    assert "times as many tokens as one trained on the text" in made["reason"]
    assert "\nstart       english: its vocabulary covers 100.0 % of the bytes, " in dry_run(fables).stdout


def test_from_none_starts_from_random_weights(fables: Path) -> None:
    made = json.loads(dry_run(fables, "--json", "--from", "none").stdout)
    assert (made["start"]["name"], made["start"]["decided_by"]) == (None, "given")
    assert made["model"]["hidden_units"] == 128


def test_from_a_base_takes_it_whatever_the_text(fables: Path) -> None:
    fables.write_text("0123456789abcdef\n" * 300, encoding="utf-8")
    assert json.loads(dry_run(fables, "--json").stdout)["start"]["name"] is None
    made = json.loads(dry_run(fables, "--json", "--from", "english").stdout)
    assert (made["start"]["name"], made["start"]["decided_by"]) == ("english", "given")


@pytest.mark.parametrize("as_json", [False, True])
def test_losses_without_a_clear_fall_are_shown_and_no_rate_is_suggested(
    fables: Path, as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [Point(10.0**power, 5.0) for power in range(-6, 0)]
    monkeypatch.setattr("textgen.training.lr_sweep.sweep_planned_run", lambda plan, **options: points)
    flags = ["--find-learning-rate", "--models-dir", str(fables.parent), *["--json"] * as_json]
    result = CliRunner().invoke(textgen, ["train", str(fables), *flags])
    assert result.exit_code == 1
    assert "Error: The loss fell at none of the learning rates that were tried" in result.stderr
    if as_json:
        found = json.loads(result.stdout)
        assert (found["start"], found["suggestion"], len(found["points"])) == ("english", None, 6)
    else:
        assert result.stdout.startswith("learning rate  nats per token\n        1e-06  5.0000\n")
        assert result.stdout.count("*") == 6  # the plot
        assert "Suggested" not in result.stdout


@pytest.mark.parametrize(("interrupt", "code"), [(KeyboardInterrupt, 130), (partial(Ended, signal.SIGTERM), 143)])
def test_a_signal_before_the_first_step_tells_what_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupt: Callable[[], BaseException], code: int
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise interrupt()

    said = "Terminated." if code == 143 else "Interrupted."
    monkeypatch.setattr("textgen.training.planning.checked_inputs.open_corpus", stop)
    monkeypatch.setattr("textgen.training.run.resume", stop)
    words = ["train", "a.txt", "--name", "cat", "--models-dir", str(tmp_path)]
    begun = CliRunner().invoke(textgen, words)
    assert (begun.exit_code, begun.stderr) == (code, f"\n{said} Nothing is saved: start again.\n")
    write(tmp_path, f"cat/checkpoints/step-000000003/{MANIFEST}", "{}")
    resumed = CliRunner().invoke(textgen, [*words, "--resume"])
    command = f"textgen train --resume --name cat --models-dir {tmp_path}"
    assert (resumed.exit_code, resumed.stderr) == (code, f"\n{said} Continue with {command}.\n")


def test_a_signal_between_steps_tells_the_command_that_goes_on_with_the_run_that_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise Interrupted(
            "Stopped at step 5; everything is saved.", signal.SIGINT, folder=Path("saved_models", "my cat-2")
        )

    monkeypatch.setattr("textgen.training.planning.checked_inputs.open_corpus", stop)
    monkeypatch.setattr("textgen.training.run.resume", stop)
    monkeypatch.delenv("TEXTGEN_MODELS", raising=False)
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "saved_models/cat/training.json", "{}")
    for words in (["a.txt"], ["--resume", "--name", "cat"]):
        stopped = CliRunner().invoke(textgen, ["train", *words])
        command = "textgen train --resume --name 'my cat-2'"
        said = f"\nStopped at step 5; everything is saved. Continue with {command}.\n"
        assert (stopped.exit_code, stopped.stderr) == (130, said)


@pytest.mark.parametrize(
    ("place", "number", "advice"),
    [
        ("models/cat/model.safetensors", errno.ENOSPC, "Free some space, and continue with"),
        ("models/cat/model.safetensors", errno.EIO, f"{DISK_ADVICE} Then continue with"),
        ("models/cat/model.safetensors", errno.EACCES, "Make the folder writable, and continue with"),
        ("models/cat/model.safetensors", errno.EMFILE, f"{OPEN_FILES_ADVICE} Then continue with"),
        ("cache/tokens/1", errno.ENOSPC, "with more space. Then continue with"),
    ],
)
def test_a_run_that_ends_on_a_full_disk_tells_the_command_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, number: int, advice: str
) -> None:
    def stop(*_: object, **__: object) -> None:
        with filling_cache() if "cache" in place else nullcontext(), writing(tmp_path / place):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr("textgen.training.planning.checked_inputs.open_corpus", stop)
    monkeypatch.setattr("textgen.training.run.resume", stop)
    monkeypatch.delenv("TEXTGEN_MODELS", raising=False)
    monkeypatch.chdir(tmp_path)
    write(tmp_path, f"models/cat/checkpoints/step-000000003/{MANIFEST}", "{}")
    words = ["train", "--resume", "--name", "cat", "--models-dir", "models"]
    ended = CliRunner().invoke(textgen, words)
    assert ended.exit_code == 1
    assert ended.stderr.startswith(f"Error: Cannot write {tmp_path / place}: {os.strerror(number)}. ")
    assert ended.stderr.endswith(f"{advice} textgen train --resume --name cat --models-dir models.\n")


@pytest.mark.parametrize("moment", ["planned", "claimed", "saved"])
@pytest.mark.parametrize(
    ("error", "otherwise", "saved"),
    [
        (KeyboardInterrupt(), "Interrupted. Nothing is saved: start again.", "Interrupted. Continue with"),
        (UnreadableCorpus("Cannot read a. Try again."), "again.", "Cannot read a. Try again. Then continue with"),
        (
            CannotWrite(Path("models/cat-2/model"), "full"),
            WRITING_ADVICE[Obstacle.FULL],
            "Free some space, and continue with",
        ),
    ],
    ids=["signal", "corpus", "disk"],
)
def test_what_another_run_has_saved_under_the_planned_name_is_not_taken_for_that_of_this_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, otherwise: str, saved: str, moment: str
) -> None:
    checkpoint = f"checkpoints/step-000000003/{MANIFEST}"

    def planned(*_: object) -> Any:
        write(tmp_path, f"models/cat/{checkpoint}", "{}")
        if moment == "planned":
            raise error
        return SimpleNamespace(rival=None), None

    def begin(plan: object, folder: Path, say: object) -> None:
        if moment == "saved":
            write(tmp_path, f"models/{folder.name}/{checkpoint}", "{}")
        raise error

    monkeypatch.setattr("textgen.cli.train.planned", planned)
    monkeypatch.setattr("textgen.cli.train.describe", lambda *_: "The plan.")
    monkeypatch.setattr("textgen.training.run.begin", begin)
    monkeypatch.delenv("TEXTGEN_MODELS", raising=False)
    monkeypatch.chdir(tmp_path)
    before = error.args
    ended = CliRunner().invoke(textgen, ["train", "cat.txt", "--models-dir", "models"])
    error.args = before  # the same one for the next moment
    command = " textgen train --resume --name cat-2 --models-dir models."
    last = ended.stderr.splitlines()[-1]
    assert last.endswith(saved + command if moment == "saved" else otherwise)


def test_a_run_whose_text_cannot_be_read_any_more_tells_the_command_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise UnreadableCorpus("Cannot read train.bin: Input/output error. Try again.")

    monkeypatch.setattr("textgen.training.run.resume", stop)
    write(tmp_path, f"cat/checkpoints/step-000000003/{MANIFEST}", "{}")
    ended = CliRunner().invoke(textgen, ["train", "--resume", "--name", "cat", "--models-dir", str(tmp_path)])
    command = f"textgen train --resume --name cat --models-dir {tmp_path}"
    said = f"Error: Cannot read train.bin: Input/output error. Try again. Then continue with {command}.\n"
    assert (ended.exit_code, ended.stderr) == (1, said)


def test_workers_are_not_started_on_a_run_that_somebody_else_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object, **__: object) -> int:
        raise AssertionError("the workers are started")

    monkeypatch.setattr("textgen.training.distributed.workers.run_workers", started)
    write(tmp_path, f"cat/checkpoints/step-000000003/{MANIFEST}", "{}")
    words = ["train", "--resume", "--name", "cat", "--workers", "2", "--models-dir", str(tmp_path)]
    with locked(tmp_path / "cat"):
        refused = CliRunner().invoke(textgen, words)
    assert refused.exit_code == 1
    assert "Another process is writing to" in refused.stderr


def test_a_run_that_is_named_as_the_corpus_of_the_resumed_run_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumed: list[Path] = []

    def resume(folder: Path, *_: object, **__: object) -> None:
        resumed.append(folder)
        raise TrainingError("resumed")

    monkeypatch.setattr("textgen.training.run.resume", resume)
    monkeypatch.delenv("TEXTGEN_MODELS", raising=False)
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "saved_models/c3/training.json", "{}")
    write(tmp_path, f"saved_models/c3/checkpoints/step-000000003/{MANIFEST}", "{}")
    result = CliRunner().invoke(textgen, ["train", "--resume", "c3"])
    assert result.exit_code == 2
    assert "c3 is a run: continue it with textgen train --resume --name c3.\n" in result.stderr
    assert not resumed
    write(tmp_path, "c3", "The corpus of the run.")
    assert "resumed" in CliRunner().invoke(textgen, ["train", "--resume", "c3"]).stderr
    assert [folder.name for folder in resumed] == ["c3"]


@pytest.mark.parametrize("flags", [[], ["--dry-run"], ["--workers", "2"]])
def test_a_name_that_is_taken_is_refused_before_the_text_is_read(tmp_path: Path, flags: list[str]) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / MANIFEST).write_text("{}", encoding="utf-8")
    words = ["train", "-", "--name", "old", "--models-dir", str(tmp_path), *flags]
    stdin = io.BytesIO(b"text that no other command reads\n" * 100)
    result = CliRunner().invoke(textgen, words, input=stdin)
    assert result.stderr == f"Error: {tmp_path / 'old'} already holds a model: remove it, or choose another name.\n"
    assert stdin.tell() == 0


def test_a_models_folder_that_cannot_be_made_is_refused_before_the_text_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = ["train", "-", "--models-dir", str(tmp_path / "file" / "models")]
    stdin = io.BytesIO(b"text that no other command reads\n" * 100)
    result = CliRunner().invoke(textgen, words, input=stdin)
    assert result.exit_code == 1
    assert "Cannot write" in result.stderr
    assert stdin.tell() == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--from", "english", "--hidden-units", "64"],
            "--hidden-units cannot be set when fine-tuning",
        ),
        (
            ["--from", "english", "--preset", "small"],
            "--preset cannot be set when fine-tuning: the model 'english' decides it. Leave it out, or set --from to ",
        ),
        (["--from", "chinese"], "This installation lacks the base 'chinese'"),
        (["--from", "nowhere"], "There is no model 'nowhere'"),
    ],
)
def test_what_contradicts_the_base_is_told_in_a_line(fables: Path, flags: list[str], message: str) -> None:
    result = dry_run(fables, *flags)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("", ["--hidden-units", "0"], "--hidden-units must be a"),
        ("The cat sat on.\n", [], "The corpus has 16 characters, too few to learn from"),
        ("The cat sat on.\n" * 99, ["--valid-file", "text.txt"], "is held-out text, but it is among the files"),
    ],
)
@pytest.mark.usefixtures("no_tensorflow")
def test_a_mistake_does_not_wait_for_tensorflow(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    settings: list[str],
    message: str,
    flags: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(text, encoding="utf-8")
    result = CliRunner().invoke(textgen, ["train", "text.txt", *settings, *flags], catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (2 if "must be" in message else 1, "")
    assert message in result.stderr.strip().splitlines()[-1]
    pairs = zip(settings[::2], settings[1::2], strict=True)
    names: dict[str, Any] = {
        flag[2:].replace("-", "_"): int(value) if value.isdigit() else value for flag, value in pairs
    }
    with pytest.raises(TextgenError, match=message.removeprefix("--").replace("-units", "_units")):
        train("text.txt", **names)


@pytest.mark.parametrize(
    "command",
    [["evaluate", "tiny"], ["tune-state", "tiny", "--out", "a.state"], ["sample", "tiny", "--adapt"]],
    ids=lambda words: words[0],
)
@pytest.mark.usefixtures("no_tensorflow")
def test_an_empty_text_does_not_wait_for_tensorflow(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").touch()
    words = [*command, "empty.txt", "--models-dir", str(tiny_models)]
    result = CliRunner().invoke(textgen, words, catch_exceptions=False)
    assert result.exit_code == 1
    assert "No text in empty.txt" in result.stderr
    with pytest.raises(TextgenError, match=r"No text in empty\.txt"):
        evaluate("tiny", "empty.txt", models_dir=tiny_models)
    with pytest.raises(TextgenError, match=r"No text in empty\.txt"):
        load("tiny", models_dir=tiny_models, adapt="empty.txt")


@pytest.mark.usefixtures("no_tensorflow")
def test_on_a_terminal_each_long_step_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, told = tmp_path / "text.txt", list[str]()
    path.write_text("The cat sat on.\n" * 99, encoding="utf-8")
    monkeypatch.setattr(output, "progress", told.append)
    with pytest.raises(AssertionError, match="TensorFlow is loaded"):
        CliRunner().invoke(textgen, ["train", str(path), "--dry-run"], catch_exceptions=False)
    assert told == ["Reading the text ...", "Planning ..."]


def test_after_a_failed_run_the_same_command_takes_its_name(fables: Path) -> None:
    models = fables.parent / "models"
    (models / "fables").mkdir(parents=True)
    write_training(models / "fables", TRAINING_VALUES | {"status": "failed"})
    planned = json.loads(dry_run(fables, "--json", "--models-dir", str(models)).stdout)
    assert planned["name"] == "fables"


@pytest.mark.parametrize("flags", [[], ["--name", "fables"]])
def test_of_two_runs_that_start_together_the_second_takes_the_next_name(
    fables: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models, begun = fables.parent / "models", list[Path]()
    with ExitStack() as other_run:

        def make_plan(*arguments: Any, **options: Any) -> Any:
            (models / "fables").mkdir(parents=True)
            other_run.enter_context(locked(models / "fables"))
            return SimpleNamespace(rival=None, training_config=TrainingConfig())

        def begin(plan: Any, folder: Path, say: Any) -> None:
            begun.append(folder)
            raise TrainingError("It ends here.")

        monkeypatch.setattr("textgen.training.planning.plan.make_plan", make_plan)
        monkeypatch.setattr("textgen.training.run.begin", begin)
        monkeypatch.setattr("textgen.cli.train.describe", lambda plan, target: f"plan of {target.name}")
        result = CliRunner().invoke(textgen, ["train", str(fables), "--models-dir", str(models), *flags])
    said = result.stderr.splitlines()
    assert (result.exit_code, said[0]) == (1, "plan of fables")
    if flags:
        assert said[1:] == [
            f"Error: Another process is writing to {models / 'fables'}: wait for it to end, or choose another name."
        ]
    else:
        taken, place = models / "fables", models / "fables-2"
        assert said[1:] == [f"Another run has taken {taken}: this model is saved as {place}.", "Error: It ends here."]
        assert begun == [place]


def resumed(models: Path, name: str) -> Result:
    return CliRunner().invoke(
        textgen, ["train", "--resume", "--name", name, "--models-dir", str(models)], catch_exceptions=False
    )


def test_a_run_to_resume_is_no_file(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "novel").touch()
    monkeypatch.chdir(tmp_path)
    said = resumed(tiny_models, "novel").stderr
    assert said == f"Error: There is no model 'novel' in {tiny_models}. There are: tiny.\n"


def test_resuming_is_said_only_if_there_is_something_to_resume(tiny_models: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    assert resumed(models, "tiny").stderr.startswith(
        f"Error: There is no model 'tiny', since there is no folder {models}"
    )
    shutil.copytree(tiny_models / "tiny", models / "tiny")
    mistyped = resumed(models, "tinny")
    assert (mistyped.exit_code, mistyped.stdout) == (1, "")
    assert mistyped.stderr == f"Error: There is no model 'tinny' in {models}. There are: tiny. Did you mean 'tiny'?\n"
    without = resumed(models, "tiny")
    assert (without.exit_code, without.stdout) == (1, "")
    assert without.stderr.startswith("Error: ")


@pytest.mark.parametrize(
    "words",
    [
        ["--documents", r"separator:\n--\t"],
        ["--documents", r"separator:\\n"],
        ["--documents", "separator:\\"],
        ["--delimiter", r"\t"],
        ["--delimiter", r"\\"],
        ["--labels", r"\\n", "--freeze-layers", r"\n", "--freeze-layers", "-x", "--seed", "3"],
        ["--no-header", "--lenient", "--dropout", "1e-05", "--", "-a.txt", r"\\n"],
    ],
)
def test_workers_are_called_as_the_command_was(words: list[str]) -> None:
    command = textgen.get_command(click.Context(textgen), "train")
    assert command
    called = command.make_context("train", list(words))
    passed_on = command.make_context("train", command_line(called))
    assert passed_on.params == called.params


def test_threads_hold_for_numpy_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_most_cores", None)
    monkeypatch.setattr(runtime, "_blas_threads", None)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "5")
    assert CliRunner().invoke(textgen, ["train", "missing.txt", "--threads", "1"]).exit_code == 1
    assert (machine.num_cores(), os.environ["OPENBLAS_NUM_THREADS"]) == (1, "1")
