"""Settings of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textgen.dataset.config import SplitConfig
from textgen.errors import ConfigError
from textgen.settings import UNLIMITED, Settings, setting

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
STRATEGIES = ("auto", "single", "mirrored", "multiworker")
OPTIMIZERS = ("adamw", "adam", "sgd", "asgd", "rmsprop", "lamb")
DECOUPLED = ("adamw", "lamb")  # optimizers whose weight decay is not part of the gradient
WITH_MOMENTUM = ("sgd", "asgd", "rmsprop")
AVERAGES = ("none", "ema", "last-k")
DECAY_TARGETS = ("zero", "start")
SCHEDULES = (
    "cosine", "linear", "constant", "step", "exponential", "inverse-sqrt", "triangular", "one-cycle", "plateau",
)  # fmt: skip
RISING = ("triangular", "one-cycle")  # schedules in which the learning rate rises to its peak after the warm-up
INITIALIZERS = ("orthogonal", "glorot")
INITIAL = ("recurrent_initializer", "forget_bias")
"""Used only to initialize weights, so fixed on resume and fine-tuning."""
FIXED_ON_RESUME = (
    *INITIAL, "sequence_length", "random_bptt", "subword_alpha", "valid_fraction", "seed", "decay_target",
    "interpolate_start", "freeze_layers", "optimizer", "weight_averaging", "num_averaged", "nonmonotone_interval",
)  # fmt: skip
"""A run's position in the text, or what its checkpoints hold, depends on these, so a resumed run keeps them."""

BUDGETS = ("epochs", "steps", "minutes")
"""Limits of the length of a run; the one reached first ends it."""

SCHEDULE, OPTIMIZER, AVERAGING = "Learning rate schedule", "Optimizer", "Weight averaging"
REGULARIZATION, WINDOWS, VALIDATION = "Regularization", "Batches and state", "Validation and checkpoints"
INITIAL_WEIGHTS = "Initial weights"
FINE_TUNING = "Fine-tuning"
LARGE_VOCABULARIES = "Large vocabularies"
LARGE = 1 << 20


