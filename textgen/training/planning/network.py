"""Plans the size of the network and its dropout."""

from __future__ import annotations

import math
from dataclasses import replace

from textgen.model.config import DROPOUTS, ModelConfig
from textgen.saved_model.saved_model import ModelFolder
from textgen.settings import from_dict, select
from textgen.training.config import TrainingConfig
from textgen.training.planning.basis import SMALL_TEXT, Basis
from textgen.training.planning.estimates import training_seconds
from textgen.training.planning.training import plan_training
from textgen.training.presets import SIZES, with_sizes

PASSES_WITHOUT_DROPOUT = 5.0  # maximum number of passes over a text in which a network hardly overfits
MAX_DROPOUT = 0.75  # largest rate between layers, of a text of a few kilobytes
PRETRAINED_DROPOUT = 0.4  # dropout between layers on a text of `SMALL_TEXT`, for a model trained on much more text
TOKENS_PER_PARAMETER = 2.0  # minimum number of training tokens per weight besides the embedding, with the full softmax
SAMPLED_TOKENS_PER_PARAMETER = 3.0  # the same with a sampled softmax, which is rougher
MEMORY_FRACTION = 0.8  # largest fraction of the memory for training a network
PRESET_LIMITS = ((110_000, "tiny"), (400_000, "small"), (20_000_000, "medium"))  # tokens below which it is the largest
SMALL_VOCABULARY = 1000  # tokens; a smaller one is taken for one of characters or bytes, of which a word takes many
PRESET_LIMITS_FOR_CHARACTERS = ((40_000, "tiny"), *PRESET_LIMITS[1:])  # the same with such a vocabulary


def same_model(basis: Basis, start: ModelFolder) -> ModelConfig:
    """The network of the model that the run starts from, with the dropout rates that were given."""
    rates = {name: value for name, value in basis.settings.items() if name in DROPOUTS}
    return replace(start.model_config, **rates, vocab_size=basis.vocab_size)


def plan_model(basis: Basis, preset: str | None) -> tuple[ModelConfig, str | None]:
    """The given preset, or the largest that corpus and budget support, changed by single settings."""
    own = {name: value for name, value in select(ModelConfig, basis.settings).items() if name != "vocab_size"}
    preset = preset or _largest_preset(basis)
    values = {**with_sizes(preset, own), "vocab_size": basis.vocab_size}
    has_own_shape = bool({"hidden_units", "embedding_dim", "num_layers"} & own.keys())
    return from_dict(ModelConfig, values), None if has_own_shape else preset


def _largest_preset(basis: Basis) -> str:
    names = list(SIZES)
    limits = PRESET_LIMITS_FOR_CHARACTERS if basis.vocab_size < SMALL_VOCABULARY else PRESET_LIMITS
    largest = next((name for most, name in limits if basis.tokens < most), names[-1])
    direction = basis.settings.get("direction", ModelConfig.direction)
    full = replace(basis, sampled_softmax=0)
    for name in reversed(names[: names.index(largest) + 1]):
        model = ModelConfig(vocab_size=basis.vocab_size, **SIZES[name])
        wanted = replace(model, direction=direction)
        training = plan_training(full, wanted)
        if basis.memory_there and basis.memory_needed(wanted, training) > MEMORY_FRACTION * basis.memory_there:
            continue
        seen = _tokens_seen(full, wanted, training) / TOKENS_PER_PARAMETER
        if basis.sampled_softmax:
            sampled = _tokens_seen(basis, wanted, plan_training(basis, wanted))
            seen = max(seen, sampled / SAMPLED_TOKENS_PER_PARAMETER)
        if seen >= recurrent_weights(model):
            return name
    return names[0]


def _tokens_seen(basis: Basis, model: ModelConfig, training: TrainingConfig) -> float:
    """Tokens that a network reads within the budget."""
    speed = basis.speed(model)
    return training_seconds(training, basis.tokens, speed) * speed


def recurrent_weights(model: ModelConfig) -> int:
    """Number of parameters without the embedding table and the output bias; a head that is not tied counts."""
    return model.num_parameters - model.vocab_size * (model.embedding_dim + 1)


def plan_dropout(basis: Basis, model: ModelConfig, epochs: float) -> ModelConfig:
    """More dropout the more often each token is seen: none for up to five passes, 0.2 for ten, at most 0.5.

    A short text gets more: without it, a network learns the text by heart within the first passes. So does a model that
    was trained on much more text. Other models that are fine-tuned keep their rates.
    """
    if basis.fine_tuning and not basis.read_much_more:
        return model
    given, times_shorter = basis.settings, SMALL_TEXT / basis.tokens
    if basis.read_much_more:
        planned = min(0.5, max(0.1 * math.log2(1 + epochs), PRETRAINED_DROPOUT * times_shorter**0.25))
    else:
        planned = min(0.5, 0.2 * math.log2(max(1.0, epochs / PASSES_WITHOUT_DROPOUT)))
        planned = min(MAX_DROPOUT, planned * max(1.0, times_shorter**0.3))
    planned = round(planned, 2)
    dropout = given.get("dropout", planned)
    return replace(model, dropout=dropout, embedding_dropout=given.get("embedding_dropout", round(dropout / 2, 2)))
