"""Devices and processes that train together: who reads which rows of a batch, sums over all of them, who writes files.

Every replica (a GPU, or all cores of a CPU) holds the weights and computes its rows of each batch. The gradients are
summed over all replicas, so the result is that of the whole batch, however many there are. A row stays on its replica,
and with it the recurrent state of that stream of text.

Several processes on one machine are joined by the sockets of a `textgen.training.distributed.worker_group`. Those on
several machines find each other through `TF_CONFIG` or the environment of SLURM, as in `tf.distribute`. Each of them
opens a TensorFlow server, which has no authentication. The first process is the chief, the only one that writes files.
"""

from __future__ import annotations

import faulthandler
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from textgen.errors import ConfigError, WorkerLost
from textgen.system.machine import num_cores
from textgen.system.runtime import compiled
from textgen.training.config import TrainingConfig
from textgen.training.distributed import slurm
from textgen.training.distributed.tasks import Tasks, hosts_of
from textgen.training.distributed.worker_group import Group

if TYPE_CHECKING:
    import tensorflow as tf


BEAT_SECONDS = 0.2  # seconds between two signs of life: a time limit is one second or more
ENDED_SUM = "Collective ops is aborted by"  # in the messages of TensorFlow, before the error of another process


@dataclass(frozen=True)
class Shares:
    """How many replicas, processes and machines share the work of a run, and whether each process has its own cores."""

    replicas: int = 1
    processes: int = 1
    machines: int = 1
    has_own_cores: bool = False

    @property
    def core_sets(self) -> int:
        """How many times the cores that this process sees take part in the run."""
        return self.processes if self.has_own_cores else self.machines


