"""One update of the weights: loss, gradient, clipping, optimizer."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from textgen.dataset.permutation import short_seed
from textgen.model.language_model import LanguageModel
from textgen.model.layers.activations import summed_penalty
from textgen.model.layers.dropout import Noise
from textgen.model.layers.sampled_softmax import Candidates, CandidateSampler
from textgen.model.sharding import join_states, shard_rows
from textgen.system.machine import has_gpu
from textgen.system.runtime import compiled
from textgen.training.config import TrainingConfig
from textgen.training.distributed.distribution import Distribution
from textgen.training.optimizers import Update


@dataclass(frozen=True, eq=False)
class Gradient:
    """The gradient of a batch. Its numbers are on the device until they are asked for, which waits for the device.

    Attributes:
        loss_tensor: Mean loss in nats per token, float32 scalar; on the device.
        norm_tensor: Norm of the gradient of each weight, [number of weights]; on the device.
        gradients: Gradient of the mean loss with smoothing and penalties, for each weight; the same on all replicas.
        state: State of the streams after the window.
        is_sampled: Whether the loss is an estimate, from a sampled softmax.
    """

    loss_tensor: tf.Tensor
    norm_tensor: tf.Tensor
    gradients: Any
    state: Any
    is_sampled: bool = False

    @functools.cached_property
    def nats(self) -> float:
        """Mean loss in nats per token, without label smoothing and penalties."""
        return float(self.loss_tensor)

    @functools.cached_property
    def norms(self) -> np.ndarray:
        """Norm of the gradient of each weight."""
        return np.asarray(self.norm_tensor.numpy())

    @property
    def norm(self) -> float:
        """Norm of the whole gradient."""
        return float(np.linalg.norm(self.norms))

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are finite."""
        return bool(np.isfinite(self.nats) and np.isfinite(self.norms).all())


class _Window(NamedTuple):
    """Rows of text with the state before them, and the seed of their dropout."""

    inputs: tf.Tensor  # int32 [B, T]
    targets: tf.Tensor  # int32 [B, T]
    state: Any
    seed: tf.Tensor  # int32 [2]: seed of the run, step
    scale: tf.Tensor  # factor of the loss
    is_sampled: bool  # whether the softmax is sampled, known when the step is compiled


