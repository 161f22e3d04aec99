"""How fast a network trains, how long a run takes, and how much memory it needs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from textgen.model.config import ModelConfig
from textgen.model.sharding import shard_rows
from textgen.system.machine import num_cores
from textgen.training.config import TrainingConfig
from textgen.training.distributed.distribution import Shares

EFFICIENCY = {"float32": 0.76, "bfloat16": 1.3, "float16": 0.5}  # training speed relative to float32 matrix products
GPU_EFFICIENCY = {"float32": 0.76, "bfloat16": 1.3, "float16": 1.3}  # the same on a GPU, rather too low than too high
STEP_SECONDS = 0.006  # overhead of an update
UPDATE = 700  # cost of updating one weight, in operations (memory-bound)
TENSORFLOW = 800_000_000  # bytes of memory that TensorFlow takes, with XLA and its compiler
SMALL_LAYER = {"float32": 0, "bfloat16": 40, "float16": 80}  # units with which a layer has half of that efficiency
START_SECONDS = 1.5  # seconds of compiling, in the first steps
VALIDATION_SECONDS = 0.25  # seconds of writing a sample at a validation
SECONDS_PER_WEIGHT = 2.5e-7  # seconds of saving and recording one weight, at the start and at each validation
SCORING = 1 / 3  # cost of scoring a token, relative to training on it with the full softmax
SOFTMAX = 60  # cost of one exp of a logit, in weights


@dataclass(frozen=True)
class Estimates:
    """What a run is expected to need. All numbers are rough.

    Attributes:
        tokens: Tokens of training text.
        tokens_per_second: Speed of training.
        scoring_speed: Speed of validations, in tokens per second.
        training_seconds: Duration of the steps.
        seconds: Duration of the run, from its first step to the last save.
        memory_bytes: Peak memory of training on one machine, or on one GPU if its memory is known.
        memory_there: Memory of each machine or GPU; None if it is unknown.
        is_gpu_memory: Whether both are of a GPU.
    """

    tokens: int
    tokens_per_second: float
    scoring_speed: float
    training_seconds: float
    seconds: float
    memory_bytes: int
    memory_there: int | None = None
    is_gpu_memory: bool = False

    @property
    def epochs(self) -> float:
        """Passes over the training text."""
        return self.training_seconds * self.tokens_per_second / self.tokens

    @property
    def has_room(self) -> bool:
        """Whether the memory suffices, as far as that is known."""
        return self.memory_there is None or self.memory_bytes <= self.memory_there


def training_seconds(training: TrainingConfig, tokens: int, speed: float) -> float:
    """Estimates how long the steps of a run take: as long as the budget lasts that is spent first.

    Args:
        training: Budgets.
        tokens: Tokens of training text.
        speed: Tokens per second of training.

    Returns:
        Seconds; infinity without a budget.
    """
    seconds = math.inf if training.minutes is None else 60 * training.minutes
    if training.steps is not None:
        seconds = min(seconds, training.steps * training.num_streams * training.sequence_length / speed)
    if training.epochs is not None:
        seconds = min(seconds, training.epochs * tokens / speed)
    return seconds


def run_seconds(model: ModelConfig, training: TrainingConfig, tokens: int, speed: float, scoring_speed: float) -> float:
    """Estimates how long a run takes from its first step to the last save; a budget in minutes includes all of it.

    Args:
        model: Shape of the network.
        training: Budgets and validations.
        tokens: Tokens of training text.
        speed: Tokens per second of training.
        scoring_speed: Tokens per second of validations.

    Returns:
        Seconds.
    """
    steps = training_seconds(training, tokens, speed)
    scored = training.num_validations * training.valid_tokens / scoring_speed
    saving = SECONDS_PER_WEIGHT * model.num_parameters
    besides = START_SECONDS + saving + training.num_validations * (VALIDATION_SECONDS + saving)
    seconds = steps + besides + scored
    return seconds if training.minutes is None else min(seconds, 60 * training.minutes)


def tokens_per_second(
    model: ModelConfig,
    flops: float,
    precision: str,
    step_tokens: int = 2048,
    logits: int | None = None,
    *,
    on_gpu: bool = False,
) -> float:
    """Estimates how fast a network trains: the products of its tokens, the update of its weights, a constant time.

    Args:
        model: Shape of the network. With two directions, a token still counts once.
        flops: Float32 matrix product operations per second.
        precision: Precision of matrix products, "float32", "bfloat16" or "float16".
        step_tokens: Tokens of an update.
        logits: Sampled tokens that approximate the full softmax; None for the full one.
        on_gpu: Whether the products are computed by a GPU.

    Returns:
        Tokens per second.
    """
    update = UPDATE * model.num_parameters / flops + STEP_SECONDS
    return step_tokens / (step_tokens * _token_seconds(model, flops, precision, logits, on_gpu=on_gpu) + update)


def scoring_speed(model: ModelConfig, flops: float, precision: str, *, on_gpu: bool = False) -> float:
    """Estimates how many tokens per second are scored, always with the full softmax. See `tokens_per_second`."""
    return 1 / (SCORING * _token_seconds(model, flops, precision, None, on_gpu=on_gpu))


def _token_seconds(model: ModelConfig, flops: float, precision: str, logits: int | None, *, on_gpu: bool) -> float:
    """Seconds of the forward and the backward pass of a token: six operations per weight.

    A logit costs a little more than its weights, for its exponential. With few units that is a third of its cost.
    """
    one = replace(model, direction=model.directions[0])
    products = one.num_parameters - (0 if model.tie_embeddings else model.vocab_size * model.embedding_dim)
    if logits is not None:
        products -= (model.vocab_size - logits) * model.embedding_dim
    products += SOFTMAX * (model.vocab_size if logits is None else logits)
    products *= len(model.directions)
    products += 2 * model.attention * model.hidden_units  # as many as a matrix of that size
    if on_gpu:
        return 6 * products / (flops * GPU_EFFICIENCY[precision])
    efficiency = EFFICIENCY[precision] * model.hidden_units / (model.hidden_units + SMALL_LAYER[precision])
    return 6 * products / (flops * efficiency)


def machine_memory(model: ModelConfig, training: TrainingConfig, shares: Shares) -> int:
    """Estimates the peak memory of training on each machine, in bytes, of all of its processes together."""
    here = math.ceil(shares.processes / shares.machines)
    rows = training.batch_size // shares.processes
    shards = len(shard_rows(rows, num_cores(1 if shares.has_own_cores else here)))
    return here * training_memory(model, replace(training, batch_size=rows), shards)


def training_memory(model: ModelConfig, training: TrainingConfig, shards: int = 1) -> int:
    """Estimates the peak memory of training, in bytes.

    A weight is kept with two moments and a gradient; a checkpoint copies weight and moments, twice for a moment. Each
    shard has a gradient of its own, and a copy of the weight in the precision of products. For each token, every layer
    keeps gates, h and c; one layer at a time needs more.

    Args:
        model: Shape of the network.
        training: Batch size, sequence length and precision.
        shards: Parts of a batch that are computed side by side.

    Returns:
        Bytes.
    """
    from textgen.model.layers.head import CHUNK_ELEMENTS  # late: it imports TensorFlow

    number = 4 if training.precision == "float32" else 2  # bytes
    weights = model.num_parameters * (16 + 24 + shards * (4 + number))
    tables = model.vocab_size * model.embedding_dim * 8 * shards  # sums of the output layer's gradients
    tokens = training.batch_size * training.sequence_length
    layers = model.num_layers * len(model.directions)
    activations = tokens * model.hidden_units * (layers * (5 * number + 4) + 8 * number)
    logits = min(tokens * model.vocab_size, shards * CHUNK_ELEMENTS) * (8 + 2 * number)
    if model.attention:
        outputs = model.attention + training.sequence_length  # that each token attends to
        activations += 4 * (5 * tokens * outputs + 4 * training.batch_size * outputs * model.hidden_units)
    return TENSORFLOW + weights + tables + activations + logits
