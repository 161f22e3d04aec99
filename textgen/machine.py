"""What this process runs on: cores, memory, speed, the best precision."""

from __future__ import annotations

import os
import time
from pathlib import Path

from textgen.errors import ConfigError

_most_cores: int | None = None  # that this process is to use; None: all


def num_cores(processes: int = 1) -> int:
    """Processor cores that this process may use and is to use, as one of so many that work at the same time."""
    share = max(1, _available_cores() // processes)
    return min(_most_cores or share, share)


def limit_cores(count: int) -> None:
    """Keeps this process to `count` cores, from `load_tensorflow` on. Raises `ConfigError` if there are fewer."""
    global _most_cores
    if count > _available_cores():
        raise ConfigError(f"This process may use {_available_cores()} processor cores, fewer than threads: {count}.")
    _most_cores = count


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """What training runs on, in a few words."""
    import tensorflow as tf

    gpus = len(tf.config.list_physical_devices("GPU"))
    count, name = (gpus, "GPU") if gpus else (num_cores(), "CPU core")
    return f"{count} {name}{'s' if count > 1 else ''}{'' if gpus or count == 1 else ', a shard of the batch each'}"


def best_precision() -> str:
    """The precision in which this machine trains fastest: bfloat16 where it is multiplied in hardware."""
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
    """Operations a second of float32 matrix products on so many machines like this one: the best of some quick tries.

    Each replica has a GPU, or all share the cores.
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
    """Memory that this process holds; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return 0
    lines = [line.split() for line in status.splitlines() if line.startswith("VmRSS:")]  # in kibibytes
    return 1024 * int(lines[0][1]) if lines else 0


def gpu_bytes() -> int:
    """Memory that TensorFlow holds on the GPUs, all together; 0 where there are none."""
    import tensorflow as tf

    gpus = range(len(tf.config.list_physical_devices("GPU")))
    return sum(tf.config.experimental.get_memory_info(f"GPU:{gpu}")["current"] for gpu in gpus)
