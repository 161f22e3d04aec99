"""A run that is interrupted stops and saves whenever a signal comes, and several processes stop at the same step."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain
from types import FrameType
from typing import Any

import pytest

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.token_cache import encode_and_split
from textgen.errors import Interrupted
from textgen.model.config import ModelConfig
from textgen.system.runtime import load_tensorflow
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.training.checkpoints import CheckpointTimer, newest_checkpoint
from textgen.training.config import TrainingConfig
from textgen.training.distributed.distribution import Distribution
from textgen.training.distributed.stop_agreement import StopAgreement
from textgen.training.distributed.worker_group import Group, connected
from textgen.training.interruption import STOP_SIGNALS
from textgen.training.observers.observer import Observer, RunReport

STEPS = 2
STAGES = (  # functions of the loop, in each line of which a signal is sent
    "run", "_steps", "_train", "_end_step", "_agree", "agree", "_validate", "validate",
    "_score", "save_checkpoint", "total",
)  # fmt: skip
LAST_LINES = 32  # of a run, at most, in which a signal comes too late
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Make:
    """Makes a trainer of the smallest network. Once it has run, its scores and batches are at hand: steps are quick."""
    load_tensorflow()
    from textgen.model.language_model import LanguageModel
    from textgen.training.trainer import Trainer

    folder = tmp_path_factory.mktemp("interruption")
    (folder / "text.txt").write_text("abc cab bca acb " * 40, encoding="utf-8")
    data = encode_and_split(
        Corpus([folder / "text.txt"], CorpusConfig(documents="file")), tokenizer, cache=folder / "cache"
    )
    shape = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8)
    config = TrainingConfig(batch_size=2, sequence_length=5, steps=STEPS, num_validations=1, valid_tokens=64)

    def made(group: Group | None = None) -> Any:
        model = LanguageModel(shape, pad_id=tokenizer.pad_id, seed=1)
        checkpoints = folder / f"checkpoints-{group.worker if group else 'alone'}"
        distribution = Distribution(group=group)
        trainer = Trainer(model, data, config, checkpoints, distribution=distribution)
        batches = list(itertools.islice(trainer.reader.batches.epoch(0, rows=trainer.reader.rows), STEPS + 1))
        object.__setattr__(trainer.reader.batches, "dataset", lambda epoch, step, **_: iter(batches[step:]))
        scores = trainer.validator.evaluator.scores(data.valid, 64)
        trainer.validator.evaluator.scores = lambda *_: scores  # type: ignore[method-assign]
        return trainer

    return made


def start_again(trainer: Any) -> None:
    """A run from its first step, with what TensorFlow has compiled."""
    from textgen.training.position import Position

    shutil.rmtree(trainer._checkpoints, ignore_errors=True)
    trainer.position, trainer._stop = Position(), StopAgreement(trainer._distribution)
    trainer._checkpoint_timer = CheckpointTimer(trainer.config.checkpoint_minutes)
    trainer.tensors.reset_state()


class Watch(Observer):
    """Whom the run tells how it goes."""


@contextmanager
def at_line(number: int, deed: Callable[[], None]) -> Iterator[list[int]]:
    """Within, does something before the `number`-th line of the stages that this thread executes; counts the lines."""
    count = [0]

    def local(frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            count[0] += 1
            if count[0] == number:
                deed()
        return local

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        ours = frame.f_code.co_name in STAGES and "textgen" in frame.f_code.co_filename
        return local if ours else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(before)


def lines_of_a_run(run: Callable[[], object]) -> int:
    with at_line(0, lambda: None) as count:
        run()
    return count[0]


@pytest.mark.parametrize("apart", [16, pytest.param(1, marks=pytest.mark.slow)])
def test_a_signal_stops_the_run_and_saves_whenever_it_comes(make: Make, apart: int) -> None:
    """At every `apart`-th line of the loop, with one signal after the other."""
    trainer, about = make(), RunReport("model", {}, 0)
    late = list[int]()  # signals that are passed on once training is over
    before = {number: signal.signal(number, lambda number, frame: late.append(number)) for number in STOP_SIGNALS}
    run: Callable[[], object] = lambda: trainer.run([Watch()], about)  # noqa: E731
    start_again(trainer)
    run()
    start_again(trainer)
    lines, stopped = lines_of_a_run(run), list[int]()
    try:
        for line, number in zip(range(1, lines + 1, apart), itertools.cycle(STOP_SIGNALS), strict=False):
            start_again(trainer)
            late.clear()
            with at_line(line, partial(os.kill, os.getpid(), number)):
                code = interrupted(run)
            stopped.append(code)
            if code:
                assert code == 128 + number
                assert newest_checkpoint(trainer._checkpoints)[0].position["step"] == trainer.position.step
            else:  # before signals are caught, or when all is done: it is for what comes before or next
                assert late == [number], line
                assert trainer.position.step == STEPS
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    in_between = "".join("x" if code else " " for code in stopped).strip()
    assert len(in_between) > 80 / apart
    assert " " not in in_between


def interrupted(run: Callable[[], object]) -> int:
    """The exit code if a signal has ended the run, else 0."""
    try:
        run()
    except Interrupted as error:
        return error.exit_code
    return 0


@pytest.mark.parametrize("apart", [160, pytest.param(1, marks=pytest.mark.slow)])
def test_two_workers_stop_at_the_same_step_whichever_of_them_is_told(
    make: Make, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, apart: int
) -> None:
    links = connected(2)
    for one in chain.from_iterable(links):
        request.addfinalizer(one.close)
        one.settimeout(60)  # one that waits alone fails the test
    trainers, about = [make(Group(worker, 2, links[worker])) for worker in range(2)], RunReport("model", {}, 0)

    def run(worker: int, told: int, line: int) -> tuple[int, int, int]:
        trainer = trainers[worker]
        start_again(trainer)

        def tell() -> None:  # as the handler does
            trainer._stop.requests.received = signal.SIGTERM

        with at_line(line if worker == told else 0, tell) as count:
            code = interrupted(lambda: trainer.run([Watch()], about))
        return code, trainer.position.step, count[0]

    # what comes too late is for the next who listens
    monkeypatch.setattr("textgen.training.trainer.signal.raise_signal", lambda *_: None)
    with ThreadPoolExecutor(2) as threads:

        def both(told: int, line: int) -> list[tuple[int, int, int]]:
            return list(threads.map(run, range(2), [told] * 2, [line] * 2))

        both(0, 0)  # compiles, which takes more lines
        for told in range(2):
            lines, stopped = both(told, 0)[told][2], dict[int, int]()
            for line in range(1 + told, lines + 1, apart):
                (code, step, _), other = both(told, line)
                stopped[line] = code
                assert other[:2] == (code, step), line
                assert newest_checkpoint(trainers[0]._checkpoints)[0].position["step"] == step
            assert {code for line, code in stopped.items() if line < lines - LAST_LINES} == {143}
