"""Export to ONNX: what ONNX Runtime makes of the file is what the model makes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from networks import random_weights

from textgen import versions
from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.errors import ConfigError, SavedModelError, TextgenError
from textgen.export import onnx as exporter
from textgen.export.attribution import Attribution
from textgen.export.interface import metadata
from textgen.export.onnx import export_onnx
from textgen.model.config import ModelConfig
from textgen.model.onnx_graph import step_graph
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

STEPS = 256
TEXTS = ("textgen", "name", "fingerprint", "tokenizer", "direction", "licence", "note")


@pytest.fixture
def model_of(tokenizer: Tokenizer, tmp_path: Path) -> Callable[..., ModelFolder]:
    """`model_of(cell="gru")` is a small saved model of random weights."""

    def make(**settings: Any) -> ModelFolder:
        config = ModelConfig(tokenizer.vocab_size, **{"embedding_dim": 6, "hidden_units": 8} | settings)
        weights = random_weights(config, scale=0.4)
        folder = tmp_path / "models" / "net"
        save_model(folder, weights, config, TokenizerConfig("char"), CorpusConfig(documents="line"), tokenizer)
        return load_model("net")

    return make


@pytest.mark.parametrize(
    "settings",
    [
        *({"cell": cell} for cell in ("lstm", "gru", "rnn", "peephole", "mogrifier")),
        {"layer_norm": True, "residual": True, "embedding_dim": 8, "tie_embeddings": False},
        {"attention": 4},
        {"direction": "both"},
        {"direction": "backward"},
    ],
    ids=str,
)
def test_two_texts_read_by_onnx_runtime(
    model_of: Callable[..., ModelFolder], tmp_path: Path, settings: dict[str, Any]
) -> None:
    model = model_of(**settings)
    export_onnx(model, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    writer = model.numpy_model(model.main_direction)
    state = writer.initial_state(2)
    past = [array for layer in state for array in layer]
    names = [each.name for each in session.get_inputs()][1:]
    assert [each.name for each in session.get_outputs()][1:] == [name.replace("past", "present") for name in names]
    for ids in np.random.default_rng(1).integers(model.tokenizer.vocab_size, size=(STEPS, 2), dtype=np.int32):
        expected, state = writer.step(ids, state)
        logits, *past = session.run(
            None, {"input_ids": ids[:, None].astype(np.int64), **dict(zip(names, past, strict=True))}
        )
        assert logits.shape == (2, 1, model.tokenizer.vocab_size)
        np.testing.assert_allclose(logits[:, 0], expected, atol=1e-4)


@pytest.mark.parametrize("is_tied", [True, False])
def test_each_weight_is_in_the_file_once(model_of: Callable[..., ModelFolder], tmp_path: Path, is_tied: bool) -> None:
    """Also the table of a tied output layer: the check of the size counts on it."""
    model = model_of(tie_embeddings=is_tied)
    export_onnx(model, tmp_path / "net.onnx")
    graph = onnx.load(tmp_path / "net.onnx").graph
    sizes = [math.prod(array.dims) for array in graph.initializer if array.data_type == onnx.TensorProto.FLOAT]
    assert sum(sizes) == model.model_config.num_parameters
    tables = [node.input[0] for node in graph.node if node.op_type == "Gather"]
    products = [node.input[1] for node in graph.node if node.op_type == "Gemm"]
    assert (tables[0] == products[-1]) == is_tied


def test_a_pipe_does_not_take_two_files(model_of: Callable[..., ModelFolder], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.onnx")
    with pytest.raises(ConfigError, match=r"net\.onnx takes one file, and the tokenizer of net would be a second"):
        export_onnx(model_of(), tmp_path / "net.onnx")
    assert [path.name for path in tmp_path.glob("net*")] == ["net.onnx"]


def test_metadata_and_tokenizer(model_of: Callable[..., ModelFolder], tmp_path: Path) -> None:
    model = model_of(cell="gru")
    model = replace(model, training={"scores": {"bits_per_byte": 1.25}})
    note = export_onnx(model, tmp_path / "net.onnx", Attribution(licence="CC0", note="Mine."))
    assert note.startswith(f"Wrote {tmp_path / 'net.onnx'} and {tmp_path / 'net.tokenizer.model'}: input_ids, past.0.h")
    facts = {each.key: each.value for each in onnx.load(tmp_path / "net.onnx").metadata_props}
    found = {name: value if name in TEXTS else json.loads(value) for name, value in facts.items()}
    assert found == metadata(model, Attribution("CC0", "Mine."))
    assert (found["fingerprint"], found["bits_per_byte"], found["licence"]) == (model.fingerprint, 1.25, "CC0")
    assert (tmp_path / "net.tokenizer.model").read_bytes() == model.tokenizer.serialized


def test_a_model_whose_name_is_not_unicode(model_of: Callable[..., ModelFolder], tmp_path: Path) -> None:
    folder = model_of().folder.rename(tmp_path / os.fsdecode(b"\xff\xfe"))
    export_onnx(load_model(folder), tmp_path / "net.onnx")
    facts = {each.key: each.value for each in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert facts["name"] == "\\xff\\xfe"


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("v.1", "v.1.tokenizer.model"),
        ("net", "net.tokenizer.model"),
        ("net.ONNX", "net.tokenizer.model"),
        ("a.b.onnx", "a.b.tokenizer.model"),
    ],
)
def test_two_names_have_two_files_of_a_tokenizer(
    model_of: Callable[..., ModelFolder], tmp_path: Path, name: str, beside: str
) -> None:
    """What follows the last full stop of a name is a suffix only if it is onnx."""
    assert f"Wrote {tmp_path / name} and {tmp_path / beside}: " in export_onnx(model_of(), tmp_path / name)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {name, beside}


def test_an_export_through_a_link_is_known_by_the_next_one(
    model_of: Callable[..., ModelFolder], byte_model: ModelFolder, tmp_path: Path
) -> None:
    path, beside = tmp_path / "net.onnx", tmp_path / "net.tokenizer.model"
    path.symlink_to(tmp_path / "elsewhere")
    model = model_of()
    export_onnx(model, path)
    other = replace(model, tokenizer=model.tokenizer.with_labels(["poem", "play"]))
    export_onnx(other, path)
    assert beside.read_bytes() == other.tokenizer.serialized
    assert f"Removed {beside}" in export_onnx(byte_model, path)
    assert path.is_symlink()


def test_a_link_to_the_same_tokenizer_stays(model_of: Callable[..., ModelFolder], tmp_path: Path) -> None:
    model, beside = model_of(), tmp_path / "net.tokenizer.model"
    (tmp_path / "shared").write_bytes(model.tokenizer.serialized)
    beside.symlink_to(tmp_path / "shared")
    export_onnx(model, tmp_path / "net.onnx")
    assert beside.is_symlink()
    assert beside.read_bytes() == model.tokenizer.serialized


def test_a_wrong_graph_is_not_written(
    model_of: Callable[..., ModelFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = step_graph

    def wrong(config: ModelConfig, weights: dict[str, np.ndarray], **options: Any) -> onnx.ModelProto:
        return right(config, weights | {"head/bias": weights["head/bias"] + np.float32(0.1)}, **options)

    monkeypatch.setattr(exporter, "step_graph", wrong)
    with pytest.raises(SavedModelError, match=r"net\.onnx differs from the model by up to 0\.1 in a logit"):
        export_onnx(model_of(), tmp_path / "net.onnx")
    assert not list(tmp_path.glob("net*"))


def test_a_full_disk_leaves_nothing(
    model_of: Callable[..., ModelFolder], tmp_path: Path, disk_of: Callable[[int], AbstractContextManager[None]]
) -> None:
    model = model_of()
    with disk_of(1000):
        result = CliRunner().invoke(textgen, ["export", model.name, str(tmp_path / "net.onnx")])
    assert result.exit_code == 1
    assert "Cannot write" in result.stderr
    assert not list(tmp_path.glob("net*"))


def test_a_disk_with_room_for_one_of_the_two_files_leaves_both_as_they_were(
    model_of: Callable[..., ModelFolder], tmp_path: Path, disk_of: Callable[[int], AbstractContextManager[None]]
) -> None:
    model = model_of(hidden_units=32)
    export_onnx(model, tmp_path / "net.onnx", Attribution(note="The first."))
    names = ("net.onnx", "net.tokenizer.model")
    network, tokenizer = ((tmp_path / name).stat().st_size for name in names)
    before = {name: ((tmp_path / name).stat().st_ino, (tmp_path / name).read_bytes()) for name in names}
    with (
        disk_of((network + tokenizer) // 2),
        pytest.raises(TextgenError, match=r"Cannot write .*net.*: File too large"),
    ):
        export_onnx(model, tmp_path / "net.onnx")
    assert network != tokenizer
    after = {path.name: (path.stat().st_ino, path.read_bytes()) for path in tmp_path.glob("*net*")}
    assert after == before
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.fixture
def byte_model(tmp_path: Path) -> ModelFolder:
    """A model whose tokenizer, of bytes with labels, has no file."""
    byte = train_tokenizer([], TokenizerConfig("byte")).with_labels(["poem", "play"])
    config = ModelConfig(byte.vocab_size, embedding_dim=6, hidden_units=8)
    weights = {name: np.zeros(size, np.float32) for name, size in config.weight_shapes().items()}
    save_model(tmp_path / "models" / "byte", weights, config, TokenizerConfig("byte"), CorpusConfig(), byte)
    return load_model("byte")


def test_a_byte_tokenizer_has_no_file_whatever_its_labels(
    byte_model: ModelFolder, model_of: Callable[..., ModelFolder], tmp_path: Path
) -> None:
    path = tmp_path / "net.onnx"
    export_onnx(model_of(), path)
    told = export_onnx(byte_model, path)
    assert told.startswith(f"Wrote {path}: input_ids")
    assert told.endswith(
        f" Removed {tmp_path / 'net.tokenizer.model'}, which the earlier export to this file had written."
    )
    assert [found.name for found in tmp_path.glob("net*")] == ["net.onnx"]


def test_a_file_with_the_name_of_the_tokenizers_stays_if_it_is_from_elsewhere(
    byte_model: ModelFolder, model_of: Callable[..., ModelFolder], tmp_path: Path
) -> None:
    path, beside, model = tmp_path / "net.onnx", tmp_path / "net.tokenizer.model", model_of()
    export_onnx(model, tmp_path / "other.onnx")
    exported = (tmp_path / "other.tokenizer.model").read_bytes()
    other = train_tokenizer(["abc"], TokenizerConfig("char"))

    def check_refused(each: ModelFolder) -> None:
        with pytest.raises(ConfigError, match=r"net\.tokenizer\.model exists and is not from an export to .*net\.onnx"):
            export_onnx(each, path)

    for content in (b"a tokenizer of another program", other.serialized):
        beside.write_bytes(content)
        for onnx_file in (None, b"a file of another program", (tmp_path / "other.onnx").read_bytes()):
            if onnx_file:
                path.write_bytes(onnx_file)
            for each in (model, byte_model):
                check_refused(each)
            assert beside.read_bytes() == content
            assert path.exists() == (onnx_file is not None)
            path.unlink(missing_ok=True)
    beside.write_bytes(exported)
    check_refused(byte_model)
    export_onnx(model, path)  # it is the same
    beside.unlink()
    beside.mkdir()
    check_refused(model)
    check_refused(byte_model)


@pytest.mark.parametrize(("direction", "word"), [("backward", "reads text backward"), ("both", "Only the forward")])
def test_the_direction_is_told(model_of: Callable[..., ModelFolder], tmp_path: Path, direction: str, word: str) -> None:
    assert word in export_onnx(model_of(direction=direction), tmp_path / "net.onnx")


def test_a_model_of_more_than_two_gigabytes(
    model_of: Callable[..., ModelFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "MAX_FILE_BYTES", 1000)
    with pytest.raises(ConfigError, match="holds at most 2 GB"):
        export_onnx(model_of(), tmp_path / "net.onnx")


def test_without_the_extra(
    model_of: Callable[..., ModelFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "missing", list)
    result = CliRunner().invoke(textgen, ["export", model_of().name, str(tmp_path / "net.onnx")])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert (
        'The format onnx needs onnx, onnxruntime: run pip install ".[onnx]" in the folder of textgen\'s source.'
        in result.stderr
    )
