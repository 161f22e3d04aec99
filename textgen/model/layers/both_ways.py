"""Two recurrent stacks in parallel, one for text and one for reversed text."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from textgen.model.config import BACKWARD, ModelConfig
from textgen.model.layers.activations import Activations
from textgen.model.layers.dropout import Noise
from textgen.model.layers.layer import in_float32
from textgen.model.layers.recurrent import RecurrentStack
from textgen.model.layers.recurrent import State as StackState

State = tuple[StackState, ...]  # forward, backward


class BothWays(keras.layers.Layer):
    """A forward and a backward `RecurrentStack`; see `textgen.model.directions`.

    Each stack reads its half of the steps with its own state. Both use the same dropout masks.

    Args:
        config: Settings of the network.
        seed: Seed of the initial weights.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, config: ModelConfig, *, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**in_float32(kwargs))
        self.stacks = [RecurrentStack(config, prefix, seed=seed, name=f"{prefix}stack") for prefix in ("", BACKWARD)]

    @property
    def norms(self) -> list[keras.layers.Layer]:
        """Normalization layers of both stacks."""
        return [norm for stack in self.stacks for norm in stack.norms]

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """Recurrent layers of both stacks."""
        return [layer for stack in self.stacks for layer in stack.layers]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the weights of both stacks for inputs [B, 2T, E]."""
        for stack in self.stacks:
            stack.build(input_shape)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the outputs, [B, 2T, H], without the state."""
        return self.stacks[0].compute_output_shape(input_shape)

    def read(
        self, x: tf.Tensor, state: State, noise: Noise | None = None, ids: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, State, tuple[Activations, ...]]:
        """Runs both stacks over a window.

        Args:
            x: Inputs [B, 2T, E], or a table [V, E] if `ids` are given.
            state: State of each stack before the window.
            noise: Source of dropout.
            ids: Row numbers int32 [B, 2T] of the inputs in the table.

        Returns:
            Outputs [B, 2T, H], the states after the window, and the outputs of the last layer of each stack.
        """
        if ids is None:
            halves = [(half, None) for half in tf.split(x, 2, axis=1)]  # [B, T, E] each
        else:
            halves = [(x, half) for half in tf.split(ids, 2, axis=1)]  # [B, T] each
        forward, backward = (
            stack.read(half, before, noise, half_ids)
            for stack, (half, half_ids), before in zip(self.stacks, halves, state, strict=True)
        )
        outputs = tf.concat([forward[0], backward[0]], axis=1)  # [B, 2T, H]
        return outputs, (forward[1], backward[1]), (*forward[2], *backward[2])

    def initial_state(self, batch_size: int | tf.Tensor) -> State:
        """Returns the initial state of `batch_size` streams: zeros."""
        forward, backward = (stack.initial_state(batch_size) for stack in self.stacks)
        return forward, backward
