"""The tasks of a SLURM job step: where each of them runs, and which GPUs are its own.

TensorFlow's `SlurmClusterResolver` sorts the machines by name, so gpu-10 comes before gpu-9, while SLURM numbers the
tasks in the order of its own list. It also counts GPUs with `nvidia-smi`, whether the job was given them or not.
"""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass

from textgen.errors import ConfigError
from textgen.system.machine import processor_cores
from textgen.training.distributed.tasks import Tasks

FIRST_PORT = 8888  # of the first task on each machine, as TensorFlow's own resolver has it
TASKS = "SLURM_STEP_NUM_TASKS"
NODES = "SLURM_STEP_NODELIST"
TASKS_PER_NODE = "SLURM_STEP_TASKS_PER_NODE"
TASK, NODE, LOCAL_TASK = "SLURM_PROCID", "SLURM_NODEID", "SLURM_LOCALID"
GPUS_PER_TASK, GPUS_ON_NODE = "SLURM_GPUS_PER_TASK", "SLURM_GPUS_ON_NODE"
CORES_ON_NODE = "SLURM_CPUS_ON_NODE"
BINDINGS = ("SLURM_GPU_BIND", "SLURM_NTASKS_PER_GPU")  # say that each task sees only GPUs of its own


@dataclass(frozen=True)
class Step(Tasks):
    """The tasks of a job step, and which of them this process is."""

    @property
    def addresses(self) -> list[str]:
        """The address of each task. Those on one machine have successive ports."""
        return [f"{host}:{FIRST_PORT + self.hosts[:task].count(host)}" for task, host in enumerate(self.hosts)]

    @property
    def has_own_cores(self) -> bool:
        """Whether SLURM has bound this task to cores that the other tasks on its machine do not use."""
        there = os.environ.get(CORES_ON_NODE, "")
        return there.isdecimal() and processor_cores() * self.tasks_here <= int(there)

    def own_gpus(self, visible: int) -> slice:
        """Which of the GPUs that this process sees are its own: all, unless the tasks here see the same ones.

        Args:
            visible: Number of GPUs that this process sees.

        Raises:
            ConfigError: The tasks on this machine see the same GPUs and cannot divide them evenly.
        """
        if self.tasks_here == 1 or not visible or _is_bound(visible):
            return slice(0, visible)
        return self.share(visible, "Set gpus-per-task of srun, or another number of tasks per node.")


def read_step() -> Step:
    """Reads the job step from the environment.

    Raises:
        ConfigError: SLURM's variables are missing, contradict each other, or number the tasks in another order.
    """
    hosts, tasks = expand_hosts(_variable(NODES)), expand_tasks(_variable(TASKS_PER_NODE))
    count, task = variable_as_int(TASKS), variable_as_int(TASK)
    if len(hosts) != len(tasks) or sum(tasks) != count or task >= count:
        said = ", ".join(f"{name}={_variable(name)}" for name in (NODES, TASKS_PER_NODE, TASKS, TASK))
        raise ConfigError(f"SLURM's variables contradict each other: {said}. Start the step with srun.")
    nodes = [node for node, its_tasks in enumerate(tasks) for _ in range(its_tasks)]
    node = nodes[task]
    expected = {NODE: node, LOCAL_TASK: task - nodes.index(node)}
    if any(name in os.environ and variable_as_int(name) != value for name, value in expected.items()):
        said = " and ".join(f"{name}={os.environ.get(name)}" for name in expected)
        raise ConfigError(
            f"SLURM has not distributed its tasks in blocks: task {task} has {said}, expected {node} and "
            f"{expected[LOCAL_TASK]}. Set distribution=block of srun."
        )
    return Step(tuple(hosts[node] for node in nodes), task)


def number_of_tasks() -> int:
    """Number of tasks of the job step; 1 outside of one. Raises `ConfigError` if it is not a number."""
    return variable_as_int(TASKS) if TASKS in os.environ else 1


def variable_as_int(name: str) -> int:
    """The value of a variable of SLURM that counts something.

    Raises:
        ConfigError: It is missing, or not a number.
    """
    value = _variable(name)
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise ConfigError(f"SLURM's variable {name} must be a whole number. Received: {value[:80]!r}.")
    return int(value)


def expand_hosts(names: str) -> list[str]:
    """The machines of a list such as "n[09-11],login", in its order.

    Raises:
        ConfigError: It is not such a list.
    """
    part = r"(?:[^\s,\[\]]|\[[0-9,-]+\])+"
    try:
        if not re.fullmatch(rf"{part}(?:,{part})*", names):
            raise ValueError
        hosts = list[str]()
        for pieces in (re.split(r"[\[\]]", each) for each in re.findall(part, names)):  # every other one is in brackets
            choices = [_expand_numbers(piece) if place % 2 else [piece] for place, piece in enumerate(pieces)]
            hosts += ["".join(chosen) for chosen in itertools.product(*choices)]
    except ValueError:
        raise ConfigError(f"{NODES} is not a list of machines such as n[1-4]. Received: {names[:80]!r}.") from None
    return hosts


def expand_tasks(counts: str) -> list[int]:
    """The number of tasks on each machine, of a list such as "2(x3),1".

    Raises:
        ConfigError: It is not such a list.
    """
    matches = [re.fullmatch(r"([0-9]+)(?:\(x([0-9]+)\))?", part) for part in counts.split(",")]
    if None in matches:
        raise ConfigError(f"{TASKS_PER_NODE} is not a list of numbers such as 2(x3),1. Received: {counts[:80]!r}.")
    return [int(each[1]) for each in filter(None, matches) for _ in range(int(each[2] or 1))]


def _expand_numbers(ranges: str) -> list[str]:
    """The numbers of "08-10,12", as they are written. Raises `ValueError` if these are no ranges."""
    numbers = list[str]()
    for each in ranges.split(","):
        first, _, last = each.partition("-")
        numbers += [str(value).zfill(len(first)) for value in range(int(first), int(last or first) + 1)]
    return numbers


def _is_bound(visible: int) -> bool:
    """Whether each task sees only GPUs of its own, as far as SLURM's variables tell how the step was started."""
    if GPUS_PER_TASK in os.environ:
        return os.environ[GPUS_PER_TASK].rpartition(":")[2] == str(visible)  # "2" or "a100:2"
    if any(not os.environ.get(name, "none").endswith("none") for name in BINDINGS):
        return True
    on_node = os.environ.get(GPUS_ON_NODE, "")
    return visible < int(on_node) if on_node.isdecimal() else visible == 1


def _variable(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise ConfigError(f"SLURM's variable {name} is missing: start the processes with srun.") from None


def is_bound_to_cores() -> bool:
    """Checks whether SLURM has bound this process to cores that the other processes on its machine do not use."""
    is_slurm = "TF_CONFIG" not in os.environ and number_of_tasks() > 1  # a program may join them in its own way
    return is_slurm and read_step().has_own_cores
