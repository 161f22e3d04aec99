"""TensorFlow, loaded quietly and set up for the machine it runs on."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from textgen.errors import ConfigError
from textgen.memory import keep_memory

XLA_FLAGS_OF = "2.21."  # TensorFlow's versions that are known to know them: XLA ends the process over others
XLA_FLAGS = (
    "--xla_cpu_experimental_ynn_fusion_type=",  # two shards that begin to use one of these at once end the process
    "--xla_cpu_enable_concurrency_optimized_scheduler=false",  # our computations are chains: nothing to schedule
    "--xla_cpu_multi_thread_eigen=false",  # each core has a shard of the batch
    "--xla_cpu_prefer_vector_width=512",
)
_most_cores: int | None = None  # that this process is to use; None: all


def load_tensorflow(setup: Callable[[], object] = lambda: None) -> None:
    """Imports TensorFlow without its log lines and sets its threads; call it before the first use.

    `setup` runs before TensorFlow's first operation, when devices can still be chosen.

    On a CPU every operation runs on one core and independent operations run side by side: two halves of a
    batch on two cores are quicker than both cores inside each of many small matrix products.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    flags = os.environ.get("XLA_FLAGS", "")
    if version("tensorflow").startswith(XLA_FLAGS_OF) and XLA_FLAGS[0] not in flags.split():
        os.environ["XLA_FLAGS"] = " ".join([*XLA_FLAGS, flags])  # the user's come last; read when XLA is first used
    if "tensorflow" not in sys.modules:
        keep_memory()
    with _quiet_stderr():
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            try:
                tf.config.threading.set_intra_op_parallelism_threads(1)
                tf.config.threading.set_inter_op_parallelism_threads(num_cores())
            except RuntimeError:  # somebody used TensorFlow before us: its settings stay
                setup()
                return
        setup()
        tf.function(lambda: tf.constant(0), jit_compile=True)()  # starts TensorFlow and XLA, which have more to say


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
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    except OSError:  # not Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def gpu_bytes() -> int:
    """Memory that TensorFlow holds on the GPUs, all together; 0 where there are none."""
    import tensorflow as tf

    gpus = range(len(tf.config.list_physical_devices("GPU")))
    return sum(tf.config.experimental.get_memory_info(f"GPU:{gpu}")["current"] for gpu in gpus)


def shard_rows(batch_size: int, cores: int | None = None) -> list[slice]:
    """The rows of a batch that each of the `cores` (by default all) works on: on a GPU all of them."""
    import tensorflow as tf

    shards = 1 if tf.config.list_physical_devices("GPU") else cores or num_cores()
    shards = max(n for n in range(1, shards + 1) if batch_size % n == 0)
    size = batch_size // shards
    return [slice(start, start + size) for start in range(0, batch_size, size)]


def join_states(states: list[Any]) -> Any:
    """The state of a whole batch from those of its shards."""
    import tensorflow as tf

    return tf.nest.map_structure(lambda *arrays: tf.concat(arrays, 0), *states)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Holds back what C++ code writes to file descriptor 2, and shows it if the block fails.

    TensorFlow's first lines cannot be silenced by its own settings.
    """
    if sys.stderr:
        sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # no stderr at all
        yield
        return
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        except BaseException:
            held_back.seek(0)
            os.write(saved, held_back.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
