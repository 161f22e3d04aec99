"""Commands go on when nobody takes what they say on standard error."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import click
import pytest
from rich.console import Console

from textgen.cli.stderr import Forgiving
from textgen.dataset.prepared_corpus import PreparedCorpus


class Broken(StringIO):
    """A stream that takes nothing."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.error = OSError(number, os.strerror(number))

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.ENOSPC, errno.EBADF])
def test_nothing_that_writes_to_it_fails(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Broken(number)
    with pytest.raises(OSError, match=r".+"):
        print("a line", file=broken)
    monkeypatch.setattr("sys.stderr", Forgiving(broken))
    print("a line", file=sys.stderr, flush=True)
    click.echo("a line", err=True)
    Console(stderr=True).print("a line")
    assert sys.stderr.isatty() is False


def test_what_can_be_written_is(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = StringIO()
    monkeypatch.setattr("sys.stderr", Forgiving(stream))
    click.echo("a line", err=True)
    assert stream.getvalue() == "a line\n"


NOBODY_LISTENS = ("closed", "read by nobody", "full")


def run(how: str, arguments: list[str]) -> int:
    """The exit code of textgen with its standard error closed, read by nobody, or full."""
    command = [sys.executable, "-m", "textgen", *arguments]
    if how == "closed":
        return subprocess.run(["bash", "-c", 'exec "$@" 2>&-', "bash", *command], stdout=subprocess.DEVNULL).returncode
    reader, writer = os.pipe() if how == "read by nobody" else (None, os.open("/dev/full", os.O_WRONLY))
    if reader is not None:
        os.close(reader)
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=writer).returncode
    finally:
        os.close(writer)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("The cat sat on the mat.\n" * 100, encoding="utf-8")
    return path


@pytest.mark.parametrize("how", NOBODY_LISTENS)
def test_a_command_goes_on(how: str, text: Path) -> None:
    assert run(how, ["corpus", "prepare", str(text), "--out", str(text.parent / "out"), "--tokenizer", "byte"]) == 0
    assert PreparedCorpus(text.parent / "out").missing() == []


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("how", NOBODY_LISTENS)
def test_training_goes_on_and_its_files_are_whole(how: str, workers: str, text: Path) -> None:
    options = ["--tokenizer", "char", "--hidden-units", "8", "--steps", "8", "--batch-size", "4", "--workers", workers]
    assert run(how, ["train", str(text), "--name", "songs", "--models-dir", str(text.parent), *options]) == 0
    record = json.loads((text.parent / "songs" / "training.json").read_text(encoding="utf-8"))
    assert record["status"] == "finished: the planned length is reached"
    again = ["train", "--resume", "--name", "songs", "--models-dir", str(text.parent), "--steps", "9"]
    assert run(how, again) == 0  # all checksums agree
