"""What a container grants is known, whatever version of control groups limits it."""

from __future__ import annotations

from pathlib import Path

import pytest

from textgen.system import control_groups, machine
from textgen.system.control_groups import granted_cores, granted_memory

GIB = 1 << 30


@pytest.fixture
def limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file system without control groups, to put some in, and a process that may use all cores."""
    monkeypatch.setattr(control_groups, "ROOT", tmp_path)
    monkeypatch.setattr(machine, "_most_cores", None)  # that of the tests, which is 1 on one core
    return tmp_path


def put(root: Path, own: str, files: dict[str, str]) -> None:
    for name, text in {"proc/self/cgroup": own, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="ascii")


@pytest.mark.parametrize(
    ("own", "files", "cores", "memory"),
    [
        ("0::/", {"cpu.max": "200000 100000", "memory.max": str(GIB)}, 2.0, GIB),
        ("0::/", {"cpu.max": "max 100000", "memory.max": "max"}, None, None),
        ("0::/", {"cpu.max": "50000 100000", "memory.max": str(4 * GIB), "memory.high": str(3 * GIB)}, 0.5, 3 * GIB),
        # a group is limited by those above it
        (
            "0::/user/job",
            {
                "cpu.max": "800000 100000", "user/cpu.max": "150000 100000", "user/job/cpu.max": "max 100000",
                "user/memory.max": "max", "user/job/memory.max": str(5 * GIB), "memory.max": str(9 * GIB),
            },
            1.5, 5 * GIB,
        ),
        # the path is that outside of the container
        ("0::/docker/1f", {"cpu.max": "100000 100000", "memory.max": str(GIB)}, 1.0, GIB),
        # version 1
        (
            "4:memory:/docker/1f\n3:cpu,cpuacct:/docker/1f\n1:cpuset:/docker/1f",
            {
                "cpu,cpuacct/docker/1f/cpu.cfs_quota_us": "350000", "cpu,cpuacct/docker/1f/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000",
                "memory/docker/1f/memory.limit_in_bytes": str(2 * GIB),
                "memory/memory.limit_in_bytes": "9223372036854771712",
            },
            3.5, 2 * GIB,
        ),
        (
            "3:cpuacct,cpu:/\n0::/",
            {"cpu/cpu.cfs_quota_us": "25000", "cpu/cpu.cfs_period_us": "50000"},
            0.5, None,
        ),
        ("3:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None, None),
        # both versions side by side
        ("2:memory:/\n0::/init", {"unified/init/cpu.max": "100000 50000", "memory/memory.limit_in_bytes": "7"}, 2.0, 7),
        ("no such line", {}, None, None),
    ],
)  # fmt: skip
def test_limits(limited: Path, own: str, files: dict[str, str], cores: float | None, memory: int | None) -> None:
    put(limited, own, files)
    assert granted_cores() == cores
    assert granted_memory() == memory


def test_without_control_groups_there_is_no_limit(limited: Path) -> None:
    assert granted_cores() is None
    assert granted_memory() is None


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("200000 100000", 2), ("150000 100000", 2), ("20000 100000", 1), ("max 100000", 8), ("6400000 100000", 8)],
)
def test_the_cores_of_a_process_are_those_that_it_is_granted(
    limited: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    monkeypatch.setattr(machine, "processor_cores", lambda: 8)
    put(limited, "0::/", {"cpu.max": quota})
    assert machine.num_cores() == cores
    assert machine.num_cores(processes=2) == max(1, cores // 2)


def test_the_memory_is_that_of_the_machine_or_less_in_a_container(
    limited: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_kibibytes", lambda path, name: 8 * GIB)
    assert machine.usable_memory() == 8 * GIB
    put(limited, "0::/", {"memory.max": str(GIB)})
    assert machine.usable_memory() == GIB
    put(limited, "0::/", {"memory.max": str(100 * GIB)})
    assert machine.usable_memory() == 8 * GIB
