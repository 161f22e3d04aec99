"""TensorFlow comes up quietly, set up for the machine."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import textgen
from textgen.errors import ConfigError
from textgen.system import machine, runtime

LOADS = """
import os
from textgen.system.machine import num_cores
from textgen.model.sharding import shard_rows
from textgen.system.runtime import configure_process, load_tensorflow
{first}
stderr = os.fstat(2).st_ino
load_tensorflow(lambda: print(os.environ["XLA_FLAGS"], os.fstat(2).st_ino == stderr, sep="\\n"))
import tensorflow as tf
tf.function(lambda x: tf.sin(x) * 2, jit_compile=True)(tf.ones(100))
print(os.environ["XLA_FLAGS"])
print(tf.config.threading.get_inter_op_parallelism_threads() == num_cores())
print(len(shard_rows(4, cores=2)))
product = tf.function(lambda x: tf.raw_ops.BatchMatMulV3(x=x, y=x, Tout=tf.float32), jit_compile=True)
compiled = product.experimental_get_compiler_ir(tf.ones((64, 64), tf.bfloat16))(stage="optimized_hlo")
print(" dot(" in compiled and " convert(" not in compiled)
"""


def test_methods_of_many_objects_are_compiled_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """TensorFlow would count them as one function that is compiled again and again."""
    runtime.load_tensorflow()
    import tensorflow as tf

    class Adder:
        def __init__(self, number: int) -> None:
            self.number = number
            self.compiled = runtime.compiled(self.add)

        def add(self, x: tf.Tensor) -> tf.Tensor:
            return x + self.number

    assert [int(Adder(number).compiled(tf.constant(1))) for number in range(6)] == [1, 2, 3, 4, 5, 6]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_what_is_compiled_anew_for_each_object_is_compiled_so() -> None:
    """Only functions of modules, and those that are written into files, are made by `tf.function` itself."""
    package = Path(textgen.__file__).parent
    found = [path for path in package.rglob("*.py") if "tf.function(" in path.read_text(encoding="utf-8")]
    expected = ["export/litert.py", "export/savedmodel.py", "model/layers/fused.py", "system/runtime.py"]
    assert sorted(path.relative_to(package).as_posix() for path in found) == expected


def loaded(own: str, first: str = "") -> tuple[list[str], str]:
    """What a process with a user's own XLA flags says after loading TensorFlow: on stdout, and on stderr."""
    environment = {**os.environ, "XLA_FLAGS": own}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    command = [sys.executable, "-c", LOADS.format(first=first)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return result.stdout.splitlines(), result.stderr


def test_a_process_that_is_ours_is_quiet_and_set_up_and_the_user_s_flags_come_last() -> None:
    own = "--xla_cpu_prefer_vector_width=256"
    (flags, is_stderr, later, is_one_thread_each, shards, is_low), errors = loaded(own, "configure_process()")
    assert is_stderr == "False"  # what C++ says is held back
    assert is_low == str(machine.multiplies_bfloat16())  # whether products of bfloat16 are not converted to float32
    assert flags.split() == [runtime.ynnpack_flag(), *runtime.XLA_FLAGS, own]
    assert (later, is_one_thread_each, shards) == (own, "True", "2")
    assert errors == ""


def test_the_library_sets_what_prevents_a_crash_and_where_that_does_not_help_there_is_one_shard() -> None:
    own = f"{runtime.YNNPACK_FLAG}individual_dot,reduce"
    (flags, is_stderr, later, is_one_thread_each, shards, _), _ = loaded(own)
    assert is_stderr == "True"  # the program's own, all the time
    assert flags.split() == [runtime.ynnpack_flag(), own]
    assert (later, is_one_thread_each, shards) == (own, "False", "1")


def test_a_process_that_is_ours_is_not_warned_of_products() -> None:
    """Some libraries set the flags of errors that did not occur."""
    code = "{}import numpy as np; print(np.full([1, 2], np.inf) @ np.zeros([2, 1]))"
    for first, is_warned in (("", True), ("import textgen.system.runtime as r; r.configure_process(); ", False)):
        command = [sys.executable, "-c", code.format(first)]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert ("RuntimeWarning: invalid value encountered in matmul" in result.stderr) == is_warned
        assert result.stdout == "[[nan]]\n"


def test_without_room_for_what_is_held_back_nothing_is(no_temporary_folder: None) -> None:
    stderr, before = os.fstat(2).st_ino, len(os.listdir("/proc/self/fd"))
    with runtime.quiet():
        assert os.fstat(2).st_ino == stderr
    with pytest.raises(KeyError) as caught, runtime.quiet():
        raise KeyError
    assert caught.value.__context__ is None, "the error of the block is shown alone"
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("ending", "shown"), [(ImportError, b"held back"), (KeyboardInterrupt, b"")])
def test_what_is_held_back_is_shown_after_an_error_and_not_after_ctrl_c(
    ending: type[BaseException], shown: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> None:
        with runtime.quiet():
            os.write(2, b"held back")
            raise ending

    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(runtime, "_is_ours", True)
    before = os.dup(2)
    with (tmp_path / "stderr").open("w+b") as stderr:
        os.dup2(stderr.fileno(), 2)
        try:
            with pytest.raises(ending):
                load()
        finally:
            os.dup2(before, 2)
            os.close(before)
    assert (tmp_path / "stderr").read_bytes() == shown


@pytest.mark.parametrize(
    ("flags", "precision"),
    [("fpu avx2 fma", "float32"), ("fpu avx512f avx512_bf16", "bfloat16"), ("amx_tile amx_bf16", "bfloat16")],
)
def test_bfloat16_is_for_processors_that_multiply_it(
    flags: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self, **options: f"model name : X\nflags : {flags}\n")
    assert machine.best_precision() == precision


def test_where_the_processor_cannot_be_asked_it_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: Path, **options: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert machine.best_precision() == "float32"


@pytest.mark.parametrize(
    ("capability", "precision"), [((6, 1), "float32"), ((7, 0), "float16"), ((7, 5), "float16"), ((8, 0), "bfloat16")]
)
def test_the_precision_on_a_gpu_goes_by_its_capability(
    capability: tuple[int, int], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["gpu"])
    details = {"compute_capability": capability}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    assert machine.best_precision() == precision


def test_a_gpu_that_the_program_hides_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["gpu"])
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [])
    monkeypatch.setattr(Path, "read_text", lambda self, **options: "flags : fpu avx2 fma\n")
    monkeypatch.setattr(machine, "num_cores", lambda: 3)
    assert machine.best_precision() == "float32"
    assert machine.machine().startswith("3 CPU cores")
    assert not machine.has_gpu()


