"""Queries the machine: processor cores, memory, speed and the best precision.

In a container the machine is what the container grants: see `textgen.system.control_groups`.
"""

from __future__ import annotations

import math
import os
import struct
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgen.errors import ConfigError
from textgen.settings import check_type, python_number
from textgen.system.control_groups import granted_cores, granted_memory

if TYPE_CHECKING:
    import tensorflow as tf

DRIVERS = ("/dev/nvidiactl", "/usr/lib/wsl/lib/libcuda.so.1")  # of NVIDIA GPUs, on Linux and in WSL
NO_CUDA = ' (TensorFlow does not find the GPU: pip install "tensorflow[and-cuda]")'
MIN_PRODUCTS = 5  # that measure the speed, however long they take: the first ones are slow
SIZE, GPU_SIZE = 512, 4096  # rows and columns of their matrices; small ones do not keep a GPU busy
NVIDIA_SECONDS = 10  # for which `nvidia-smi` may take
MEMORY_STATUS = struct.Struct("=II7Q")  # of Windows: its size, memory in use in percent, memory of the machine, others
QUEUED = 4  # products that a GPU is given at a time

_most_cores: int | None = None  # set by `limit_cores`; None means all cores


def num_cores(processes: int = 1) -> int:
    """Returns the number of processor cores that this process should use.

    Args:
        processes: Number of processes that run on this machine at the same time and share its cores.

    Returns:
        The number of cores, at least 1, subject to `limit_cores`.
    """
    share = max(1, available_cores() // processes)
    return min(_most_cores or share, share)


def limit_cores(count: int) -> None:
    """Limits the number of cores that this process uses. Call it before `load_tensorflow`.

    Args:
        count: Maximum number of cores.

    Raises:
        ConfigError: It is no number from 1 to that of the cores that are available.
    """
    global _most_cores
    count = python_number(count)
    check_type("threads", count, "int")
    if count < 1:
        raise ConfigError(f"threads must be at least 1. Received: {count}. Leave it out to use all cores.")
    if count > available_cores():
        raise ConfigError(
            f"threads must be at most {available_cores()}, the processor cores of this process. Received: {count}."
        )
    _most_cores = count


def processor_cores() -> int:
    """Returns the number of cores on which this process may run, whatever time it is granted on them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_cores() -> int:
    """Returns the number of cores that have work all the time, whatever `limit_cores` says.

    A share of a core, as in 2.5, counts as one, which then pauses at times.
    """
    granted = granted_cores()
    return processor_cores() if granted is None else max(1, min(processor_cores(), math.ceil(granted)))


def has_gpu_driver() -> bool:
    """Checks for the driver of NVIDIA GPUs, without loading TensorFlow, which may yet lack a library."""
    return any(Path(driver).exists() for driver in DRIVERS)


def gpus() -> list[tf.config.PhysicalDevice]:
    """Returns the GPUs that TensorFlow uses: those that it finds, except those that the program has hidden from it."""
    import tensorflow as tf

    return list(tf.config.get_visible_devices("GPU"))


def has_gpu() -> bool:
    """Checks whether TensorFlow uses a GPU."""
    return bool(gpus())


def machine() -> str:
    """Describes the devices that training uses, such as "2 GPUs"."""
    found = len(gpus())
    count, name = (found, "GPU") if found else (num_cores(), "CPU core")
    shards = "" if found or count == 1 else ", a shard of the batch each"
    return f"{count} {name}{'s' if count > 1 else ''}{shards}{NO_CUDA if misses_gpu() else ''}"


def misses_gpu() -> bool:
    """Checks whether this machine has a GPU, which is not hidden, that TensorFlow does not find."""
    import tensorflow as tf

    is_hidden = "CUDA_VISIBLE_DEVICES" in os.environ
    return has_gpu_driver() and not is_hidden and not tf.config.list_physical_devices("GPU")


def best_precision() -> str:
    """Returns the precision that suits this machine: "bfloat16" if it has it, else "float16" on a GPU, or "float32"."""
    import tensorflow as tf

    if found := gpus():
        capability = tf.config.experimental.get_device_details(found[0]).get("compute_capability", (0, 0))
        return "bfloat16" if capability >= (8, 0) else "float16" if capability >= (7, 0) else "float32"
    return "bfloat16" if multiplies_bfloat16() else "float32"


def multiplies_bfloat16() -> bool:
    """Checks whether the processor has instructions that multiply bfloat16; only on Linux."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16"} & set(flags))


