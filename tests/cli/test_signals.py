"""Signals that end a command leave nothing of a text behind."""

from __future__ import annotations

import gc
import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from disk import names

from textgen.cli import textgen
from textgen.cli.signals import Ended, ending_in_order


@pytest.fixture(autouse=True)
def not_ignored() -> Iterator[None]:
    """As where the tests run under nohup."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Pipe(io.BytesIO):
    """Standard input on which a signal comes after the first part."""

    def __init__(self, number: int) -> None:
        super().__init__(b"The cat sat on the mat.\n")
        self._number = number

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if not data and size:  # Click reads nothing to see what it is
            signal.raise_signal(self._number)
        return data


@pytest.mark.parametrize(
    ("name", "code", "words"), [("SIGTERM", 143, "Terminated."), ("SIGHUP", 129, "The terminal was closed.")]
)
def test_a_text_from_a_pipe_is_not_left_among_the_temporary_files(
    name: str, code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    number = getattr(signal, name)
    arguments = ["tokenizer", "train", "-", "--out", str(tmp_path / "x.model")]
    result = CliRunner().invoke(textgen, arguments, input=Pipe(number))
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", f"\n{words}\n")
    del result
    gc.collect()  # the error refers to the corpus
    assert names(tmp_path) == []
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_signal_that_is_ignored_or_handled_stays_so() -> None:
    for handler in (signal.SIG_IGN, lambda number, frame: None):
        before = signal.signal(signal.SIGTERM, handler)
        try:
            with ending_in_order():
                signal.raise_signal(signal.SIGTERM)
                assert signal.getsignal(signal.SIGTERM) is handler
        finally:
            signal.signal(signal.SIGTERM, before)


def test_a_second_signal_ends_the_process_at_once() -> None:
    with ending_in_order():
        with pytest.raises(Ended):
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
