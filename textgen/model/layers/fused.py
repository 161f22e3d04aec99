"""Functions that XLA compiles into a few passes over memory, where XLA works."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from textgen.system.runtime import has_xla


class Fused:
    """A function of tensors, compiled by XLA, or by TensorFlow alone if this machine lacks what XLA needs.

    That is known only once TensorFlow is loaded, so the function is compiled at its first call. Use it as a decorator.

    Example:
        >>> @Fused
        ... def half(x): return x / 2
        >>> float(half(tf.constant(3.0)))
        1.5
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        """Calls the compiled function."""
        return self.compiled(has_xla())(*arguments)

    @functools.cache  # noqa: B019 - for functions of modules, which stay
    def compiled(self, by_xla: bool = True) -> Any:
        """Returns the compiled function, made by `tf.function`."""
        return tf.function(self._function, jit_compile=by_xla or None, autograph=False)
