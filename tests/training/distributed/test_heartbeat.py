"""The other processes wait for a chief that works, and not for one that hangs."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from textgen.training import run as run_module
from textgen.training.distributed.distribution import Distribution
from textgen.training.distributed.heartbeat import BEATS, Heartbeat
from textgen.training.distributed.worker_group import Group, connected

# Waits for a chief that does not answer, without TensorFlow.
HANGS = """
    import sys, time
    from types import SimpleNamespace
    from textgen.training.distributed.distribution import deadline
    from textgen.training.distributed.heartbeat import Heartbeat

    never = lambda values: time.sleep(60)
    distribution = SimpleNamespace(num_workers=2, together=deadline, total=never)
    Heartbeat(distribution, 0.05).{waits}()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs alarm signals")
@pytest.mark.parametrize("waits", ["wait", "end"])
def test_a_process_that_waits_for_one_that_hangs_ends(waits: str) -> None:
    program = textwrap.dedent(HANGS.format(waits=waits))
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=50)
    assert done.returncode == -signal.SIGALRM


def test_a_slow_chief_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It works for five times the limit, by a clock that each of its windows moves on by a thirtieth of it."""
    limit, now, restarts = 30.0, [0.0], list[float]()

    @contextmanager
    def deadline(seconds: float | None) -> Iterator[Callable[[], None]]:
        assert seconds == limit
        yield lambda: restarts.append(now[0])

    monkeypatch.setattr("textgen.training.distributed.distribution.deadline", deadline)
    monkeypatch.setattr("textgen.training.distributed.heartbeat.time.monotonic", lambda: now[0])
    groups = [Group(worker, 2, links) for worker, links in enumerate(connected(2))]
    chief, other = (Heartbeat(Distribution(group=group), limit) for group in groups)
    waiting = threading.Thread(target=other.wait)
    waiting.start()
    for _ in range(150):
        now[0] += limit / 30
        chief.beat()
    assert waiting.is_alive()
    chief.end()
    waiting.join(timeout=10)
    assert not waiting.is_alive()
    assert len(restarts) == 5 * BEATS
    for group in groups:
        group.close()


def test_without_a_limit_there_are_no_signs_of_life() -> None:
    told = list[list[float]]()
    distribution = Distribution()
    vars(distribution)["total"] = told.append
    heartbeat = Heartbeat(distribution, None)
    heartbeat.beat()
    assert not told
    heartbeat.end()
    assert told == [[1.0]]


def test_a_follower_waits_only_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the first weights, for those of a checkpoint and the score of the saved ones on resume, and at the end."""
    limits, model = list[float | None](), SimpleNamespace(weights_as_arrays=dict, assign_weights=lambda arrays: None)
    waits, is_limited = list[str](), [False]

    @contextmanager
    def deadline(seconds: float | None) -> Iterator[Callable[[], None]]:
        limits.append(seconds)
        is_limited[0] = True
        yield lambda: None
        is_limited[0] = False

    def waited(name: str, result: Any = None) -> Any:
        assert is_limited[0], name
        waits.append(name)
        return result

    monkeypatch.setattr(run_module, "initial_model", lambda *parts: waited("first weights", model))
    monkeypatch.setattr(run_module, "load_model", lambda name: "saved")
    parts = dict.fromkeys(("model_config", "training_config", "tokenizer", "data", "start"))
    waiting = {"together": deadline, "total": lambda values: waited("end", [1.0]), "from_chief": dict}
    rescored = SimpleNamespace(is_same_text=lambda position: False, rescore_best=lambda *given: waited("score"))
    position = SimpleNamespace(saved_step=3, has_best=True)
    run: Any = object.__new__(run_module._Run)
    run._setup, run._record, run._step_timeout = SimpleNamespace(folder=Path("folder"), **parts), {"progress": {}}, 9.0
    run._trainer = SimpleNamespace(
        position=position, validator=rescored, restore=lambda checkpoint: waited("checkpoint")
    )
    run._distribution = SimpleNamespace(
        num_workers=2, is_chief=False, strategy=SimpleNamespace(scope=nullcontext), **waiting
    )
    assert run._build() is model
    run._restore("checkpoint")
    assert run._finish("done") == "saved"
    assert waits == ["first weights", "checkpoint", "score", "end"]
    assert limits == [9.0] * 4


def test_the_chief_gives_signs_of_life_while_it_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    told, evaluator = list[list[float]](), SimpleNamespace(on_window=None)
    monkeypatch.setattr(run_module, "require_held", lambda folder: None)
    monkeypatch.setattr(run_module, "load_model", lambda name: SimpleNamespace(weights=dict))
    run: Any = object.__new__(run_module._Run)
    run._setup, run._step_timeout = SimpleNamespace(folder=Path("folder")), 1e-6
    run._model = SimpleNamespace(assign_weights=lambda arrays: None)
    run._trainer = SimpleNamespace(validator=SimpleNamespace(evaluator=evaluator))
    run._distribution = SimpleNamespace(num_workers=2, is_chief=True, together=nullcontext, total=told.append)
    monkeypatch.setattr(run, "_mix_with_start", lambda: evaluator.on_window())
    monkeypatch.setattr(run, "_final_scores", lambda: evaluator.on_window())
    monkeypatch.setattr(run, "_write", lambda state, scores: None)
    run._finish("done")
    evaluator.on_window()  # nobody listens any more
    assert told == [[0.0], [0.0], [1.0]]


def test_work_for_which_each_process_needs_its_own_time_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick one gives signs of life with the slow one, which is done once ten of them were given."""
    monkeypatch.setattr("textgen.training.distributed.distribution.BEAT_SECONDS", 0.01)
    groups = [Group(worker, 2, links) for worker, links in enumerate(connected(2))]
    quick, slow = (Distribution(group=group) for group in groups)
    restarts, enough, ended = list[int](), threading.Event(), list[str]()

    def restart_timer() -> None:
        restarts.append(1)
        if len(restarts) == 10:
            enough.set()

    quick.restart_timer = restart_timer

    def take_part(distribution: Distribution, name: str, work: Callable[[], object]) -> None:
        distribution.each_does(work)
        ended.append(name)

    threads = [
        threading.Thread(target=take_part, args=(quick, "quick", lambda: None)),
        threading.Thread(target=take_part, args=(slow, "slow", lambda: enough.wait(30))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(ended) == ["quick", "slow"]
    assert len(restarts) >= 10
    for group in groups:
        group.close()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_error_of_such_work_is_raised_where_it_is_waited_for(num_workers: int) -> None:
    distribution = Distribution()
    distribution.num_workers = num_workers

    def fails() -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        distribution.each_does(fails)


def test_a_time_limit_is_restarted_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    restarts = list[float | None]()

    @contextmanager
    def deadline(seconds: float | None) -> Iterator[Callable[[], None]]:
        yield lambda: restarts.append(seconds)

    monkeypatch.setattr("textgen.training.distributed.distribution.deadline", deadline)
    distribution = Distribution()
    distribution.restart_timer()
    with distribution.together(5.0):
        distribution.restart_timer()
        with distribution.together(6.0):
            distribution.restart_timer()
        distribution.restart_timer()
    distribution.restart_timer()
    assert restarts == [5.0, 6.0, 5.0]
