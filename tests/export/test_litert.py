"""A `.tflite` file, loaded by LiteRT alone."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from exported import CELLS, IDS, assert_same_logits, model_of, run_without_textgen

from textgen.errors import SavedModelError
from textgen.export import litert
from textgen.export.litert import PREFILL, LiteRTModel, export_litert, export_litert_int8
from textgen.export.verification import model_logits
from textgen.model import prediction_change
from textgen.tokenizer.kinds import load_tokenizer
from textgen.tokenizer.tokenizer import Tokenizer

PROGRAM = """
from ai_edge_litert.interpreter import Interpreter, OpResolverType
plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
interpreter = Interpreter("out.tflite", experimental_op_resolver_type=plain)
prefill, decode = map(interpreter.get_signature_runner, ("prefill_16", "decode"))
inputs = decode.get_input_details()
start = {name: np.zeros(of["shape"], "float32") for name, of in inputs.items() if name != "ids"}
state, rows, ids = start, [], np.load("ids.npy")
for number, id in enumerate(ids):
    if number == 16:  # what was read one by one is read again at once
        state = prefill(ids=ids[None, :16], **start)
    state = decode(ids=np.array([[id]], "int32"), **state)
    rows.append(state.pop("logits")[0, 0])
logits = np.stack(rows)
assert "tensorflow" not in sys.modules
"""


def test_a_program_without_tensorflow_computes_the_same_logits(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = model_of(tmp_path, tokenizer)
    assert "decode and prefill_16, float32." in export_litert(model, tmp_path / "out.tflite")
    assert_same_logits(model, run_without_textgen(PROGRAM, tmp_path))
    with zipfile.ZipFile(tmp_path / "out.tflite") as archive:
        assert json.loads(archive.read("textgen/metadata.json"))["fingerprint"] == model.fingerprint
        assert load_tokenizer(archive.read("textgen/tokenizer.model")).encode("cat") == tokenizer.encode("cat")


@pytest.mark.slow
@pytest.mark.parametrize("kind", CELLS)
def test_every_cell(kind: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = model_of(tmp_path, tokenizer, **CELLS[kind])
    export_litert(model, tmp_path / "out.tflite")
    assert_same_logits(model, run_without_textgen(PROGRAM, tmp_path))


def test_int8_weights_are_smaller_and_close(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And they are refused where they lose too much. Matrices of fewer than 1,024 weights stay float32."""
    options = {"embedding_dim": 48, "hidden_units": 48, "num_layers": 1}
    model, path = model_of(tmp_path, tokenizer, bias=10, **options), tmp_path / "out.tflite"
    note = export_litert_int8(model, path)
    assert "int8: perplexity " in note
    weights = sum(array.size for array in model.weights().values())
    assert path.stat().st_size < 2.5 * weights  # bytes; float32 would take 4 for each
    loaded = LiteRTModel(path.read_bytes())
    logits, _ = loaded.step(IDS[:1], loaded.initial_state(1))
    assert 0 < np.abs(logits - model_logits(model, IDS[:1])).max() < 0.1

    before = path.read_bytes()
    monkeypatch.setattr(litert, "_convert", lambda model, *, is_int8: before)
    monkeypatch.setattr(litert, "with_attachments", lambda data, files: data)  # they are there
    monkeypatch.setattr(prediction_change, "MAX_DIVERGENCE", 1e-9)
    with pytest.raises(
        SavedModelError, match=r"would lose too much by rounding: perplexity .*export the model as litert\."
    ):
        export_litert_int8(model, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("export", [export_litert, pytest.param(export_litert_int8, marks=pytest.mark.slow)])
def test_a_prefill_that_differs_is_refused(
    export: Callable[..., str], tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litert, "read_steps", lambda network, ids, state, kept, keep: (state, kept))
    with pytest.raises(SavedModelError, match=f"prefill_{PREFILL} differs from {PREFILL} calls of decode"):
        export(model_of(tmp_path, tokenizer, num_layers=1), tmp_path / "out.tflite")
    assert not (tmp_path / "out.tflite").exists()