class Distribution:
    """The devices and processes of a run. The default is one replica in this process.

    Attributes:
        strategy: Strategy of `tf.distribute` for the devices of this process, or of all without a group.
        group: Connections to the other processes on this machine; None if there are none.
        num_workers: Number of processes.
        worker: Number of this process, from 0.
        server: Address that this process listens on; "" if it does not.
        num_replicas: Replicas of all processes.
        is_chief: Whether this process writes the files.
        restart_timer: Restarts the time limit of the `together` in which this process is, if there is one. Call it
            where something that is no hanging may take longer.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None, group: Group | None = None) -> None:
        import tensorflow as tf

        self.strategy = strategy or tf.distribute.get_strategy()
        self.group = group
        resolver = getattr(self.strategy, "cluster_resolver", None)
        cluster = resolver.cluster_spec().as_dict() if resolver else {}
        self.num_workers = group.size if group else sum(len(tasks) for tasks in cluster.values()) or 1
        self.worker = int(resolver.task_id or 0) if resolver and self.num_workers > 1 else 0
        self.worker = group.worker if group else self.worker
        self.server = cluster["worker"][self.worker] if self.num_workers > 1 and cluster else ""
        self.num_replicas: int = self.strategy.num_replicas_in_sync * (group.size if group else 1)
        self.is_chief = self.worker == 0
        self.restart_timer: Callable[[], None] = _do_nothing
        self._tasks = Tasks(hosts_of(cluster["worker"]), self.worker) if self.server else Tasks(("",), 0)
        self._compiled_gather = compiled(self._gather)  # one function for all shapes

    @property
    def shares(self) -> Shares:
        """Replicas, processes and machines: one of a group, else as many as the addresses of the processes name."""
        return Shares(self.num_replicas, self.num_workers, self._tasks.num_machines, self._has_own_cores)

    @property
    def local_replicas(self) -> int:
        """Replicas of this process."""
        return self.num_replicas // self.num_workers

    @property
    def cores_per_replica(self) -> int:
        """Processor cores of each replica. The processes on a machine share its cores, unless each has its own."""
        processes = self.group.size if self.group else 1 if self._has_own_cores else self._tasks.tasks_here
        return max(1, num_cores(processes) // self.local_replicas)

    @property
    def first_replica(self) -> int:
        """Number of the first replica of this process, if `strategy` counts from 0 in each process."""
        return self.worker * self.local_replicas if self.group else 0

    def local_rows(self, config: TrainingConfig) -> slice:
        """The rows of a batch that this process reads. Raises `ConfigError` if they cannot be divided evenly."""
        require_shares(config.batch_size, self.num_replicas)
        share = config.num_streams // self.num_workers
        return slice(self.worker * share, (self.worker + 1) * share)

    def split(self, local: Any) -> Any:
        """Gives each replica its rows.

        Args:
            local: Nested structure of arrays with the rows of this process.

        Returns:
            The same structure of tensors.
        """
        import tensorflow as tf

        if self.strategy.num_replicas_in_sync == 1:
            return tf.nest.map_structure(tf.convert_to_tensor, local)

        def share(array: Any) -> Any:
            rows = len(array) // self.local_replicas

            def of_replica(context: tf.distribute.ValueContext) -> tf.Tensor:
                start = (context.replica_id_in_sync_group % self.local_replicas) * rows
                return tf.convert_to_tensor(array[start : start + rows])

            return self.strategy.experimental_distribute_values_from_function(of_replica)

        return tf.nest.map_structure(share, local)

    def gather(self, split: Any) -> Any:
        """The inverse of `split`, with the rows of the whole batch. All processes must call it together."""
        if group := self.group:
            import tensorflow as tf

            return tf.nest.map_structure(lambda array: tf.constant(group.gathered(array.numpy())), split)
        if self.num_replicas == 1:
            return split
        return self._compiled_gather(split) if self.num_workers > 1 else self._joined_here(split)

    def from_chief(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Copies the chief's arrays to all processes. They must call it together, with the same names and shapes."""
        if self.num_workers == 1:
            return dict(arrays)
        mine = {name: array if self.is_chief else np.zeros_like(array) for name, array in arrays.items()}
        return {name: self._summed(array) for name, array in mine.items()}

    def first(self, values: Any) -> Any:
        """The value on this process's first replica, of a result that is the same on all."""
        return self.strategy.experimental_local_results(values)[0]

    def total(self, values: Sequence[float]) -> list[float]:
        """Sums values over all processes. They must call it together, so it is also a barrier."""
        if self.num_workers == 1:
            return list(values)
        return [float(value) for value in self._summed(np.array([*values, 0.0]))[:-1]]

    @contextmanager
    def together(self, limit: float | None = None) -> Iterator[Callable[[], None]]:
        """Use it where processes wait for each other.

        An error of this process itself stays what it is, since a restart would not mend it.

        Args:
            limit: Seconds after which this process ends: see `deadline`. None for no limit.

        Yields:
            A function that restarts the time.

        Raises:
            WorkerLost: Another process does not answer.
        """
        import tensorflow as tf

        around = self.restart_timer
        try:
            with deadline(limit) as self.restart_timer:
                yield self.restart_timer
        except tf.errors.OpError as error:
            if not self.server or not _may_come_from_another(error):  # a group tells of lost workers by itself
                raise
            message = f"Another process was lost, or did not answer. TensorFlow says: {_first_line(error)}"
            raise WorkerLost(message) from error
        finally:
            self.restart_timer = around

    def each_does(self, work: Callable[[], object]) -> None:
        """Does work for which each process needs its own time, and waits until all have done theirs.

        They must call it together. All give signs of life meanwhile, so a limit of `together` ends none that works.

        Args:
            work: What this process does, in a thread if there are other processes.
        """
        if self.num_workers == 1:
            work()
            return
        failures = list[Exception]()

        def work_beside() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 it is raised where the work is waited for
                failures.append(error)

        working = threading.Thread(target=work_beside, daemon=True)  # a signal does not wait for it
        working.start()
        num_done = 0.0
        while num_done < self.num_workers:
            working.join(BEAT_SECONDS)
            is_done = not working.is_alive()
            if failures:
                raise failures[0]
            (num_done,) = self.total([float(is_done)])
            self.restart_timer()

    def summed(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Sums tensors over the processes of a group. They must call it together."""
        import tensorflow as tf

        if not self.group:
            return list(tensors)
        return [tf.constant(array) for array in self.group.summed([tensor.numpy() for tensor in tensors])]

    @property
    def _has_own_cores(self) -> bool:
        return bool(self.server) and slurm.is_bound_to_cores()

    def _joined_here(self, split: Any) -> Any:
        """Joins the rows of the replicas of this process; `gather` of `MirroredStrategy` warns each time."""
        import tensorflow as tf

        return tf.nest.map_structure(
            lambda array: tf.concat(self.strategy.experimental_local_results(array), axis=0), split
        )

    def _gather(self, split: Any) -> Any:
        import tensorflow as tf

        return tf.nest.map_structure(lambda array: self.strategy.gather(array, axis=0), split)

    def _summed(self, array: np.ndarray) -> np.ndarray:
        if self.group:
            return self.group.summed([array])[0]
        import tensorflow as tf

        def of_replica(context: tf.distribute.ValueContext) -> tf.Tensor:
            first = context.replica_id_in_sync_group % self.local_replicas == 0
            return tf.constant(array if first else np.zeros_like(array))

        local = self.strategy.experimental_distribute_values_from_function(of_replica)
        return np.asarray(self.strategy.reduce("sum", local, axis=None).numpy())


def require_shares(batch_size: int, replicas: int) -> None:
    """Checks that a batch can be divided evenly.

    Args:
        batch_size: Rows of a batch.
        replicas: Number of replicas.

    Raises:
        ConfigError: It cannot.
    """
    if rest := batch_size % replicas:
        near = [size for size in (batch_size - rest, batch_size - rest + replicas) if size]
        raise ConfigError(
            f"batch_size must be a multiple of {replicas}, the number of replicas. Received: {batch_size}. "
            f"Give {' or '.join(map(str, near))}, or a number of replicas that divides it."
        )


def _may_come_from_another(error: tf.errors.OpError) -> bool:
    """Whether an error of TensorFlow may be that of another process, which has ended, or of the way to it.

    A process that is killed is "unavailable" to the others. NCCL's errors have no kind of their own.
    """
    import tensorflow as tf

    kinds = tf.errors
    lost = kinds.UnavailableError, kinds.AbortedError, kinds.CancelledError, kinds.DeadlineExceededError
    return isinstance(error, (*lost, kinds.InternalError, kinds.UnknownError)) or ENDED_SUM in str(error.message)


def _first_line(error: tf.errors.OpError) -> str:
    """The first line of an error that tells what went wrong, not where."""
    lines = [re.sub(r"^(\{\{.*?\}\} *)+", "", line) for line in str(error.message).splitlines()]
    where = "Graph execution error", "Detected at ", " "
    return next((line for line in lines if line and not line.startswith(where)), type(error).__name__)


def _do_nothing() -> None:
    pass


@contextmanager
def deadline(seconds: float | None) -> Iterator[Callable[[], None]]:
    """Ends this process if the block takes too long.

    No Python code runs while TensorFlow waits for another process. So the alarm signal ends this one or, where there is
    none, as on Windows, the watchdog thread of `faulthandler`, which needs no Python code either.

    Args:
        seconds: Time limit; None for no limit.

    Yields:
        A function that restarts the time.
    """
    if not seconds:
        yield _do_nothing
        return
    has_alarm = hasattr(signal, "setitimer")

    def restart_timer() -> None:
        if has_alarm:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        else:
            faulthandler.dump_traceback_later(seconds, exit=True)

    restart_timer()
    try:
        yield restart_timer
    finally:
        if has_alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)
        else:
            faulthandler.cancel_dump_traceback_later()
