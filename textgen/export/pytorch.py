"""Converts weights between textgen and PyTorch: nn.Embedding, then nn.LSTM, nn.GRU or nn.RNN, then nn.Linear.

The layouts differ as follows:

- Kernels are [out, in] in PyTorch and [in, out] in textgen.
- The gates of an LSTM are in the same order: i, f, g, o. Those of a GRU are r, z, n in PyTorch and z, r, g in textgen.
- PyTorch has two biases per gate. For LSTM and RNN only their sum matters: it is the bias in textgen, and on export
  the second bias is 0. A GRU needs both.
- The output layer reads E inputs in textgen and H in PyTorch. On import, if E < H, the embedding table is padded with
  columns of zeros, which training does not change and export removes; if E > H, the projection is initialized as the
  identity. Neither changes the logits.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load
from safetensors.numpy import save as to_safetensors

from textgen.errors import ConfigError, SavedModelError
from textgen.export.verification import check_logits
from textgen.model.config import ACTIVATIONS, KERNEL_BLOCKS, TABLE, ModelConfig
from textgen.model.numpy_model import NumpyModel
from textgen.saved_model.arrays import LIBRARY_ERRORS
from textgen.storage.file_reading import check_readable
from textgen.storage.files import write_file
from textgen.wording import LISTED_LENGTH, listed, one_line

if TYPE_CHECKING:
    from textgen.saved_model.saved_model import ModelFolder

Arrays = Mapping[str, np.ndarray]

CELLS = ("lstm", "gru", "rnn")  # recurrent cells that PyTorch has too
NONLINEARITY = "nonlinearity"  # in the metadata of a file: the argument of nn.RNN, which the weights do not tell
NUMBERS = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8")
"""Types of tensors that are read, as safetensors names them."""
LAYER_NAME = re.compile(r"(weight|bias)_([ih]h)_l([0-9]{1,4})$")
FILE_ADVICE = "Name a .safetensors file of the weights."
EMBEDDING = re.compile(r"emb|encoder|wte", re.IGNORECASE)  # what names of embeddings contain
EXPECTED = (
    "Expected are the weights of an nn.Embedding, an nn.LSTM, nn.GRU or nn.RNN in one direction, and an nn.Linear, "
    "such as encoder.weight, rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0, rnn.bias_hh_l0, decoder.weight and "
    "decoder.bias."
)


def export_pytorch(model: ModelFolder, path: Path) -> str:
    """Writes the state dict of a module with layers `encoder`, `rnn` and `decoder` to a safetensors file.

    Args:
        model: The model.
        path: Path of the file. An existing file is replaced.

    Returns:
        What was written, in one sentence.

    Raises:
        ConfigError: PyTorch's recurrent layers cannot express the model.
        SavedModelError: The weights are damaged, or the logits of the state dict differ from those of the model.
        TextgenError: The file cannot be written.
    """
    config = model.model_config
    named = {NONLINEARITY: config.activation} if config.cell == "rnn" else None
    data = _to_bytes(to_torch(config, model.weights()), named)
    tensors = load(data)
    network = NumpyModel(*from_torch(tensors, config.activation))
    check_logits(
        model, lambda ids: network.logits(network.features(ids[None], network.initial_state(1))[0][0]), str(path)
    )
    write_file(path, data)
    other = f' Its nn.RNN has nonlinearity="{config.activation}".' if named and config.activation != "tanh" else ""
    return f"Wrote {path}: {', '.join(tensors)}.{other}"


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a safetensors file.

    Args:
        path: Path of the file.

    Returns:
        Arrays by name, converted to float32.

    Raises:
        Unreadable: The file cannot be read, and may be intact.
        SavedModelError: There is no such file, or it has tensors that are not numeric, or not finite in float32.
    """
    import ml_dtypes  # noqa: F401 comes with TensorFlow, and makes bfloat16 known to NumPy

    try:
        check_readable(path, FILE_ADVICE)
        with safe_open(path, framework="numpy") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            if odd := sorted(name for name, kind in kinds.items() if kind not in NUMBERS):
                raise SavedModelError(
                    f"{path} has tensors of the type {kinds[odd[0]]}: {listed(odd)}. Save them as float32. {EXPECTED}"
                )
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is said below
                tensors = {name: file.get_tensor(name).astype(np.float32) for name in kinds}
    except LIBRARY_ERRORS as error:
        raise SavedModelError(
            f"Cannot read {path}: {one_line(str(error))}. It should be a safetensors file with float32 tensors; "
            "scripts/convert_torch_checkpoint.py makes one of a .pt file."
        ) from None
    if bad := sorted(name for name, array in tensors.items() if not np.isfinite(array).all()):
        raise SavedModelError(
            f"{path} has weights that are not finite in float32: {listed(bad)}. Save the weights of an earlier "
            "checkpoint, or train the model again."
        )
    return tensors


