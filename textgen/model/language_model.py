"""The language model: embedding -> recurrent stack -> attention, if any -> output layer tied to the embedding.

Letters, used everywhere: B rows of a batch (streams of text), T time steps, E embedding size, H hidden units, L layers,
V tokens in the vocabulary. Losses are in nats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from textgen.errors import ConfigError, SavedModelError
from textgen.model.config import DROPOUTS, TABLE, ModelConfig
from textgen.model.layers.activations import Activations
from textgen.model.layers.attention import Attention
from textgen.model.layers.both_ways import BothWays
from textgen.model.layers.dropout import (
    ATTENTION_SITE,
    EMBEDDING_SITE,
    WORD_SITE,
    Noise,
    noise_of_call,
    variational_dropout,
    word_dropout,
)
from textgen.model.layers.head import Head
from textgen.model.layers.layer import in_float32, seeded
from textgen.model.layers.recurrent import RecurrentStack, State
from textgen.model.layers.sampled_softmax import Candidates, sampled_loss
from textgen.settings import from_dict, to_dict
from textgen.wording import counted

ONE_WAY = 'For one text build the network of one direction, as textgen.load_model(NAME).network("forward") does.'


@keras.saving.register_keras_serializable("textgen")  # so that Keras loads what `save` wrote
class LanguageModel(keras.Model):
    """Predicts the next token of each of B streams.

    The state is an argument and a result, never hidden in a layer. So carrying it from window to window, saving it and
    serving many streams are ordinary code.

    Attributes:
        config: Shape of the network.
        pad_id: Id of the padding.
        precision: Precision of matrix products, "float32", "bfloat16" or "float16".
    """

    def __init__(self, config: ModelConfig, *, pad_id: int, seed: int = 0, precision: str = "float32") -> None:
        """Builds the network.

        Args:
            config: Shape of the network.
            pad_id: Id of the padding, which does not count in losses.
            seed: Initial weights are drawn from it and from their names. No global generator is used or seeded.
            precision: Precision of the matrix products. Weights, state, gates and losses are float32. On a GPU, cuDNN
                differs: with float16 it computes the gates and states of a window in float16, with bfloat16 all of a
                recurrent layer in float32.
        """
        super().__init__(name="language_model", **in_float32({}))

        # === Layers ===
        self.embedding = keras.layers.Embedding(
            config.vocab_size,
            config.embedding_dim,
            embeddings_initializer=seeded("uniform", seed, TABLE),
            dtype="float32",
            name="embedding",
        )
        layers = BothWays if config.direction == "both" else RecurrentStack
        self.recurrent = layers(config, seed=seed, name="recurrent")
        self.attention = None
        if config.attention:
            self.attention = Attention(config.attention, config.dropout, seed=seed, name="attention")
            self.attention.build((None, None, config.hidden_units))
        self.projection = None
        if config.hidden_units != config.embedding_dim:
            self.projection = keras.layers.Dense(
                config.embedding_dim,
                kernel_initializer=seeded("glorot_uniform", seed, "projection/kernel"),
                dtype="float32",
                name="projection",
            )
            self.projection.build((None, None, config.hidden_units))
        self.embedding.build((None, None))
        self.recurrent.build((None, None, config.embedding_dim))
        self.head = Head(config.vocab_size, config.tie_embeddings, seed=seed, name="head")
        self.head.build((None, None, config.embedding_dim))

        # === Config ===
        self.config = config
        self.pad_id = pad_id
        self.seed = seed
        self.precision = precision
        self(tf.zeros((1, len(config.directions)), tf.int32))  # makes the weights

    def call(
        self,
        inputs: tf.Tensor,
        state: State | None = None,
        noise: Noise | None = None,
        training: bool | None = None,
    ) -> tuple[tf.Tensor, State]:
        """Reads token ids.

        Args:
            inputs: Token ids int32 [B, T]. Of a network of both directions [B, 2T]: T tokens of a text, then T tokens
                of a reversed one (`textgen.model.directions`).
            state: State before them; `initial_state` if None.
            noise: Source of dropout; no dropout if None.
            training: As in Keras. False switches dropout off.

        Returns:
            The logits [B, T, V], float32, and the state after `inputs`. Of both directions [B, 2T, V].

        Raises:
            ConfigError: `training` is True without `noise`: dropout is not drawn from a hidden generator. Or a network
                of both directions is given an odd number of tokens.
        """
        rates = (getattr(self.config, name) for name in DROPOUTS)
        noise = noise_of_call(noise, training, *rates)
        features, state = self.features(inputs, state, noise)
        return self.head(features, self.embedding.embeddings), state

    def compute_loss(
        self,
        x: tf.Tensor | None = None,
        y: tf.Tensor | None = None,
        y_pred: tf.Tensor | tuple[tf.Tensor, State] | None = None,
        sample_weight: tf.Tensor | None = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Mean nats per token, as `keras.Model.evaluate` needs it, and `fit` of a network without dropout.

        Args:
            x: Inputs, int32 [B, T]. Not used.
            y: Targets, int32 [B, T]. Padding does not count.
            y_pred: What the model returned for `x`: logits [B, T, V], or logits and state.
            sample_weight: Weight of each text, [B], or of each target, [B, T] or [B, 1].
            training: Not used.

        Returns:
            A scalar: the weighted mean of -log p(target). 0 if all targets are padding.

        Raises:
            ConfigError: `y` or `y_pred` is missing.
        """
        if y is None or y_pred is None:
            raise ConfigError("compute_loss needs y, the targets [B, T], and y_pred, what the model returned.")
        logits = y_pred[0] if isinstance(y_pred, (tuple, list)) else y_pred
        counts = tf.cast(y != self.pad_id, tf.float32)  # [B, T]
        if sample_weight is not None:
            weights = tf.cast(sample_weight, tf.float32)
            counts *= weights[:, None] if weights.shape.rank == 1 else weights
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)  # [B, T]
        return tf.math.divide_no_nan(tf.reduce_sum(nats * counts), tf.reduce_sum(counts))

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor as plain values, for `from_config`."""
        return {"config": to_dict(self.config), "pad_id": self.pad_id, "seed": self.seed, "precision": self.precision}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> LanguageModel:
        """A network of the same shape with new weights, from what `get_config` returned."""
        arguments = dict(config)
        return cls(from_dict(ModelConfig, arguments.pop("config")), **arguments)

    def features(
        self, inputs: tf.Tensor, state: State | None = None, noise: Noise | None = None
    ) -> tuple[tf.Tensor, State]:
        """Like a call, but returns the input of the output layer, [B, T, E], in place of the logits."""
        return self.read(inputs, state, noise)[:2]

    def read(
        self, inputs: tf.Tensor, state: State | None = None, noise: Noise | None = None
    ) -> tuple[tf.Tensor, State, tuple[Activations, ...]]:
        """Like `features`, and also returns the outputs of the last recurrent layer of each direction, for penalties.

        With both directions T is even: the second half of the steps is read backward (`textgen.model.directions`).

        Raises:
            ConfigError: T is odd with both directions.
        """
        length = inputs.shape[1]  # None where it is not known before the network runs
        if self.config.direction == "both" and length is not None and length % 2:
            raise ConfigError(
                "A network of both directions reads T tokens of a text and T tokens of a reversed one together, as "
                f"[B, 2T]. Received: {counted(length, 'token')}, an odd number. {ONE_WAY}"
            )
        if state is None:
            state = self.initial_state(tf.shape(inputs)[0])
        x, ids = self._embed(inputs, noise)
        layers = len(state) - (self.attention is not None)
        x, of_layers, activations = self.recurrent.read(x, state[:layers], noise, ids)  # [B, T, H]
        x, of_attention = self._look_back(x, state[layers:], noise)
        return self._project(x), of_layers + of_attention, activations  # [B, T, E]

    def step(self, ids: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """One step, for generation. For a network of both directions see `textgen.model.directions.one_way`.

        Args:
            ids: Token ids int32 [B].
            state: State before them.

        Returns:
            The logits of the next tokens [B, V], and the state after `ids`.

        Raises:
            ConfigError: It is a network of both directions.
        """
        features, state = self.step_features(ids, state)
        return self.head(features, self.embedding.embeddings), state

    def step_features(self, ids: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """Like `step`, but returns the input of the output layer, [B, E], in place of the logits.

        Raises:
            ConfigError: It is a network of both directions.
        """
        if self.config.direction == "both":
            raise ConfigError(f"A network of both directions cannot read one token after another. {ONE_WAY}")
        layers = len(state) - (self.attention is not None)
        x, of_layers = self.recurrent.step(self.embedding(ids), state[:layers])  # [B, H]
        x, of_attention = self._look_back(x[:, None], state[layers:])  # [B, 1, H]
        return self._project(x[:, 0]), of_layers + of_attention

    def summed_loss(
        self,
        features: tf.Tensor,
        targets: tf.Tensor,
        label_smoothing: float = 0.0,
        scale: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The sum of the losses of a window in nats, for training.

        Args:
            features: Inputs of the output layer, [B, T, E].
            targets: Next token ids int32 [B, T]. Padding does not count.
            label_smoothing: Fraction of each target spread over all tokens. It affects the gradient only.
            scale: Factor by which the caller multiplies the sum, for float16; see `Head.summed_loss`.
        """
        table = self.embedding.embeddings
        return self.head.summed_loss(features, table, targets, self.pad_id, label_smoothing, scale)

    def sampled_loss(
        self, features: tf.Tensor, targets: tf.Tensor, candidates: Candidates, scale: tf.Tensor | None = None
    ) -> tf.Tensor:
        """An estimate of `summed_loss` from the logits of some tokens; see `textgen.model.layers.sampled_softmax`."""
        return sampled_loss(self.head, features, self.embedding.embeddings, targets, self.pad_id, candidates, scale)

    def token_losses(self, features: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """The loss of each target int32 [B, T] in nats, from features [B, T, E]: [B, T], 0 for padding."""
        return self.head.token_losses(features, self.embedding.embeddings, targets, self.pad_id)

    def initial_state(self, batch_size: int | tf.Tensor) -> State:
        """The state of streams that have read nothing: zeros.

        Returns:
            For each layer (h,) or (h, c), [B, H]; then, with attention, the past outputs [B, N, H] and their number [B,
            1].
        """
        of_attention = () if self.attention is None else (self.attention.initial_state(batch_size),)
        return self.recurrent.initial_state(batch_size) + of_attention

    def start_bias(self, counts: np.ndarray) -> None:
        """Sets the bias of the output layer to the log frequency of each token, from counts [V]."""
        smoothed = counts.astype(np.float64) + 0.5  # a token that never occurs is unlikely, not impossible
        self.head.bias.assign(np.log(smoothed / smoothed.sum()).astype(np.float32))

    def named_weights(self) -> dict[str, keras.Variable]:
        """All weights by the names that saved models use, such as `lstm_0/kernel`."""
        named = {TABLE: self.embedding.embeddings}
        for layer in (*self.recurrent.norms, *self.recurrent.layers):
            for weight in layer.weights:
                named[f"{layer.name}/{weight.name}"] = weight
        for last in (self.attention, self.projection, self.head):
            if last is not None:
                named |= {f"{last.name}/{weight.name}": weight for weight in last.weights}
        return named

    def weights_as_arrays(self) -> dict[str, np.ndarray]:
        """A copy of all weights, float32, on the CPU."""
        return {name: np.array(weight.numpy(), np.float32) for name, weight in self.named_weights().items()}

    def assign_weights(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Sets all weights by name. Raises `SavedModelError` if a name or shape does not fit."""
        named = self.named_weights()
        if arrays.keys() != named.keys():
            odd = ", ".join(sorted(arrays.keys() ^ named.keys()))
            raise SavedModelError(f"The weights do not fit the architecture: {odd} is missing or not expected.")
        for name, weight in named.items():
            if arrays[name].shape != tuple(weight.shape):
                raise SavedModelError(
                    f"The weights do not fit the architecture: {name} should have the shape "
                    f"{tuple(weight.shape)}. Received: {arrays[name].shape}."
                )
            weight.assign(arrays[name])

    def _embed(self, inputs: tf.Tensor, noise: Noise | None) -> tuple[tf.Tensor, tf.Tensor | None]:
        """inputs int32 [B, T] -> embedding [B, T, E] and None, or the whole table [V, E] and the row numbers."""

        def with_word_dropout(x: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
            x, rate = tf.cast(x, self.precision), self.config.word_dropout
            return word_dropout(x, ids, self.config.vocab_size, rate, noise, WORD_SITE)

        tokens = tf.TensorShape(inputs.shape).num_elements()
        if self._is_table_less_work(tokens, noise):
            return with_word_dropout(self.embedding.embeddings, tf.range(self.config.vocab_size)), inputs
        x = with_word_dropout(self.embedding(inputs), inputs)
        return variational_dropout(x, self.config.embedding_dropout, noise, EMBEDDING_SITE), None

    def _is_table_less_work(self, tokens: int | None, noise: Noise | None) -> bool:
        """Whether it is faster if the first layer reads each row of the table once, instead of a row for each token.

        The product with its kernel and the two products of the gradients then have V rows instead of B*T, but the
        gradients must be gathered. Dropout of the embedding differs between rows of the batch and rules it out.
        """
        is_dropped = noise is not None and self.config.embedding_dropout > 0
        return tokens is not None and not is_dropped and 2 * self.config.vocab_size <= tokens

    def _look_back(self, x: tf.Tensor, state: State, noise: Noise | None = None) -> tuple[tf.Tensor, State]:
        """Applies attention, if there is any, to outputs x [B, T, H] and its part of the state."""
        if self.attention is None:
            return x, ()
        x, after = self.attention.read(x, state[0], noise, ATTENTION_SITE)
        return x, (after,)

    def _project(self, x: tf.Tensor) -> tf.Tensor:
        if self.projection is None:
            return x
        return tf.matmul(x, tf.cast(self.projection.kernel, x.dtype)) + tf.cast(self.projection.bias, x.dtype)
