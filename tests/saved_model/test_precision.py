"""Weights in fewer bytes: how close they stay, and files in which something is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import random_weights
from safetensors.numpy import load_file
from safetensors.numpy import save as to_safetensors

from textgen.corpus.config import CorpusConfig
from textgen.errors import SavedModelError
from textgen.model.config import ModelConfig
from textgen.saved_model.layout import CONFIG, FLOAT16, FLOAT32, INT8, WEIGHTS
from textgen.saved_model.loading import load_model
from textgen.saved_model.precision import compressed, is_matrix, restored, stored_arrays
from textgen.saved_model.saving import save_model
from textgen.storage.files import json_bytes
from textgen.storage.manifests import update_folder
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer

SHAPES = [
    {"embedding_dim": 6, "hidden_units": 8},
    {"embedding_dim": 8, "hidden_units": 8, "tie_embeddings": False, "layer_norm": True, "attention": 4},
    {"cell": "gru", "direction": "both"},
    {"cell": "peephole", "embedding_dim": 5},
    {"cell": "mogrifier", "mogrifier_rank": 3},
]


def config_of(**settings: Any) -> ModelConfig:
    return ModelConfig(**{"vocab_size": 30, "embedding_dim": 6, "hidden_units": 8, "num_layers": 2, **settings})


def save(folder: Path, tokenizer: Tokenizer, precision: str) -> dict[str, np.ndarray]:
    """Saves a model. Returns its weights as they were before."""
    config = config_of(vocab_size=tokenizer.vocab_size)
    weights = random_weights(config)
    save_model(folder, weights, config, TokenizerConfig("char"), CorpusConfig(), tokenizer, precision)
    return weights


# --- How close -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [FLOAT32, FLOAT16, INT8])
@pytest.mark.parametrize("settings", SHAPES)
def test_the_arrays_are_those_that_the_reader_expects(settings: dict[str, Any], precision: str) -> None:
    config = config_of(**settings)
    arrays = compressed(random_weights(config), precision)
    codes = {"float32": "F32", "float16": "F16", "int8": "I8"}
    found = {name: (codes[array.dtype.name], array.shape) for name, array in arrays.items()}
    assert found == stored_arrays(config.weight_shapes(), precision)
    back = restored(arrays, precision)
    assert {name: array.shape for name, array in back.items()} == config.weight_shapes()
    assert {array.dtype for array in back.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("settings", SHAPES)
def test_vectors_stay_and_matrices_are_within_half_a_level(settings: dict[str, Any]) -> None:
    weights = random_weights(config_of(**settings))
    back = restored(compressed(weights, INT8), INT8)
    for name, array in weights.items():
        if not is_matrix(name):
            assert np.array_equal(back[name], array)
            continue
        axis = 1 if name == "embedding/table" else 0  # the other one has a scale for each index
        level = np.abs(array).max(axis=axis, keepdims=True) / 127
        assert (np.abs(back[name] - array) <= level * 0.5001).all()
        assert np.abs(back[name]).max() == pytest.approx(np.abs(array).max(), rel=1e-6)


def test_float16_rounds_to_the_nearest() -> None:
    weights = random_weights(config_of())
    back = restored(compressed(weights, FLOAT16), FLOAT16)
    for name, array in weights.items():
        assert np.allclose(back[name], array, rtol=2**-11, atol=2**-24)
    weights["lstm_0/kernel"][0, 0] = 70_000
    with pytest.raises(SavedModelError, match=r"lstm_0/kernel are too large for float16.*choose int8"):
        compressed(weights, FLOAT16)


@pytest.mark.parametrize(("weight", "fits"), [(3.37e38, True), (3.39e38, False), (-3.39e38, False)])
def test_a_weight_beyond_the_largest_scale_does_not_fit_int8(weight: float, fits: bool) -> None:
    for name in ("embedding/table", "lstm_0/kernel"):
        weights = {name: np.array([[weight, 1.0], [0.0, 1.0]], np.float32)}
        if fits:
            assert restored(compressed(weights, INT8), INT8)[name][0, 0] == pytest.approx(weight, rel=1e-5)
        else:
            with pytest.raises(SavedModelError, match=f"^The weights {name} are too large for int8: "):
                compressed(weights, INT8)


@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-38, 3e38])
def test_rows_of_zeros_and_of_extreme_numbers(value: float) -> None:
    weights = {"embedding/table": np.full((3, 4), value, np.float32)}
    back = restored(compressed(weights, INT8), INT8)["embedding/table"]
    assert np.isfinite(back).all()
    assert np.allclose(back, value, rtol=1e-6, atol=1e-38)


def test_an_array_may_be_compressed_again_without_a_change() -> None:
    once = restored(compressed(random_weights(config_of()), INT8), INT8)
    twice = restored(compressed(once, INT8), INT8)
    assert all(np.allclose(twice[name], array, rtol=1e-6, atol=0) for name, array in once.items())


# --- In a folder ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [FLOAT32, FLOAT16, INT8])
def test_a_folder_says_how_its_weights_are_stored(tmp_path: Path, tokenizer: Tokenizer, precision: str) -> None:
    weights = save(tmp_path / "model", tokenizer, precision)
    config = json.loads((tmp_path / "model" / CONFIG).read_bytes())
    assert config["format_version"] == (1 if precision == FLOAT32 else 2)
    assert config.get("precision", FLOAT32) == precision
    saved = load_model(str(tmp_path / "model"))
    assert saved.precision == precision
    expected = restored(compressed(weights, precision), precision)
    found = saved.weights()
    assert all(np.array_equal(found[name], array) for name, array in expected.items())
    assert found.keys() == expected.keys()


def test_the_file_is_smaller(tmp_path: Path, tokenizer: Tokenizer) -> None:
    sizes = {}
    for precision in (FLOAT32, FLOAT16, INT8):
        weights = save(tmp_path / precision, tokenizer, precision)
        sizes[precision] = sum(array.nbytes for array in load_file(tmp_path / precision / WEIGHTS).values())
    matrices = [array for name, array in weights.items() if is_matrix(name)]
    numbers, scales = sum(array.size for array in matrices), tokenizer.vocab_size + 4 * 32 + 6
    assert sizes[FLOAT16] == sizes[FLOAT32] - 2 * numbers
    assert sizes[INT8] == sizes[FLOAT32] - 3 * numbers + 4 * scales


def arrays_with(**changes: np.ndarray | None) -> Callable[[Path], None]:
    """Damage: the arrays of a file with some replaced, or left out if None; `__` in a name is `/`."""

    def damage(folder: Path) -> None:
        arrays: dict[str, np.ndarray | None] = {**load_file(folder / WEIGHTS)}
        arrays |= {name.replace("__", "/"): array for name, array in changes.items()}
        update_folder(folder, {WEIGHTS: to_safetensors({n: a for n, a in arrays.items() if a is not None})})

    return damage


def scale_with(value: float) -> Callable[[Path], None]:
    scale = np.full(32, 0.01, np.float32)
    scale[5] = value
    return arrays_with(lstm_0__kernel__scale=scale)


def config_with(**values: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_bytes()) | values
        kept = {name: value for name, value in config.items() if value is not None}
        update_folder(folder, {CONFIG: json_bytes(kept)})

    return damage


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a scale of zero": (scale_with(0.0), "is damaged: lstm_0/kernel/scale holds scales that are not positive, or"),
    "a negative scale": (scale_with(-0.01), "lstm_0/kernel/scale holds scales that are not positive"),
    "a scale that is no number": (scale_with(np.nan), "lstm_0/kernel/scale holds scales that are not positive"),
    "an infinite scale": (scale_with(np.inf), "lstm_0/kernel/scale holds scales that are not positive"),
    "a scale that is too large": (scale_with(2.7e36), "kernel/scale holds scales that are not positive, or too large"),
    "no scale": (arrays_with(lstm_0__kernel__scale=None), r"does not fit.*\(lstm_0/kernel/scale\)"),
    "a scale too many": (arrays_with(head__bias__scale=np.ones(3, np.float32)), r"fit.*\(head/bias/scale\)"),
    "scales for the other axis": (arrays_with(lstm_0__kernel__scale=np.ones(6, np.float32)), "fit.*kernel/scale"),
    "scales in float64": (arrays_with(lstm_0__kernel__scale=np.ones(32)), "fit.*not int8"),
    "a matrix in float32": (arrays_with(lstm_0__kernel=np.ones((6, 32), np.float32)), "fit.*not int8"),
    "a matrix of another shape": (arrays_with(lstm_0__kernel=np.ones((32, 6), np.int8)), r"\(lstm_0/kernel\)"),
    "a matrix without a sign": (arrays_with(lstm_0__kernel=np.ones((6, 32), np.uint8)), "fit.*not int8"),
    "a bias in int8": (arrays_with(lstm_0__bias=np.ones(32, np.int8)), "fit.*not int8"),
    "a bias that is not finite": (arrays_with(lstm_0__bias=np.full(32, np.nan, np.float32)), r"\(lstm_0/bias\)"),
    "another precision": (config_with(precision="float16"), "does not fit"),
    "an unknown precision": (config_with(precision="int4"), "precision should be float16 or int8, not 'int4'"),
    "a precision of no name": (config_with(precision=8), "precision should be a string"),
    "no precision": (config_with(precision=None), "precision should be float16 or int8, not 'float32'"),
    "the older version": (config_with(format_version=1), "precision should be float32, not 'int8'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_clear_line(tmp_path: Path, tokenizer: Tokenizer, kind: str) -> None:
    folder = tmp_path / "model"
    save(folder, tokenizer, INT8)
    load_model(str(folder)).weights()
    damage, words = DAMAGE[kind]
    damage(folder)
    with pytest.raises(SavedModelError, match=words) as caught:
        load_model(str(folder)).weights()
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