def read_activation(path: Path) -> str | None:
    """Reads the activation of an nn.RNN, which `export_pytorch` notes in the metadata of the file.

    Args:
        path: Path of the file.

    Returns:
        "tanh" or "relu"; None if the file names neither.

    Raises:
        Unreadable: The file cannot be read, and may be intact.
        SavedModelError: There is no such file, or it is no safetensors file.
    """
    try:
        check_readable(path, FILE_ADVICE)
        with safe_open(path, framework="numpy") as file:
            named = (file.metadata() or {}).get(NONLINEARITY)
    except LIBRARY_ERRORS as error:
        raise SavedModelError(
            f"Cannot read {path}: {one_line(str(error))}. Name a .safetensors file of the weights, and copy it "
            "again if it is damaged."
        ) from None
    return named if named in ACTIVATIONS else None


def write_torch(path: Path, tensors: Arrays) -> None:
    """Writes tensors to a safetensors file atomically.

    Args:
        path: Path of the file. An existing file is replaced.
        tensors: Arrays by name, written as float32.

    Raises:
        TextgenError: The file cannot be written.
    """
    write_file(path, _to_bytes(tensors))


def from_torch(tensors: Arrays, activation: str = "tanh") -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """Converts a PyTorch state dict to a model config and weights.

    Layers are identified by the suffixes of their names and by their shapes.

    Args:
        tensors: State dict of a PyTorch module.
        activation: Activation of an nn.RNN, which cannot be inferred from its weights.

    Returns:
        The model config, with dropout 0, and the weights by their names in textgen.

    Raises:
        SavedModelError: A tensor is missing, has the wrong shape, or does not belong to a layer.
    """
    left = dict(tensors)
    cell, layers = _take_layers(left)
    hidden, inputs = layers[0]["recurrent_kernel"].shape[0], layers[0]["kernel"].shape[0]
    table, kernel, bias = _take_ends(left, inputs, hidden)
    if left:
        raise SavedModelError(f"Unexpected tensors: {listed(sorted(left))}. {EXPECTED}")
    tied = kernel is table or np.array_equal(kernel, table)
    embedding = max(inputs, hidden)
    config = ModelConfig(
        vocab_size=len(table),
        embedding_dim=embedding,
        hidden_units=hidden,
        num_layers=len(layers),
        dropout=0.0,
        embedding_dropout=0.0,
        tie_embeddings=tied,
        cell=cell,
        activation=activation,
    )
    layers[0]["kernel"] = _padded(layers[0]["kernel"], embedding)
    weights = {TABLE: _padded(table.T, embedding).T}
    for number, layer in enumerate(layers):
        weights |= {f"{cell}_{number}/{part}": array for part, array in layer.items()}
    if hidden != embedding:
        weights["projection/kernel"] = np.eye(hidden, embedding, dtype=np.float32)
        weights["projection/bias"] = np.zeros(embedding, np.float32)
    if not tied:
        weights["head/kernel"] = _padded(kernel.T, embedding)  # [E, V]
    weights["head/bias"] = bias
    expected = config.weight_shapes()
    if odd := [name for name, array in weights.items() if array.shape != expected.get(name)]:
        raise SavedModelError(f"The shapes of the tensors for {listed(odd)} do not fit the others. {EXPECTED}")
    return config, weights


