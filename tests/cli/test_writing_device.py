"""textgen sample writes on a GPU where it is asked to, or where that is worth it. Devices are faked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from textgen.cli import textgen, writing_device
from textgen.cli.writing_device import wants_gpu
from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Request


def sample(models: Path, *arguments: str) -> Result:
    seed = () if "--num-beams" in arguments else ("--seed", "3")  # a search draws nothing
    command = ("sample", "tiny", *seed, "--max-tokens", "20", *arguments, "--models-dir", str(models))
    return CliRunner().invoke(textgen, command, prog_name="textgen")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow says that there is a GPU; the network is computed on the CPU all the same."""
    import tensorflow as tf

    from textgen import runtime

    monkeypatch.setattr(writing_device, "has_gpu_driver", lambda: True)
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, is_on: None)
    monkeypatch.setattr(runtime, "_has_xla", True)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["gpu"] if kind == "GPU" else [])


@pytest.mark.parametrize(
    ("device", "driver", "num", "max_tokens", "parameters", "expected"),
    [
        ("gpu", False, 1, 1, 1000, True),
        ("cpu", True, 1000, 10_000, 10_000_000, False),
        ("auto", True, 1000, 1000, 10_000_000, True),
        ("auto", False, 1000, 1000, 10_000_000, False),  # no GPU
        ("auto", True, 64, 100, 10_000_000, False),  # done before TensorFlow is loaded
        ("auto", True, 8, 1_000_000, 10_000_000, False),  # too few side by side
    ],
)
def test_a_gpu_is_wanted_for_many_long_texts(
    device: str,
    driver: bool,
    num: int,
    max_tokens: int,
    parameters: int,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writing_device, "has_gpu_driver", lambda: driver)
    requests = [Request("", SamplingConfig(max_tokens=max_tokens))]
    assert wants_gpu(device, parameters, requests, num, 64) is expected


def test_the_texts_of_a_gpu_are_those_of_the_processor(tiny_models: Path, gpu: None) -> None:
    """Up to rounding, which these short texts of a small network do not show."""
    on_processor, on_gpu = (
        sample(tiny_models, "--num", "3", "--json", "--device", device) for device in ("cpu", "gpu")
    )
    assert on_processor.exit_code == on_gpu.exit_code == 0, on_gpu.output
    assert on_processor.stdout == on_gpu.stdout


def test_where_there_is_no_gpu_it_says_so(tiny_models: Path) -> None:
    result = sample(tiny_models, "--device", "gpu")
    assert result.exit_code == 1
    assert "TensorFlow sees no GPU on this machine: leave out --device gpu." in result.stderr


def test_a_driver_without_a_gpu_that_tensorflow_sees_is_no_obstacle(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing_device, "has_gpu_driver", lambda: True)
    monkeypatch.setattr(writing_device, "ENOUGH_SECONDS", 0.0)
    monkeypatch.setattr(writing_device, "ENOUGH_TEXTS", 2)
    assert sample(tiny_models, "--num", "3").stdout == sample(tiny_models, "--num", "3", "--device", "cpu").stdout


@pytest.mark.parametrize("flags", [("--cache",), ("--clamp", "L0/3=5"), ("--num-beams", "2")])
def test_what_only_the_processor_computes_is_refused_on_a_gpu(
    tiny_models: Path, flags: tuple[str, ...], gpu: None
) -> None:
    result = sample(tiny_models, "--device", "gpu", *flags)
    assert result.exit_code == 2
    assert f"{flags[0]} is computed on the processor" in result.stderr


def test_alone_the_processor_computes_it(tiny_models: Path, gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise AssertionError("a GPU was asked for")

    monkeypatch.setattr(writing_device, "gpu_writer", fail)
    monkeypatch.setattr(writing_device, "ENOUGH_SECONDS", 0.0)
    monkeypatch.setattr(writing_device, "ENOUGH_TEXTS", 1)
    assert sample(tiny_models, "--clamp", "L0/3=5").exit_code == 0
