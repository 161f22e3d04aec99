"""TensorFlow, loaded and, where the process is ours, set up for the machine it runs on.

Whoever calls the library may do other things in the same process, so a call leaves it as it was: the environment, file
descriptors, thread counts, memory allocator and random generators. The program `textgen`, and whoever calls
`configure_process`, gives the process to textgen, which then trains and writes faster.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

from textgen.errors import ConfigError
from textgen.memory import keep_memory

XLA_FLAGS_OF = "2.21."  # TensorFlow's versions that are known to know them: XLA ends the process over others
SAFE_XLA_FLAG = "--xla_cpu_experimental_ynn_fusion_type="  # two shards that begin to use one of these at once crash
XLA_FLAGS = (
    SAFE_XLA_FLAG,
    "--xla_cpu_enable_concurrency_optimized_scheduler=false",  # our computations are chains: nothing to schedule
    "--xla_cpu_multi_thread_eigen=false",  # each core has a shard of the batch
    "--xla_cpu_prefer_vector_width=512",
)
_most_cores: int | None = None  # that this process is to use; None: all
_is_ours = False  # whether the process may be set up for textgen alone
_runs_side_by_side: bool | None = None  # whether shards may run compiled code at the same time; None: not known yet


def configure_process(threads: int | None = None) -> None:
    """Sets this process up for textgen alone, as the program does. Call it before TensorFlow is imported.

    TensorFlow's log lines are not shown; each of its operations runs on one core, with as many side by side as there
    are cores or `threads`; XLA, its compiler, takes flags that suit recurrent networks; and memory that was freed is
    kept for the next step. Without this call training takes longer, and the process stays as it was. Raises
    `ConfigError` where there are fewer than `threads` cores.
    """
    global _is_ours
    if threads is not None:
        limit_cores(threads)
    _is_ours = True
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    keep_memory()


def load_tensorflow(setup: Callable[[], object] = lambda: None) -> None:
    """Imports TensorFlow and starts XLA, its compiler; call it before the first use.

    `setup` runs before TensorFlow's first operation, when devices can still be chosen.

    In a process that is ours, on a CPU, every operation runs on one core and independent operations run side by side:
    two halves of a batch on two cores are quicker than both cores inside each of many small matrix products.
    """
    global _runs_side_by_side
    with _xla_flags(), _quiet_stderr() if _is_ours else nullcontext():
        import tensorflow as tf

        has_gpu = bool(tf.config.list_physical_devices("GPU"))
        if _is_ours and not has_gpu:
            _set_threads()
        setup()
        if _runs_side_by_side is None:  # once: XLA does not read its flags again
            _runs_side_by_side = has_gpu or not _takes_ynnpack()


def _set_threads() -> None:
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(num_cores())
    except RuntimeError:  # somebody used TensorFlow before us: its settings stay
        return


@contextmanager
def _xla_flags() -> Iterator[None]:
    """Adds to XLA_FLAGS for the block, in which XLA reads them if it was not used before; the user's come last."""
    before = os.environ.get("XLA_FLAGS")
    if version("tensorflow").startswith(XLA_FLAGS_OF):
        os.environ["XLA_FLAGS"] = " ".join([*(XLA_FLAGS if _is_ours else (SAFE_XLA_FLAG,)), before or ""])
    try:
        yield
    finally:
        if before is not None:
            os.environ["XLA_FLAGS"] = before
        else:
            os.environ.pop("XLA_FLAGS", None)


def _takes_ynnpack() -> bool:
    """Whether XLA, which this call starts if need be, hands work to YNNPACK; see `SAFE_XLA_FLAG`.

    It does where it was used before our flags could be set.
    """
    import tensorflow as tf

    table = tf.ones((512, 512))
    maxima = tf.function(lambda rows: tf.reduce_max(rows, 1), jit_compile=True, autograph=False)
    return "ynn_fusion" in maxima.experimental_get_compiler_ir(table)(stage="optimized_hlo")


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
    """The rows of a batch that each of the `cores` (by default all) works on: on a GPU all of them.

    All of them, too, where two shards at once would not be safe: XLA was used before `load_tensorflow`.
    """
    import tensorflow as tf

    is_whole = _runs_side_by_side is False or bool(tf.config.list_physical_devices("GPU"))
    shards = 1 if is_whole else cores or num_cores()
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