def to_torch(config: ModelConfig, weights: Arrays) -> dict[str, np.ndarray]:
    """Converts weights to the state dict of a PyTorch module with layers `encoder`, `rnn` and `decoder`.

    A projection is multiplied into the kernel of the decoder, which is then no longer tied to the embedding.

    Args:
        config: Config of the model.
        weights: Weights by their names in textgen.

    Returns:
        The state dict.

    Raises:
        ConfigError: PyTorch's recurrent layers cannot express the model.
    """
    odd = [name for name in ("residual", "layer_norm") if getattr(config, name)]
    if config.direction != "forward":
        odd.append(f"direction {config.direction}")
    if config.attention:
        odd.append("attention")
    if config.cell not in CELLS:
        odd.append(f"cell {config.cell}")
    elif config.cell == "gru" and not config.reset_after:
        odd.append("reset_after off")
    if odd:
        raise ConfigError(f"PyTorch's recurrent layers cannot express this network: {', '.join(odd)}.")
    table = weights[TABLE]
    layers = [
        {part: weights[f"{config.cell}_{number}/{part}"] for part in ("kernel", "recurrent_kernel", "bias")}
        for number in range(config.num_layers)
    ]
    decoder, decoder_bias = weights.get("head/kernel", table.T), weights["head/bias"]  # [E, V], [V]
    if config.hidden_units != config.embedding_dim:
        decoder_bias = decoder_bias + weights["projection/bias"] @ decoder
        decoder = weights["projection/kernel"] @ decoder  # [H, V]
    if not config.tie_embeddings:  # drop columns of zeros: see the module docstring
        width = 1 + max(np.flatnonzero(table.any(axis=0) | layers[0]["kernel"].any(axis=1)), default=0)
        table, layers[0]["kernel"] = table[:, :width], layers[0]["kernel"][:width]
    state = {"encoder.weight": table}
    for number, layer in enumerate(layers):
        state |= {f"rnn.{part}_l{number}": array for part, array in _layer_to_torch(config.cell, layer).items()}
    state |= {"decoder.weight": decoder.T, "decoder.bias": decoder_bias}
    return dict(state)


def layer_from_torch(cell: str, layer: Arrays) -> dict[str, np.ndarray]:
    """Converts the weights of one recurrent layer from PyTorch, where G is the number of gates.

    Args:
        cell: One of `CELLS`.
        layer: `weight_ih` [G * H, inputs] and `weight_hh` [G * H, H], and optionally `bias_ih` and `bias_hh`, each
            [G * H]. Missing biases are zero.

    Returns:
        `kernel` [inputs, G * H], `recurrent_kernel` [H, G * H] and `bias`, which is [2, G * H] for a GRU and [G * H]
        otherwise.
    """
    layer = {name: _swap_gru_gates(cell, array) for name, array in layer.items()}
    zeros = np.zeros(len(layer["weight_ih"]), np.float32)
    biases = [layer.get("bias_ih", zeros), layer.get("bias_hh", zeros)]
    with np.errstate(over="ignore"):  # `_take_layers` says what becomes infinite
        bias = np.stack(biases) if cell == "gru" else biases[0] + biases[1]
    return {"kernel": layer["weight_ih"].T, "recurrent_kernel": layer["weight_hh"].T, "bias": bias}


def _to_bytes(tensors: Arrays, named: dict[str, str] | None = None) -> bytes:
    """A safetensors file of tensors, with texts by name in its metadata."""
    return to_safetensors({name: np.asarray(array, np.float32, order="C") for name, array in tensors.items()}, named)


def _layer_to_torch(cell: str, layer: Arrays) -> dict[str, np.ndarray]:
    bias = layer["bias"] if cell == "gru" else np.stack([layer["bias"], np.zeros_like(layer["bias"])])
    state = {"weight_ih": layer["kernel"].T, "weight_hh": layer["recurrent_kernel"].T}
    state |= {"bias_ih": bias[0], "bias_hh": bias[1]}
    return {name: _swap_gru_gates(cell, array) for name, array in state.items()}


def _swap_gru_gates(cell: str, array: np.ndarray) -> np.ndarray:
    """Swaps the first two of three gates of a GRU along the first axis. Other cells are unchanged."""
    if cell != "gru":
        return array
    first, second, last = np.split(array, 3)
    return np.concatenate([second, first, last])