class TrainStep:
    """Computes the gradient of a batch, and updates the weights with it.

    Each replica computes its rows of the batch, and each core of it a shard of these: two halves of a batch on two
    cores are faster than two cores inside each of many small operations. Accumulated batches are computed one after the
    other. The result is that of all rows at once.

    Attributes:
        update: Updates the weights.
        weights: The trained weights.
    """

    def __init__(
        self, model: LanguageModel, config: TrainingConfig, distribution: Distribution, counts: np.ndarray | None = None
    ) -> None:
        """Prepares updates.

        Args:
            model: Network that is trained.
            config: Settings of training.
            distribution: Devices and processes that train together.
            counts: How often each token occurs, [V], for a softmax that is sampled; None for a full one.
        """
        self._model = model
        self._sampler = None
        if counts is not None and 0 < config.sampled_softmax < model.config.vocab_size:
            self._sampler = CandidateSampler(counts, config.sampled_softmax)
        self._config = config
        self._distribution = distribution
        with distribution.strategy.scope():
            self.update = Update(config, model)
        self.weights = self.update.weights
        self._compiled_sums = compiled(lambda *arguments: distribution.strategy.run(self._sums, args=arguments))
        self._compiled_gradient = compiled(self._on_replicas)
        self._compiled_means = compiled(self._means)
        on_one_cpu = distribution.strategy.num_replicas_in_sync == 1 and not has_gpu()
        self._compiled_apply_unread = compiled(self._apply_if_finite)
        self._compiled_apply = compiled(self._apply_on_replicas, jit_compile=on_one_cpu)

    def gradient(
        self, inputs: Any, targets: Any, state: Any, step: int, loss_scale: float = 1.0, progress: float = 0.0
    ) -> Gradient:
        """Computes the gradient of a batch.

        Args:
            inputs: Token ids, int32 [rows, T], the rows of all accumulated batches, as `Distribution.split` returns
                them.
            targets: Next token ids, int32 [rows, T], likewise.
            state: State before the window, likewise.
            step: Number of the update, from which dropout and candidates are drawn.
            loss_scale: Factor of the loss during backpropagation, for float16; the gradient is divided by it.
            progress: Fraction of the run that is done, which says whether the softmax is sampled.

        Returns:
            The gradient, on the device.
        """
        is_sampled = self._sampler is not None and progress < 1.0 - self._config.full_softmax_fraction
        seed = tf.constant([short_seed(self._config.seed, 31), step], tf.int32)
        window = _Window(inputs, targets, state, seed, tf.constant(loss_scale, tf.float32), is_sampled)
        sums, states = None, []
        for part in range(self._config.gradient_accumulation_steps - 1):  # one at a time, to save memory
            sums, part_state = self._compiled_sums(window, tf.constant(part), sums)
            states.append(part_state)
        last = tf.constant(self._config.gradient_accumulation_steps - 1)
        if self._distribution.group:
            sums, part_state = self._compiled_sums(window, last, sums)
            nats, norms, gradients = self._compiled_means(self._distribution.summed(sums), window.scale)
            state = join_states([*states, part_state])
        else:
            nats, norms, gradients, state = self._compiled_gradient(window, last, sums, states)
            nats, norms = self._distribution.first((nats, norms))
        return Gradient(nats, norms, gradients, state, is_sampled)

    def apply(self, gradient: Gradient, learning_rate: float) -> None:
        """Clips a gradient, by `clip_value` or else by `clip_norm`, and updates the weights. Waits for its norm.

        Args:
            gradient: Gradient from `gradient`.
            learning_rate: Learning rate of this update.
        """
        limit = math.inf if self._config.clip_value else self._config.clip_norm
        scale = min(1.0, limit / (gradient.norm + 1e-12))
        self._compiled_apply(gradient.gradients, tf.constant(scale, tf.float32), tf.constant(learning_rate, tf.float32))

    @property
    def can_run_ahead(self) -> bool:
        """Whether updates can be queued without waiting for the loss (keeps a GPU busy).

        The loss must not decide anything on the processor: the scale of a loss, or what an average counts. With several
        replicas, the update and its undoing would have to run on each of them.
        """
        config, is_scaled = self._config, self._model.precision == "float16"
        is_plain = not is_scaled and config.weight_averaging == "none" and config.optimizer != "asgd"
        is_alone = self._distribution.num_replicas == 1
        return is_plain and is_alone and has_gpu()

    def apply_unread(self, gradient: Gradient, state: Any, learning_rate: float) -> Any:
        """Does the same as `apply` without waiting for the device; the weights stay if the gradient is not finite.

        Args:
            gradient: Gradient from `gradient`.
            state: State before the window.
            learning_rate: Learning rate of this update.

        Returns:
            The state after the window, or `state` if the gradient is not finite.
        """
        rate = tf.constant(learning_rate, tf.float32)
        numbers = gradient.gradients, gradient.loss_tensor, gradient.norm_tensor
        return self._compiled_apply_unread(*numbers, rate, state, gradient.state)

    def _on_replicas(self, *arguments: Any) -> Any:
        return self._distribution.strategy.run(self._gradient_on_replica, args=arguments)

    def _gradient_on_replica(
        self, window: _Window, part: tf.Tensor, sums: list[tf.Tensor] | None, states: list[Any]
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor], Any]:
        """Adds the last accumulation part to the sums; returns mean nats, norms, gradients and state."""
        sums, part_state = self._sums(window, part, sums)
        if self._distribution.num_replicas > 1:
            sums = tf.distribute.get_replica_context().all_reduce("sum", sums)
        return *self._means(sums, window.scale), join_states([*states, part_state])

    @staticmethod
    def _means(sums: list[tf.Tensor], scale: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Divides the sums of all rows; returns mean nats, the norm of each gradient, and the gradients."""
        loss, count, *total = sums
        count = tf.maximum(count, 1.0)  # a batch may hold no targets: labels and padding are not predicted
        mean = [gradient / (count * scale) for gradient in total]
        return loss / count, tf.stack([tf.norm(gradient) for gradient in mean]), mean

    def _sums(self, window: _Window, part: tf.Tensor, before: list[tf.Tensor] | None) -> tuple[list[tf.Tensor], Any]:
        """Adds loss, token count and gradients of one accumulation part to the sums; returns them and its state."""
        rows_here = window.inputs.shape[0]
        size = rows_here // self._config.gradient_accumulation_steps
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group + self._distribution.first_replica
        first_row = replica * rows_here
        candidates = self._sampler.draw(window.seed) if self._sampler and window.is_sampled else None
        sums, states = [before] if before else [], []
        for rows in shard_rows(size, self._distribution.cores_per_replica):
            start = part * size + rows.start

            def own(array: tf.Tensor, start: tf.Tensor = start, count: int = rows.stop - rows.start) -> tf.Tensor:
                others = array.shape[1:]
                return tf.slice(array, (start, *[0] * len(others)), (count, *others))

            own_targets = own(window.targets)
            noise = Noise(window.seed, first_row + start, rows_here * self._distribution.num_replicas)
            inputs, state = self._restarted(own(window.inputs), tf.nest.map_structure(own, window.state))
            shard = window._replace(inputs=inputs, targets=own_targets, state=state)
            nats, gradient, shard_state = self._shard_gradient(shard, noise, candidates)
            count = tf.cast(tf.math.count_nonzero(own_targets != self._model.pad_id), tf.float32)
            sums.append([nats, count, *gradient])
            states.append(shard_state)
        return [tf.add_n(terms) for terms in zip(*sums, strict=True)], join_states(states)

    def _restarted(self, inputs: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """Sets the state of marked rows to zeros; see `textgen.dataset.batches`.

        Args:
            inputs: Token ids, int32 [B, T], of which a first one may be marked: ~id.
            state: State before the window.

        Returns:
            The inputs without marks, and the state.
        """
        ways, marks = len(self._model.config.directions), inputs < 0
        is_marked = [own[:, 0] for own in tf.split(marks, ways, axis=1)]  # [B] of each direction
        states = tuple(map(_with_zeros, state if ways > 1 else (state,), is_marked))
        return tf.where(marks, -1 - inputs, inputs), states if ways > 1 else states[0]

    def _shard_gradient(
        self, shard: _Window, noise: Noise, candidates: Candidates | None
    ) -> tuple[tf.Tensor, list[tf.Tensor], Any]:
        """Returns the sum of nats, the gradient of the scaled sum with smoothing and penalties, and the state."""
        variables = [_local(weight.value) for weight in self.weights]
        scale = shard.scale if self._model.precision == "float16" else None
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            # features [B, T, E] of the rows of the shard; activations [B, T, H] of each direction, over its own steps
            features, state, activations = self._model.read(shard.inputs, shard.state, noise)
            if candidates is None:
                nats = self._model.summed_loss(features, shard.targets, self._config.label_smoothing, scale)
            else:
                nats = self._model.sampled_loss(features, shard.targets, candidates, scale)
            loss = nats
            for each, own_targets in zip(activations, tf.split(shard.targets, len(activations), axis=1), strict=True):
                loss += summed_penalty(
                    each,
                    own_targets,
                    self._model.pad_id,
                    activation=self._config.activation_penalty,
                    temporal=self._config.temporal_penalty,
                )
            loss *= shard.scale
        return nats, [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, variables)], state

    def _apply_on_replicas(self, *arguments: Any) -> None:
        self._distribution.strategy.run(self._apply_on_replica, args=arguments)

    def _apply_on_replica(self, gradients: list[tf.Tensor], scale: tf.Tensor, learning_rate: tf.Tensor) -> None:
        if most := self._config.clip_value:
            clipped = [tf.clip_by_value(gradient, -most, most) for gradient in gradients]
        else:
            clipped = [gradient * scale for gradient in gradients]
        self.update.apply(clipped, learning_rate)

    def _apply_if_finite(
        self,
        gradients: list[tf.Tensor],
        nats: tf.Tensor,
        norms: tf.Tensor,
        learning_rate: tf.Tensor,
        before: Any,
        after: Any,
    ) -> Any:
        """Applies the gradient of each weight if the mean loss and the norm of each gradient, [weights], are finite.

        The update is computed in any case, and undone if they are not: with `tf.cond`, the processor would wait for the
        condition before it could queue anything else.

        Returns:
            The state after the window [B, ...], or the one before it.
        """
        is_finite = tf.math.is_finite(nats) & tf.reduce_all(tf.math.is_finite(norms))
        limit = math.inf if self._config.clip_value else self._config.clip_norm
        scale = tf.minimum(1.0, limit / (tf.norm(norms) + 1e-12))
        variables = [_local(variable.value) for variable in self.update.variables]
        values = [tf.identity(variable) for variable in variables]
        self._apply_on_replica(gradients, scale, learning_rate)
        for variable, value in zip(variables, values, strict=True):
            variable.assign(tf.where(is_finite, variable, value))
        return tf.nest.map_structure(lambda old, new: tf.where(is_finite, new, old), before, after)


def _local(variable: Any) -> Any:
    """The replica's own copy of a weight, the only one that TensorFlow differentiates."""
    return variable._get() if hasattr(variable, "_get") else variable


def _with_zeros(state: Any, is_zero: tf.Tensor) -> Any:
    """The state, tensors [B, ...], with zeros in some rows [B]."""

    def zeroed(array: tf.Tensor) -> tf.Tensor:
        rows = tf.reshape(is_zero, (-1, *[1] * (len(array.shape) - 1)))  # [B, 1, ...]
        return tf.where(rows, tf.zeros_like(array), array)

    return tf.nest.map_structure(zeroed, state)
