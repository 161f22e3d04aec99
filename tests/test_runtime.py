"""TensorFlow comes up quietly, set up for the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from textgen import runtime
from textgen.errors import ConfigError

LOADS = """
import os, sys
from textgen.runtime import load_tensorflow, num_cores
load_tensorflow()
import tensorflow as tf
tf.function(lambda x: tf.sin(x) * 2, jit_compile=True)(tf.ones(100))
print(os.environ["XLA_FLAGS"])
print(tf.config.threading.get_inter_op_parallelism_threads() == num_cores())
"""


@pytest.mark.parametrize("own", ["--xla_cpu_prefer_vector_width=256", f"{runtime.XLA_FLAGS[0]}reduce"])
def test_loading_is_quiet_and_the_user_s_flags_come_last(own: str) -> None:
    environment = {**os.environ, "XLA_FLAGS": own}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    result = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True, env=environment, check=True)
    flags, threads = result.stdout.splitlines()
    assert flags.split() == [*runtime.XLA_FLAGS, own]
    assert threads == "True"
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("flags", "precision"),
    [("fpu avx2 fma", "float32"), ("fpu avx512f avx512_bf16", "bfloat16"), ("amx_tile amx_bf16", "bfloat16")],
)
def test_bfloat16_is_for_processors_that_multiply_it(
    flags: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self, **options: f"model name : X\nflags : {flags}\n")
    assert runtime.best_precision() == precision


def test_where_the_processor_cannot_be_asked_it_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: Path, **options: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert runtime.best_precision() == "float32"


@pytest.mark.parametrize(
    ("capability", "precision"), [((6, 1), "float32"), ((7, 0), "float16"), ((7, 5), "float16"), ((8, 0), "bfloat16")]
)
def test_the_precision_on_a_gpu_goes_by_its_capability(
    capability: tuple[int, int], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["gpu"])
    details = {"compute_capability": capability}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    assert runtime.best_precision() == precision


def test_cores_can_be_limited_to_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_available_cores", lambda: 4)
    monkeypatch.setattr(runtime, "_most_cores", None)
    assert runtime.num_cores() == 4
    runtime.limit_cores(3)
    assert runtime.num_cores() == 3
    with pytest.raises(ConfigError, match="may use 4 processor cores, fewer than threads: 5"):
        runtime.limit_cores(5)


def test_measured_speed_is_plausible() -> None:
    runtime.load_tensorflow()
    assert 1e8 < runtime.measure_flops() < 1e15
