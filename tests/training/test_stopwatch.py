"""The time of a run, without that for which it is stopped, and its speed, without the steps that are compiled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from processes import child_process

from textgen.training import stopwatch
from textgen.training.stopwatch import SpeedMeter, Stopwatch


def test_the_first_step_of_a_process_does_not_count() -> None:
    meter = SpeedMeter()
    shown = [meter.add(speed) for speed in (10.0, *[1000.0] * 10)]
    assert shown == [10.0, *[pytest.approx(1000.0)] * 10]


def test_the_mean_is_of_all_steps_at_first_and_then_of_the_newest() -> None:
    meter = SpeedMeter()
    shown = [meter.add(speed) for speed in (1.0, 100.0, 300.0, *[500.0] * 200)]
    assert shown[2] == pytest.approx((0.95 * 100 + 300) / 1.95)
    assert shown[-1] == pytest.approx(500.0, rel=1e-3)


def test_the_full_softmax_after_a_sampled_one_has_a_speed_of_its_own() -> None:
    """Its first step is compiled, too; until the second, the last speed is shown."""
    meter = SpeedMeter()
    for speed in (10.0, *[1000.0] * 10):
        meter.add(speed, is_sampled=True)
    shown = [meter.add(speed, is_sampled=False) for speed in (20.0, 400.0, 400.0)]
    assert shown == [pytest.approx(1000.0), pytest.approx(400.0), pytest.approx(400.0)]


def test_each_length_of_the_windows_is_compiled_once() -> None:
    meter = SpeedMeter()
    steps = [(10.0, 1.0), (1000.0, 1.0), (20.0, 0.5), (1000.0, 1.0), (1000.0, 0.5)]
    assert [meter.add(speed, window_fraction=fraction) for speed, fraction in steps][1:] == [pytest.approx(1000.0)] * 4


class Clock:
    """The time and the work of a process, in seconds; `pulse` is a look of the thread that finds stops."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = self.work = 100.0
        monkeypatch.setattr(stopwatch, "monotonic", lambda: self.time)
        monkeypatch.setattr(stopwatch, "process_time", lambda: self.work)
        monkeypatch.setattr(time, "perf_counter", lambda: self.time)
        monkeypatch.setattr(stopwatch, "PULSE", 1e6)  # it does not look by itself

    def goes_on(self, seconds: float, work: float) -> None:
        self.time, self.work = self.time + seconds, self.work + work


def test_the_time_of_a_stop_counts_neither_for_the_run_nor_for_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with Stopwatch(30.0) as watch:
        clock.goes_on(2.0, work=3.0)
        assert watch.read() == (32.0, 2.0)
        clock.goes_on(900.0, work=0.1)
        assert watch.read() == (32.0, 2.0)
        clock.goes_on(1.0, work=2.0)
        assert watch.read() == (33.0, 3.0)
        watch.start_step()
        clock.goes_on(4.0, work=0.0)  # a busy machine
        assert watch.read() == (37.0, 4.0)
        clock.goes_on(60.0, work=59.0)  # code that lets no other thread run
        assert watch.read() == (97.0, 64.0)
        clock.goes_on(60.0, work=0.0)
        watch.start_step()
        clock.goes_on(1.0, work=1.0)
        assert watch.read() == (98.0, 1.0)


def test_a_step_that_waits_is_not_taken_for_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a slow disk: the thread looks at the clock meanwhile."""
    clock = Clock(monkeypatch)
    with Stopwatch(0.0) as watch:
        for _ in range(100):
            clock.goes_on(0.5, work=0.0)
            watch._stops.seconds()
        assert watch.read() == (50.0, 50.0)


def test_the_thread_of_a_stopwatch_looks_until_the_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "PULSE", 0.01)
    looks = threading.Semaphore(0)

    def monotonic() -> float:
        if threading.current_thread().name == "stopwatch":
            looks.release()
        return time.monotonic()

    monkeypatch.setattr(stopwatch, "monotonic", monotonic)
    with Stopwatch(0.0) as watch:
        for _ in range(3):
            assert looks.acquire(timeout=60)
        thread = watch._stops._thread
    assert not thread.is_alive()


WATCHED = """
import sys, time
from textgen.training import stopwatch
stopwatch.PULSE, stopwatch.MIN_STOP_SECONDS = 0.05, 1.0
with stopwatch.Stopwatch(0.0) as watch:
    while True:
        print(*watch.read(), flush=True)
        sys.stdin.readline()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no process can be stopped")
def test_a_process_that_is_really_stopped_reads_the_time_without_that() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with child_process([sys.executable, "-c", WATCHED], **pipes) as child:
        assert child.stdin
        assert child.stdout
        before = float(child.stdout.readline().split()[0])
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(3.0)
        os.kill(child.pid, signal.SIGCONT)
        child.stdin.write("\n")
        child.stdin.flush()
        after = float(child.stdout.readline().split()[0])
    assert before <= after < before + 2.5
