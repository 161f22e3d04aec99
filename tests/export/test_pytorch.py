"""Weights from PyTorch and back; and PyTorch's numbers, which ours must be."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from networks import random_weights
from safetensors.numpy import load, load_file, save, save_file
from script_modules import load_script

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.errors import ConfigError, SavedModelError
from textgen.export.pytorch import from_torch, layer_from_torch, read_activation, read_torch, to_torch
from textgen.model import reference
from textgen.model.config import ModelConfig
from textgen.model.numpy_model import NumpyModel
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_model
from textgen.system.runtime import load_tensorflow
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
V, B, T = 11, 3, 7
SIZES = {"tied": (6, 6, True), "untied": (6, 6, False), "narrow table": (4, 6, False), "wide table": (9, 6, False)}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {}),
    "rnn": ("RNN", {}),
    "rnn, relu": ("RNN", {"nonlinearity": "relu"}),
    "no biases": ("LSTM", {"bias": False}),
}


def logits_of(config: ModelConfig, weights: dict[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
    stack = reference.stack_of(config)
    return reference.forward(weights, ids, reference.initial_state(weights, len(ids), stack), stack)[0]


# === The numbers that the texts print ===

PRINTED = [
    [-0.0382, -0.0373, -0.0662, -0.0236],
    [-0.1445, -0.0549, -0.0175, -0.0920],
    [-0.0706, -0.0701, -0.0888, -0.1205],
]
PRINTED_CELL = [-0.1892, -0.1798, -0.1382, -0.2783]


@pytest.fixture(scope="module")
def printed() -> dict[str, np.ndarray]:
    values = json.loads((ROOT / "tests" / "torch_lstm.json").read_text(encoding="utf-8"))
    return {name: np.array(value, np.float32) for name, value in values.items()}


@pytest.fixture(scope="module")
def layer_weights(printed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return layer_from_torch("lstm", {name.removesuffix("_l0"): array for name, array in printed.items()})


def test_the_fixture_is_what_the_texts_print(printed: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(printed["outputs"][:, 0], PRINTED, atol=5.1e-5)
    np.testing.assert_allclose(printed["cell"][0, 0], PRINTED_CELL, atol=5.1e-5)


def test_our_lstm_gives_them_as_a_whole_and_step_by_step(
    printed: dict[str, np.ndarray], layer_weights: dict[str, np.ndarray]
) -> None:
    load_tensorflow()
    import tensorflow as tf

    from textgen.model.layers.lstm import LSTM

    layer, inputs = LSTM(4, return_sequences=True, return_state=True), tf.constant(printed["inputs"])
    layer.build((None, None, 2))
    layer.set_weights([layer_weights[weight.name] for weight in layer.weights])
    outputs, (_, c) = layer.scan(inputs, layer.initial_state(1))
    np.testing.assert_allclose(outputs, printed["outputs"], atol=1e-6)
    np.testing.assert_allclose(c, printed["cell"][0], atol=1e-6)
    state = layer.initial_state(1)
    for x, expected in zip(inputs, printed["outputs"], strict=True):
        state = layer.step(x, state)
        np.testing.assert_allclose(state[0], expected, atol=1e-6)
    np.testing.assert_allclose(state[1], printed["cell"][0], atol=1e-6)


def test_our_numpy_cell_gives_them_as_a_whole_and_step_by_step(
    printed: dict[str, np.ndarray], layer_weights: dict[str, np.ndarray]
) -> None:
    state: reference.CellState = (np.zeros([1, 4], np.float32), np.zeros([1, 4], np.float32))
    inputs = printed["inputs"].transpose(1, 0, 2)  # [B, T, in]
    outputs, (_, c), _ = reference.layer_forward(reference.LSTM, inputs, state, layer_weights)
    np.testing.assert_allclose(outputs[0], printed["outputs"][:, 0], atol=1e-6)
    np.testing.assert_allclose(c, printed["cell"][0], atol=1e-6)
    for x, expected in zip(printed["inputs"], printed["outputs"], strict=True):
        state, _ = reference.lstm_step(x, state, layer_weights)
        np.testing.assert_allclose(state[0], expected, atol=1e-6)
    np.testing.assert_allclose(state[1], printed["cell"][0], atol=1e-6)


def test_our_writer_gives_them(printed: dict[str, np.ndarray], layer_weights: dict[str, np.ndarray]) -> None:
    """Its pieces stand for the inputs, one after the other."""
    config = ModelConfig(4, embedding_dim=2, hidden_units=4, num_layers=1)
    weights = random_weights(config) | {f"lstm_0/{part}": array for part, array in layer_weights.items()}
    weights["embedding/table"] = np.concatenate([printed["inputs"][:, 0], np.zeros([1, 2], np.float32)])
    writer = NumpyModel(config, weights)
    state = writer.initial_state(1)
    for piece, expected in enumerate(printed["outputs"]):
        _, state = writer.step(np.array([piece]), state)
        np.testing.assert_allclose(state[0][0], expected, atol=1e-6)
    np.testing.assert_allclose(state[0][1], printed["cell"][0], atol=1e-6)


# === Beside PyTorch itself ===


@pytest.mark.oracles("torch")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_pytorch_s_both_ways(kind: str, size: str) -> None:
    import torch

    (name, options), (embedding, hidden, tied) = KINDS[kind], SIZES[size]
    module = torch.nn.ModuleDict(
        {
            "encoder": torch.nn.Embedding(V, embedding),
            "rnn": getattr(torch.nn, name)(embedding, hidden, 2, batch_first=True, **options),
            "decoder": torch.nn.Linear(hidden, V),
        }
    )
    if tied:
        module["decoder"].weight = module["encoder"].weight
    ids = np.random.default_rng(0).integers(0, V, [B, T])

    def logits() -> np.ndarray:
        with torch.no_grad():
            return module["decoder"](module["rnn"](module["encoder"](torch.tensor(ids)))[0]).numpy()

    expected, tensors = logits(), {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}
    config, weights = from_torch(tensors, options.get("nonlinearity", "tanh"))
    assert config.tie_embeddings == tied
    assert {name: array.shape for name, array in weights.items()} == config.weight_shapes()
    np.testing.assert_allclose(logits_of(config, weights, ids), expected, atol=1e-5)

    back = to_torch(config, weights)
    for name, tensor in tensors.items():
        assert back[name].shape == tensor.shape
        if "bias_" not in name or kind == "gru":  # of the others only the sum of two is kept
            np.testing.assert_array_equal(back[name], tensor)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    module.load_state_dict({name: torch.tensor(back[name]) for name in tensors})
    if kind != "no biases":
        np.testing.assert_allclose(logits(), expected, atol=1e-5)


@pytest.mark.oracles("torch")
def test_checkpoints_are_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state dict inside a checkpoint, and the whole module that the word_language_model example saves."""
    import torch

    example = type("RNNModel", (torch.nn.Module,), {"__module__": "model"})
    monkeypatch.setitem(sys.modules, "model", SimpleNamespace(RNNModel=example))
    module = example()
    module.encoder, module.rnn, module.decoder = torch.nn.Embedding(V, 6), torch.nn.LSTM(6, 6), torch.nn.Linear(6, V)
    module.drop, module.decoder.weight, module.rnn_type = torch.nn.Dropout(0.5), module.encoder.weight, "LSTM"
    source, target = tmp_path / "model.pt", tmp_path / "state.safetensors"
    command = [sys.executable, str(ROOT / "scripts" / "convert_torch_checkpoint.py"), str(source), str(target)]
    inside = [{"epoch": 3, name: module.state_dict()} for name in ("state_dict", "model_state_dict", "model")]
    for saved in (module, dict(module.named_parameters(remove_duplicate=False)), *inside):
        torch.save(saved, source)
        subprocess.run(command, check=True, capture_output=True)
        found = read_torch(target)
        assert from_torch(found)[0].tie_embeddings
        assert found.keys() == module.state_dict().keys()
        for name, tensor in module.state_dict().items():
            np.testing.assert_array_equal(found[name], tensor.numpy())


