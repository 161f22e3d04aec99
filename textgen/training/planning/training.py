"""Plans batches, passes, learning rate, weight decay and whether the softmax is sampled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from textgen.model.config import ModelConfig
from textgen.settings import from_dict, select
from textgen.training.config import DECOUPLED, TrainingConfig
from textgen.training.planning.basis import SMALL_TEXT, Basis
from textgen.training.planning.estimates import training_seconds
from textgen.training.planning.validations import plan_patience, plan_validations

DEFAULT_MINUTES = 15.0  # maximum minutes planned for a run without a budget
MIN_WINDOW_TOKENS = 8  # minimum number of tokens of a planned window
MAX_PASSES = 30.0  # maximum number of passes over a text; more would only memorize it
PRETRAINED_PASSES = 4.0  # passes over a text of `SMALL_TEXT` for a model trained on much more text
PRETRAINED_RATE = 0.5  # factor of the usual learning rate for a model trained on much more text
HARD_TEXT = 1.5  # relative loss of a text above which such a model gets a higher learning rate and more passes
MAX_RATE_FACTOR = 3.0  # largest factor of the learning rate for such a text
FINE_TUNED_RATE = 0.3  # factor of the usual learning rate when fine-tuning any other model
ADAM_FROM_RANDOM = 2.0  # factor of Adam's usual learning rate when starting from random weights
UPDATES_PER_PASS = 48  # intended updates per pass over a short text, in batches of at least 4 sequences
RATES = {"sgd": 20.0, "asgd": 20.0, "rmsprop": 1e-3, "lamb": 1e-2}  # learning rates; Adam's depends on the width
GRADIENT_DECAY = 1.2e-6  # weight decay that is part of the gradient, as in AWD-LSTM
SAMPLED_FROM = 4000  # minimum number of tokens of a vocabulary for which the softmax is sampled
SAMPLED_TOKENS = 1024  # sampled tokens that approximate the full softmax
VALIDATION_TIME = 1 / 30  # fraction of training time that validations may take


def plan_training(basis: Basis, model: ModelConfig) -> TrainingConfig:
    """The training settings for a network; those that were given stay."""
    given, speed = select(TrainingConfig, basis.settings), basis.speed(model)
    values = {
        **_plan_batch(basis, given),
        **_plan_schedule(basis, given),
        "learning_rate": _plan_learning_rate(basis, model, given),
        "interpolate_start": basis.read_much_more and basis.keeps_vocabulary,
        **given,
    }
    values["sampled_softmax"] = basis.sampled_softmax
    if given.get("epochs") is None and given.get("steps") is None:
        values["epochs"] = _plan_epochs(basis, given, speed)
    training = from_dict(TrainingConfig, values)
    seconds = training_seconds(training, basis.tokens, speed)
    seen = seconds * speed  # tokens
    derived: dict[str, Any] = {}
    if "weight_decay" not in given:  # decoupled: 0.02 for few passes over the text, 0.3 for as many as are useful
        decoupled = float(f"{min(0.3, max(0.02, 0.01 * (seen / basis.tokens))):.2g}")
        derived["weight_decay"] = decoupled if training.optimizer in DECOUPLED else GRADIENT_DECAY
    if "num_validations" not in given:
        derived["num_validations"] = plan_validations(training, seconds, seen / basis.tokens)
    validations = derived.get("num_validations", training.num_validations)
    if "patience" not in given:
        derived["patience"] = plan_patience(validations)
    if "valid_tokens" not in given:  # so that validation takes a few per cent of the time
        scored = VALIDATION_TIME * seconds * basis.scoring_speed(model)
        derived["valid_tokens"] = min(200_000, max(4096, int(scored / validations)))
    return replace(training, **derived)


def plan_sampling(basis: Basis, model: ModelConfig) -> int:
    """Chooses sampled_softmax: sampled if time does not allow all useful passes with the full softmax; otherwise 0."""
    given = basis.settings
    if "sampled_softmax" in given:
        return int(given["sampled_softmax"])
    is_large = basis.vocab_size >= SAMPLED_FROM and not basis.fine_tuning and not given.get("label_smoothing")
    is_short_of_time = given.get("minutes") is not None or given.get("epochs") is None
    if not is_large or not is_short_of_time or given.get("steps") is not None:
        return 0
    passes = 60 * (given.get("minutes") or DEFAULT_MINUTES) * basis.speed(model) / basis.tokens
    return SAMPLED_TOKENS if passes < min(_enough_passes(basis.tokens), given.get("epochs") or math.inf) else 0


def _plan_batch(basis: Basis, given: Mapping[str, Any]) -> dict[str, int]:
    """Chooses batch_size and sequence_length."""
    length = given.get("sequence_length", TrainingConfig.sequence_length)
    rows = max(4, min(32, 1 << int(math.log2(max(1, basis.tokens / (UPDATES_PER_PASS * length))))))
    replicas = basis.shares.replicas
    batch_size = given.get("batch_size", math.ceil(rows / replicas) * replicas)
    streams = batch_size * given.get("gradient_accumulation_steps", 1)
    if "sequence_length" not in given:  # a short text fills a batch for many replicas only with shorter windows
        while length > MIN_WINDOW_TOKENS and streams * length > basis.tokens:
            length //= 2
    return {"batch_size": batch_size, "sequence_length": length}


def _plan_learning_rate(basis: Basis, model: ModelConfig, given: Mapping[str, Any]) -> float:
    rate = min(6.5e-3, 4e-3 * (256 / model.hidden_units) ** 0.7) * (1 if basis.fine_tuning else ADAM_FROM_RANDOM)
    rate = RATES.get(given.get("optimizer", TrainingConfig.optimizer), rate) * (1 - given.get("momentum", 0.0))
    if basis.read_much_more:
        rate *= PRETRAINED_RATE * _hard_text_factor(basis)
    elif basis.fine_tuning:
        rate *= FINE_TUNED_RATE
    return float(f"{rate:.2g}")


def _hard_text_factor(basis: Basis) -> float:
    """The learning rate for a text that is hard for a pretrained model, relative to that for other text."""
    factor = ((basis.relative_loss or HARD_TEXT) / HARD_TEXT) ** 3
    return min(MAX_RATE_FACTOR, max(1.0, factor))


def _plan_schedule(basis: Basis, given: Mapping[str, Any]) -> dict[str, Any]:
    """Chooses schedule and warmup_fraction for a model trained on much more text.

    Its learning rate rises slowly, so that it keeps more of what it knows. One cycle, whose rise takes three tenths of
    the run, is then better by 0.2 to 0.5 % than cosine.
    """
    if not basis.read_much_more or {"schedule", "warmup_fraction", "hold_fraction"} & given.keys():
        return {}
    return {"schedule": "one-cycle", "warmup_fraction": 0.0}


def _plan_epochs(basis: Basis, given: Mapping[str, Any], speed: float) -> float:
    passes = _pretrained_passes(basis) if basis.read_much_more else MAX_PASSES
    if given.get("minutes") is None:
        passes = min(passes, _enough_passes(basis.tokens), 60 * DEFAULT_MINUTES * speed / basis.tokens)
    return float(f"{passes * (0.5 if basis.fine_tuning and not basis.read_much_more else 1):.2g}")


def _enough_passes(tokens: int) -> float:
    """Passes over a text after which more of them help little."""
    return max(1.0, 10 * (1_000_000 / tokens) ** 0.5)


def _pretrained_passes(basis: Basis) -> float:
    """Passes for a model trained on much more text.

    A shorter text needs more of them to be learned at all; a longer one is overfitted more slowly.
    """
    times = basis.tokens / SMALL_TEXT
    return PRETRAINED_PASSES * max(times**-0.25, times**0.15) * _hard_text_factor(basis) ** 0.4
