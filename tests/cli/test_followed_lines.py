"""textgen score --follow: lines of a stream, scored as they arrive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from processes import child_process

from textgen.cli import score as cli_score
from textgen.cli import textgen
from textgen.evaluation.anomalies import WARM_UP
from textgen.saved_model.loading import load_model

STREAM = "the cat sat on the mat\n" * (WARM_UP + 5) + "\x07日本語🀄🀄\n" + "the cat sat on the mat\n"


def score(models: Path, *arguments: str, stdin: str | None = None) -> Result:
    arguments = ("score", "tiny", *arguments, "--models-dir", str(models))
    return CliRunner().invoke(textgen, arguments, input=stdin, catch_exceptions=False, prog_name="textgen")


def test_follow_prints_what_surprises(tiny_models: Path) -> None:
    result = score(tiny_models, "--follow", stdin=STREAM)
    (line,) = result.stdout.splitlines()
    assert line.split()[0] == str(WARM_UP + 6)
    assert line.endswith("\x07日本語🀄🀄")
    assert result.stderr == f"{WARM_UP + 7} lines, 1 of them unusual.\n"
    everything = score(tiny_models, "--follow", "--all", stdin=STREAM).stdout.splitlines()
    assert [row[:2] for row in everything] == ["  "] * (WARM_UP + 5) + ["! ", "  "]
    assert not score(tiny_models, "--follow", "--threshold", "1000", stdin=STREAM).stdout


def test_follow_in_json(tiny_models: Path) -> None:
    rows = score(tiny_models, "--follow", "--all", "--json", stdin=STREAM).stdout.splitlines()
    found = [json.loads(row) for row in rows]
    assert [row["line"] for row in found if row["flagged"]] == [WARM_UP + 6]
    assert found[0] == {
        "model": "tiny", "line": 1, "text": "the cat sat on the mat", "deviation": None, "flagged": False,
        "bits_per_character": pytest.approx(found[0]["bits_per_character"]), "characters": 23,
    }  # fmt: skip


def test_newlines_of_a_stream_are_those_of_the_training_or_of_the_option(tiny_models: Path) -> None:
    for options, expected in (([], ["10 %", "20 %"]), (["--newlines", "keep"], ["10 %\r20 %"])):
        rows = score(tiny_models, "--follow", "--all", "--json", *options, stdin="10 %\r20 %\n").stdout.splitlines()
        assert [json.loads(row)["text"] for row in rows] == expected


def test_what_cannot_be_followed_is_refused_before_lines_are_counted(tiny_models: Path) -> None:
    for options in (["--documents", r"separator:a\nb"], ["--encoding", "utf-16"]):
        result = score(tiny_models, "--follow", *options, stdin=STREAM)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: ")


def test_a_stream_in_utf_16_is_refused(tiny_models: Path, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("the cat\n" * 3, encoding="utf-16")
    result = score(tiny_models, str(tmp_path / "log"), "--follow", "--all")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "utf-16 text cannot be split into lines while it arrives. Convert the text" in result.stderr


@pytest.mark.parametrize(("held_out", "is_noted"), [(0.3, True), (9.0, False)])
def test_follow_says_that_a_model_of_other_text_does_not_know_what_is_usual(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch, held_out: float, is_noted: bool
) -> None:
    saved = replace(load_model("tiny", tiny_models), training={"scores": {"bits_per_byte": held_out}})
    monkeypatch.setattr(cli_score, "load_model_or_base", lambda *arguments: saved)
    advice = (
        "tiny was trained on other text than these lines, so it does not know what is usual in them: train on the log "
        "first (textgen train FILE), and name that model.\n"
    )
    end = f"{WARM_UP + 7} lines, 1 of them unusual.\n"
    assert score(tiny_models, "--follow", stdin=STREAM).stderr == (advice if is_noted else "") + end
    assert score(tiny_models, "--follow", stdin="the cat\n").stderr == "1 line, 0 of them unusual.\n"


def test_follow_prints_a_line_while_the_stream_goes_on(tiny_models: Path, tmp_path: Path) -> None:
    """A growing file, without TensorFlow, until Ctrl-C; nothing is coloured in a pipe."""
    (tmp_path / "log").write_text("the cat\n", encoding="utf-8")
    command = [sys.executable, "-m", "textgen", "score", "tiny", "--models-dir", str(tiny_models)]
    follow = [*command, str(tmp_path / "log"), "--follow", "--all"]
    with child_process(follow, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline().endswith(b"  the cat\n")
        assert process.stderr.readline() == b"1 line read; waiting for more (Ctrl-C ends).\n"
        with (tmp_path / "log").open("a", encoding="utf-8") as log:
            log.write("the dog\n")
        assert process.stdout.readline().endswith(b"  the dog\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read().splitlines() == [b"2 lines, 0 of them unusual.", b"", b"Interrupted."]


def test_a_pipe_with_a_name_is_followed_up_to_its_end(tiny_models: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=(STREAM, "utf-8"))
    writer.start()
    result = score(tiny_models, str(tmp_path / "pipe"), "--follow")
    writer.join()
    assert (result.exit_code, result.stderr) == (0, f"{WARM_UP + 7} lines, 1 of them unusual.\n")
    assert result.stdout == score(tiny_models, "--follow", stdin=STREAM).stdout


@pytest.mark.parametrize("name", ["pipe.csv", "pipe.gz"])
def test_the_name_of_a_pipe_does_not_tell_what_is_in_it(tiny_models: Path, tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    writer = threading.Thread(target=(tmp_path / name).write_text, args=("the cat\n", "utf-8"))
    writer.start()
    result = score(tiny_models, str(tmp_path / name), "--follow")
    writer.join()
    assert (result.exit_code, result.stderr) == (0, "1 line, 0 of them unusual.\n")


def test_surprising_lines_are_red_on_a_terminal(tiny_models: Path) -> None:
    arguments = ["score", "tiny", "--follow", "--all", "--models-dir", str(tiny_models)]
    shown = CliRunner().invoke(textgen, arguments, input=STREAM, color=True).stdout.splitlines()
    assert [row.startswith("\x1b[31m") for row in shown] == [False] * (WARM_UP + 5) + [True, False]


def test_a_closed_pipe_ends_quietly(tiny_models: Path) -> None:
    command = (
        f"yes the cat | {sys.executable} -m textgen score tiny --models-dir {tiny_models} --follow --all | head -2"
    )
    result = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert b"Traceback" not in result.stderr
    assert len(result.stdout.splitlines()) == 2