def test_cores_can_be_limited_to_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_cores", lambda: 4)
    monkeypatch.setattr(machine, "_most_cores", None)
    assert machine.num_cores() == 4
    machine.limit_cores(3)
    assert machine.num_cores() == 3
    with pytest.raises(ConfigError, match=r"threads must be at most 4, .* Received: 5"):
        machine.limit_cores(5)
    assert machine.num_cores() == 3
    machine.limit_cores(np.int64(2))  # type: ignore[arg-type]
    assert machine.num_cores() == 2


@pytest.mark.parametrize("count", [0, -1, True, "2", 1.5])
def test_a_limit_of_cores_is_a_number_of_at_least_one(monkeypatch: pytest.MonkeyPatch, count: Any) -> None:
    monkeypatch.setattr(machine, "_most_cores", None)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "5")
    with pytest.raises(ConfigError, match=f"threads must be (at least 1|an integer). Received: {count!r}"):
        runtime.configure_process(count)
    assert machine._most_cores is None
    assert os.environ["OPENBLAS_NUM_THREADS"] == "5"


def set_clock(took: Iterator[float], patch: pytest.MonkeyPatch) -> None:
    """The clock shows only what products take: the seconds of `took`, one after the other."""
    import tensorflow as tf

    now, multiply = 0.0, tf.matmul

    def product(left: Any, right: Any) -> Any:
        nonlocal now
        now += next(took)
        return multiply(left, right)

    patch.setattr("textgen.system.machine.time.perf_counter", lambda: now)
    patch.setattr(tf, "matmul", product)


def test_the_speed_is_measured_by_several_products_however_slow_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first product takes a minute, because the machine has other work; the others take 2 ms."""
    set_clock(itertools.chain([60.0], itertools.repeat(0.002)), monkeypatch)
    monkeypatch.setattr(machine, "num_cores", lambda: 1)
    monkeypatch.setattr(machine, "granted_cores", lambda: None)
    assert machine.measure_flops() == pytest.approx(2 * 512**3 / 0.002)


@pytest.mark.parametrize(("granted", "cores"), [(0.5, 0.5), (1.5, 1.5), (4.0, 3), (None, 3)])
def test_the_speed_of_a_granted_share_of_a_core_is_that_share(
    granted: float | None, cores: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fastest product fits into the time that the share allows before it pauses."""
    set_clock(itertools.repeat(0.002), monkeypatch)
    monkeypatch.setattr(machine, "has_gpu", lambda: False)
    monkeypatch.setattr(machine, "processor_cores", lambda: 3)
    monkeypatch.setattr(machine, "granted_cores", lambda: granted)
    monkeypatch.setattr(machine, "_most_cores", None)
    assert machine.measure_flops() == pytest.approx(cores * 2 * 512**3 / 0.002)
    assert machine.measure_flops(core_sets=2) == pytest.approx(2 * cores * 2 * 512**3 / 0.002)


