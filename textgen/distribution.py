"""Which devices and processes train together, and which rows of a batch are whose.

Every replica (a GPU, or all cores of a CPU) holds the weights and takes its share of the rows of each batch;
the gradients are added up over all, so the result is that of the whole batch, however many there are. A row
keeps to its replica, and with it the recurrent state of that stream of text.

Several processes see one another through `TF_CONFIG` or SLURM's environment, as `tf.distribute` has it. The
first of them is the chief, which alone writes files.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from textgen.config import STRATEGIES, TrainingConfig
from textgen.errors import ConfigError, TrainingError, WorkerLost
from textgen.runtime import load_tensorflow, num_cores

if TYPE_CHECKING:
    import tensorflow as tf


class Distribution:
    """A `tf.distribute` strategy, as far as training needs one. The default is one replica here."""

    def __init__(self, strategy: tf.distribute.Strategy | None = None) -> None:
        import tensorflow as tf

        self.strategy = strategy or tf.distribute.get_strategy()
        resolver = getattr(self.strategy, "cluster_resolver", None)
        cluster = resolver.cluster_spec().as_dict() if resolver else {}
        self.num_workers = sum(len(tasks) for tasks in cluster.values()) or 1
        self.worker = int(resolver.task_id or 0) if resolver and self.num_workers > 1 else 0
        self.num_replicas: int = self.strategy.num_replicas_in_sync
        self.is_chief = self.worker == 0
        self._compiled_gather = tf.function(self._gather, autograph=False)  # one function, whatever the shapes

    @property
    def local_replicas(self) -> int:
        """Replicas of this process."""
        return self.num_replicas // self.num_workers

    @property
    def cores_per_replica(self) -> int:
        """Processor cores that a replica has for itself."""
        return max(1, num_cores() // self.local_replicas)

    def local_rows(self, config: TrainingConfig) -> slice:
        """The streams of text that this process reads. Raises `ConfigError` if they cannot be shared out."""
        if config.batch_size % self.num_replicas:
            raise ConfigError(
                f"batch_size must be a multiple of {self.num_replicas}, the number of replicas. "
                f"Received: {config.batch_size}."
            )
        share = config.num_streams // self.num_workers
        return slice(self.worker * share, (self.worker + 1) * share)

    def split(self, local: Any) -> Any:
        """A nest of arrays with the rows of this process -> tensors, each replica with its own rows."""
        import tensorflow as tf

        if self.num_replicas == 1:
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

    def _gather(self, split: Any) -> Any:
        import tensorflow as tf

        return tf.nest.map_structure(lambda array: self.strategy.gather(array, axis=0), split)

    def _summed(self, array: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        def of_replica(context: tf.distribute.ValueContext) -> tf.Tensor:
            first = context.replica_id_in_sync_group % self.local_replicas == 0
            return tf.constant(array if first else np.zeros_like(array))

        local = self.strategy.experimental_distribute_values_from_function(of_replica)
        return np.asarray(self.strategy.reduce("sum", local, axis=None).numpy())


@contextmanager
def deadline(seconds: float | None) -> Iterator[Callable[[], None]]:
    """Ends this process if `seconds` pass without the block ending, or a call of what it gives.

    By the system's alarm signal, since TensorFlow lets no Python code run while it waits for another process.
    """

    def beat() -> None:
        if seconds:
            signal.setitimer(signal.ITIMER_REAL, seconds)

    beat()
    try:
        yield beat
    finally:
        if seconds:
            signal.setitimer(signal.ITIMER_REAL, 0)


def start(name: str = "auto", start_timeout: float | None = None) -> Distribution:
    """Loads TensorFlow and joins the devices and processes that `name`, one of `STRATEGIES`, stands for.

    `auto` is multiworker where `TF_CONFIG` or SLURM names several processes, mirrored where there are several
    GPUs, else single. Call it before TensorFlow is used: processes can only be joined at its start. They have
    `start_timeout` seconds to find one another. Raises `ConfigError` for a strategy that cannot be followed here.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"strategy must be one of {', '.join(STRATEGIES)}. Received: {name!r}.")
    cluster = _cluster_size()
    if name == "auto" and cluster > 1:
        name = "multiworker"
    if name == "multiworker" and cluster < 2:
        raise ConfigError(
            "multiworker needs several processes: set TF_CONFIG in each, start them with SLURM, or give --workers N."
        )
    strategies: list[Any] = []
    with deadline(start_timeout if name == "multiworker" else None):
        load_tensorflow(lambda: strategies.append(_join(name)))
    return Distribution(strategies[0])


def num_processes(name: str = "auto") -> int:
    """Processes that the environment names for a strategy; known without TensorFlow."""
    return _cluster_size() if name in ("auto", "multiworker") else 1


def is_follower(name: str = "auto") -> bool:
    """Whether this is one of several processes, and not the chief; known without TensorFlow."""
    if num_processes(name) < 2:
        return False
    if "TF_CONFIG" in os.environ:
        return _tf_config()[1] > 0
    return int(os.environ.get("SLURM_PROCID", "0")) > 0


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
