"""Joins the devices and processes of a run, which the user, a launcher, `TF_CONFIG` or SLURM have named."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from textgen.errors import ConfigError, TrainingError
from textgen.schema import decoded_json
from textgen.system.machine import gpus, has_gpu, num_cores
from textgen.system.runtime import load_tensorflow
from textgen.training.config import STRATEGIES
from textgen.training.distributed import slurm
from textgen.training.distributed import worker_group as groups
from textgen.training.distributed.distribution import Distribution, Shares, deadline
from textgen.training.distributed.tasks import Tasks, hosts_of
from textgen.training.distributed.worker_group import Group
from textgen.wording import counted

if TYPE_CHECKING:
    import tensorflow as tf


def join_processes(
    name: str = "auto", start_timeout: float | None = None, *, trust_network: bool = False
) -> Distribution:
    """Loads TensorFlow and joins the devices and processes of a run. Call it before TensorFlow is used.

    Args:
        name: One of `STRATEGIES`. "auto" is "multiworker" if there are several processes (of a launcher, or named by
            `TF_CONFIG` or SLURM), "mirrored" if there are several GPUs, else "single".
        start_timeout: Seconds that the processes have to find each other.
        trust_network: Whether to join processes that no launcher has connected. Each opens a server on all networks of
            its machine; anyone who can connect to it can read and write files as its user.

    Returns:
        The devices and processes.

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
    """Resolves "auto" to "multiworker" if there are several processes; else it stays, as it depends on the GPUs.

    Raises:
        ConfigError: There is no such strategy, or `TF_CONFIG` or a variable of SLURM is not valid.
    """
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
        ConfigError: There are more workers than GPUs on a machine with GPUs, or too many for its cores.
    """
    groups.require_workers(workers)
    name, processes = settled_strategy(name), _cluster_size()
    load_tensorflow()
    count = len(gpus())
    if workers > 1:
        _require_devices(workers, count)
        return Shares(workers, workers)
    if processes > 1 and name == "multiworker":
        if groups.rank_and_size():
            return Shares(processes, processes)
        replicas = processes * max(1, len(_own_gpus(_joined_tasks())))
        return Shares(replicas, processes, _joined_tasks().num_machines, slurm.is_bound_to_cores())
    here = num_cores() if name == "mirrored" and not count else max(1, count)
    return Shares(1 if name == "single" else here)


def num_processes(name: str = "auto") -> int:
    """Number of processes of a strategy, by the environment; does not load TensorFlow."""
    return _cluster_size() if name in ("auto", "multiworker") else 1


def is_follower(name: str = "auto") -> bool:
    """Whether this is one of several processes and not the chief; does not load TensorFlow."""
    if num_processes(name) < 2:
        return False
    if known := groups.rank_and_size():
        return known[0] > 0
    if "TF_CONFIG" in os.environ:
        return _tf_config()[1] > 0
    return slurm.variable_as_int(slurm.TASK) > 0


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
        return _join_servers()
    count = len(gpus())
    if name == "mirrored" and not count:
        cpus = tf.config.list_physical_devices("CPU")
        if tf.config.get_logical_device_configuration(cpus[0]) is None:
            tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * num_cores())
        return tf.distribute.MirroredStrategy([device.name for device in tf.config.list_logical_devices("CPU")])
    if name == "mirrored" or (name == "auto" and count > 1):
        return tf.distribute.MirroredStrategy()
    return None


def _join_servers() -> tf.distribute.Strategy:
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


def _cluster_size() -> int:
    """Number of processes, by the environment."""
    if known := groups.rank_and_size():
        return known[1]
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
