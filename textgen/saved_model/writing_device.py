"""Where a saved model writes: on the processor, or on a GPU where its start is worth the wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textgen.generation.config import AUTO, TENSORFLOW
from textgen.system.machine import has_gpu, has_gpu_driver

if TYPE_CHECKING:
    from textgen.generation.request import Request

SPEED = 1.4e10  # operations per second of NumPy with one text on two cores: 870 tokens of 8.3 million weights
MAX_SPEEDUP = 9  # maximum speed with many texts side by side, relative to one text
MIN_TEXTS = 16  # minimum number of texts side by side; with fewer a GPU has no advantage
MIN_NUMPY_SECONDS = 60.0  # seconds of work in NumPy for which a GPU makes up for the start of TensorFlow


def is_worth_a_gpu(parameters: int, requests: Sequence[Request], num: int, batch_size: int) -> bool:
    """Checks whether a GPU would write sooner than the processor, if there is one.

    Args:
        parameters: Weights of the network.
        requests: Prompts and settings of the texts.
        num: Texts for each prompt.
        batch_size: Texts that are written side by side, at most.
    """
    texts = min(batch_size, num * len(requests))
    if texts < MIN_TEXTS or not has_gpu_driver():
        return False
    tokens = num * sum(request.config.max_tokens for request in requests)
    return 2 * parameters * tokens / (SPEED * min(texts, MAX_SPEEDUP)) > MIN_NUMPY_SECONDS


def runtime_for(parameters: int, requests: Sequence[Request], num: int, batch_size: int) -> str:
    """Chooses what computes a network that writes some texts; TensorFlow is loaded only if a GPU is worth its start.

    Args:
        parameters: Weights of the network.
        requests: Prompts and settings of the texts.
        num: Texts for each prompt.
        batch_size: Texts that are written side by side, at most.

    Returns:
        "tensorflow" for a GPU that TensorFlow sees, otherwise "auto".
    """
    return TENSORFLOW if is_worth_a_gpu(parameters, requests, num, batch_size) and _sees_gpu() else AUTO


def _sees_gpu() -> bool:
    from textgen.system.runtime import load_tensorflow

    load_tensorflow()
    return has_gpu()