@dataclass(frozen=True)
class TrainingConfig(SplitConfig):
    """How the network is trained.

    The length is limited by `epochs`, `steps` or `minutes`; of several, the one reached first ends the run.

    Example:
        >>> TrainingConfig(batch_size=16, gradient_accumulation_steps=4).num_streams
        64
    """

    seed: int = setting(
        0, "Seed of the held-out documents, initial weights, order of documents and dropout.",
        low=0, high=(1 << 63) - 1,
    )  # fmt: skip
    batch_size: int = setting(32, "Sequences in a batch (B).", low=1, high=1 << 16, planned=True)
    gradient_accumulation_steps: int = setting(
        1, "Number of batches whose gradients are averaged for one update.", low=1, high=1 << 12, section=WINDOWS
    )
    sequence_length: int = setting(
        64,
        "Tokens in a training window (T): the length of truncated backpropagation through time.",
        low=1,
        high=1 << 16,
    )
    random_bptt: float = setting(
        0.0,
        "Fraction of windows, in steps of 0.05, that are shorter than the others (T/2, T/4 or 3T/4), at random "
        "places (after Merity et al. 2018).",
        low=0.0,
        high=1.0,
        section=WINDOWS,
    )
    carry_state: bool = setting(
        True, "Start each window from the state at the end of the one before, not from zeros.", section=WINDOWS
    )
    recurrent_initializer: str = setting(
        "orthogonal", "Initializer of the recurrent kernels.", choices=INITIALIZERS, section=INITIAL_WEIGHTS
    )
    forget_bias: float = setting(
        1.0, "Initial bias of the forget gates (Jozefowicz et al. 2015).", low=-100.0, high=100.0,
        section=INITIAL_WEIGHTS,
    )  # fmt: skip
    learning_rate: float = setting(3e-3, "Peak learning rate.", low=0.0, high=1e3, planned=True)
    schedule: str = setting("cosine", "Learning rate schedule after the warm-up.", choices=SCHEDULES, planned=True)
    warmup_fraction: float = setting(
        0.02, "Fraction of the run in which the learning rate rises from 0.", low=0.0, high=1.0, planned=True,
        section=SCHEDULE,
    )  # fmt: skip
    hold_fraction: float = setting(
        0.0, "Fraction of the run in which the learning rate stays at its peak.", low=0.0, high=1.0, section=SCHEDULE
    )
    final_learning_rate_fraction: float = setting(
        0.02,
        "Learning rate at the end of cosine, linear, exponential and one-cycle, and the lowest of triangular, as a "
        "fraction of the peak.",
        low=0.0,
        high=1.0,
        section=SCHEDULE,
    )
    num_decays: int = setting(
        3, "Number of times that the schedule step lowers the learning rate.", low=1, high=LARGE, section=SCHEDULE
    )
    decay_factor: float = setting(
        0.5,
        "Factor by which the schedules step and plateau multiply the learning rate each time that they lower it.",
        low=0.0,
        high=1.0,
        section=SCHEDULE,
    )
    plateau_patience: int = setting(
        1,
        "Number of validations in a row without improvement that the schedule plateau allows; the next one lowers "
        "the learning rate.",
        low=0,
        high=LARGE,
        section=SCHEDULE,
    )
    num_cycles: int = setting(4, "Number of cycles of the schedule triangular.", low=1, high=LARGE, section=SCHEDULE)
    optimizer: str = setting("adamw", "Optimizer.", choices=OPTIMIZERS)
    momentum: float = setting(
        0.0, "Momentum of the optimizers sgd, asgd and rmsprop.", low=0.0, high=0.999999, section=OPTIMIZER
    )
    beta_1: float = setting(
        0.9,
        "Decay rate of the first moment in the optimizers adam, adamw and lamb.",
        low=0.0,
        high=0.999999,
        section=OPTIMIZER,
    )
    beta_2: float = setting(
        0.99,
        "Decay rate of the second moment in the optimizers adam, adamw, lamb and rmsprop.",
        low=0.0,
        high=0.999999,
        section=OPTIMIZER,
    )
    epsilon: float = setting(
        1e-8,
        "Number that the optimizers adam, adamw and lamb add to the denominator, and rmsprop to the mean square "
        "under the root.",
        low=1e-16,
        high=1.0,
        section=OPTIMIZER,
    )
    nonmonotone_interval: int = setting(
        5,
        "The optimizer asgd starts averaging the weights once a held-out score is worse than the best of all scores "
        "but the last N.",
        low=1,
        high=1 << 10,
        section=AVERAGING,
    )
    weight_averaging: str = setting(
        "none",
        "Average the weights for validation and for the saved model: ema is an exponential moving average over "
        "the steps, last-k the mean of the last validations.",
        choices=AVERAGES,
        section=AVERAGING,
    )
    ema_decay: float = setting(
        0.999,
        "Decay rate of the exponential moving average of the weights.",
        low=0.0,
        high=0.9999999,
        section=AVERAGING,
    )
    num_averaged: int = setting(
        5,
        "Number of validations whose weights the weight averaging last-k takes the mean of.",
        low=1,
        high=1 << 10,
        section=AVERAGING,
    )
    weight_decay: float = setting(
        0.02, "Weight decay of matrices; biases and norms do not decay.", low=0.0, high=1e3, planned=True,
        section=REGULARIZATION,
    )  # fmt: skip
    activation_penalty: float = setting(
        0.0,
        "Strength of activation regularization (AR), a penalty on large outputs of the last layer (Merity et al. "
        "2018); 0 is off.",
        low=0.0,
        high=1e3,
        section=REGULARIZATION,
    )
    temporal_penalty: float = setting(
        0.0,
        "Strength of temporal activation regularization (TAR), a penalty on changes of the last layer's outputs "
        "from token to token (Merity et al. 2018); 0 is off.",
        low=0.0,
        high=1e3,
        section=REGULARIZATION,
    )
    subword_alpha: float = setting(
        0.0,
        "Draw a new segmentation of the training text into tokens for each epoch (Kudo 2018): 0.1 to 0.5 is usual"
        " for unigram, 0.1 for bpe; 0 is off.",
        low=0.0,
        high=1.0,
        section=REGULARIZATION,
    )
    label_smoothing: float = setting(
        0.0,
        "Fraction of the probability of each target that is spread over all tokens; 0 is off.",
        low=0.0,
        high=0.95,
        section=REGULARIZATION,
    )
    sampled_softmax: int = setting(
        0,
        "Train with a softmax over N tokens, such as 1,024, that are drawn at each step (Jean et al. 2015); the "
        "training loss is then an estimate. 0 is the full softmax.",
        low=0,
        high=1 << 20,
        planned=True,
        section=LARGE_VOCABULARIES,
    )
    full_softmax_fraction: float = setting(
        0.25,
        "Fraction of a run with a sampled softmax, counted from the end, that uses the full softmax.",
        low=0.0,
        high=1.0,
        section=LARGE_VOCABULARIES,
    )
    freeze_layers: Sequence[str] = setting(
        (), "Do not train this layer, such as embedding or lstm_0.",
        metavar="LAYER", section=FINE_TUNING,
    )  # fmt: skip
    layer_learning_rate_decay: float = setting(
        1.0, "Factor of the learning rate from each layer to the one below it (Howard and Ruder 2018).",
        low=0.0, high=1.0, section=FINE_TUNING,
    )  # fmt: skip
    decay_target: str = setting(
        "zero",
        "What weight decay draws the weights to: zero, or start, the weights of the model that the run starts from"
        " (Li et al. 2018).",
        choices=DECAY_TARGETS,
        section=FINE_TUNING,
    )
    interpolate_start: bool = setting(
        False,
        "At the end, mix the trained weights with those of the model that the run starts from, in the proportion "
        "that scores best on held-out text (Wortsman et al. 2022).",
        section=FINE_TUNING,
        planned=True,
    )
    clip_norm: float = setting(
        0.5, "Clip the global norm of the gradient to this; a large number, such as 1e9, clips nothing.",
        low=1e-12, high=UNLIMITED, section=OPTIMIZER,
    )  # fmt: skip
    clip_value: float | None = setting(
        None,
        "Clip each element of the gradient to the range from -X to X, instead of the global norm.",
        low=1e-12,
        high=UNLIMITED,
        section=OPTIMIZER,
    )
    epochs: float | None = setting(
        None, "Maximum number of passes over the training text.", low=1e-9, high=1e12, planned=True
    )
    steps: int | None = setting(None, "Maximum number of updates of the weights.", low=1, high=10**12)
    minutes: float | None = setting(
        None,
        "Maximum number of minutes of training. Of several limits, the first one reached ends the run.",
        low=1e-9,
        high=1e12,
    )
    num_validations: int = setting(
        10, "Number of validations in a run, evenly spread.", low=1, high=LARGE, planned=True, section=VALIDATION
    )
    valid_tokens: int = setting(
        50_000,
        "Number of held-out tokens that each validation scores; the final evaluation scores at least as many.",
        low=1,
        high=1 << 40,
        planned=True,
        section=VALIDATION,
    )
    patience: int | None = setting(
        5, "Stop after N validations in a row without improvement.", low=1, high=LARGE, planned=True, section=VALIDATION
    )
    label_dropout: float = setting(
        0.1, "Fraction of labels hidden in training, so that the model can also write without one.",
        low=0.0, high=1.0, section=REGULARIZATION,
    )  # fmt: skip
    checkpoint_minutes: float = setting(
        5.0, "Maximum number of minutes between checkpoints.", low=0.0, high=UNLIMITED, section=VALIDATION
    )
    keep_checkpoints: int = setting(2, "Number of checkpoints to keep.", low=1, high=LARGE, section=VALIDATION)
    max_rollbacks: int = setting(
        3, "Maximum number of rollbacks to a checkpoint after the loss diverges.", low=0, high=LARGE, section=VALIDATION
    )
    precision: str = setting(
        "auto",
        "Precision of matrix products. auto picks bfloat16 where the hardware has it, and float16 on older GPUs "
        "with tensor cores. float16 trains with a scaled loss, so that small gradients are not lost.",
        choices=PRECISIONS,
        section=WINDOWS,
    )

    def check(self) -> None:
        """Checks combinations of fields. Raises `ConfigError`."""
        if self.optimizer == "asgd" and self.weight_averaging != "none":
            raise ConfigError(
                "The optimizer asgd already averages the weights: set weight_averaging to none, or choose sgd."
            )
        if self.momentum and self.optimizer not in WITH_MOMENTUM:
            raise ConfigError(
                f"The optimizer {self.optimizer} has no momentum: set momentum to 0, or choose one of "
                f"{', '.join(WITH_MOMENTUM)}."
            )
        if self.sampled_softmax and self.label_smoothing:
            raise ConfigError(
                "label_smoothing spreads each target over all tokens, but sampled_softmax computes only some: set "
                "sampled_softmax to 0, or leave label_smoothing out."
            )
        if self.schedule == "inverse-sqrt" and not self.warmup_fraction:
            raise ConfigError("The schedule inverse-sqrt needs a warm-up: set warmup_fraction above 0.")
        if self.schedule in RISING and not self.warmup_fraction + self.hold_fraction < 1:
            raise ConfigError(
                f"The schedule {self.schedule} rises between warm-up and hold, which here take the whole run: the sum "
                f"of warmup_fraction and hold_fraction must be below 1. Received: {self.warmup_fraction} and "
                f"{self.hold_fraction}."
            )
        if self.schedule == "exponential" and not self.final_learning_rate_fraction:
            raise ConfigError("The schedule exponential never reaches 0: set final_learning_rate_fraction above 0.")

    @property
    def needs_start(self) -> bool:
        """Whether the run uses the weights that it started from after the first step."""
        return self.decay_target == "start" or self.interpolate_start

    @property
    def num_streams(self) -> int:
        """Sequences in an update: the rows of all accumulated batches."""
        return self.batch_size * self.gradient_accumulation_steps


@dataclass(frozen=True)
class TuningConfig(Settings):
    """Settings for training an initial state; see `textgen.training.state_tuning`."""

    steps: int = setting(500, "Maximum number of steps.", low=1, high=1 << 40)
    learning_rate: float = setting(0.1, "Learning rate of Adam.", low=0.0, high=1e3)
    seed: int = setting(0, "Seed of the order of windows.", low=0, high=(1 << 63) - 1)
