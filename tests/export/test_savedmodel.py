"""A SavedModel, loaded by TensorFlow alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import CELLS, IDS, assert_same_logits, model_of, run_without_textgen

from textgen.export.savedmodel import export_savedmodel, save_module
from textgen.saved_model.saved_model import ModelFolder
from textgen.storage.files import CannotWrite
from textgen.tokenizer.kinds import load_tokenizer
from textgen.tokenizer.tokenizer import Tokenizer

PROGRAM = """
import tensorflow as tf
saved = tf.saved_model.load("out").signatures
state = saved["initial_state"](batch_size=tf.constant(1))
rows = []
for id in np.load("ids.npy"):
    state = saved["step"](ids=tf.constant([id]), **state)
    rows.append(state.pop("logits").numpy()[0])
logits = np.stack(rows)
"""


def exported(tmp_path: Path, tokenizer: Tokenizer, **options: Any) -> tuple[ModelFolder, str]:
    model = model_of(tmp_path, tokenizer, **options)
    return model, export_savedmodel(model, tmp_path / "out")


@pytest.mark.parametrize("kind", ["lstm", "mogrifier, attention"])
def test_the_signatures_compute_the_same_logits(kind: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    import tensorflow as tf

    model, note = exported(tmp_path, tokenizer, **CELLS[kind])
    assert "signatures initial_state, read, serving_default, step." in note
    loaded = tf.saved_model.load(str(tmp_path / "out"))
    saved = loaded.signatures
    two = np.stack([IDS, IDS[::-1]])
    at_once = saved["serving_default"](ids=tf.constant(two))["logits"]
    assert_same_logits(model, at_once[0])

    state = saved["read"](ids=tf.constant(two[:, :100]), **saved["initial_state"](batch_size=tf.constant(2)))
    np.testing.assert_allclose(state.pop("logits"), at_once[:, 99], atol=1e-5)
    rest = []
    for ids in two[:, 100:].T:
        state = saved["step"](ids=tf.constant(ids), **state)
        rest.append(state.pop("logits")[0])
    assert_same_logits(model, np.concatenate([at_once[0, :100], np.stack(rest)]))
    for name, array in model.weights().items():
        np.testing.assert_array_equal(loaded.weights[name], array)

    files = {name: Path(asset.asset_path.numpy().decode()) for name, asset in loaded.attached.items()}
    assert all(path.parent == tmp_path / "out" / "assets" for path in files.values())
    assert json.loads(files["metadata.json"].read_text(encoding="utf-8"))["fingerprint"] == model.fingerprint
    assert load_tokenizer(files["tokenizer.model"].read_bytes()).encode("cat") == tokenizer.encode("cat")


@pytest.mark.slow
@pytest.mark.parametrize("kind", CELLS)
def test_another_program_computes_the_same_logits(kind: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    model, note = exported(tmp_path, tokenizer, **CELLS[kind])
    assert_same_logits(model, run_without_textgen(PROGRAM, tmp_path))
    assert ("reads text backward" in note) == (kind == "backward")


def test_a_full_disk_is_said_without_the_operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    def save(*given: object, **options: object) -> None:
        message = f"{tmp_path}/variables/part; No space left on device [Op:SaveV2]"
        raise tf.errors.ResourceExhaustedError(None, None, message)

    monkeypatch.setattr(tf.saved_model, "save", save)
    with pytest.raises(CannotWrite, match=r"^Cannot write out: No space left on device\. Free some space"):
        save_module(None, {}, tmp_path, Path("out"))
