"""Connections within the limit of open files, which is raised as far as the system allows."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from textgen.server.open_files import MIN_CONNECTIONS, RESERVED, SPARE, possible_connections


class Limits(SimpleNamespace):
    """The module `resource` of a system with these limits, -1 for none; with `refuses` it lets nobody raise them."""

    RLIMIT_NOFILE = 7
    refuses = False

    def getrlimit(self, kind: int) -> tuple[int, int]:
        assert kind == self.RLIMIT_NOFILE
        return self.soft, self.hard

    def setrlimit(self, kind: int, limits: tuple[int, int]) -> None:
        assert kind == self.RLIMIT_NOFILE
        if self.refuses:
            raise ValueError("current limit exceeds maximum limit")
        self.soft, self.hard = limits


@pytest.mark.parametrize(
    ("limits", "soft", "possible"),
    [
        (Limits(soft=256, hard=4096), 1024 + SPARE, 1024),
        (Limits(soft=256, hard=-1), 1024 + SPARE, 1024),
        (Limits(soft=-1, hard=-1), -1, 1024),
        (Limits(soft=9000, hard=9000), 9000, 1024),
        (Limits(soft=256, hard=1200), 1200, 1024),
        (Limits(soft=256, hard=1000), 1000, 1000 - RESERVED),
        (Limits(soft=64, hard=64), 64, MIN_CONNECTIONS),
        (Limits(soft=256, hard=-1, refuses=True), 256, 256 - RESERVED),
    ],
)
def test_as_many_connections_are_taken_as_files_may_be_open(
    limits: Limits, soft: int, possible: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hard = limits.hard
    monkeypatch.setitem(sys.modules, "resource", limits)
    said = list[str]()
    assert possible_connections(1024, said.append) == possible
    assert (limits.soft, limits.hard) == (soft, hard)
    if possible == 1024:
        assert not said
    else:
        (line,) = said
        assert f"{soft:,} open files" in line
        assert f"takes {possible:,} connections at a time instead of 1,024" in line


def test_a_system_without_such_a_limit_takes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert possible_connections(1 << 20, lambda line: pytest.fail(line)) == 1 << 20
