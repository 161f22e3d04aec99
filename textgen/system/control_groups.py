"""Reads what the control groups of Linux grant to this process: processor time and memory.

Containers and batch systems limit processes by control groups (cgroups). The kernel slows down a process that uses more
processor time, and kills one that uses more memory. `os.cpu_count` and the size of the memory do not tell the limits.
A group is also limited by the groups above it. Documentation: https://docs.kernel.org/admin-guide/cgroup-v2.html and
cgroup-v1/index.html there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")  # of the file system; tests have another one
OWN_GROUPS = "proc/self/cgroup"
MOUNT = "sys/fs/cgroup"
UNLIMITED = 1 << 60  # bytes; version 1 names no limit by a number near 2^63


def granted_cores() -> float | None:
    """Returns the processor time that this process may use, in cores; None if it is not limited.

    The set of cores on which it may run (cpuset) is not part of it: see `os.sched_getaffinity`.
    """
    shares = [quota / period for quota, period in _quotas() if quota > 0 and period > 0]
    return min(shares, default=None)


def granted_memory() -> int | None:
    """Returns the memory that this process may use, in bytes; None if it is not limited."""
    limits = [_number(text) for name in ("memory.max", "memory.high") for text in _settings("", name)]
    limits += [_number(text) for text in _settings("memory", "memory.limit_in_bytes")]
    return min((limit for limit in limits if 0 < limit < UNLIMITED), default=None)


def _quotas() -> Iterator[tuple[int, int]]:
    """Pairs: microseconds of processor time in each period, -1 for no limit; microseconds of the period."""
    for text in _settings("", "cpu.max"):  # version 2: "200000 100000", or "max 100000"
        quota, _, period = text.partition(" ")
        yield _number(quota), _number(period)
    quotas, periods = (_settings("cpu", f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    for quota, period in zip(quotas, periods, strict=False):
        yield _number(quota), _number(period)


def _number(text: str) -> int:
    """The number of a limit; -1 for "max", which is none."""
    return int(text) if text.isdigit() else -1


def _settings(controller: str, name: str) -> Iterator[str]:
    """The contents of a file of this process's group and of the groups above it, as far as they can be read."""
    for folder in _folders(controller):
        try:
            yield (folder / name).read_text(encoding="ascii").strip()
        except (OSError, ValueError):  # not limited here, or not for us to know
            continue


def _folders(controller: str) -> Iterator[Path]:
    """The folders of this process's group and those above it; "" is the controller of version 2.

    In a container the path of a group may be that outside, which does not exist inside. The container's own group is
    then the top one.
    """
    for line in _own_groups():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller not in controllers.split(",") or (not controller and number != "0"):
            continue
        mounts = (controllers, controller) if controller else ("", "unified")
        for mount in dict.fromkeys(mounts):
            top = ROOT / MOUNT / mount
            group = top / path.strip("/")
            yield from (folder for folder in (group, *group.parents) if folder == top or top in folder.parents)


def _own_groups() -> list[str]:
    """Lines such as "4:cpu,cpuacct:/docker/1f" (version 1) and "0::/docker/1f" (version 2)."""
    try:
        return (ROOT / OWN_GROUPS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # not Linux
        return []
