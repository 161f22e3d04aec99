"""Where `textgen sample` writes: NumPy on the processor, or a GPU where its start is worth the wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from textgen.errors import ConfigError
from textgen.machine import has_gpu_driver

if TYPE_CHECKING:
    from textgen.generation.generator import Request
    from textgen.model.compiled_model import CompiledModel
    from textgen.saved_model.saved_model import ModelFolder

DEVICES = ("auto", "cpu", "gpu")
SPEED = 1.4e10  # operations per second of NumPy with one text on two cores: 870 tokens of 8.3 million weights
MOST_FASTER = 9  # times as fast with many texts side by side
ENOUGH_TEXTS = 16  # side by side; a GPU has no advantage with few of them
ENOUGH_SECONDS = 60.0  # of NumPy, after which a GPU has made up for the start of TensorFlow

device_option = click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    help="Write on the processor or on a GPU [default: a GPU, if there is one and many long texts are wanted].",
)


def wants_gpu(device: str, parameters: int, requests: Sequence[Request], num: int, batch_size: int) -> bool:
    """Whether to try a GPU.

    Args:
        device: One of `DEVICES`.
        parameters: Weights of the network.
        requests: Prompts and settings of the texts.
        num: Texts for each prompt.
        batch_size: Texts that are written side by side, at most.
    """
    if device != "auto":
        return device == "gpu"
    texts = min(batch_size, num * len(requests))
    if texts < ENOUGH_TEXTS or not has_gpu_driver():
        return False
    tokens = num * sum(request.config.max_tokens for request in requests)
    return 2 * parameters * tokens / (SPEED * min(texts, MOST_FASTER)) > ENOUGH_SECONDS


def gpu_writer(saved: ModelFolder, device: str) -> CompiledModel | None:
    """The model on a GPU; None if TensorFlow sees none.

    Args:
        saved: The model.
        device: One of `DEVICES`.

    Raises:
        ConfigError: `device` is "gpu", and there is none.
    """
    from textgen.runtime import load_tensorflow

    load_tensorflow()
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        if device == "gpu":
            raise ConfigError("TensorFlow sees no GPU on this machine: leave out --device gpu.")
        return None
    from textgen.model.compiled_model import CompiledModel

    return CompiledModel(saved.network("forward"))
