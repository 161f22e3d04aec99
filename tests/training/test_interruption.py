"""Signals: none is lost, whenever it comes, and what is ignored stays so."""

from __future__ import annotations

import os
import signal

import pytest

from textgen.training import interruption
from textgen.training.interruption import StopRequests


def test_what_a_terminal_and_a_launcher_send_at_once_is_one_signal_and_a_later_one_acts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, told = [0.0], list[int]()
    monkeypatch.setattr("textgen.training.interruption.time.monotonic", lambda: now[0])
    requests = StopRequests(told.append)
    with requests.caught():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        now[0] = interruption.SAME_SECONDS / 2
        os.kill(os.getpid(), signal.SIGINT)
        assert requests.received == signal.SIGINT
        assert told == [signal.SIGINT, signal.SIGTERM, signal.SIGINT]
        now[0] = 2 * interruption.SAME_SECONDS
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_is_ignored_stays_so(number: int) -> None:
    """As under nohup, or in a job that a script starts in the background."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        requests = StopRequests()
        with requests.caught():
            os.kill(os.getpid(), number)
        assert not requests.received
        others = StopRequests()
        with others.caught():
            os.kill(os.getpid(), signal.SIGTERM)
        assert others.received == signal.SIGTERM
    finally:
        signal.signal(number, before)


def test_a_handler_that_python_does_not_know_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a program in C that runs Python: `getsignal` returns None for it, which `signal` does not take."""
    before, own = signal.getsignal(signal.SIGTERM), signal.getsignal
    monkeypatch.setattr(signal, "getsignal", lambda number: None if number == signal.SIGTERM else own(number))
    requests = StopRequests()
    with requests.caught():
        assert own(signal.SIGTERM) is before
        os.kill(os.getpid(), signal.SIGINT)
    assert requests.received == signal.SIGINT
    assert own(signal.SIGTERM) is before
    assert own(signal.SIGINT) is signal.default_int_handler
