"""Networks in 8 bits: made once, kept in the cache folder, measured, refused if they lose too much."""

from __future__ import annotations

import json
import shutil
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textgen.errors import ConfigError
from textgen.model import onnx_int8, onnx_model, prediction_change
from textgen.model.compiled_model import CompiledModel
from textgen.model.numpy_model import NumpyModel
from textgen.model.onnx_model import OnnxModel
from textgen.model.prediction_change import PredictionChange
from textgen.model.reference import initial_weights
from textgen.saved_model import saved_model
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model
from textgen.storage.cache_eviction import clear, entries


@pytest.fixture
def saved(tiny_models: Path) -> ModelFolder:
    return load_model("tiny", tiny_models)


def entry(tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "cache" / "networks").iterdir()
    return folder


def test_it_is_measured_once(saved: ModelFolder, tmp_path: Path) -> None:
    said: list[str] = []
    assert saved.int8_loss is None
    first = saved.step_model("onnx", said.append)
    second = saved.step_model("onnx", said.append)
    checking = f"Checking how much accuracy the model {saved.name} loses with 8-bit weights."
    assert said == [f"{checking} This is done once and takes a few seconds."]
    assert isinstance(first, OnnxModel)
    ids = np.array([3], np.int32)
    np.testing.assert_array_equal(
        first.step(ids, first.initial_state(1))[0], second.step(ids, second.initial_state(1))[0]
    )
    record = json.loads((entry(tmp_path) / "loss.json").read_text())
    assert saved.int8_loss == PredictionChange(**record["loss"])


def test_an_entry_with_other_names_is_measured_again(saved: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_names(change: PredictionChange) -> dict[str, float]:
        return dict(zip(("perplexity", "kl", "same_top", "tokens"), astuple(change), strict=True))

    with monkeypatch.context() as patch:
        patch.setattr(PredictionChange, "to_dict", other_names)
        saved.step_model("onnx")
    said: list[str] = []
    assert isinstance(saved.step_model("onnx", said.append), OnnxModel)
    assert len(said) == 1
    assert saved.int8_loss is not None
    assert saved.int8_loss.is_small


@pytest.mark.parametrize(
    ("damage", "how"),
    [
        ("network.onnx", "shorter"),
        ("network.onnx", "altered"),
        ("network.onnx", "missing"),
        ("loss.json", "altered"),
        ("MANIFEST.json", "shorter"),
    ],
)
def test_a_damaged_entry_is_made_again(saved: ModelFolder, tmp_path: Path, damage: str, how: str) -> None:
    saved.step_model("onnx")
    file = entry(tmp_path) / damage
    whole = file.read_bytes()
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes(whole[:-9] if how == "shorter" else whole[:-9] + b"x" * 9)
    said: list[str] = []
    assert isinstance(saved.step_model("onnx", said.append), OnnxModel)
    assert len(said) == 1
    assert file.read_bytes() == whole


def test_a_network_that_loses_too_much_writes_in_float32(
    saved: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_change, "MAX_DIVERGENCE", 0.0)
    said: list[str] = []
    for _ in range(2):
        assert isinstance(saved.step_model("onnx", said.append), NumpyModel)
    assert len([line for line in said if line.startswith("Checking")]) == 1
    assert "would lose too much accuracy (perplexity" in said[-1]
    assert sorted(path.name for path in entry(tmp_path).iterdir()) == ["MANIFEST.json", "loss.json"]


def test_other_weights_are_another_entry(saved: ModelFolder, tmp_path: Path) -> None:
    saved.step_model("onnx")
    weights = {name: 0.9 * array for name, array in saved.weights().items()}
    configs = (saved.model_config, saved.tokenizer_config, saved.corpus_config)
    save_model(tmp_path / "other", weights, *configs, saved.tokenizer)
    load_model(str(tmp_path / "other")).step_model("onnx")
    assert len(list((tmp_path / "cache" / "networks").iterdir())) == 2


def test_the_network_is_made_for_texts_of_every_label(
    saved: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = saved.tokenizer.with_labels(["loud", "quiet"])
    config = replace(saved.model_config, vocab_size=tokenizer.vocab_size)
    weights = initial_weights(config, np.random.default_rng(0))
    save_model(tmp_path / "loud", weights, config, saved.tokenizer_config, saved.corpus_config, tokenizer)
    openings: list[Any] = []

    def measured(*arguments: Any) -> tuple[bytes, PredictionChange]:
        openings.extend(arguments[-1])
        return b"", PredictionChange(1.0, 1.0, 0.0, 1)

    monkeypatch.setattr(onnx_int8, "int8_network", measured)
    load_model(str(tmp_path / "loud")).step_model("onnx")
    first = saved.tokenizer.vocab_size
    assert openings == [[tokenizer.eos_id, id] for id in (first, first + 1, first + 2)]


def test_the_cache_lists_and_clears_it(saved: ModelFolder, tmp_path: Path) -> None:
    saved.step_model("onnx")
    (found,) = entries(tmp_path / "cache")
    assert (found.content, found.in_use) == (saved.name, False)
    assert clear(tmp_path / "cache") == ([found], [])


def test_it_is_not_kept_where_there_is_no_room(
    saved: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTGEN_CACHE_LIMIT", "0")
    assert isinstance(saved.step_model("onnx"), OnnxModel)
    assert list((tmp_path / "cache" / "networks").iterdir()) == []


def test_it_writes_if_the_cache_cannot_be_written(
    saved: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "networks").write_text("a file, where the folder should be")
    stages, notes = list[str](), list[str]()
    assert isinstance(saved.step_model("onnx", stages.append, notes.append), OnnxModel)
    assert [line.split()[0] for line in stages] == ["Checking"]
    assert [line.split()[:2] for line in notes] == [["Cannot", "write"]]


def test_auto_takes_it_for_large_networks_only(saved: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(saved.step_model(), NumpyModel)
    monkeypatch.setattr(saved_model, "MIN_ONNX_WEIGHTS", 1)
    assert isinstance(saved.step_model(), OnnxModel)
    assert isinstance(saved.step_model("numpy"), NumpyModel)
    assert isinstance(saved.step_model("tensorflow"), CompiledModel)


def test_without_the_extra(saved: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_model, "LIBRARIES", ("onnx_of_nobody",))
    monkeypatch.setattr(saved_model, "MIN_ONNX_WEIGHTS", 1)
    assert isinstance(saved.step_model(), NumpyModel)
    assert saved.int8_loss is None
    with pytest.raises(ConfigError, match=r'needs onnx_of_nobody: run pip install "\.\[onnx\]"'):
        saved.step_model("onnx")


def test_fewer_levels_where_sums_saturate(saved: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx
    from onnx import numpy_helper

    largest = []
    for saturates in (False, True):
        monkeypatch.setattr(onnx_int8, "_saturates", lambda saturates=saturates: saturates)
        saved.step_model("onnx")
        graph = onnx.load(str(entry(tmp_path) / "network.onnx")).graph
        arrays = [numpy_helper.to_array(each) for each in graph.initializer]
        largest.append(max(int(np.abs(array.astype(int)).max()) for array in arrays if array.dtype == np.int8))
        shutil.rmtree(entry(tmp_path))
    assert largest == [127, 63]
