"""SLURM's variables tell where each task runs, and which GPUs are its own."""

from __future__ import annotations

import pytest

from textgen.errors import ConfigError
from textgen.training.distributed import slurm

VARIABLES = (
    *(slurm.TASKS, slurm.NODES, slurm.TASKS_PER_NODE, slurm.TASK, slurm.NODE, slurm.LOCAL_TASK),
    *(slurm.GPUS_PER_TASK, slurm.GPUS_ON_NODE, slurm.CORES_ON_NODE, *slurm.BINDINGS),
)


@pytest.fixture(autouse=True)
def no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def set_step(monkeypatch: pytest.MonkeyPatch, nodes: str, tasks: str, count: int, task: int, **others: str) -> None:
    values = {slurm.NODES: nodes, slurm.TASKS_PER_NODE: tasks, slurm.TASKS: str(count), slurm.TASK: str(task)}
    for name, value in (values | others).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("names", "hosts"),
    [
        ("localhost", ["localhost"]),
        ("n[1-2],m5,o[3-4,6]", ["n1", "n2", "m5", "o3", "o4", "o6"]),
        ("gpu-[9-10]", ["gpu-9", "gpu-10"]),
        ("n[09-11].site", ["n09.site", "n10.site", "n11.site"]),
        ("r[1-2]n[3,5]", ["r1n3", "r1n5", "r2n3", "r2n5"]),
        ("b,a", ["b", "a"]),
    ],
)
def test_machines_are_listed_in_the_order_of_slurm(names: str, hosts: list[str]) -> None:
    assert slurm.expand_hosts(names) == hosts


@pytest.mark.parametrize("names", ["", "a,", "n[1-2", "n[]", "n[-]", "n[1-2-3]", "n[1-]]", "a b"])
def test_what_is_no_list_of_machines_is_refused(names: str) -> None:
    with pytest.raises(ConfigError, match="SLURM_STEP_NODELIST is not a list of machines"):
        slurm.expand_hosts(names)


def test_the_numbers_of_tasks_are_expanded() -> None:
    assert slurm.expand_tasks("2(x3),1") == [2, 2, 2, 1]
    with pytest.raises(ConfigError, match=r"SLURM_STEP_TASKS_PER_NODE is not a list of numbers .* Received: '2\(x'"):
        slurm.expand_tasks("2(x")


@pytest.mark.parametrize("task", [0, 1])
def test_a_task_is_at_the_address_of_its_machine(task: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorted as strings, n10 comes before n9, so that both tasks would be at the address of the other."""
    set_step(monkeypatch, "n[9-10]", "1(x2)", 2, task, SLURM_NODEID=str(task), SLURM_LOCALID="0")
    step = slurm.read_step()
    assert step.addresses == ["n9:8888", "n10:8888"]
    assert step.addresses[step.task] == ["n9:8888", "n10:8888"][task]
    assert (step.tasks_here, step.local_task) == (1, 0)


def test_tasks_on_one_machine_have_ports_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    set_step(monkeypatch, "b,a", "2,1", 3, 1, SLURM_NODEID="0", SLURM_LOCALID="1")
    step = slurm.read_step()
    assert step.addresses == ["b:8888", "b:8889", "a:8888"]
    assert (step.tasks_here, step.local_task) == (2, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({slurm.NODES: None}, "SLURM's variable SLURM_STEP_NODELIST is missing: start the processes with srun."),
        ({slurm.TASK: None}, "SLURM's variable SLURM_PROCID is missing"),
        ({slurm.TASK: "two"}, "SLURM's variable SLURM_PROCID must be a whole number. Received: 'two'."),
        ({slurm.TASK: "4"}, "SLURM's variables contradict each other: SLURM_STEP_NODELIST=n[1-2], "),
        ({slurm.TASKS: "5"}, "SLURM_STEP_TASKS_PER_NODE=2(x2), SLURM_STEP_NUM_TASKS=5, SLURM_PROCID=1. Start"),
        ({slurm.NODES: "n[1-3]"}, "SLURM's variables contradict each other"),
        (
            {slurm.NODE: "1", slurm.LOCAL_TASK: "0"},
            "SLURM has not distributed its tasks in blocks: task 1 has SLURM_NODEID=1 and SLURM_LOCALID=0, expected "
            "0 and 1. Set distribution=block of srun.",
        ),
        ({slurm.LOCAL_TASK: "0"}, "not distributed its tasks in blocks"),
    ],
)
def test_a_step_that_cannot_be_understood_is_refused(
    changes: dict[str, str | None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_step(monkeypatch, "n[1-2]", "2(x2)", 4, 1)
    for name, value in changes.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        slurm.read_step()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("visible", "variables", "own"),
    [
        (0, {}, []),
        (1, {}, [0]),  # only one, so SLURM has given each task a GPU
        (1, {slurm.GPUS_ON_NODE: "2"}, [0]),
        (1, {slurm.GPUS_PER_TASK: "1", slurm.GPUS_ON_NODE: "1"}, [0]),
        (2, {slurm.GPUS_PER_TASK: "a100:2"}, [0, 1]),
        (2, {slurm.GPUS_ON_NODE: "4"}, [0, 1]),
        (2, {"SLURM_GPU_BIND": "single:2"}, [0, 1]),
        (2, {}, [1]),
        (2, {slurm.GPUS_ON_NODE: "2"}, [1]),
        (4, {}, [2, 3]),
        (4, {slurm.GPUS_PER_TASK: "2"}, [2, 3]),  # gpu-bind=none
        (4, {"SLURM_GPU_BIND": "none"}, [2, 3]),
    ],
)
def test_tasks_that_see_the_same_gpus_divide_them(
    visible: int, variables: dict[str, str], own: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of two tasks on a machine."""
    set_step(monkeypatch, "n[1-2]", "2(x2)", 4, 3, **variables)
    assert list(range(visible))[slurm.read_step().own_gpus(visible)] == own


@pytest.mark.parametrize(("visible", "gpus"), [(3, "3 GPUs"), (1, "1 GPU")])
def test_gpus_that_cannot_be_divided_are_refused(visible: int, gpus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_step(monkeypatch, "n[1-2]", "2(x2)", 4, 0, SLURM_GPUS_ON_NODE=str(visible))
    with pytest.raises(ConfigError) as caught:
        slurm.read_step().own_gpus(visible)
    assert str(caught.value) == (
        f"The 2 processes on n1 cannot divide {gpus} evenly. Set gpus-per-task of srun, or another number of "
        "tasks per node."
    )


@pytest.mark.parametrize(
    ("there", "cores", "expected"), [("8", 4, True), ("8", 8, False), ("16", 8, True), (None, 4, False)]
)
def test_slurm_tells_whether_tasks_are_bound_to_cores(
    there: str | None, cores: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tasks on a machine, of which each may use `cores` of the cores of the job there."""
    set_step(monkeypatch, "n[1-2]", "2(x2)", 4, 3, **({} if there is None else {slurm.CORES_ON_NODE: there}))
    monkeypatch.setattr(slurm, "processor_cores", lambda: cores)
    assert slurm.read_step().has_own_cores is expected


def test_a_task_that_is_alone_on_its_machine_has_all_of_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    set_step(monkeypatch, "n[1-2]", "1(x2)", 2, 1)
    assert slurm.read_step().own_gpus(3) == slice(0, 3)
