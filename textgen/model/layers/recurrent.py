"""A stack of recurrent layers with explicit state."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from textgen.model.config import ModelConfig
from textgen.model.layers.activations import Activations
from textgen.model.layers.dropout import WEIGHT_SITE, Noise, noise_of_call, variational_dropout, weight_mask
from textgen.model.layers.gru import GRU
from textgen.model.layers.layer import LayerState, RecurrentLayer, chosen_rows, in_float32, seeded, steps_first
from textgen.model.layers.lstm import LSTM
from textgen.model.layers.mogrifier import Mogrifier
from textgen.model.layers.peephole import Peephole
from textgen.model.layers.rnn import RNN
from textgen.model.reference.norm import NORM_EPSILON

State = tuple[LayerState, ...]  # one state per layer; in a network with attention, its state comes last


class RecurrentStack(keras.layers.Layer):
    """A stack of recurrent layers, with dropout between them and after the last.

    With `layer_norm` the input of each layer is normalized (Ba, Kiros & Hinton 2016, arXiv:1607.06450, whose LSTM
    normalizes the sums inside each step instead). With `residual` the input of a layer is added to its output if both
    have the same width (He et al. 2016, arXiv:1512.03385).
    """

    def __init__(self, config: ModelConfig, prefix: str = "", *, seed: int = 0, **kwargs: Any) -> None:
        """Creates the layers.

        Args:
            config: Settings of the network.
            prefix: Prefix of the layer names: "", or `BACKWARD` of `textgen.model.config` for the layers that read text
                from its end in a network of both directions.
            seed: Seed of the initial weights, which also depend on the layer names.
            **kwargs: Arguments of `keras.layers.Layer`.
        """
        super().__init__(**in_float32(kwargs))
        self.dropout = config.dropout
        self.weight_drop = config.weight_drop
        self.residual = config.residual
        self.norms = [
            keras.layers.LayerNormalization(epsilon=NORM_EPSILON, dtype="float32", name=f"{prefix}norm_{number}")
            for number in range(config.num_layers if config.layer_norm else 0)
        ]
        self._kernel_shape = config.cell_shapes(config.embedding_dim)["recurrent_kernel"]
        names = [f"{prefix}{config.cell}_{number}" for number in range(config.num_layers)]
        self.layers = [make_layer(config, name, seed) for name in names]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the weights for inputs [B, T, E]; each further layer reads the layer below."""
        for number, layer in enumerate(self.layers):
            if self.norms:
                self.norms[number].build(input_shape)
            layer.build(input_shape)
            input_shape = (*input_shape[:-1], layer.units)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the outputs, [B, T, H], without the state."""
        return (*input_shape[:-1], self.layers[-1].units)

    def call(
        self, x: tf.Tensor, state: State, noise: Noise | None = None, training: bool | None = None
    ) -> tuple[tf.Tensor, State]:
        """Runs the stack over a window.

        Args:
            x: Inputs [B, T, E]. Outputs and large matrix products have their precision.
            state: State before the first step.
            noise: Source of dropout; no dropout if None.
            training: As in Keras. False switches dropout off; True needs `noise`.

        Returns:
            Outputs [B, T, H], and the state after the last step.
        """
        noise = noise_of_call(noise, training, self.dropout, self.weight_drop)
        return self.read(x, state, noise)[:2]

    def read(
        self, x: tf.Tensor, state: State, noise: Noise | None = None, ids: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, State, tuple[Activations, ...]]:
        """Runs the stack over a window and also returns the outputs of the last layer, for penalties.

        If `ids` are given, the first layer computes everything that depends on a single row, such as the product with
        its kernel, once for each row of the table.

        Args:
            x: Inputs [B, T, E], or a table [V, E] if `ids` are given.
            state: State before the first step.
            noise: Source of dropout; no dropout if None.
            ids: Row numbers int32 [B, T] of the inputs in the table.

        Returns:
            Outputs [B, T, H], the state after the last step, and the outputs of the last layer.
        """
        if ids is None:
            x = tf.transpose(x, (1, 0, 2))  # [T, B, E]
        else:
            ids = steps_first(ids)  # [T, B]
        new_state = []
        for number, (layer, before) in enumerate(zip(self.layers, state, strict=True)):
            mask = weight_mask(self._kernel_shape, self.weight_drop, noise, WEIGHT_SITE + number)
            outputs, after = layer.scan(self._norm(x, number), before, mask, ids)  # [T, B, H]
            dropped = variational_dropout(outputs, self.dropout, noise, 1 + number, time_axis=0)
            x, ids = self._add(dropped, chosen_rows(x, ids)), None
            new_state.append(after)
        activations = Activations(before[0], outputs, dropped)
        return tf.transpose(x, (1, 0, 2)), tuple(new_state), (activations,)  # [B, T, H]

    def step(self, x: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """Runs one step without dropout.

        Args:
            x: Inputs, [B, E].
            state: State before the step.

        Returns:
            The output [B, H] and the state after the step.
        """
        new_state = []
        for number, (layer, before) in enumerate(zip(self.layers, state, strict=True)):
            after = layer.step(self._norm(x, number), before)
            x = self._add(tf.cast(after[0], x.dtype), x)
            new_state.append(after)
        return x, tuple(new_state)

    def initial_state(self, batch_size: int | tf.Tensor) -> State:
        """Returns the initial state of `batch_size` streams: zeros."""
        return tuple(layer.initial_state(batch_size) for layer in self.layers)

    def _norm(self, x: tf.Tensor, number: int) -> tf.Tensor:
        return tf.cast(self.norms[number](x), x.dtype) if self.norms else x

    def _add(self, outputs: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return outputs + x if self.residual and outputs.shape[-1] == x.shape[-1] else outputs


def make_layer(config: ModelConfig, name: str, seed: int = 0) -> LSTM | RecurrentLayer:
    """Makes one recurrent layer.

    Args:
        config: Settings of the network; `config.cell` selects the class.
        name: Name of the layer.
        seed: Seed of the initial weights.

    Returns:
        The layer, without weights.
    """
    units = config.hidden_units
    match config.cell:
        case "lstm":
            return LSTM(
                units,
                kernel_initializer=seeded("glorot_uniform", seed, f"{name}/kernel"),
                recurrent_initializer=seeded("orthogonal", seed, f"{name}/recurrent_kernel"),
                return_sequences=True,
                return_state=True,
                seed=seed & 0x7FFFFFFF,
                dtype="float32",
                name=name,
            )
        case "gru":
            return GRU(units, config.reset_after, seed=seed, name=name)
        case "rnn":
            return RNN(units, config.activation, seed=seed, name=name)
        case "peephole":
            return Peephole(units, seed=seed, name=name)
        case "mogrifier":
            return Mogrifier(units, config.mogrifier_rounds, config.mogrifier_rank, seed=seed, name=name)
        case other:
            raise ValueError(f"There is no layer for the cell {other!r}.")
