"""textgen train: runs that end well or badly, and texts that cannot be trained on."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import song_model
from click.testing import Result
from processes import child_process
from song_model import POEMS, TINY, run

models = song_model.models  # fixture


def test_training_says_the_plan_on_stderr_and_the_result_on_stdout(training: tuple[Path, Result]) -> None:
    folder, result = training
    assert "48 documents by blank-line" in result.stderr
    assert "held-out loss" in result.stderr
    assert "nats per token" in result.stdout
    assert f"textgen sample {folder / 'my-songs'}\n" in result.stdout
    assert (folder / "my-songs" / "model.safetensors").exists()


def test_training_from_standard_input(tmp_path: Path) -> None:
    result = run("train", "-", "--models-dir", str(tmp_path), "--json", *TINY, stdin=POEMS)
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert record["progress"]["step"] == 6
    assert (tmp_path / "stdin" / "config.json").exists()


def test_a_second_run_takes_the_next_name(models: Path, tmp_path: Path) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    shutil.copytree(models / "songs", tmp_path / "models" / "songs")
    short = [*TINY, "--steps", "1", "--num-validations", "1"]
    result = run("train", str(tmp_path / "songs.txt"), "--models-dir", str(tmp_path / "models"), *short)
    assert result.exit_code == 0
    assert "textgen sample songs-2\n" in result.stdout
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["songs", "songs-2"]


@pytest.mark.slow
def test_a_profile_is_recorded_among_the_logs(tmp_path: Path) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    arguments = ["--models-dir", str(tmp_path / "models"), *TINY, "--steps", "13", "--profile-steps", "2"]
    assert run("train", str(tmp_path / "songs.txt"), *arguments).exit_code == 0
    assert len(list((tmp_path / "models" / "songs" / "logs").glob("plugins/profile/*/*.xplane.pb"))) == 1


@pytest.mark.slow
def test_learning_rates_are_tried_and_nothing_is_saved(tmp_path: Path) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    arguments = [
        "train",
        str(tmp_path / "songs.txt"),
        "--models-dir",
        str(tmp_path / "models"),
        *TINY,
        "--find-learning-rate",
    ]
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    losses = [point["nats_per_token"] for point in found["points"]]
    assert min(losses) < losses[0] - 0.2
    assert found["points"][0]["learning_rate"] < found["suggestion"] < found["points"][-1]["learning_rate"]
    assert not (tmp_path / "models").exists()
    assert run(*arguments, "--workers", "2").exit_code == 2


LIBRARY_LOG = re.compile(r"^[IWEF]\d{4} ", re.MULTILINE)  # how TensorFlow's lines begin


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ["--activation-penalty", "2", "--temporal-penalty", "1", "--word-dropout", "0.1", "--weight-drop", "0.2"],
        [
            "--random-bptt",
            "0.05",
            "--label-smoothing",
            "0.1",
            "--optimizer",
            "asgd",
            "--gradient-accumulation-steps",
            "2",
        ],
        ["--tokenizer", "unigram", "--subword-alpha", "0.1", "--weight-averaging", "ema"],
        ["--direction", "both", "--layer-norm", "--residual", "--clip-value", "0.1"],
        ["--attention", "8", "--schedule", "inverse-sqrt"],
        *(["--cell", cell] for cell in ("gru", "rnn", "peephole", "mogrifier")),
        *(["--precision", precision] for precision in ("float32", "bfloat16")),
        ["--no-tie-embeddings", "--no-carry-state", "--recurrent-initializer", "glorot"],
    ],
    ids=" ".join,
)
def test_training_says_nothing_of_its_libraries(tmp_path: Path, flags: list[str]) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    command = [sys.executable, "-m", "textgen", "train", str(tmp_path / "songs.txt"), *TINY, *flags]
    done = subprocess.run([*command, "--steps", "3"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not LIBRARY_LOG.search(done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_ends_and_the_run_goes_on_where_it_was(tmp_path: Path, number: int, code: int) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    command = [sys.executable, "-m", "textgen", "train", "--models-dir", str(tmp_path / "models")]
    options = [*TINY, "--steps", "1000000", "--num-validations", "100000", "--patience", "1000000"]
    options += ["--activation-penalty", "2", "--temporal-penalty", "1"]
    command += [str(tmp_path / "songs.txt"), *options]
    with (tmp_path / "stderr.txt").open("wb") as errors, child_process(command, stderr=errors) as process:
        until = time.monotonic() + 120
        while b"held-out loss" not in (tmp_path / "stderr.txt").read_bytes():
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(number)
        assert process.wait(60) == code
    said = (tmp_path / "stderr.txt").read_text(encoding="utf-8")
    assert "everything is saved. Continue with textgen train --resume --name " in said
    assert "Traceback" not in said
    assert not LIBRARY_LOG.search(said)
    record = json.loads((tmp_path / "models" / "songs" / "training.json").read_text(encoding="utf-8"))
    stopped_at = record["progress"]["step"]
    assert record["status"] == "interrupted"
    result = run(
        "train", "--resume", "--models-dir", str(tmp_path / "models"), "--steps", str(stopped_at + 3), "--json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["progress"]["step"] == stopped_at + 3


def test_resuming_with_nothing_there_is_said(tmp_path: Path) -> None:
    result = run("train", "--resume", "--models-dir", str(tmp_path))
    assert result.exit_code == 1
    assert "no run to resume" in result.stderr


def test_nothing_to_train_on_is_wrong_usage() -> None:
    assert run("train").exit_code == 2


def _gzip_broken(path: Path) -> None:
    path.write_bytes(gzip.compress(POEMS.encode())[:-20])


BAD_CORPORA: list[tuple[str, Callable[[Path], object], list[str], str]] = [
    ("missing.txt", lambda path: None, [], "missing.txt"),
    ("folder", lambda path: path.mkdir(), [], "No text"),
    ("empty.txt", lambda path: path.write_text(""), [], "No text"),
    ("blank.txt", lambda path: path.write_text(" \n\n\t\n"), [], "No text"),
    ("short.txt", lambda path: path.write_text("Too short."), [], "too few"),
    ("small.txt", lambda path: path.write_text("word " * 300), ["--batch-size", "128"], "less than one batch"),
    ("picture.png", lambda path: path.write_bytes(b"\x89PNG\0\0" * 500), [], "binary"),
    ("latin.txt", lambda path: path.write_bytes(("na\xefve " * 400).encode("latin-1")), [], "encoding"),
    ("broken.gz", _gzip_broken, [], "broken.gz"),
    ("no-field.jsonl", lambda path: path.write_text('{"body": "x"}\n'), [], "--text-field"),
    ("no-column.csv", lambda path: path.write_text("title,body\na,b\n"), [], "--text-column"),
    ("big-vocabulary.txt", lambda path: path.write_text(POEMS), ["--vocab-size", "50000", "--steps", "1"], "at most"),
    ("unknown-encoding.txt", lambda path: path.write_text(POEMS), ["--encoding", "utf-9"], "utf-9"),
    ("bad-dropout.txt", lambda path: path.write_text(POEMS), ["--dropout", "1.5"], "dropout"),
    ("no-length.txt", lambda path: path.write_text(POEMS), ["--steps", "0"], "steps must be a number"),
    ("no-preset.txt", lambda path: path.write_text(POEMS), ["--from", "nobody"], "no model 'nobody'"),
]
OUT_OF_RANGE = ("bad-dropout.txt", "no-length.txt")


@pytest.mark.parametrize(("name", "make", "options", "expected"), BAD_CORPORA, ids=[row[0] for row in BAD_CORPORA])
def test_a_bad_corpus_is_one_clear_line_and_leaves_nothing(
    tmp_path: Path, name: str, make: Callable[[Path], object], options: list[str], expected: str
) -> None:
    make(tmp_path / name)
    result = run("train", str(tmp_path / name), "--models-dir", str(tmp_path / "models"), *options)
    assert result.exit_code == (2 if name in OUT_OF_RANGE else 1)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert result.stderr.endswith(errors[0] + "\n")
    assert expected in errors[0]
    assert not list((tmp_path / "models").glob("*"))


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    (tmp_path / "file").write_text("a file where a folder should be", encoding="utf-8")
    result = run("train", str(tmp_path / "songs.txt"), "--models-dir", str(tmp_path / "file" / "models"), *TINY)
    assert result.exit_code == 1
    assert "Error: Cannot write" in result.stderr


def test_a_full_disk_is_said_and_leaves_no_half_written_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = run("train", str(tmp_path / "songs.txt"), "--models-dir", str(tmp_path / "models"), *TINY)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr.splitlines()[-1]
    assert not [path for path in (tmp_path / "models").rglob("*") if path.is_file()]
