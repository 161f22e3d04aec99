"""Which devices and processes train together, and which rows of a batch are whose.

Every replica (a GPU, or all cores of a CPU) holds the weights and takes its share of the rows of each batch;
the gradients are added up over all, so the result is that of the whole batch, however many there are. A row
keeps to its replica, and with it the recurrent state of that stream of text.

Several processes on one machine are joined by the sockets of a `textgen.training.worker_group`. Those on several
machines see one another through `TF_CONFIG` or SLURM's environment, as `tf.distribute` has it: then each opens a server
of TensorFlow, which knows no passwords. The first of them is the chief, which alone writes files.
"""

from __future__ import annotations

import faulthandler
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from textgen.errors import ConfigError, TrainingError, WorkerLost
from textgen.machine import num_cores
from textgen.runtime import load_tensorflow
from textgen.training import worker_group as groups
from textgen.training.config import STRATEGIES, TrainingConfig
from textgen.training.worker_group import Group

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Shares:
    """Among how many a training is shared."""

    replicas: int = 1
    processes: int = 1
    machines: int = 1


class Distribution:
    """A `tf.distribute` strategy, as far as training needs one, in each process of a group if there is one.

    The default is one replica here.
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
        self.server = cluster["worker"][self.worker] if self.num_workers > 1 and cluster else ""  # opened here
        self.num_replicas: int = self.strategy.num_replicas_in_sync * (group.size if group else 1)
        self.is_chief = self.worker == 0
        self._compiled_gather = tf.function(self._gather, autograph=False)  # one function, whatever the shapes

    @property
    def shares(self) -> Shares:
        """Among how many the work is shared; processes of a group are on one machine, others on one each."""
        return Shares(self.num_replicas, self.num_workers, 1 if self.group else self.num_workers)

    @property
    def local_replicas(self) -> int:
        """Replicas of this process."""
        return self.num_replicas // self.num_workers

    @property
    def cores_per_replica(self) -> int:
        """Processor cores that a replica has for itself."""
        return max(1, num_cores(self.group.size if self.group else 1) // self.local_replicas)

    @property
    def first_replica(self) -> int:
        """How many replicas come before those that `strategy` numbers from 0 on."""
        return self.worker * self.local_replicas if self.group else 0

    def local_rows(self, config: TrainingConfig) -> slice:
        """The streams of text that this process reads. Raises `ConfigError` if they cannot be shared out."""
        require_shares(config.batch_size, self.num_replicas)
        share = config.num_streams // self.num_workers
        return slice(self.worker * share, (self.worker + 1) * share)

    def split(self, local: Any) -> Any:
        """A nest of arrays with the rows of this process -> tensors, each replica with its own rows."""
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
        """What `split` made -> arrays with the rows of the whole batch. All processes must call it together."""
        if group := self.group:
            import tensorflow as tf

            return tf.nest.map_structure(lambda array: tf.constant(group.gathered(array.numpy())), split)
        return split if self.num_replicas == 1 else self._compiled_gather(split)

    def from_chief(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The chief's arrays, in every process; all have some of the same names and shapes, and call it together."""
        if self.num_workers == 1:
            return dict(arrays)
        mine = {name: array if self.is_chief else np.zeros_like(array) for name, array in arrays.items()}
        return {name: self._summed(array) for name, array in mine.items()}

    def first(self, values: Any) -> Any:
        """One of a result that is the same on all replicas."""
        return self.strategy.experimental_local_results(values)[0]

    def total(self, values: Sequence[float]) -> list[float]:
        """Sums over all processes; they must call it together, so it is also where they wait for one another."""
        if self.num_workers == 1:
            return list(values)
        return [float(value) for value in self._summed(np.array([*values, 0.0]))[:-1]]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Where processes wait for one another. Raises `WorkerLost` if one of them does not answer."""
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError:
            if self.num_workers == 1:
                raise
            raise WorkerLost("Another process was lost, or did not answer.") from None

    def summed(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The sums over the processes of a group; they must call it together."""
        import tensorflow as tf

        if not self.group:
            return list(tensors)
        return [tf.constant(array) for array in self.group.summed([tensor.numpy() for tensor in tensors])]

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
    """Raises `ConfigError` for rows that cannot be shared out evenly."""
    if rest := batch_size % replicas:
        near = [size for size in (batch_size - rest, batch_size - rest + replicas) if size]
        raise ConfigError(
            f"batch_size must be a multiple of {replicas}, the number of replicas. Received: {batch_size}. "
            f"Give {' or '.join(map(str, near))}, or a number of replicas that divides it."
        )


def _do_nothing() -> None:
    pass


@contextmanager
def deadline(seconds: float | None) -> Iterator[Callable[[], None]]:
    """Ends this process if `seconds` pass without the block ending, or a call of what it gives.

    TensorFlow lets no Python code run while it waits for another process. The system's alarm signal ends it or, where
    there is none, as on Windows, the watchdog thread of `faulthandler`, which needs no Python code either.
    """
    if not seconds:
        yield _do_nothing
        return
    has_alarm = hasattr(signal, "setitimer")

    def beat() -> None:
        if has_alarm:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        else:
            faulthandler.dump_traceback_later(seconds, exit=True)

    beat()
    try:
        yield beat
    finally:
        if has_alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)
        else:
            faulthandler.cancel_dump_traceback_later()


