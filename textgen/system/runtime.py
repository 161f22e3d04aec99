"""Loads TensorFlow and optionally configures the process for it.

By default the library does not change process-wide state: environment, file descriptors, thread counts, memory
allocator and random generators stay as they are; only `textgen.telemetry` sets variables. `configure_process`, which
the command line calls, dedicates the process to textgen, so that training and generation are faster.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from threading import RLock
from typing import IO, Any

from textgen.system.allocator import keep_memory
from textgen.system.machine import has_gpu, limit_cores, multiplies_bfloat16, num_cores, processor_cores
from textgen.system.process_settings import TemporarySetting
from textgen.versions import load, module_version

XlaFlags = Callable[[str | None], str | None]
"""Returns the flags in place of others. None stands for no environment variable."""

XLA_FLAGS_OF = "2.21."  # TensorFlow versions that support `XLA_FLAGS`: XLA aborts on unknown flags
YNNPACK_FLAG = "--xla_cpu_experimental_ynn_fusion_type="  # what XLA computes with YNNPACK: see `ynnpack_flag`
XLA_FLAGS = (
    "--xla_cpu_enable_concurrency_optimized_scheduler=false",  # recurrent computations are sequential
    "--xla_cpu_multi_thread_eigen=false",  # each core already has a shard of the batch
    "--xla_cpu_prefer_vector_width=512",
)
BLAS_THREADS = "OPENBLAS_NUM_THREADS"  # environment variable that NumPy's matrix products follow
_is_ours = False  # whether `configure_process` was called
_runs_side_by_side: bool | None = None  # see `runs_side_by_side`; None means not determined yet
_has_xla: bool | None = None  # see `has_xla`; likewise
_blas_threads: str | None = None  # value of `BLAS_THREADS` that `use_blas_threads` has set; any other is the user's


def configure_process(threads: int | None = None) -> None:
    """Configures this process for textgen, as the command line does. Call it before TensorFlow is imported.

    - TensorFlow's log messages are hidden.
    - On a CPU, each TensorFlow operation runs on one core, and operations run in parallel.
    - XLA, TensorFlow's compiler, gets flags that suit recurrent networks.
    - On a GPU, TensorFlow takes memory as it needs it, instead of all at once, so that others can use the GPU too.
    - NumPy's matrix products use as many cores as a container grants. Otherwise they use all cores that they see.
    - Freed memory is kept for the next step.
    - NumPy does not warn of matrix products. Some BLAS libraries set the flags of errors that did not occur, such as
      https://github.com/numpy/numpy/issues/28967; numbers that are not finite are found where they matter.

    Without this call training is slower, and process-wide state does not change.

    Args:
        threads: Maximum number of cores. None means all.

    Raises:
        ConfigError: `threads` is no number from 1 to that of the cores that are available.
    """
    global _is_ours
    if threads is not None:
        limit_threads(threads)
    _is_ours = True
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    warnings.filterwarnings("ignore", ".* encountered in matmul", RuntimeWarning)
    if num_cores() < processor_cores():
        use_blas_threads(num_cores())
    keep_memory()


def limit_threads(threads: int) -> None:
    """Limits the cores that this process uses, for NumPy too. Call it before NumPy and TensorFlow are imported.

    Args:
        threads: Maximum number of cores, which takes precedence over the environment.

    Raises:
        ConfigError: `threads` is no number from 1 to that of the cores that are available.
    """
    limit_cores(threads)
    os.environ.pop(BLAS_THREADS, None)
    use_blas_threads(threads)


def use_blas_threads(count: int) -> None:
    """Lets NumPy compute a matrix product on several cores, unless the user's environment says on how many.

    Has no effect once NumPy is imported.

    Args:
        count: Number of cores.
    """
    global _blas_threads
    if os.environ.get(BLAS_THREADS) in (None, _blas_threads):
        os.environ[BLAS_THREADS] = _blas_threads = str(count)


def load_tensorflow(setup: Callable[[], object] = lambda: None) -> None:
    """Imports TensorFlow and initializes XLA, its compiler. Call it before the first use of TensorFlow.

    After `configure_process`, on a CPU, each operation runs on one core and independent operations run in parallel:
    running two halves of a batch on two cores is faster than splitting each small matrix product across both cores.

    Args:
        setup: Called before TensorFlow's first operation, while devices can still be configured.

    Raises:
        TextgenError: TensorFlow cannot be imported.
    """
    global _runs_side_by_side, _has_xla
    with _xla_flags, quiet():
        load("tensorflow", "textgen")
        on_gpu = has_gpu()
        if _is_ours:
            _let_memory_grow() if on_gpu else _set_threads()
        setup()
        if _runs_side_by_side is None:  # determined once, since XLA reads its flags only once
            _runs_side_by_side = on_gpu or not _takes_ynnpack()
        if _has_xla is None:
            _has_xla = not on_gpu or _xla_compiles()


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Compiles a function that is made anew for each object, such as a method. TensorFlow must be loaded.

    TensorFlow counts how often code is traced, and warns if that is often: it would take the same method of several
    objects for one function. A partial function has no code of its own, so each counts by itself.

    Args:
        function: The function.
        options: Arguments of `tf.function`.

    Returns:
        What `tf.function` makes of it.
    """
    import tensorflow as tf

    return tf.function(partial(function), autograph=False, **options)