@pytest.mark.oracles("torch")
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("some text\n", "it is no checkpoint"),
        ("", "it is no checkpoint"),
        ("hello, this is text\n", "it is no checkpoint"),
        (["no", "tensors"], "holds no state dict"),
        ({}, "holds no state dict"),
        ({"model": {}}, "holds no state dict"),
        ({"epoch": 3}, "holds no state dict"),
        ({0: lambda torch: torch.ones(3)}, "has 0 in place of the name of a tensor"),
        ({"a": lambda torch: torch.eye(3).to_sparse()}, "has a sparse tensor, a:"),
        ({"a": lambda torch: torch.ones(3, dtype=torch.complex64)}, "has a complex tensor, a:"),
        ({"a": lambda torch: torch.ones(3, device="meta")}, "has a meta tensor, a:"),
        (
            {"a": lambda torch: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)},
            "has a quantized tensor, a:",
        ),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value).strip(),
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # some of these tensors are deprecated
def test_what_is_no_state_dict_is_one_line(
    content: Any, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    source, target = tmp_path / "model.pt", tmp_path / "state.safetensors"
    if isinstance(content, str):
        source.write_text(content, encoding="utf-8")
    else:
        if isinstance(content, dict):
            content = {name: value(torch) if callable(value) else value for name, value in content.items()}
        torch.save(content, source)
    script = load_script("convert_torch_checkpoint", monkeypatch)
    monkeypatch.setitem(sys.modules, "model", None)  # which the script replaces
    monkeypatch.setattr(sys, "argv", ["convert_torch_checkpoint.py", str(source), str(target)])
    with pytest.raises(SystemExit) as caught:
        script.main()
    assert problem in str(caught.value.code)
    assert str(caught.value.code).count("\n") == 0
    assert not target.exists()


# === There and back ===

OURS = [
    ModelConfig(V, 6, 6, 2, 0.0, 0.0),
    ModelConfig(V, 6, 6, 2, 0.0, 0.0, tie_embeddings=False),
    ModelConfig(V, 6, 6, 1, 0.0, 0.0, cell="gru"),
    ModelConfig(V, 6, 6, 3, 0.0, 0.0, cell="rnn"),
    ModelConfig(V, 6, 6, 1, 0.0, 0.0, cell="rnn", activation="relu"),
]


@pytest.mark.parametrize("config", OURS, ids=str)
def test_what_was_exported_comes_back_exactly(config: ModelConfig) -> None:
    weights = random_weights(config)
    found_config, found = from_torch(to_torch(config, weights), config.activation)
    assert found_config == config
    assert found.keys() == weights.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("embedding", [4, 9])
def test_a_projection_is_multiplied_into_the_decoder(embedding: int, tied: bool) -> None:
    config = ModelConfig(V, embedding, 6, 2, tie_embeddings=tied)
    weights, ids = random_weights(config), np.random.default_rng(1).integers(0, V, [B, T])
    found_config, found = from_torch(to_torch(config, weights))
    assert not found_config.tie_embeddings
    np.testing.assert_allclose(logits_of(found_config, found, ids), logits_of(config, weights, ids), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"cell": "peephole"}, "cell peephole"),
        ({"cell": "mogrifier"}, "cell mogrifier"),
        ({"cell": "gru", "reset_after": False}, "reset_after"),
        ({"residual": True}, "residual"),
        ({"layer_norm": True}, "layer_norm"),
        ({"direction": "backward"}, "direction backward"),
        ({"direction": "both"}, "direction both"),
        ({"attention": 3}, "attention"),
    ],
)
def test_what_pytorch_has_not_is_refused(options: dict[str, Any], named: str) -> None:
    config = ModelConfig(V, 6, 6, 1, **options)
    with pytest.raises(ConfigError, match=f"cannot express this network: {named}"):
        to_torch(config, random_weights(config))