def start(name: str = "auto", start_timeout: float | None = None, *, trust_network: bool = False) -> Distribution:
    """Loads TensorFlow and joins the devices and processes that `name`, one of `STRATEGIES`, stands for.

    `auto` is multiworker where there are several processes (of a launcher, or named by `TF_CONFIG` or SLURM), mirrored
    where there are several GPUs, else single. Call it before TensorFlow is used: processes can only be joined at its
    start. They have `start_timeout` seconds to find one another. Raises `ConfigError` for a strategy that cannot be
    followed here, and for processes that a launcher has not connected, unless `trust_network`: each of them opens a
    server on all networks of its machine, through which anybody who reaches it reads and writes files as its user.
    """
    name, cluster = settled_strategy(name), _cluster_size()
    if name == "multiworker" and cluster < 2:
        raise ConfigError(
            "multiworker needs several processes: set TF_CONFIG in each, start them with SLURM, or set workers."
        )
    group = groups.join() if name == "multiworker" else None
    if name == "multiworker" and not group and not trust_network:
        raise ConfigError(
            "With TF_CONFIG or SLURM, each process opens a TensorFlow server on all networks of its machine; anybody "
            "who reaches it reads and writes files as you. Set trust_network if nobody else can. On one machine, set "
            "workers instead: then nothing is opened."
        )
    strategies: list[Any] = []
    with deadline(start_timeout if name == "multiworker" else None):
        load_tensorflow(lambda: strategies.append(_own_device(group) if group else _join(name)))
    return Distribution(strategies[0], group)


def settled_strategy(name: str) -> str:
    """The strategy that `name` stands for here. `auto` stays where it goes by the GPUs, since TensorFlow knows them."""
    if name not in STRATEGIES:
        raise ConfigError(f"strategy must be one of {', '.join(STRATEGIES)}. Received: {name!r}.")
    return "multiworker" if name == "auto" and _cluster_size() > 1 else name


def planned_shares(name: str, workers: int = 1) -> Shares:
    """Among how many a training would be shared, for a plan: nobody is joined, the others are taken to be like us.

    Raises `ConfigError` for `workers` on this machine that are more than its GPUs, if it has any.
    """
    name, processes = settled_strategy(name), _cluster_size()
    load_tensorflow()
    import tensorflow as tf

    gpus = len(tf.config.list_physical_devices("GPU"))
    if workers > 1:
        _require_devices(workers, gpus)
        return Shares(workers, workers)
    if name == "multiworker":
        return Shares(processes * max(1, gpus), processes, processes)
    here = num_cores() if name == "mirrored" and not gpus else max(1, gpus)
    return Shares(1 if name == "single" else here)


def num_processes(name: str = "auto") -> int:
    """Processes that the environment names for a strategy; known without TensorFlow."""
    return _cluster_size() if name in ("auto", "multiworker") else 1


def is_follower(name: str = "auto") -> bool:
    """Whether this is one of several processes, and not the chief; known without TensorFlow."""
    if num_processes(name) < 2:
        return False
    if place := groups.place():
        return place[0] > 0
    if "TF_CONFIG" in os.environ:
        return _tf_config()[1] > 0
    return int(os.environ.get("SLURM_PROCID", "0")) > 0


def _own_device(group: Group) -> tf.distribute.Strategy | None:
    """One device for this worker: a GPU of its own where there are any."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    _require_devices(group.size, len(gpus))
    if gpus:
        tf.config.set_visible_devices(gpus[group.worker], "GPU")
    return None


def _require_devices(workers: int, gpus: int) -> None:
    if gpus and workers > gpus:
        raise ConfigError(f"workers must be at most {gpus}, the number of GPUs. Received: {workers}.")


def _join(name: str) -> tf.distribute.Strategy | None:
    """The strategy, made before TensorFlow's first operation."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if name == "multiworker":
        try:
            resolver = None if "TF_CONFIG" in os.environ else _slurm()
            return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
        except (ValueError, RuntimeError, tf.errors.OpError) as error:
            raise TrainingError(f"The processes cannot be joined: {str(error).splitlines()[0]}") from None
    if name == "mirrored" and not gpus:
        cpus = tf.config.list_physical_devices("CPU")
        if tf.config.get_logical_device_configuration(cpus[0]) is None:
            tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * num_cores())
        return tf.distribute.MirroredStrategy([device.name for device in tf.config.list_logical_devices("CPU")])
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        return tf.distribute.MirroredStrategy()
    return None


def _slurm() -> tf.distribute.cluster_resolver.SlurmClusterResolver:
    """The processes of the job step. TensorFlow counts GPUs with `nvidia-smi`, and none are too few for it."""
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.SlurmClusterResolver
    if shutil.which("nvidia-smi"):
        return resolver()
    return resolver(gpus_per_node=_cluster_size(), gpus_per_task=1, auto_set_gpu=False)  # numbers that it can divide


def _cluster_size() -> int:
    """Processes that the environment names."""
    if place := groups.place():
        return place[1]
    if "TF_CONFIG" in os.environ:
        return _tf_config()[0]
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))


def _tf_config() -> tuple[int, int]:
    """How many processes `TF_CONFIG` names, and which of them this is. The first worker is the chief, without a name.

    Raises `ConfigError` where it is not valid, or names other jobs than `worker`.
    """
    text = os.environ["TF_CONFIG"]
    try:
        config = json.loads(text)
        cluster = config.get("cluster") or {}
        number = sum(len(tasks) for tasks in cluster.values())
        task: dict[str, Any] = config["task"] if number else {"type": "worker", "index": 0}
        jobs, index = {*cluster, task["type"]}, int(task["index"])
    except (ValueError, AttributeError, TypeError, KeyError):
        raise ConfigError(f"TF_CONFIG is not valid: {text[:80]!r}. See the README.") from None
    if jobs != {"worker"}:
        raise ConfigError(
            f"TF_CONFIG names the jobs {', '.join(sorted(jobs))}: make all of them workers, the first is the chief."
        )
    return number, index