def measure_flops(replicas: int = 1, core_sets: int = 1) -> float:
    """Measures the speed of float32 matrix products. Takes about 0.15 seconds, on a slow GPU a second.

    Args:
        replicas: Number of replicas in all. The result is multiplied by it if there is a GPU.
        core_sets: Number of sets of cores like those that this process sees. The result is multiplied by it, and by the
            cores that have work all the time, if there is no GPU.

    Returns:
        Floating-point operations per second, from the fastest of several runs.
    """
    import tensorflow as tf

    on_gpu = has_gpu()
    size = GPU_SIZE if on_gpu else SIZE
    matrix = tf.ones((size, size))
    best, products, until = float("inf"), 0, time.perf_counter() + 0.15
    while products < MIN_PRODUCTS or time.perf_counter() < until:
        started = time.perf_counter()
        if on_gpu:
            _queue_products(matrix)
        else:
            tf.matmul(matrix, matrix).numpy()
        count = QUEUED if on_gpu else 1
        best, products = min(best, (time.perf_counter() - started) / count), products + count
    each = 2 * size**3 / best
    return each * (replicas if on_gpu else _cores_at_once() * core_sets)


def _cores_at_once() -> float:
    """Processor time that this process can use, in cores: less than `num_cores` if a share of a core is granted.

    A product takes a few milliseconds, less than the kernel grants at a time, so the fastest one does not show a pause.
    """
    granted = granted_cores()
    return num_cores() if granted is None else min(num_cores(), granted)


def _queue_products(matrix: tf.Tensor) -> None:
    """Multiplies `QUEUED` times on a GPU and waits: for one number, as copying a whole product would take longer."""
    import tensorflow as tf

    products = [tf.matmul(matrix, matrix) for _ in range(QUEUED)]
    products[-1][0, 0].numpy()


def usable_memory() -> int | None:
    """Returns the memory that this process can use in bytes: of the machine or container. None if it is unknown."""
    sizes = [size for size in (_machine_memory(), granted_memory()) if size]
    return min(sizes, default=None)


def _machine_memory() -> int:
    """Memory of the machine in bytes; 0 if it is unknown."""
    if size := _kibibytes("/proc/meminfo", "MemTotal:"):
        return size
    if not hasattr(os, "sysconf"):
        return _windows_memory()
    try:
        return max(0, os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):  # this system has no such name
        return 0


def _windows_memory() -> int:
    """Memory of a machine with Windows in bytes; 0 on other systems."""
    import ctypes  # takes time to import

    windows: Any = getattr(ctypes, "windll", None)
    status = ctypes.create_string_buffer(MEMORY_STATUS.pack(MEMORY_STATUS.size, *[0] * 8), MEMORY_STATUS.size)
    if windows is None or not windows.kernel32.GlobalMemoryStatusEx(status):
        return 0
    _, _, size, *_ = MEMORY_STATUS.unpack(status.raw)
    return int(size)


def smallest_gpu_memory() -> int | None:
    """Returns the memory of the smallest GPU in bytes; None if it is unknown, or other GPUs are hidden that differ."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        printed = subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SECONDS, check=True).stdout
        sizes = [int(line) for line in printed.splitlines()]  # mebibytes
    except (OSError, subprocess.SubprocessError, ValueError):  # none, or not for this GPU: "[N/A]"
        return None
    is_certain = len(sizes) == len(gpus()) or len(set(sizes)) == 1
    return (1 << 20) * min(sizes) if is_certain and sizes else None


def resident_bytes() -> int:
    """Returns the resident memory of this process in bytes. 0 if it is unknown."""
    return _kibibytes("/proc/self/status", "VmRSS:")


def _kibibytes(path: str, name: str) -> int:
    """Bytes of a line such as "MemTotal: 16384 kB"; 0 if there is none."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError:  # not Linux
        return 0
    lines = [line.split() for line in text.splitlines() if line.startswith(name)]
    return 1024 * int(lines[0][1]) if lines else 0


def gpu_bytes() -> int:
    """Returns the memory that TensorFlow has allocated on all GPUs together, in bytes. 0 if there is no GPU."""
    import tensorflow as tf

    numbers = range(len(tf.config.list_logical_devices("GPU")))  # of this process: a worker has one of several
    return sum(tf.config.experimental.get_memory_info(f"GPU:{number}")["current"] for number in numbers)
