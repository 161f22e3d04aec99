"""What is known of the machine on systems that have no /proc."""

from __future__ import annotations

import ctypes
import os
from types import SimpleNamespace

import pytest

from textgen.system import machine


@pytest.fixture
def no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither /proc nor a container tells the memory."""
    monkeypatch.setattr(machine, "_kibibytes", lambda path, name: 0)
    monkeypatch.setattr(machine, "granted_memory", lambda: None)


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="sysconf is POSIX's")
def test_without_proc_the_memory_is_that_of_sysconf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "granted_memory", lambda: None)
    told = machine.usable_memory()
    monkeypatch.setattr(machine, "_kibibytes", lambda path, name: 0)
    assert told
    assert machine.usable_memory() == pytest.approx(told, rel=0.1)


@pytest.mark.usefixtures("no_proc")
@pytest.mark.parametrize("pages", [-1, ValueError("unrecognized configuration name")])
def test_a_memory_that_nothing_tells_is_unknown(monkeypatch: pytest.MonkeyPatch, pages: int | ValueError) -> None:
    def sysconf(name: str) -> int:
        if isinstance(pages, ValueError):
            raise pages
        return pages

    monkeypatch.setattr(os, "sysconf", sysconf, raising=False)
    assert machine.usable_memory() is None


@pytest.mark.usefixtures("no_proc")
def test_on_windows_the_memory_is_that_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(status: ctypes.Array[ctypes.c_char]) -> int:
        size, *_ = machine.MEMORY_STATUS.unpack(status.raw)
        assert size == len(status) == 64
        status.raw = machine.MEMORY_STATUS.pack(64, 50, 16 << 30, 1, 2, 3, 4, 5, 6)
        return 1

    library = SimpleNamespace(GlobalMemoryStatusEx=told)
    monkeypatch.delattr(os, "sysconf", raising=False)
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=library), raising=False)
    assert machine.usable_memory() == 16 << 30
    library.GlobalMemoryStatusEx = lambda status: 0
    assert machine.usable_memory() is None
    monkeypatch.delattr(ctypes, "windll")
    assert machine.usable_memory() is None