def test_names_are_told_by_their_ends_and_matrices_by_bias_and_shape() -> None:
    tensors = to_torch(OURS[1], random_weights(OURS[1]))
    names = {"encoder.weight": "model.wte.weight", "decoder.weight": "model.fc.weight", "decoder.bias": "model.fc.bias"}
    renamed = {names.get(name, name.replace("rnn.", "model.lstm.")): array for name, array in tensors.items()}
    renamed = dict(sorted(renamed.items()))  # the output layer comes first
    for name, array in from_torch(renamed)[1].items():
        np.testing.assert_array_equal(array, from_torch(tensors)[1][name])
    tied = to_torch(OURS[0], random_weights(OURS[0]))
    del tied["encoder.weight"]  # files hold shared weights once
    assert from_torch(tied)[0].tie_embeddings


@pytest.mark.parametrize("names", [("encoder", "decoder"), ("tok_emb", "head"), ("model.embed_tokens", "lm_head")])
def test_an_output_layer_without_bias_is_told_in_a_file_whose_order_says_nothing(names: tuple[str, str]) -> None:
    shape = replace(OURS[1], embedding_dim=OURS[1].hidden_units, tie_embeddings=False)
    made = random_weights(shape)
    made["head/bias"] = np.zeros_like(made["head/bias"])
    tensors = to_torch(shape, made)
    del tensors["decoder.bias"]
    ends = dict(zip(("encoder.weight", "decoder.weight"), names, strict=True))
    renamed = {f"{ends[name]}.weight" if name in ends else name: array for name, array in tensors.items()}
    read = load(save({name: np.ascontiguousarray(array) for name, array in renamed.items()}))
    found = from_torch(read)[1]
    np.testing.assert_array_equal(found["embedding/table"], made["embedding/table"])
    np.testing.assert_array_equal(found["head/kernel"], made["head/kernel"])
    nameless = {name.replace(names[0], "a").replace(names[1], "b"): array for name, array in renamed.items()}
    with pytest.raises(SavedModelError, match=r"[ab]\.weight and [ab]\.weight could each be the embedding: save"):
        from_torch(nameless)


