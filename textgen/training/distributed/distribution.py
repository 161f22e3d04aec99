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
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from textgen.errors import ConfigError, TrainingError, WorkerLost
from textgen.schema import decoded_json
from textgen.system.machine import gpus, has_gpu, num_cores
from textgen.system.runtime import compiled, load_tensorflow
from textgen.training.config import STRATEGIES, TrainingConfig
from textgen.training.distributed import slurm
from textgen.training.distributed import worker_group as groups
from textgen.training.distributed.tasks import Tasks, hosts_of
from textgen.training.distributed.worker_group import Group
from textgen.wording import counted

if TYPE_CHECKING:
    import tensorflow as tf


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

        try:
            with deadline(limit) as restart_timer:
                yield restart_timer
        except tf.errors.OpError as error:
            if not self.server or not _may_come_from_another(error):  # a group tells of lost workers by itself
                raise
            message = f"Another process was lost, or did not answer. TensorFlow says: {_first_line(error)}"
            raise WorkerLost(message) from error

    def summed(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Sums tensors over the processes of a group. They must call it together."""
        import tensorflow as tf

        if not self.group:
            return list(tensors)
        return [tf.constant(array) for array in self.group.summed([tensor.numpy() for tensor in tensors])]

    @property
    def _has_own_cores(self) -> bool:
        return bool(self.server) and _is_bound_to_cores()

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


def start(name: str = "auto", start_timeout: float | None = None, *, trust_network: bool = False) -> Distribution:
    """Loads TensorFlow and joins the devices and processes of a run. Call it before TensorFlow is used.

    Args:
        name: One of `STRATEGIES`. "auto" is "multiworker" if there are several processes (of a launcher, or named by
            `TF_CONFIG` or SLURM), "mirrored" if there are several GPUs, else "single".
        start_timeout: Seconds that the processes have to find each other.
        trust_network: Whether to join processes that no launcher has connected. Each opens a server on all networks of
            its machine; anyone who can connect to it can read and write files as its user.

    Raises:
        ConfigError: The strategy is not possible here, or needs `trust_network`.
        TrainingError: The processes cannot be joined.
    """
    name, cluster = settled_strategy(name), _cluster_size()
    if name == "multiworker" and cluster < 2:
        raise ConfigError(
            "multiworker needs several processes: set TF_CONFIG in each, start them with SLURM, or set workers."
        )
    group = groups.join() if name == "multiworker" else None
    if name == "multiworker" and not group and not trust_network:
        raise ConfigError(
            "With TF_CONFIG or SLURM, each process opens a TensorFlow server on all networks of its machine: anyone "
            "who can connect can read and write files as you. Set trust_network if nobody else can connect. On one "
            "machine, set workers instead, which opens no server."
        )
    strategies: list[Any] = []
    with deadline(start_timeout if name == "multiworker" else None):
        load_tensorflow(lambda: strategies.append(_own_device(group) if group else _join(name)))
    return Distribution(strategies[0], group)


def settled_strategy(name: str) -> str:
    """Resolves "auto" to "multiworker" if there are several processes; else it stays, as it depends on the GPUs."""
    if name not in STRATEGIES:
        raise ConfigError(f"strategy must be one of {', '.join(STRATEGIES)}. Received: {name!r}.")
    return "multiworker" if name == "auto" and _cluster_size() > 1 else name


def planned_shares(name: str, workers: int = 1) -> Shares:
    """How many replicas, processes and machines would share a run, for a plan; no process is joined.

    The other machines are assumed to be like this one.

    Args:
        name: One of `STRATEGIES`.
        workers: Processes on this machine.

    Raises:
        ConfigError: There are more workers than GPUs on a machine with GPUs.
    """
    name, processes = settled_strategy(name), _cluster_size()
    load_tensorflow()
    count = len(gpus())
    if workers > 1:
        _require_devices(workers, count)
        return Shares(workers, workers)
    if processes > 1 and name == "multiworker":
        if groups.place():
            return Shares(processes, processes)
        replicas = processes * max(1, len(_own_gpus(_joined_tasks())))
        return Shares(replicas, processes, _joined_tasks().num_machines, _is_bound_to_cores())
    here = num_cores() if name == "mirrored" and not count else max(1, count)
    return Shares(1 if name == "single" else here)


def num_processes(name: str = "auto") -> int:
    """Number of processes of a strategy, by the environment; does not load TensorFlow."""
    return _cluster_size() if name in ("auto", "multiworker") else 1


def is_follower(name: str = "auto") -> bool:
    """Whether this is one of several processes and not the chief; does not load TensorFlow."""
    if num_processes(name) < 2:
        return False
    if place := groups.place():
        return place[0] > 0
    if "TF_CONFIG" in os.environ:
        return _tf_config()[1] > 0
    return slurm.number(slurm.TASK) > 0


def _own_device(group: Group) -> tf.distribute.Strategy | None:
    """Gives this worker a GPU of its own, if there are any."""
    import tensorflow as tf

    if not _are_hidden():
        found = gpus()
        _require_devices(group.size, len(found))
        if found:
            tf.config.set_visible_devices(found[group.worker], "GPU")
    return None


def _require_devices(workers: int, gpus: int) -> None:
    if gpus and workers > gpus:
        raise ConfigError(f"workers must be at most {gpus}, the number of GPUs. Received: {workers}.")


def _join(name: str) -> tf.distribute.Strategy | None:
    """Makes the strategy, before the first operation of TensorFlow."""
    import tensorflow as tf

    if name == "multiworker":
        return _join_processes()
    count = len(gpus())
    if name == "mirrored" and not count:
        cpus = tf.config.list_physical_devices("CPU")
        if tf.config.get_logical_device_configuration(cpus[0]) is None:
            tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * num_cores())
        return tf.distribute.MirroredStrategy([device.name for device in tf.config.list_logical_devices("CPU")])
    if name == "mirrored" or (name == "auto" and count > 1):
        return tf.distribute.MirroredStrategy()
    return None


def _join_processes() -> tf.distribute.Strategy:
    """Joins the processes of `TF_CONFIG` or of the SLURM job step."""
    import tensorflow as tf

    try:
        tasks = _joined_tasks()
        own = _own_gpus(tasks)
        if len(own) < len(gpus()):
            tf.config.set_visible_devices(own, "GPU")
        resolver = _slurm_cluster(tasks, len(own)) if isinstance(tasks, slurm.Step) else None
        return tf.distribute.MultiWorkerMirroredStrategy(
            cluster_resolver=resolver, communication_options=communication_options()
        )
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise TrainingError(f"The processes cannot be joined: {str(error).splitlines()[0]}") from None


def communication_options() -> tf.distribute.experimental.CommunicationOptions:
    """How joined processes add gradients: by NCCL on GPUs, which TensorFlow does not choose by itself.

    All processes must choose alike; they do, as all must have the same number of GPUs.
    """
    import tensorflow as tf

    kinds = tf.distribute.experimental.CommunicationImplementation
    return tf.distribute.experimental.CommunicationOptions(implementation=kinds.NCCL if has_gpu() else kinds.AUTO)


def _slurm_cluster(step: slurm.Step, num_gpus: int) -> tf.distribute.cluster_resolver.ClusterResolver:
    """The processes of the SLURM job step, of which this one has as many GPUs."""
    import tensorflow as tf

    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": step.addresses}),
        task_type="worker",
        task_id=step.task,
        num_accelerators={"GPU": num_gpus},
        rpc_layer="grpc",
    )


def _joined_tasks() -> Tasks:
    """The processes joined by `TF_CONFIG` or SLURM."""
    if "TF_CONFIG" not in os.environ:
        return slurm.read_step()
    addresses, index = _tf_config()
    return Tasks(hosts_of(addresses), index)


def _own_gpus(tasks: Tasks) -> list[Any]:
    """The GPUs that this process has among those joined by `TF_CONFIG` or SLURM: some or all of those that it sees."""
    found = gpus()
    return found if _are_hidden() else found[tasks.own_gpus(len(found))]


def _are_hidden() -> bool:
    """Whether the program, or an earlier start of textgen, has chosen some of the GPUs for this process."""
    import tensorflow as tf

    return len(gpus()) < len(tf.config.list_physical_devices("GPU"))


def _is_bound_to_cores() -> bool:
    """Whether SLURM has bound this process to cores that the other processes on its machine do not use."""
    is_slurm = "TF_CONFIG" not in os.environ and slurm.number_of_tasks() > 1  # a program may join them in its own way
    return is_slurm and slurm.read_step().has_own_cores


def _cluster_size() -> int:
    """Number of processes, by the environment."""
    if place := groups.place():
        return place[1]
    if "TF_CONFIG" in os.environ:
        return len(_tf_config()[0])
    return slurm.number_of_tasks()


def _tf_config() -> tuple[list[str], int]:
    """Addresses of the processes in `TF_CONFIG`, and the number of this one. The first worker is the chief.

    Raises:
        ConfigError: It is not valid, names other jobs than `worker`, or has no worker of this number.
    """
    text = os.environ["TF_CONFIG"]
    try:
        config = decoded_json(text)
        cluster = config.get("cluster") or {}
        addresses = [str(task) for tasks in cluster.values() for task in tasks]
        task: dict[str, Any] = config["task"] if addresses else {"type": "worker", "index": 0}
        jobs, index = {*cluster, task["type"]}, int(task["index"])
    except (ValueError, AttributeError, TypeError, KeyError, OverflowError):
        raise ConfigError(
            f"TF_CONFIG is not valid: {text[:80]!r}. Expected: "
            '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}.'
        ) from None
    if jobs != {"worker"}:
        raise ConfigError(
            f"TF_CONFIG names the jobs {', '.join(sorted(jobs))}: make all of them workers, the first is the chief."
        )
    if addresses and not 0 <= index < len(addresses):
        raise ConfigError(
            f"The index of this process in TF_CONFIG must be from 0 to {len(addresses) - 1}, since it names "
            f"{counted(len(addresses), 'worker')}. Received: {index}."
        )
    return addresses, index