@pytest.mark.parametrize(
    ("driver", "hidden", "gpus", "misses"),
    [(True, False, [], True), (True, True, [], False), (True, False, ["gpu"], False), (False, False, [], False)],
)
def test_the_plan_tells_of_a_gpu_that_tensorflow_does_not_find(
    driver: bool, hidden: bool, gpus: list[str], misses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    monkeypatch.setattr(machine, "has_gpu_driver", lambda: driver)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [])  # the program may hide it, too
    assert ("tensorflow[and-cuda]" in machine.machine()) is misses


def test_memory_counts_the_gpus_of_this_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker uses one of the GPUs of a machine: TensorFlow calls it GPU:0 and knows no other."""
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["gpu 0", "gpu 1"])
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["GPU:0"])
    monkeypatch.setattr(tf.config.experimental, "get_memory_info", lambda name: {"current": {"GPU:0": 7}[name]})
    assert machine.gpu_bytes() == 7


@pytest.mark.parametrize(
    ("printed", "gpus", "expected"),
    [
        ("15360\n15360\n", 2, 15360),
        ("24576\n8192\n", 2, 8192),
        ("15360\n15360\n", 1, 15360),  # the other is hidden
        ("24576\n8192\n", 1, None),  # one is hidden: which?
        ("[N/A]\n", 1, None),
        ("", 1, None),
        (None, 1, None),
    ],
)
def test_the_memory_of_the_smallest_gpu_is_asked_of_its_driver(
    printed: str | None, gpus: int, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    def run(command: list[str], **options: Any) -> Any:
        assert command[0] == "nvidia-smi"
        if printed is None:
            raise FileNotFoundError
        return SimpleNamespace(stdout=printed)

    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["gpu"] * gpus)
    monkeypatch.setattr("textgen.system.machine.subprocess.run", run)
    assert machine.smallest_gpu_memory() == (expected and expected * 1024**2)


def overlapping(block: Callable[[], AbstractContextManager[None]]) -> None:
    """Enters a block in two threads, and leaves it first where it was entered first."""
    entered, left = threading.Event(), threading.Event()

    def second() -> None:
        with block():
            entered.set()
            left.wait(10)

    other = threading.Thread(target=second)
    with block():
        other.start()
        assert entered.wait(10)
    left.set()
    other.join(10)


@pytest.mark.parametrize("before", [None, "--xla_of_the_user"])
def test_flags_of_xla_are_as_before_after_overlapping_blocks(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "XLA_FLAGS_OF", "")
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    if before:
        monkeypatch.setenv("XLA_FLAGS", before)
    with runtime._xla_flags:
        flags = os.environ["XLA_FLAGS"]
        assert flags.startswith(runtime.ynnpack_flag())
        assert flags.endswith(f" {before or ''}")
    overlapping(lambda: runtime._xla_flags)
    assert os.environ.get("XLA_FLAGS") == before


def test_stderr_is_as_before_after_overlapping_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_is_ours", True)
    before, files = os.fstat(2).st_ino, len(os.listdir("/proc/self/fd"))
    with runtime.quiet():
        assert os.fstat(2).st_ino != before
    overlapping(runtime.quiet)
    assert (os.fstat(2).st_ino, len(os.listdir("/proc/self/fd"))) == (before, files)


def test_full_float32_ends_with_overlapping_blocks() -> None:
    import tensorflow as tf

    is_on = tf.config.experimental.tensor_float_32_execution_enabled
    before = is_on()
    overlapping(runtime.full_float32)
    assert is_on() == before


@pytest.mark.parametrize("before", [True, False])
def test_full_float32_ends_with_the_block(before: bool) -> None:
    import tensorflow as tf

    is_on = tf.config.experimental.tensor_float_32_execution_enabled
    first = is_on()
    try:
        tf.config.experimental.enable_tensor_float_32_execution(before)
        with runtime.full_float32():
            assert not is_on()
        assert is_on() == before
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(first)


def test_on_a_gpu_memory_grows_as_it_is_needed_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    calls = list[Any]()
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["gpu 0"])
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["gpu 0", "gpu 1"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, is_on: calls.append((gpu, is_on)))
    monkeypatch.setattr(runtime, "_runs_side_by_side", None)
    runtime.load_tensorflow(lambda: calls.append("devices"))
    assert calls == [("gpu 0", True), ("gpu 1", True), "devices"]
    calls.clear()
    monkeypatch.setattr(runtime, "_is_ours", False)
    runtime.load_tensorflow(lambda: calls.append("devices"))
    assert calls == ["devices"], "a library leaves the process as it is"


def test_where_a_gpu_is_in_use_already_its_memory_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    refused = []

    def refuse(gpu: str, is_on: bool) -> None:
        refused.append(gpu)
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    for function in ("list_physical_devices", "get_visible_devices"):
        monkeypatch.setattr(tf.config, function, lambda kind: ["gpu 0"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", refuse)
    runtime.load_tensorflow()
    assert refused == ["gpu 0"]


@pytest.mark.parametrize(("granted", "threads"), [(2, "2"), (8, None)])
def test_in_a_container_numpy_uses_as_many_cores_as_are_granted(
    granted: int, threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "")  # so that it is as before in the end
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    monkeypatch.setattr(runtime, "_blas_threads", None)
    monkeypatch.setattr(runtime, "num_cores", lambda: granted)
    monkeypatch.setattr(runtime, "processor_cores", lambda: 8)
    runtime.configure_process()
    assert os.environ.get("OPENBLAS_NUM_THREADS") == threads
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "5")
    runtime.configure_process()
    assert os.environ["OPENBLAS_NUM_THREADS"] == "5", "the user's own setting stays"


def test_a_limit_holds_for_numpy_too_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_cores", lambda: 4)
    monkeypatch.setattr(machine, "_most_cores", None)
    monkeypatch.setattr(runtime, "_blas_threads", None)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "5")
    runtime.limit_threads(3)
    assert (machine.num_cores(), os.environ["OPENBLAS_NUM_THREADS"]) == (3, "3")
    runtime.use_blas_threads(2)
    assert os.environ["OPENBLAS_NUM_THREADS"] == "2", "a number of ours may change"


def test_measured_speed_is_the_quickest_product_of_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of 512 x 512 is 2 * 512^3 operations; the clock is ours: products take 4, 2 and 8 ms."""
    import tensorflow as tf

    set_clock(itertools.cycle([0.004, 0.002, 0.008]), monkeypatch)
    monkeypatch.setattr(machine, "num_cores", lambda: 3)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [])
    assert machine.measure_flops() == pytest.approx(3 * 2 * 512**3 / 0.002)


