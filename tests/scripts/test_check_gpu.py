"""The report about GPUs, on whatever machine this is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from script_modules import load_script

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_gpu.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_results_losses_and_writing_are_right_here() -> None:
    sections = ("devices", "packing", "results", "losses", "resumption", "kernels", "writing")
    only = [word for section in sections for word in ("--only", section)]
    done = subprocess.run([sys.executable, str(SCRIPT), *only], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line[2:] for line in lines if line.startswith("# ")] == list(sections)
    assert sum(line.endswith(": right") for line in lines) >= 1 + 3 * 3 + 4 + 1 + 1 + 1
    assert "WRONG" not in done.stdout
    assert "operations per second in float32 products" in done.stdout
    assert "add gradients by " in done.stdout


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("textgen.system.runtime.configure_process", lambda: None)  # this process is not its own
        yield load_script("check_gpu", patch)


@pytest.fixture
def gpu(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "gpus", lambda: [SimpleNamespace(name="GPU:0")])


def breaks(*lines: str) -> Iterator[str]:
    yield from lines
    raise ValueError("at first\nno kernel image is available")


def test_an_error_ends_its_section_alone(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = {"first": lambda: breaks("sound"), "second": lambda: iter(["right"])}
    monkeypatch.setattr(script, "SECTIONS", sections)
    monkeypatch.setattr(sys, "argv", ["check_gpu.py"])
    assert script.main() == 1
    failed = "ValueError: no kernel image is available: WRONG"
    assert capsys.readouterr().out.splitlines() == ["# first", "sound", failed, "# second", "right"]


def test_an_error_ends_its_case_alone(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def compared(config: Any, precision: str, *others: Any) -> str:
        if precision == "bfloat16":
            raise RuntimeError
        return "right"

    monkeypatch.setattr(script, "compared", compared)
    lines = list(script.results())
    assert len(lines) == 9
    assert sum(line.endswith("right") for line in lines) == 6
    assert lines[1] == "lstm  bfloat16  RuntimeError: no message: WRONG"


def test_gradients_that_are_no_numbers_are_wrong_wherever_they_are(script: ModuleType) -> None:
    sound, none = np.ones(2), np.array([1.0, np.nan])
    for pairs in ([(none, sound), (sound, sound)], [(sound, sound), (none, sound)]):
        assert script.verdict(script.farthest(pairs) < 1) == "WRONG"
    assert script.farthest([(sound, sound), (2 * sound, sound)]) == 1


def test_a_training_on_the_cpu_that_does_not_end_is_reported(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folder where the user is, so that a relative path of modules stays valid."""

    def run(command: list[str], **options: Any) -> None:
        assert "cwd" not in options
        assert options["env"]["CUDA_VISIBLE_DEVICES"] == "-1"
        assert repr(str(SCRIPT.parent)) in command[2]
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr("subprocess.run", run)
    assert list(script.losses()) == ["the training on the CPU took longer than 240 seconds: WRONG"]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("padding", "said"), [(0, "right"), (8, "WRONG")])
def test_cudnn_is_asked_for_the_number_of_weights(
    script: ModuleType, padding: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    def size(num_units: int, input_size: int, rnn_mode: str, **others: Any) -> np.ndarray:
        gates = {"lstm": 4, "gru": 3}[rnn_mode]
        return np.array([gates * num_units * (input_size + num_units + 2) + padding], np.int32)

    monkeypatch.setattr(tf.raw_ops, "CudnnRNNParamsSize", size)
    lines = list(script.packing())
    assert len(lines) == 8
    assert all(line.endswith(said) for line in lines)
    assert "23 inputs, 33 units: 7,656 weights" in lines[2]


def test_without_a_gpu_cudnn_is_not_asked(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "gpus", list)
    assert list(script.packing()) == ["no GPU, so there is no cuDNN to ask"]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("path", "said"), [("cuDNN", "right"), ("own loop, compiled by XLA", "WRONG")])
def test_an_lstm_without_cudnn_is_wrong_on_a_gpu(
    script: ModuleType, path: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {})
    monkeypatch.setattr(tf.config.experimental, "get_memory_growth", lambda gpu: True)
    monkeypatch.setattr(script, "backend", lambda: path)
    for name, answer in (("machine", "1 GPU"), ("best_precision", "float16"), ("measure_flops", 1e12)):
        monkeypatch.setattr(script, name, lambda answer=answer: answer)
    assert f"LSTM by {path}: {said}" in list(script.devices())


@pytest.mark.parametrize("on_gpu", [True, False])
def test_pytorch_is_measured_as_textgen_is(script: ModuleType, on_gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU with its fused optimizer, products in TF32, and without waiting for the loss of the same step."""
    torch = MagicMock(__version__="2.13")
    torch.cuda.is_available.return_value = on_gpu
    monkeypatch.setitem(sys.modules, "torch", torch)
    lines = list(script.pytorch())
    assert [line.split()[0] for line in lines] == ["float32", "bfloat16"]
    assert all("without dropout on the embedding" in line for line in lines)
    assert torch.optim.AdamW.call_args.kwargs == {"fused": on_gpu}
    assert torch.backends.cuda.matmul.allow_tf32 is True
    loss = torch.nn.functional.cross_entropy.return_value
    assert loss.backward.call_count - loss.detach.return_value.item.call_count == on_gpu


@pytest.mark.parametrize(("is_ahead", "state"), [(True, "unread"), (False, "state")])
def test_an_update_is_that_of_a_run(script: ModuleType, is_ahead: bool, state: str) -> None:
    step = SimpleNamespace(
        can_run_ahead=is_ahead, apply_unread=lambda gradient, before, rate: "unread", apply=lambda gradient, rate: None
    )
    assert script.updated(step, SimpleNamespace(state="state"), "before", 0.1) == state


@pytest.mark.slow
def test_a_training_takes_the_path_that_a_run_takes_on_a_gpu(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same losses; the CPU could do so, too."""
    from textgen.training.train_step import TrainStep

    ahead, unread = list[int](), TrainStep.apply_unread
    here = script.ShortTraining("weight drop").losses(0, 3)
    monkeypatch.setattr(TrainStep, "can_run_ahead", True)

    def apply_unread(*given: Any) -> Any:
        ahead.append(1)
        return unread(*given)

    monkeypatch.setattr(TrainStep, "apply_unread", apply_unread)
    training = script.ShortTraining("weight drop")
    assert training.losses(0, 2) == pytest.approx(here[:2], abs=1e-4)
    assert len(ahead) == 2
    training.restore([np.array(array) for array in training.saved()])
    assert training.losses(2, 3) == pytest.approx(here[2:], abs=1e-4)
