"""The processes that train together: on which machine each of them is, and which GPUs there are its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from textgen.errors import ConfigError
from textgen.wording import counted

GIVEN = "CUDA_VISIBLE_DEVICES"  # names the GPUs of this process
GIVEN_TO_CONTAINER = "NVIDIA_VISIBLE_DEVICES"  # names those of its container; images set it to "all"


@dataclass(frozen=True)
class Tasks:
    """The processes that train together, called tasks, and which of them this one is.

    Attributes:
        hosts: Name of the machine of each task, in the order of the tasks.
        task: Number of this task, from 0.
    """

    hosts: tuple[str, ...]
    task: int

    @property
    def num_machines(self) -> int:
        """Number of machines of all tasks."""
        return len(set(self.hosts))

    @property
    def tasks_here(self) -> int:
        """Number of tasks on the machine of this task."""
        return self.hosts.count(self.hosts[self.task])

    @property
    def local_task(self) -> int:
        """Number of this task among those on its machine, from 0."""
        return self.hosts[: self.task].count(self.hosts[self.task])

    def own_gpus(self, visible: int) -> slice:
        """Which of the GPUs that this process sees are its own: all, unless the tasks here see the same ones.

        Args:
            visible: Number of GPUs that this process sees.

        Raises:
            ConfigError: The tasks on this machine see the same GPUs and cannot divide them evenly.
        """
        if os.environ.get(GIVEN) is not None or os.environ.get(GIVEN_TO_CONTAINER, "all") != "all":
            return slice(0, visible)
        return self.share(visible, f"Set {GIVEN} in each, or start another number of processes there.")

    def share(self, gpus: int, advice: str) -> slice:
        """Divides the GPUs of a machine among its tasks.

        Args:
            gpus: Number of GPUs.
            advice: What to do if they cannot be divided evenly.

        Returns:
            The GPUs of this task.

        Raises:
            ConfigError: They cannot be divided evenly.
        """
        if gpus % self.tasks_here:
            raise ConfigError(
                f"The {self.tasks_here} processes on {self.hosts[self.task]} cannot divide "
                f"{counted(gpus, 'GPU')} evenly. {advice}"
            )
        each = gpus // self.tasks_here
        return slice(self.local_task * each, (self.local_task + 1) * each)


def hosts_of(addresses: Sequence[str]) -> tuple[str, ...]:
    """The machine of each address, such as "host:2222"."""
    return tuple(address.rpartition(":")[0] for address in addresses)
