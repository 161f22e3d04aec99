"""Queries the machine: processor cores, memory, speed and the best precision."""

from __future__ import annotations

import os
import time
from pathlib import Path

from textgen.errors import ConfigError

_most_cores: int | None = None  # set by `limit_cores`; None means all cores


def num_cores(processes: int = 1) -> int:
    """Returns the number of processor cores that this process should use.

    Args:
        processes: Number of processes that run on this machine at the same time and share its cores.

    Returns:
        The number of cores, at least 1, subject to `limit_cores`.
    """
    share = max(1, _available_cores() // processes)
    return min(_most_cores or share, share)


def limit_cores(count: int) -> None:
    """Limits the number of cores that this process uses. Call it before `load_tensorflow`.

    Args:
        count: Maximum number of cores.

    Raises:
        ConfigError: Fewer than `count` cores are available.
    """
    global _most_cores
    if count > _available_cores():
        raise ConfigError(
            f"threads must be at most {_available_cores()}, the processor cores of this process. Received: {count}."
        )
    _most_cores = count


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """Describes the devices that training uses, such as "2 GPUs"."""
    import tensorflow as tf

    gpus = len(tf.config.list_physical_devices("GPU"))
    count, name = (gpus, "GPU") if gpus else (num_cores(), "CPU core")
    return f"{count} {name}{'s' if count > 1 else ''}{'' if gpus or count == 1 else ', a shard of the batch each'}"


def best_precision() -> str:
    """Returns the precision in which this machine trains fastest: "bfloat16", "float16" or "float32"."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "bfloat16" if capability >= (8, 0) else "float16" if capability >= (7, 0) else "float32"
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:  # not Linux
        return "float32"
    return "bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "float32"


def measure_flops(replicas: int = 1, machines: int = 1) -> float:
    """Measures the speed of float32 matrix products. Takes about 0.15 seconds.

    Args:
        replicas: Number of replicas in all. The result is multiplied by it if there is a GPU.
        machines: Number of machines like this one. The result is multiplied by it, and by the cores, if there is none.

    Returns:
        Floating-point operations per second, from the fastest of several runs.
    """
    import tensorflow as tf

    size = 512
    matrix = tf.ones((size, size))
    best, until = float("inf"), time.perf_counter() + 0.15
    while time.perf_counter() < until:
        started = time.perf_counter()
        tf.matmul(matrix, matrix).numpy()
        best = min(best, time.perf_counter() - started)
    each = 2 * size**3 / best
    return each * (replicas if tf.config.list_physical_devices("GPU") else num_cores() * machines)


def resident_bytes() -> int:
    """Returns the resident memory of this process in bytes. 0 if it is unknown."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return 0
    lines = [line.split() for line in status.splitlines() if line.startswith("VmRSS:")]  # in KiB
    return 1024 * int(lines[0][1]) if lines else 0


def gpu_bytes() -> int:
    """Returns the memory that TensorFlow has allocated on all GPUs together, in bytes. 0 if there is no GPU."""
    import tensorflow as tf

    gpus = range(len(tf.config.list_physical_devices("GPU")))
    return sum(tf.config.experimental.get_memory_info(f"GPU:{gpu}")["current"] for gpu in gpus)