def _take_layers(left: dict[str, np.ndarray]) -> tuple[str, list[dict[str, np.ndarray]]]:
    """Removes the recurrent layers from `left`, and returns the cell and the weights of each layer in textgen."""
    layers: list[dict[str, np.ndarray]] = []
    found = {match.groups(): name for name in left if (match := LAYER_NAME.search(name))}
    for number in range(1 + max((int(number) for _, _, number in found), default=-1)):
        layer = {
            f"{kind}_{side}": left.pop(found[kind, side, str(number)])
            for kind in ("weight", "bias")
            for side in ("ih", "hh")
            if (kind, side, str(number)) in found
        }
        if not {"weight_ih", "weight_hh"} <= layer.keys():
            raise SavedModelError(f"weight_ih_l{number} or weight_hh_l{number} is missing. {EXPECTED}")
        layers.append(layer)
    if not layers:
        raise SavedModelError(f"There is no weight_ih_l0 among {listed(left) or 'no tensors'}. {EXPECTED}")
    for name in ("weight_hh", "weight_ih"):
        if layers[0][name].ndim != 2 or not layers[0][name].size:
            raise SavedModelError(f"{name}_l0 has the shape {layers[0][name].shape}. {EXPECTED}")
    rows, hidden = layers[0]["weight_hh"].shape
    cell = {KERNEL_BLOCKS[cell] * hidden: cell for cell in CELLS}.get(rows)
    if cell is None:
        raise SavedModelError(f"weight_hh_l0 has the shape {layers[0]['weight_hh'].shape}. {EXPECTED}")
    for number, layer in enumerate(layers):
        for name, array in layer.items():
            inputs = layers[0]["weight_ih"].shape[1] if number == 0 else hidden
            shape = {"weight_ih": (rows, inputs), "weight_hh": (rows, hidden)}.get(name, (rows,))
            if array.shape != shape:
                raise SavedModelError(f"{name}_l{number} has the shape {array.shape}. {EXPECTED}")
    converted = [layer_from_torch(cell, layer) for layer in layers]
    for number, layer in enumerate(converted):
        if not np.isfinite(layer["bias"]).all():
            raise SavedModelError(
                f"The sum of bias_ih_l{number} and bias_hh_l{number} is not finite in float32. Save the weights of an "
                "earlier checkpoint, or train the model again."
            )
    return cell, converted


def _take_ends(left: dict[str, np.ndarray], inputs: int, hidden: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Removes the embedding [V, E], the output kernel [V, H] and its bias [V] from `left`, and returns them.

    If there is only one matrix, the weights are tied and it serves as both.
    """
    matrices = [name for name in left if name.endswith("weight") and left[name].ndim == 2]
    if len(matrices) > 2:
        raise SavedModelError(
            f"There are {len(matrices):,} matrices besides those of the recurrent layers: {_sizes(left, matrices)}. "
            f"{EXPECTED}"
        )
    is_tied = len(matrices) == 1
    pairs = [
        (table, output)
        for table, output in ([(matrices[0], matrices[0])] if is_tied else itertools.permutations(matrices, 2))
        if left[table].shape[1] == inputs and left[output].shape == (len(left[table]), hidden)
    ]
    if not pairs:
        raise SavedModelError(
            f"An embedding [V, {inputs}] and a linear layer [V, {hidden}] should be among the matrices. "
            f"There are: {_sizes(left, matrices) or 'none'}. {EXPECTED}"
        )
    table, output = _likeliest(pairs, left)
    bias_name = _bias_of(output)
    if bias_name not in left and is_tied:  # the bias of a layer that shares the weights of the embedding
        bias_name = next((name for name in left if name.endswith("bias")), bias_name)
    bias = left.pop(bias_name, np.zeros(len(left[table]), np.float32))
    if bias.shape != (len(left[table]),):
        raise SavedModelError(f"The bias of {one_line(output)} has the shape {bias.shape}. {EXPECTED}")
    matrix = left.pop(output)
    return left.pop(table, matrix), matrix, bias


def _sizes(tensors: Mapping[str, np.ndarray], names: Iterable[str]) -> str:
    """The first names of some tensors, with their shapes."""
    return listed(f"{one_line(name, LISTED_LENGTH // 2)} {tensors[name].shape}" for name in names)


def _likeliest(pairs: list[tuple[str, str]], left: Mapping[str, np.ndarray]) -> tuple[str, str]:
    """The names of the embedding and the output kernel, among pairs whose shapes fit.

    A bias tells the output kernel, and else a name such as `embed_tokens` or `encoder` the embedding. Files do not:
    safetensors sorts its tensors by name.

    Raises:
        SavedModelError: The embedding cannot be told from the output kernel.
    """
    with_bias = [pair for pair in pairs if _bias_of(pair[1]) in left]
    named = [pair for pair in with_bias or pairs if EMBEDDING.search(pair[0]) and not EMBEDDING.search(pair[1])]
    table, output = (named or with_bias or pairs)[0]
    if not (named or with_bias) and len(pairs) > 1 and not np.array_equal(left[table], left[output]):
        raise SavedModelError(
            f"{one_line(table)} and {one_line(output)} could each be the embedding: save the linear layer with a bias "
            f"(zeros, if it has none). {EXPECTED}"
        )
    return table, output


def _bias_of(matrix: str) -> str:
    return matrix.removesuffix("weight") + "bias"


def _padded(kernel: np.ndarray, rows: int) -> np.ndarray:
    """Pads a kernel [inputs, outputs] with rows of zeros to [rows, outputs]."""
    return np.pad(kernel, [(0, rows - len(kernel)), (0, 0)])
