"""textgen sample writes many long texts on a GPU, where there is one. Devices are faked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from textgen.cli import textgen
from textgen.generation.config import AUTO, TENSORFLOW, SamplingConfig
from textgen.generation.request import Request
from textgen.saved_model import writing_device
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.writing_device import is_worth_a_gpu, runtime_for


def sample(models: Path, *arguments: str) -> Result:
    seed = () if "--num-beams" in arguments else ("--seed", "3")  # a search draws nothing
    command = ("sample", "tiny", *seed, "--max-tokens", "20", *arguments, "--models-dir", str(models))
    return CliRunner().invoke(textgen, command, prog_name="textgen")


@pytest.fixture
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU is worth it for two short texts."""
    monkeypatch.setattr(writing_device, "has_gpu_driver", lambda: True)
    monkeypatch.setattr(writing_device, "MIN_NUMPY_SECONDS", 0.0)
    monkeypatch.setattr(writing_device, "MIN_TEXTS", 2)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow says that there is a GPU; the network is computed on the CPU all the same."""
    import tensorflow as tf

    from textgen.system import runtime

    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, is_on: None)
    monkeypatch.setattr(runtime, "_has_xla", True)
    for function in ("list_physical_devices", "get_visible_devices"):
        monkeypatch.setattr(tf.config, function, lambda kind=None: ["gpu"] if kind == "GPU" else [])


@pytest.mark.parametrize(
    ("driver", "num", "max_tokens", "expected"),
    [
        (True, 1000, 1000, True),
        (False, 1000, 1000, False),  # no GPU
        (True, 64, 100, False),  # done before TensorFlow is loaded
        (True, 8, 1_000_000, False),  # too few side by side
    ],
)
def test_a_gpu_is_worth_it_for_many_long_texts(
    driver: bool, num: int, max_tokens: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing_device, "has_gpu_driver", lambda: driver)
    requests = [Request("", SamplingConfig(max_tokens=max_tokens))]
    assert is_worth_a_gpu(10_000_000, requests, num, 64) is expected


@pytest.mark.usefixtures("few_are_enough", "gpu")
def test_the_texts_of_a_gpu_are_those_of_the_processor(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to rounding, which these short texts of a small network do not show."""
    made: list[Any] = []
    real = ModelFolder.step_model

    def counted(self: ModelFolder, *given: Any) -> Any:
        made.append(real(self, *given))
        return made[-1]

    monkeypatch.setattr(ModelFolder, "step_model", counted)
    on_processor, on_gpu = (sample(tiny_models, "--num", "3", "--json", *more) for more in (("--runtime", "numpy"), ()))
    assert on_processor.exit_code == on_gpu.exit_code == 0, on_gpu.output
    assert on_processor.stdout == on_gpu.stdout.replace('"runtime": "tensorflow"', '"runtime": "numpy"')
    assert [type(each).__name__ for each in made] == ["NumpyModel", "CompiledModel"]


@pytest.mark.parametrize(("sees", "expected"), [(True, TENSORFLOW), (False, AUTO)])
@pytest.mark.usefixtures("few_are_enough")
def test_a_runtime_is_chosen_by_what_tensorflow_sees(
    sees: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing_device, "_sees_gpu", lambda: sees)
    assert runtime_for(1_000_000, [Request("", SamplingConfig())], 3, 64) == expected


@pytest.mark.usefixtures("few_are_enough")
def test_a_driver_without_a_gpu_that_tensorflow_sees_is_no_obstacle(tiny_models: Path) -> None:
    texts = [sample(tiny_models, "--num", "3", *more).stdout for more in ((), ("--runtime", "numpy"))]
    assert texts[0] == texts[1] != ""


@pytest.mark.usefixtures("few_are_enough", "gpu")
@pytest.mark.parametrize(
    "flags",
    [("--neural-cache",), ("--clamp", "L0/3=5"), ("--ensemble", "tiny"), ("--num-beams", "2"), ("--exact",)],
)
def test_what_only_the_processor_computes_stays_there(
    tiny_models: Path, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> None:
        raise AssertionError("a GPU was asked for")

    monkeypatch.setattr(writing_device, "runtime_for", fail)
    num = () if "--num-beams" in flags else ("--num", "3")
    result = sample(tiny_models, *num, *flags)
    assert result.exit_code == 0, result.output