class OnGpu:
    """A product from which single numbers can be read, but not the whole."""

    def __init__(self, read: list[Any]) -> None:
        self.read = read

    def __getitem__(self, place: tuple[int, int]) -> Any:
        return SimpleNamespace(numpy=lambda: self.read.append(place))


def test_the_speed_of_a_gpu_is_that_of_large_products_without_copying_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product takes 2 ms of the device, and a read of a number waits for all that are queued."""
    import tensorflow as tf

    sizes, read = list[int](), list[Any]()

    def product(left: Any, right: Any) -> OnGpu:
        assert left is right
        sizes.append(left)
        return OnGpu(read)

    monkeypatch.setattr(tf, "ones", lambda shape: shape[0])
    monkeypatch.setattr(tf, "matmul", product)
    monkeypatch.setattr("textgen.system.machine.time.perf_counter", lambda: 0.002 * machine.QUEUED * len(read))
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["gpu", "gpu"])
    assert machine.measure_flops(replicas=2) == pytest.approx(2 * 2 * 4096**3 / 0.002)
    assert set(sizes) == {4096}
    assert len(sizes) == machine.QUEUED * len(read)


@pytest.mark.parametrize(("present", "expected"), [(0, True), (1, True), (None, False)])
def test_the_driver_is_found_in_wsl_too(
    tmp_path: Path, present: int | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WSL has no /dev/nvidiactl, only the driver's library in a folder of its own."""
    assert machine.DRIVERS == ("/dev/nvidiactl", "/usr/lib/wsl/lib/libcuda.so.1")
    drivers = [tmp_path / "nvidiactl", tmp_path / "libcuda.so.1"]
    if present is not None:
        drivers[present].touch()
    monkeypatch.setattr(machine, "DRIVERS", drivers)
    assert machine.has_gpu_driver() is expected
