"""The parts of the loop over time that all cells share."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from textgen.model.config import ModelConfig
from textgen.model.layers import loop
from textgen.model.layers.fused import Fused
from textgen.model.layers.loop import step_kernel, step_product
from textgen.model.layers.recurrent import make_layer
from textgen.system.runtime import load_tensorflow

load_tensorflow()
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.float16], ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("sizes", [(1, 3, 5), (16, 256, 1024)], ids=str)
def test_a_product_of_a_step_rounds_its_factors_only(sizes: tuple[int, int, int], dtype: tf.DType) -> None:
    """To bfloat16; in float16 they stay as they are."""
    rows, m, n = sizes
    x, kernel = (tf.constant(RNG.normal(size=shape), tf.float32) for shape in ((rows, m), (m, n)))
    product = Fused(lambda x, kernel: step_product(x, step_kernel(kernel, dtype)))(x, kernel)
    kept = tf.bfloat16 if dtype == tf.bfloat16 else tf.float32
    rounded = (tf.cast(tf.cast(factor, kept), tf.float64).numpy() for factor in (x, kernel))
    assert product.dtype == tf.float32
    np.testing.assert_allclose(product, np.matmul(*rounded), atol=2e-6 * m)


@pytest.mark.parametrize("is_eager", [False, True])
def test_without_xla_the_product_is_rounded_too(is_eager: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without XLA, and where functions are run eagerly to debug them."""
    for module in ("loop", "fused"):
        monkeypatch.setattr(f"textgen.model.layers.{module}.has_xla", lambda: is_eager)
    x, kernel = (tf.constant(RNG.normal(size=shape), tf.float32) for shape in ((4, 8), (8, 16)))
    tf.config.run_functions_eagerly(is_eager)
    try:
        product = Fused(step_product)(x, tf.cast(kernel, tf.bfloat16))
    finally:
        tf.config.run_functions_eagerly(False)
    assert product.dtype == tf.float32
    np.testing.assert_allclose(product, tf.matmul(x, kernel), atol=0.1)
    np.testing.assert_array_equal(product, tf.cast(tf.cast(product, tf.bfloat16), tf.float32))


def test_a_kernel_that_changes_is_read_anew() -> None:
    """XLA's products keep what they have prepared between calls; the kernel must not be part of it."""
    function, x = Fused(step_product), tf.constant(RNG.normal(size=(16, 64)), tf.float32)
    kernel = tf.Variable(tf.zeros((64, 256), tf.bfloat16))
    for _ in range(5):
        kernel.assign(tf.cast(RNG.normal(size=kernel.shape), tf.bfloat16))
        expected = tf.matmul(tf.cast(tf.cast(x, tf.bfloat16), tf.float32), tf.cast(kernel, tf.float32))
        np.testing.assert_allclose(function(x, kernel), expected, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "gru"},
        {"cell": "gru", "reset_after": False},
        {"cell": "rnn"},
        {"cell": "peephole"},
        {"cell": "mogrifier"},
        {"cell": "mogrifier", "mogrifier_rank": 4},
    ],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
def test_both_loops_of_a_cell_multiply_in_bfloat16_without_transposing(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """XLA would transpose a kernel in the product, which then is one of float32."""
    code = []
    for name in ("_forward", "_backward"):
        function = getattr(loop, name)

        def compiling(*arguments: Any, function: Fused = function) -> Any:
            code.append(function.compiled().experimental_get_compiler_ir(*arguments)("hlo"))
            return function(*arguments)

        monkeypatch.setattr(loop, name, compiling)
    layer = make_layer(ModelConfig(11, 8, 8, **settings), "layer")
    x = tf.zeros((3, 2, 8), tf.bfloat16)
    layer.build((None, None, 8))
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs, _ = layer.scan(x, layer.initial_state(2))
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32))
    tape.gradient(loss, x)
    assert len(code) == 2
    for each in code:
        products = re.findall(r"= (\w+)\[\S* dot\((\w+)\[\S* \S+ (\w+)\[", each)
        assert set(products) == {("f32", "bf16", "bf16")}
        assert not re.findall(r" transpose\(.*dimensions=\{1,0\}", each)
