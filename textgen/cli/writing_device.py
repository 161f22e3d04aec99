"""Where `textgen sample` writes: NumPy on the processor, or a GPU where its start is worth the wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textgen.machine import has_gpu_driver

if TYPE_CHECKING:
    from textgen.generation.request import Request
    from textgen.model.compiled_model import CompiledModel
    from textgen.saved_model.saved_model import ModelFolder

SPEED = 1.4e10  # operations per second of NumPy with one text on two cores: 870 tokens of 8.3 million weights
MOST_FASTER = 9  # maximum speed with many texts side by side, relative to one text
ENOUGH_TEXTS = 16  # minimum number of texts side by side; with fewer a GPU has no advantage
ENOUGH_SECONDS = 60.0  # seconds of work in NumPy for which a GPU makes up for the start of TensorFlow


def is_worth_a_gpu(parameters: int, requests: Sequence[Request], num: int, batch_size: int) -> bool:
    """Checks whether a GPU would write sooner than the processor, if there is one.

    Args:
        parameters: Weights of the network.
        requests: Prompts and settings of the texts.
        num: Texts for each prompt.
        batch_size: Texts that are written side by side, at most.
    """
    texts = min(batch_size, num * len(requests))
    if texts < ENOUGH_TEXTS or not has_gpu_driver():
        return False
    tokens = num * sum(request.config.max_tokens for request in requests)
    return 2 * parameters * tokens / (SPEED * min(texts, MOST_FASTER)) > ENOUGH_SECONDS


def gpu_writer(saved: ModelFolder) -> CompiledModel | None:
    """The model on a GPU; None if TensorFlow sees none."""
    from textgen.runtime import load_tensorflow

    load_tensorflow()
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return None
    from textgen.model.compiled_model import CompiledModel

    return CompiledModel(saved.network("forward"))
