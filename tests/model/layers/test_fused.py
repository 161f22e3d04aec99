"""Functions are compiled by XLA where XLA works, and work without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from textgen.model.config import ModelConfig
from textgen.model.language_model import LanguageModel
from textgen.model.layers.fused import Fused
from textgen.system import runtime
from textgen.system.runtime import has_xla, load_tensorflow

load_tensorflow()


@Fused
def _length(text: tf.Tensor) -> tf.Tensor:
    return tf.strings.length(text)  # XLA has no strings


@pytest.fixture
def without_xla(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_has_xla", False)


def test_on_a_cpu_xla_compiles() -> None:
    assert has_xla()
    with pytest.raises(tf.errors.OpError):
        _length(tf.constant("four"))


@pytest.mark.usefixtures("without_xla")
def test_without_xla_tensorflow_alone_does() -> None:
    assert _length(tf.constant("four")).numpy() == 4


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_losses_and_gradients_are_the_same_without_xla(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = LanguageModel(ModelConfig(11, 6, 8, 1, cell=cell), pad_id=0, seed=1)
    ids = tf.constant(np.random.default_rng(0).integers(1, 11, (2, 6)), tf.int32)

    def results() -> list[Any]:
        weights = [weight.value for weight in model.trainable_variables]
        with tf.GradientTape() as tape:
            features, state = model.features(ids[:, :-1])
            loss = model.summed_loss(features, ids[:, 1:])
        return tf.nest.flatten([loss, state, tape.gradient(loss, weights)])

    by_xla = results()
    monkeypatch.setattr(runtime, "_has_xla", False)
    for mine, other in zip(results(), by_xla, strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(mine), tf.convert_to_tensor(other), atol=1e-5)


@pytest.mark.parametrize("error", [None, tf.errors.InternalError(None, None, "libdevice not found")])
def test_on_a_gpu_it_is_tried(error: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tf.function

    def function(*arguments: Any, **options: Any) -> Any:
        if error and options.get("jit_compile"):
            raise error
        return made(*arguments, **options)

    monkeypatch.setattr(tf, "function", function)
    for name in ("list_physical_devices", "get_visible_devices"):
        monkeypatch.setattr(tf.config, name, lambda kind: ["gpu"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, is_on: None)
    monkeypatch.setattr(runtime, "_has_xla", None)
    load_tensorflow()
    assert has_xla() == (error is None)
