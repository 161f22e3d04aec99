"""TensorFlow, loaded and, where the process is ours, set up for the machine it runs on.

Whoever calls the library may do other things in the same process, so a call leaves it as it was: the environment, file
descriptors, thread counts, memory allocator and random generators. The program `textgen`, and whoever calls
`configure_process`, gives the process to textgen, which then trains and writes faster.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from textgen.allocator import keep_memory
from textgen.machine import limit_cores, num_cores

XLA_FLAGS_OF = "2.21."  # TensorFlow's versions that are known to know them: XLA ends the process over others
SAFE_XLA_FLAG = "--xla_cpu_experimental_ynn_fusion_type="  # two shards that begin to use one of these at once crash
XLA_FLAGS = (
    SAFE_XLA_FLAG,
    "--xla_cpu_enable_concurrency_optimized_scheduler=false",  # our computations are chains: nothing to schedule
    "--xla_cpu_multi_thread_eigen=false",  # each core has a shard of the batch
    "--xla_cpu_prefer_vector_width=512",
)
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


def may_run_side_by_side() -> bool:
    """Whether two threads may run compiled code at the same time; yes while TensorFlow is not loaded."""
    return _runs_side_by_side is not False


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
    from importlib.metadata import version

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


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Holds back what C++ code writes to file descriptor 2, and shows it if the block fails.

    TensorFlow's first lines cannot be silenced by its own settings.
    """
    import tempfile

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
