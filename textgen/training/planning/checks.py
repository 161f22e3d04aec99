"""Refuses settings that are unknown, or contradict each other, the model to start from or the corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.prepared_corpus import PreparedCorpus
from textgen.dataset.subword_sampling import require_sampling
from textgen.dataset.token_files import SplitSummary
from textgen.errors import ConfigError, CorpusError
from textgen.model.config import ModelConfig
from textgen.saved_model.saved_model import ModelFolder
from textgen.settings import from_dict, refuse_unknown, select
from textgen.storage.addresses import without_secrets
from textgen.tokenizer.config import MAX_VOCAB_SIZE, TokenizerConfig
from textgen.training.config import TrainingConfig
from textgen.training.planning.basis import Basis
from textgen.training.planning.inputs import Sources, has_held_out
from textgen.training.planning.start_choice import network_settings
from textgen.training.planning.vocabulary import CorpusFacts, Vocabulary
from textgen.training.presets import SIZES
from textgen.training.unused_settings import refuse_unused
from textgen.wording import counted


def without_prepared(corpus: PreparedCorpus, given: Mapping[str, Any], sources: Sources) -> dict[str, Any]:
    """The settings without those that a prepared folder has fixed. Raises `ConfigError` where they differ."""
    if sources.valid:
        raise has_held_out(corpus)
    fixed = {**select(CorpusConfig, given), **select(TokenizerConfig, given)}
    fixed |= {name: value for name, value in given.items() if name == "valid_fraction"}
    corpus.require(fixed, sources.start.tokenizer if sources.start else sources.tokenizer)
    return {name: value for name, value in given.items() if name not in fixed}


def refuse_fraction(given: Mapping[str, Any], valid: Corpus | None) -> None:
    """Raises `ConfigError` for a fraction to hold out where a text is held out."""
    if valid and "valid_fraction" in given:
        raise ConfigError("A file is named as the held-out text: leave out valid_fraction, or the file.")


def refuse_shared(corpus: Corpus, valid: Corpus | None) -> None:
    """Raises `CorpusError` if a file of the held-out text is also one to train on."""
    own = {file.resolve() for file in corpus.files}
    for file, place in zip(valid.files, valid.places, strict=True) if valid else ():
        if file.resolve() in own:
            raise CorpusError(
                f"{without_secrets(place)} is held-out text, but it is among the files to train on, too, so every "
                "score would be one of text that the model has read. Move it out of the folder, or name the files to "
                "train on without it."
            )


def check_settings(settings: Mapping[str, Any], preset: str | None, start: ModelFolder | None) -> None:
    """Checks the settings of a run by themselves, before a text is read.

    Args:
        settings: Flat settings by name.
        preset: Size of the network, or None.
        start: Model to start from, or None.

    Raises:
        ConfigError: A setting or the preset is unknown or out of range, a setting does nothing with the others, or the
            model to start from decides it.
    """
    _refuse_unusable(settings, preset, start)
    from_dict(TrainingConfig, select(TrainingConfig, settings))
    from_dict(ModelConfig, {"vocab_size": MAX_VOCAB_SIZE, **select(ModelConfig, settings)})
    refuse_unused(settings)


def _refuse_unusable(settings: Mapping[str, Any], preset: str | None, start: ModelFolder | None) -> None:
    """Raises `ConfigError` for an unknown setting or preset, and for those that the model to start from decides."""
    kinds = (CorpusConfig, TokenizerConfig, ModelConfig, TrainingConfig)
    refuse_unknown(settings, [field.name for kind in kinds for field in fields(kind)])
    if preset is not None and preset not in SIZES:
        raise ConfigError(f"There is no preset {preset!r}. There are: {', '.join(SIZES)}.")
    clash = network_settings(settings)
    if start and (clash or preset):
        raise ConfigError(
            f"{clash[0] if clash else 'preset'} cannot be set when fine-tuning: the model {start.name!r} decides it. "
            "Leave it out, or set start to none."
        )


def refuse_contradictions(
    basis: Basis, facts: CorpusFacts, vocabulary: Vocabulary, model: ModelConfig, training: TrainingConfig
) -> None:
    """Checks the settings of a plan against each other and against the text.

    Args:
        basis: What the plan starts from.
        facts: Facts about the corpus.
        vocabulary: The vocabulary.
        model: Shape of the network.
        training: Settings of training.

    Raises:
        ConfigError: Settings exclude each other.
        CorpusError: The text is shorter than a batch.
    """
    replicas = basis.shares.replicas
    _refuse_unknown_layers(training, model)
    if training.needs_start and not basis.fine_tuning:
        setting = "interpolate_start" if training.interpolate_start else "decay_target start"
        raise ConfigError(f"{setting} needs a model to start from: name one, or leave it out.")
    if training.interpolate_start and not basis.keeps_vocabulary:
        raise ConfigError(
            "interpolate_start needs a model to start from with the same vocabulary: keep the vocabulary of that "
            "model, or leave interpolate_start out."
        )
    if model.direction != "forward":
        _refuse_labels(basis, facts, vocabulary, model)
    _refuse_idle(basis.settings, facts, model)
    if training.subword_alpha:
        require_sampling(vocabulary.config.tokenizer)
    if basis.tokens < training.num_streams * training.sequence_length:
        raise CorpusError(
            f"The corpus makes about {counted(basis.tokens, 'token')} to train on, less than one batch of "
            f"{training.num_streams:,} x {training.sequence_length:,}: give more text, or a smaller batch_size or "
            "sequence_length"
            + (f"; batch_size is at least {replicas}, the number of replicas." if replicas > 1 else ".")
        )


def _refuse_labels(basis: Basis, facts: CorpusFacts, vocabulary: Vocabulary, model: ModelConfig) -> None:
    """Raises `ConfigError` if documents get the token of a label, those of a text without labels included.

    In a vocabulary with labels such documents begin with a token, too. A network that reads backward would find it
    after the beginning of each text, where nothing that uses the network puts it.
    """
    own = vocabulary.tokenizer.labels if vocabulary.tokenizer else ()
    if not facts.labels and not own:
        return
    if isinstance(facts.stats, SplitSummary):
        ways = ["prepare the text without labels"]
    else:
        ways = ["leave labels out"] * bool(facts.labels) + ["take a vocabulary without labels"] * bool(own)
    other = "start from a model of direction forward" if basis.fine_tuning else f"leave out direction {model.direction}"
    raise ConfigError(
        "Labels need a network of direction forward, since they stand before the text"
        f"{'' if facts.labels else ', and the vocabulary has some'}: {' and '.join(ways)}, or {other}."
    )


def _refuse_idle(given: Mapping[str, Any], facts: CorpusFacts, model: ModelConfig) -> None:
    """Raises `ConfigError` for a given setting that does nothing with this text or in this network."""
    usual = TrainingConfig.label_dropout
    if not facts.labels and given.get("label_dropout", usual) != usual:
        raise ConfigError(
            "The model learns no labels from this text, so label_dropout does nothing: leave it out, or set labels."
        )
    if given.get("residual") and model.num_layers == 1 and model.embedding_dim != model.hidden_units:
        raise ConfigError(
            f"The only layer turns {counted(model.embedding_dim, 'value')} into {model.hidden_units}, so residual does "
            "nothing: leave it out, add a layer, or set embedding_dim to hidden_units."
        )


def _refuse_unknown_layers(training: TrainingConfig, model: ModelConfig) -> None:
    layers = list(dict.fromkeys(name.split("/")[0] for name in model.weight_shapes()))
    for name in training.freeze_layers:
        if name not in layers:
            raise ConfigError(f"There is no layer {name!r} to freeze. There are: {', '.join(layers)}.")
    if set(layers) == set(training.freeze_layers):
        raise ConfigError("All layers are frozen, so nothing is left to train: leave one out of freeze_layers.")
