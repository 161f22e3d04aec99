"""All cores together give what one call gives, in order."""

from __future__ import annotations

import errno
import pickle
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textgen.dataset import parallel_encoding
from textgen.dataset.parallel_encoding import encode_batches
from textgen.errors import TokenizerError
from textgen.storage.files import CannotWrite
from textgen.system.child_processes import without_interrupts
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

UINT16 = np.dtype(np.uint16)
TEXT = "The miller told the fox about the river. 一片冰心在玉壺\n"


@pytest.fixture(scope="module")
def unigram() -> Tokenizer:
    return train_tokenizer([TEXT * 50], TokenizerConfig())


def batches(number: int) -> list[list[str]]:
    return [[f"{n} {TEXT}" * (1 + n % 3), "", f"{TEXT}{n}"] for n in range(number)]


def as_lists(encoded: Generator[list[np.ndarray]]) -> list[list[Any]]:
    return [[ids.tolist() for ids in batch] for batch in encoded]


@pytest.mark.parametrize("number", [0, 1, parallel_encoding.WORTH_IT - 1, parallel_encoding.WORTH_IT, 40])
def test_the_ids_are_those_of_one_call(unigram: Tokenizer, number: int) -> None:
    for tokenizer in (unigram, ByteTokenizer()):
        expected = [tokenizer.encode_batch(batch) for batch in batches(number)]
        assert as_lists(encode_batches(batches(number), tokenizer, UINT16)) == expected


def test_only_a_few_batches_are_read_ahead(unigram: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_encoding, "num_cores", lambda: 2)
    read = 0

    def counted() -> Generator[list[str]]:
        nonlocal read
        for batch in batches(100):
            read += 1
            yield batch

    for done, _ in enumerate(encode_batches(counted(), unigram, UINT16), start=1):
        assert read <= done + max(parallel_encoding.WORTH_IT, 2 * parallel_encoding.AHEAD) + 1


def test_an_error_in_another_process_is_told_here(unigram: Tokenizer) -> None:
    wrong = [["fine"]] * 20 + [["\ud800"]] + [["fine"]] * 5
    with pytest.raises(TokenizerError, match="not valid text"):
        list(encode_batches(wrong, unigram, UINT16))


def test_a_process_that_dies_before_it_is_set_up_is_told_and_no_other_stays(
    unigram: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    original = subprocess.Popen

    def dying(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        program = "import time; time.sleep(600)" if started else "pass"
        started.append(original([sys.executable, "-c", program], **options))
        if program == "pass":
            started[-1].wait()
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", dying)
    monkeypatch.setattr(parallel_encoding, "num_cores", lambda: 2)
    with pytest.raises(TokenizerError, match=r"corpus ended with exit code 0\. Try again\.$"):
        list(encode_batches(batches(20), unigram, UINT16))
    assert [process.returncode for process in started] == [0, -signal.SIGKILL]


class Hindrances:
    """Processes that only wait, and what goes wrong while they are started or set up."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, starting: OSError | None, sending: BaseException | None
    ) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        self._original, self._starting, self._sending = subprocess.Popen, starting, sending
        monkeypatch.setattr(subprocess, "Popen", self._start)
        monkeypatch.setattr(parallel_encoding, "_send", self._send)
        monkeypatch.setattr(parallel_encoding, "num_cores", lambda: 3)

    def _start(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        if self._starting and len(self.started) == 2:
            raise self._starting
        self.started.append(self._original([sys.executable, "-c", "import time; time.sleep(600)"], **options))
        return self.started[-1]

    def _send(self, *arguments: Any) -> None:
        if self._sending:
            raise self._sending


@pytest.mark.parametrize(
    ("starting", "sending", "expected", "message"),
    [
        (None, KeyboardInterrupt(), KeyboardInterrupt, None),
        (None, MemoryError(), MemoryError, None),
        (OSError(errno.EAGAIN, "Try again"), None, TokenizerError, "^Cannot start a process that encodes.*: Try again"),
    ],
    ids=["Ctrl-C", "memory", "no process"],
)
def test_whatever_goes_wrong_before_they_work_no_process_stays(
    unigram: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
    starting: OSError | None,
    sending: BaseException | None,
    expected: type[BaseException],
    message: str | None,
) -> None:
    hindrances = Hindrances(monkeypatch, starting, sending)
    with pytest.raises(expected, match=message):
        list(encode_batches(batches(20), unigram, UINT16))
    assert len(hindrances.started) == (2 if starting else 3)
    assert {process.returncode for process in hindrances.started} == {-signal.SIGKILL}


def test_a_process_ends_without_a_word_whenever_the_parent_does(
    unigram: Tokenizer, capfd: pytest.CaptureFixture[str]
) -> None:
    """And Ctrl-C, which reaches all processes of a terminal, leaves it to the parent, also while it imports modules."""
    setup, texts = (pickle.dumps(each) for each in ((unigram.serialized, UINT16), ["The fox"]))
    ends = {b"": 0, setup[:100]: 0, setup + texts[:-1]: 0, setup + texts: -signal.SIGPIPE}
    with without_interrupts():
        processes = [parallel_encoding._started() for _ in ends]
    for process, written in zip(processes, ends, strict=True):
        process.send_signal(signal.SIGINT)
        assert process.stdin
        assert process.stdout
        process.stdout.close()
        process.stdin.write(written)
        process.stdin.close()
    assert [process.wait() for process in processes] == list(ends.values())
    assert capfd.readouterr() == ("", "")


LITTLE_MEMORY = r"There may be too little memory: close other programs\.$"


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (
            "import no_such_module",
            r"ended with exit code 1\. Its last words: ModuleNotFoundError: No module named 'no_s",
        ),
        ("sys.exit(3)", r"ended with exit code 3\. Try again\.$"),
        ("os.kill(os.getpid(), 9)", rf"was ended by SIGKILL\. {LITTLE_MEMORY}"),
        ("os.kill(os.getpid(), 15)", r"was ended by SIGTERM\. Try again\.$"),
        ("print('something else', flush=True); time.sleep(600)", r"does not answer\. Try again\.$"),
    ],
)
def test_how_a_process_at_work_has_ended_is_told(
    end: str, message: str, unigram: Tokenizer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Too little memory is named only where the system ends a process."""
    original, program = subprocess.Popen, f"import os, pickle, sys, time; pickle.load(sys.stdin.buffer); {end}"

    def dying(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return original([sys.executable, "-c", program], **options)

    monkeypatch.setattr(subprocess, "Popen", dying)
    monkeypatch.setattr(parallel_encoding, "num_cores", lambda: 2)
    monkeypatch.setattr(parallel_encoding, "LAST_SECONDS", 0.5 if "sleep" in end else 60)
    with pytest.raises(TokenizerError, match=f"^A process that encodes the corpus {message}"):
        list(encode_batches(batches(20), unigram, UINT16))
    assert capfd.readouterr().err == ""


def test_text_is_encoded_where_there_is_no_folder_for_temporary_files(
    unigram: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_file() -> None:
        raise CannotWrite(Path("tmp"), "Read-only file system", "Set TMPDIR.")

    monkeypatch.setattr(parallel_encoding, "new_temporary_file", no_file)
    monkeypatch.setattr(parallel_encoding, "num_cores", lambda: 2)
    assert len(list(encode_batches(batches(20), unigram, UINT16))) == 20


def test_leaving_early_leaves_no_process(unigram: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    original = subprocess.Popen

    def noted(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(original(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", noted)
    monkeypatch.setattr(parallel_encoding, "num_cores", lambda: 2)
    with closing(encode_batches(batches(100), unigram, UINT16)) as stream:
        next(stream)
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)
