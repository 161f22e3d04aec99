"""A `.keras` file, loaded by Keras alone."""

from __future__ import annotations

import errno
import json
import sys
import tempfile
import zipfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from exported import CELLS, IDS, KERAS_CELLS, assert_same_logits, model_of, run_without_textgen

from textgen.errors import ConfigError
from textgen.export import keras as module
from textgen.export.keras import export_keras
from textgen.saved_model.saved_model import ModelFolder
from textgen.storage.files import CannotWrite
from textgen.tokenizer.kinds import load_tokenizer
from textgen.tokenizer.tokenizer import Tokenizer

# Keras reads its own weights in a way that NumPy 2 warns of, when it saves them.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

PROGRAM = """
import keras
model = keras.models.load_model("out.keras")
state = {name: keras.ops.zeros((1, x.shape[1])) for name, x in model.input.items() if name != "ids"}
rows = []
for id in np.load("ids.npy"):
    state = model({"ids": keras.ops.array([[id]]), **state})
    rows.append(np.asarray(state.pop("logits"))[0, 0])
logits = np.stack(rows)
"""
FEW = IDS[:16]  # Keras reads slowly where nothing is compiled


def exported(tmp_path: Path, tokenizer: Tokenizer, **options: Any) -> tuple[ModelFolder, str]:
    model = model_of(tmp_path, tokenizer, **options)
    return model, export_keras(model, tmp_path / "out.keras")


def logits_of(path: Path, ids: np.ndarray) -> np.ndarray:
    import keras

    network = keras.models.load_model(path)
    assert all(type(layer).__module__.startswith("keras.") for layer in network.layers)
    state = {name: keras.ops.zeros((1, x.shape[1])) for name, x in network.input.items() if name != "ids"}
    parts = []
    for part in (ids[:1], ids[1:2], ids[2:]):
        state = network({"ids": keras.ops.array(part[None]), **state})
        parts.append(np.asarray(state.pop("logits"))[0])
    return np.concatenate(parts)


@pytest.mark.parametrize("kind", ["lstm", pytest.param("gru", marks=pytest.mark.slow)])
def test_keras_computes_the_same_logits(kind: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    model, note = exported(tmp_path, tokenizer, **KERAS_CELLS[kind])
    assert_same_logits(model, logits_of(tmp_path / "out.keras", FEW), FEW)
    assert ("copy of the embedding" in note) == model.model_config.tie_embeddings


@pytest.mark.slow
@pytest.mark.parametrize("kind", KERAS_CELLS)
def test_another_program_computes_the_same_logits(kind: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    model, note = exported(tmp_path, tokenizer, **KERAS_CELLS[kind])
    assert_same_logits(model, run_without_textgen(PROGRAM, tmp_path))
    assert ("reads text backward" in note) == (kind == "backward")
    assert ("Only the forward network" in note) == (kind == "both directions")


@pytest.mark.parametrize("kind", sorted(CELLS.keys() - KERAS_CELLS.keys()))
def test_what_keras_has_not_is_refused(kind: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    named = {"mogrifier, attention": "cell mogrifier, attention", "mogrifier, low rank": "cell mogrifier"}
    expected = f"cannot express this network: {named.get(kind, f'cell {kind}')}. Export it as savedmodel or litert"
    with pytest.raises(ConfigError, match=expected):
        exported(tmp_path, tokenizer, **CELLS[kind])
    assert not (tmp_path / "out.keras").exists()


def test_tokenizer_and_metadata_are_in_the_file(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model, _ = exported(tmp_path, tokenizer, num_layers=1)
    with zipfile.ZipFile(tmp_path / "out.keras") as archive:
        metadata = json.loads(archive.read("textgen/metadata.json"))
        assert load_tokenizer(archive.read("textgen/tokenizer.model")).encode("cat") == tokenizer.encode("cat")
    assert metadata["fingerprint"] == model.fingerprint
    assert (metadata["eos_id"], metadata["opening"]) == (tokenizer.eos_id, tokenizer.opening())


def test_what_keras_leaves_where_the_disk_is_full_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(path: Path) -> None:
        left = Path(tempfile.mkdtemp())
        raise OSError(errno.ENOSPC, "No space left on device", str(left))

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setitem(sys.modules, "keras", Mock())
    for name in ("load_tensorflow", "refuse"):
        monkeypatch.setattr(module, name, lambda *given: None)
    monkeypatch.setattr(module, "quiet", nullcontext)
    monkeypatch.setattr(module, "keras_network", lambda *given: SimpleNamespace(save=save))
    with pytest.raises(CannotWrite, match="set TMPDIR to a folder with more space"):
        export_keras(Mock(one_way=lambda direction: (None, None)), tmp_path / "out.keras")
    assert (list(tmp_path.iterdir()), tempfile.tempdir) == ([], str(tmp_path))