def test_shapes_tell_the_ends_without_bias_and_names() -> None:
    shape = ModelConfig(V, 8, 6, 1, 0.0, 0.0, tie_embeddings=False)
    tensors = to_torch(shape, random_weights(shape))
    del tensors["decoder.bias"]
    names = {"encoder.weight": "b.weight", "decoder.weight": "a.weight"}
    found = from_torch({names.get(name, name): tensors[name] for name in sorted(tensors)})[1]
    for name, array in from_torch(tensors)[1].items():
        np.testing.assert_array_equal(found[name], array)


def test_the_bias_of_an_output_layer_that_shares_the_weights_of_the_embedding_may_have_its_name() -> None:
    tied = to_torch(OURS[0], random_weights(OURS[0]))
    expected = from_torch(tied)[1]
    table, bias = tied.pop("decoder.weight"), tied.pop("decoder.bias")
    del tied["encoder.weight"]
    config, found = from_torch(tied | {"embedding.weight": table, "output.bias": bias})
    assert config.tie_embeddings
    np.testing.assert_array_equal(found["head/bias"], expected["head/bias"])


def without(*names: str) -> dict[str, np.ndarray]:
    tensors = to_torch(OURS[1], random_weights(OURS[1]))
    return {name: array for name, array in tensors.items() if name not in names}


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({}, "no weight_ih_l0 among no tensors"),
        (without("rnn.weight_hh_l1"), "weight_hh_l1 is missing"),
        (without("rnn.weight_ih_l0", "rnn.weight_hh_l0"), "weight_ih_l0 or weight_hh_l0 is missing"),
        (without("encoder.weight", "decoder.weight"), r"There are: none"),
        (without("decoder.weight") | {"decoder.weight": np.zeros((V, 5))}, r"decoder.weight \(11, 5\)"),
        (without() | {"rnn.weight_hh_l0": np.zeros((30, 6))}, r"weight_hh_l0 has the shape"),
        (without() | {"rnn.weight_hh_l0": np.zeros(24)}, r"weight_hh_l0 has the shape \(24,\)"),
        (without() | {"rnn.bias_ih_l1": np.zeros(5)}, r"bias_ih_l1 has the shape \(5,\)"),
        (without() | {"rnn.weight_ih_l0_reverse": np.zeros((24, 6))}, "Unexpected tensors: rnn.weight_ih_l0_reverse"),
        (without() | {"norm.bias": np.zeros(6)}, "Unexpected tensors: norm.bias"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_state_dict_that_does_not_fit(tensors: dict[str, np.ndarray], expected: str) -> None:
    with pytest.raises(SavedModelError, match=expected) as caught:
        from_torch(tensors)
    assert "Expected are the weights of" in str(caught.value)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_activation_of_an_rnn_comes_back_without_being_named(
    activation: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    config = ModelConfig(tokenizer.vocab_size, 6, 6, 2, cell="rnn", activation=activation)
    folder, corpus = tmp_path / "models", CorpusConfig(documents="line")
    save_model(folder / "plain", random_weights(config), config, TokenizerConfig("char"), corpus, tokenizer)
    file = str(tmp_path / "state.safetensors")
    exported = CliRunner().invoke(textgen, ["export", "plain", file])
    assert exported.exit_code == 0
    assert ('nonlinearity="relu"' in exported.stderr) == (activation == "relu")
    imported = CliRunner().invoke(textgen, ["import", file, "--name", "again", "--tokenizer-from", "plain"])
    assert imported.exit_code == 0
    again = load_model("again")
    assert again.model_config.activation == activation
    ids = np.random.default_rng(2).integers(0, tokenizer.vocab_size, [B, T])
    before = logits_of(config, load_model("plain").weights(), ids)
    np.testing.assert_array_equal(logits_of(again.model_config, again.weights(), ids), before)


def test_what_is_neither_a_page_nor_weights_is_said(tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("The cat sat on the mat.\n" * 9, encoding="utf-8")
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "state.safetensors")
    text = CliRunner().invoke(textgen, ["import", str(tmp_path / "en.txt"), "--name", "zz"])
    assert (text.exit_code, text.stdout) == (1, "")
    assert (
        "en.txt is neither a page of textgen export, whose name ends in .html, nor a safetensors file." in text.stderr
    )
    weights = CliRunner().invoke(textgen, ["import", str(tmp_path / "state.safetensors"), "--name", "zz"])
    assert (weights.exit_code, weights.stdout) == (2, "")
    assert "--tokenizer-from is required with --format pytorch." in weights.stderr


def test_import_and_export_are_commands(tmp_path: Path, tokenizer: Tokenizer) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(textgen, arguments, catch_exceptions=False, prog_name="textgen")

    config = ModelConfig(tokenizer.vocab_size, 6, 6, 1, 0.0, 0.0, cell="gru")
    save_model(
        tmp_path / "models" / "ours", random_weights(config), config, TokenizerConfig("char"), CorpusConfig(), tokenizer
    )
    file = str(tmp_path / "state.safetensors")
    assert run("export", "ours", file, "--format", "pytorch").exit_code == 0
    assert list(load_file(file))[-1].startswith("rnn.")
    assert run("import", file, "--format", "pytorch", "--name", "again", "--tokenizer-from", "ours").exit_code == 0
    ours, again = load_model("ours"), load_model("again")
    assert again.model_config == config
    for name, array in ours.weights().items():
        np.testing.assert_array_equal(again.weights()[name], array)
    texts = [run("sample", name, "--seed", "1", "--max-tokens", "9").stdout for name in ("ours", "again")]
    assert texts[0] == texts[1]

    wrong = run("import", file, "--name", "other", "--tokenizer-from", "ours", "--activation", "relu")
    assert (wrong.exit_code, wrong.stderr.count("--activation is for an nn.RNN")) == (2, 1)
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "odd.safetensors")
    (tmp_path / "no.safetensors").write_bytes(b"no")
    for name, arguments, expected in (
        ("again", [file, "--tokenizer-from", "ours"], "already holds a model"),
        ("other", [file, "--tokenizer-from", "byte"], "name the tokenizer"),
        ("other", [str(tmp_path / "odd.safetensors"), "--tokenizer-from", "ours"], "no weight_ih_l0"),
        ("other", [str(tmp_path / "no.safetensors"), "--tokenizer-from", "ours"], "Cannot read"),
        ("other", [str(tmp_path / "nowhere"), "--tokenizer-from", "ours"], "Cannot read"),
        ("other", [str(tmp_path / "nowhere")], "Cannot read"),
    ):
        result = run("import", *arguments, "--name", name)
        assert result.exit_code == 1
        assert expected in result.stderr
        assert not (tmp_path / "models" / "other").exists()


# === Files ===


def tensor_file(path: Path, kind: str, data: bytes, name: str = "encoder.weight", start: int = 0) -> Path:
    """A safetensors file with one tensor of two numbers; damaged unless it starts at 0."""
    header = json.dumps({name: {"dtype": kind, "shape": [2], "data_offsets": [start, start + len(data)]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def test_numbers_of_all_types_are_read(tmp_path: Path) -> None:
    for kind, data in {"BF16": b"\x80\x3f\x00\xc0", "F16": b"\x00\x3c\x00\xc0", "I8": b"\x01\xfe"}.items():
        found = read_torch(tensor_file(tmp_path / "state", kind, data))["encoder.weight"]
        np.testing.assert_array_equal(found, np.array([1, -2], np.float32))
        assert found.dtype == np.float32


@pytest.mark.parametrize(("kind", "data"), [("F8_E4M3", b"\x38\x40"), ("BOOL", b"\0\1"), ("C64", bytes(16))])
def test_of_a_type_that_is_not_read_it_is_said_what_to_save(tmp_path: Path, kind: str, data: bytes) -> None:
    with pytest.raises(SavedModelError, match=f"of the type {kind}: encoder.weight. Save them as float32."):
        read_torch(tensor_file(tmp_path / "state", kind, data))


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e300])
def test_weights_that_are_not_finite_are_said_with_their_file_and_names(tmp_path: Path, number: float) -> None:
    """Also those that float32 cannot hold, without a warning."""
    save_file({"a": np.zeros(3), "b": np.array([0.0, number])}, tmp_path / "state")
    expected = re.escape(f"{tmp_path / 'state'} has weights that are not finite in float32: b. Save ")
    with pytest.raises(SavedModelError, match=expected):
        read_torch(tmp_path / "state")


def test_biases_whose_sum_is_not_finite_are_refused() -> None:
    tensors = without()
    for name in ("rnn.bias_ih_l1", "rnn.bias_hh_l1"):
        tensors[name] = np.full_like(tensors[name], 3e38)
    with pytest.raises(SavedModelError, match="sum of bias_ih_l1 and bias_hh_l1 is not finite in float32"):
        from_torch(tensors)


def test_of_many_tensors_the_first_are_named_each_in_one_line(tmp_path: Path) -> None:
    odd = {f"layer{number:04}\n\x1b[31m.{'x' * 1000}": np.zeros(1, np.float32) for number in range(500)}
    matrices = {f"{name}.weight": np.zeros((1, 1), np.float32) for name in odd}
    both_ends = {name: array for name, array in without().items() if name.startswith("rnn.")}
    long = "x" * 1000 + "\n"
    renamed = without("encoder.weight", "decoder.weight", "decoder.bias") | {
        f"{long}{end}.weight": array
        for end, array in zip("ab", np.arange(2 * V * 6, dtype=np.float32).reshape(2, V, 6), strict=True)
    }
    wrong_bias = without("decoder.weight", "decoder.bias") | {
        f"{long}.weight": without()["decoder.weight"],
        f"{long}.bias": np.zeros(3, np.float32),
    }
    for tensors in (odd, without() | odd, both_ends | matrices, renamed, wrong_bias):
        with pytest.raises(SavedModelError) as caught:
            from_torch(tensors)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1500
        assert (" and 492 more" in str(caught.value)) == (len(tensors) > 100)
    save_file({name: array.astype(bool) for name, array in odd.items()}, tmp_path / "state")
    tensor_file(tmp_path / "damaged", "F32", bytes(8), long * 100, start=4)
    for name in ("state", "damaged"):
        with pytest.raises(SavedModelError) as caught:
            read_torch(tmp_path / name)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1500
    with pytest.raises(SavedModelError) as caught:
        read_activation(tmp_path / "damaged")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("number", [1, 2000])
def test_more_matrices_than_an_embedding_and_an_output_layer_are_refused_at_once(number: int) -> None:
    """Their pairs are not compared: of thousands there would be millions."""
    more = {f"more.{n}.weight": np.zeros((4, 1), np.float32) for n in range(number)}
    message = rf"^There are {number + 2:,} matrices besides those of the recurrent layers: .*more\.0\.weight \(4, 1\)"
    with pytest.raises(SavedModelError, match=message):
        from_torch(without() | more)


def test_a_number_of_a_layer_that_is_no_number_of_a_layer() -> None:
    name = f"rnn.weight_ih_l{'1' * 5000}"
    with pytest.raises(SavedModelError, match=r"^Unexpected tensors: rnn\.weight_ih_l1+\.\.\.\. Expected"):
        from_torch(without() | {name: np.zeros((24, 6), np.float32)})


@pytest.mark.parametrize("options", [[], ["--format", "pytorch", "--tokenizer-from", "byte"]])
def test_what_is_no_file_is_not_said_to_be_damaged(tmp_path: Path, options: list[str]) -> None:
    for name, expected in {
        "missing": "No such file or directory. Name a .safetensors file of the weights.",
        ".": "it is a folder. Name a .safetensors file of the weights.",
    }.items():
        path = tmp_path / name
        result = CliRunner().invoke(textgen, ["import", str(path), "--name", "zz", *options])
        assert (result.exit_code, result.stderr) == (1, f"Error: Cannot read {path}: {expected}\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_nobody_waits_in_a_pipe_for_weights(tmp_path: Path) -> None:
    """Where the library opens it, no signal ends the waiting; here an end for writing is open, so that none is long."""
    os.mkfifo(tmp_path / "pipe")
    with open(os.open(tmp_path / "pipe", os.O_RDWR | os.O_NONBLOCK), "rb"):
        for read in (read_torch, read_activation):
            with pytest.raises(SavedModelError, match=r"it is a pipe\. Save what comes out of it to a file, and name"):
                read(tmp_path / "pipe")
