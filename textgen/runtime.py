"""TensorFlow, loaded quietly and set up for the machine it runs on."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager


def load_tensorflow() -> None:
    """Imports TensorFlow without its log lines and sets its threads; call it before the first use.

    On a CPU every operation runs on one core and independent operations run side by side: two halves of a
    batch on two cores are quicker than both cores inside each of many small matrix products.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _quiet_stderr():
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            try:
                tf.config.threading.set_intra_op_parallelism_threads(1)
                tf.config.threading.set_inter_op_parallelism_threads(num_cores())
            except RuntimeError:  # somebody used TensorFlow before us: its settings stay
                return
        tf.constant(0)  # starts the runtime, which has more to say


def num_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """What training runs on, in a few words."""
    import tensorflow as tf

    gpus = len(tf.config.list_physical_devices("GPU"))
    count, name = (gpus, "GPU") if gpus else (num_cores(), "CPU core")
    return f"{count} {name}{'s' if count > 1 else ''}"


def measure_flops() -> float:
    """Operations a second of float32 matrix products on this machine: the best of some quick tries."""
    import tensorflow as tf

    size = 512
    matrix = tf.ones((size, size))
    best, until = float("inf"), time.perf_counter() + 0.15
    while time.perf_counter() < until:
        started = time.perf_counter()
        tf.matmul(matrix, matrix).numpy()
        best = min(best, time.perf_counter() - started)
    each = 2 * size**3 / best
    return each if tf.config.list_physical_devices("GPU") else each * num_cores()


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Holds back what C++ code writes to file descriptor 2, and shows it if the block fails.

    TensorFlow's first lines cannot be silenced by its own settings.
    """
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