def full_float32() -> AbstractContextManager[None]:
    """Computes float32 in float32 during a block. TensorFlow must be loaded.

    By default, GPUs from NVIDIA's Ampere on round what they multiply to 10 bits (TensorFloat-32), which is accurate
    enough for training but not for comparing two implementations.
    """
    return _tensor_float_32_off


def ynnpack_flag() -> str:
    """The flag for XLA that says what it computes with YNNPACK, a library of kernels for CPUs.

    Never sums: two shards that start one at once crash. Products only if the processor multiplies bfloat16: XLA itself
    would compute them in float32, while for products of float32 YNNPACK is slower than XLA.
    """
    return YNNPACK_FLAG + ("individual_dot" if multiplies_bfloat16() else "")


def runs_side_by_side() -> bool:
    """Checks whether shards of a batch can safely run compiled code in parallel: see `ynnpack_flag`."""
    return _runs_side_by_side is not False


def quiet() -> AbstractContextManager[None]:
    """Hides what C++ code prints to stderr during a block, unless it fails; does nothing before `configure_process`."""
    return _stderr.captured() if _is_ours else nullcontext()


def has_xla() -> bool:
    """Checks whether XLA compiles for this machine. For a GPU it needs CUDA's ptxas and libdevice, often missing."""
    return _has_xla is not False


def _xla_compiles() -> bool:
    """Tries XLA on a function with exponentials, which come from libdevice on a GPU."""
    import tensorflow as tf

    try:
        tf.function(lambda x: tf.tanh(tf.exp(x)), jit_compile=True, autograph=False)(tf.ones(8)).numpy()
    except (tf.errors.OpError, RuntimeError):
        return False
    return True


def _set_threads() -> None:
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(num_cores())
    except RuntimeError:  # TensorFlow is already initialized, so keep its settings
        return


def _let_memory_grow() -> None:
    """Makes TensorFlow allocate GPU memory as it is needed; by default it takes all of every GPU at the start."""
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except (RuntimeError, ValueError):  # already initialized, or divided into logical devices: keep its settings
            return


def _change_tensor_float_32(is_on: bool) -> bool:
    import tensorflow as tf

    before: bool = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(is_on)
    return before


def _change_xla_flags(change: XlaFlags) -> XlaFlags:
    before = os.environ.get("XLA_FLAGS")
    flags = change(before)
    if flags is not None:
        os.environ["XLA_FLAGS"] = flags
    else:
        os.environ.pop("XLA_FLAGS", None)
    return lambda _: before


def _with_our_flags(users: str | None) -> str | None:
    """Extends the environment variable XLA_FLAGS. The user's flags come last, so they take precedence."""
    if not module_version("tensorflow").startswith(XLA_FLAGS_OF):
        return users
    return " ".join([ynnpack_flag(), *(XLA_FLAGS if _is_ours else ()), users or ""])


_tensor_float_32_off = TemporarySetting(_change_tensor_float_32, False)
_xla_flags = TemporarySetting[XlaFlags](_change_xla_flags, _with_our_flags)  # XLA reads them when it is first used


def _takes_ynnpack() -> bool:
    """Checks whether XLA computes sums with YNNPACK: see `ynnpack_flag`.

    This is the case if XLA was used before `_xla_flags` could set its flags. Initializes XLA if necessary.
    """
    import tensorflow as tf

    table = tf.ones((512, 512))
    maxima = tf.function(lambda rows: tf.reduce_max(rows, 1), jit_compile=True, autograph=False)
    return "ynn_fusion" in maxima.experimental_get_compiler_ir(table)(stage="optimized_hlo")


class _Stderr:
    """What C++ code prints to file descriptor 2, captured as long as at least one block asks for it.

    TensorFlow's own settings cannot suppress its first log messages. Nothing is captured if stderr is closed or there
    is no folder for temporary files.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._blocks = 0
        self._open = ExitStack()  # until the last block ends
        self._saved = -1
        self._held_back: IO[bytes] | None = None

    @contextmanager
    def captured(self) -> Iterator[None]:
        """Captures the output during the block, and writes it to stderr if an error ends the block."""
        self._begin()
        try:
            yield
        except Exception:  # not Ctrl-C, which the output does not explain
            self._show()
            raise
        finally:
            self._end()

    def _begin(self) -> None:
        with self._lock:
            if not self._blocks:
                if sys.stderr:
                    sys.stderr.flush()
                self._saved, self._held_back = _capture(self._open)
                if self._held_back:
                    os.dup2(self._held_back.fileno(), 2)
            self._blocks += 1

    def _show(self) -> None:
        with self._lock:
            if self._held_back:
                self._held_back.seek(0)
                os.write(self._saved, self._held_back.read())
                self._held_back.seek(0)
                self._held_back.truncate()

    def _end(self) -> None:
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                if self._held_back:
                    os.dup2(self._saved, 2)
                self._held_back = None
                self._open.close()


_stderr = _Stderr()


def _capture(stack: ExitStack) -> tuple[int, IO[bytes] | None]:
    """A copy of descriptor 2 and an empty file, both closed with `stack`; -1 and None if there cannot be both."""
    from textgen.storage.files import CannotWrite
    from textgen.storage.temporary import new_temporary_file

    try:
        saved = os.dup(2)
        stack.callback(os.close, saved)
        return saved, stack.enter_context(new_temporary_file())
    except (OSError, CannotWrite):
        return -1, None
