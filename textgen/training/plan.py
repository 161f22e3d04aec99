"""Chooses all settings of a run from the corpus, the machine and the time available.

The rules are rough on purpose. Any setting that is given replaces the planned value:

- vocabulary: as large as the corpus supports (see `textgen.tokenizer.vocabulary.choose_vocab_size`). Where the budget
  does not suffice for one pass over the text, smaller, down to where the output layer has as many weights as the
  recurrent layers: a larger vocabulary makes each token dearer than what it saves in tokens;
- length: passes over the text, fewer for a longer text, because a recurrent network learns most in the first passes,
  and never so many that it memorises the text;
- batch: small for a short text, so that each pass makes enough updates; a multiple of the number of replicas;
- size: the largest preset that the corpus supports, that fits into the memory, and that sees, within the budget, twice
  as many tokens as it has parameters (a larger network learns more from a token, but reads fewer of them);
- softmax: sampled for a large vocabulary if the time does not suffice for all useful passes with the full one, unless
  the run starts from a trained model;
- dropout and weight decay: by how often each token is seen; learning rate: by the width of the layers;
- validations: by time, so that a short run does not spend much of it on them;
- base: a model to start from, where one suits the text (see `textgen.training.base_choice`). A model that has
  read much more than there is to train on needs few passes, a lower learning rate and more dropout.

`make_plan` computes a chain of results, each from those before it: facts about the corpus, the vocabulary, the
network, the training, and the estimates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.labels import worth_learning
from textgen.corpus.statistics import CorpusStats
from textgen.dataset.prepared_corpus import PreparedCorpus
from textgen.dataset.split import share_to_hold_out
from textgen.dataset.subword_sampling import require_sampling
from textgen.dataset.token_files import SplitSummary
from textgen.errors import ConfigError, CorpusError
from textgen.machine import best_precision, measure_flops, num_cores, usable_memory
from textgen.model.config import ModelConfig
from textgen.model.sharding import shard_rows
from textgen.saved_model.bases import is_base
from textgen.saved_model.saved_model import ModelFolder
from textgen.settings import from_dict, select, shown
from textgen.tokenizer.config import MAX_VOCAB_SIZE, TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import choose_vocab_size
from textgen.training.base_choice import NONE, REGULARISERS, BaseChoice, choose_base, network_settings
from textgen.training.config import DECOUPLED, LARGE, TrainingConfig
from textgen.training.distribution import Shares, require_shares
from textgen.training.presets import SIZES
from textgen.wording import counted

LEAST_CHARACTERS = 1000  # of a corpus; a shorter one leaves nothing to learn from and to hold out
PATIENT_MINUTES = 15.0  # a run without a budget is planned to take no longer
EFFICIENCY = {"float32": 0.8, "bfloat16": 1.05, "float16": 0.5}  # training speed relative to float32 matrix products
STEP_SECONDS = 0.006  # overhead of an update
TENSORFLOW = 800_000_000  # bytes, with XLA and its compiler
SMALL_LAYER = 80  # units that cost as much as the rest of a step; narrow layers are less efficient
RACE_VALIDATIONS = 10  # of a run, so that the first one is a tenth of it after the start
RACE_MINUTES = 5.0  # of a run, so that a tenth of it is more than the start of TensorFlow
NEED_BASE = ("decay_target", "interpolate_base", "freeze_layers")  # settings that are for fine-tuning
SHORTEST = 8  # tokens of a planned window, at least
MOST_PASSES = 30.0  # over a text; more would only memorise it
SMALL_TEXT = 30_000  # tokens, about 110 KB of English: what the next three were chosen for
TUNED_PASSES = 4.0  # over it for a well-read model
TUNED_DROPOUT = 0.4  # between its layers
TUNED_RATE = 0.5  # its learning rate, relative to that from random weights
MUCH_MORE = 10  # times the tokens to train on, which a well-read model has read
UPDATES_PER_PASS = 48  # that a short text should make, in batches of at least 4 sequences
TOKENS_PER_PARAMETER = 2.0  # that a network should see within its budget
RATES = {"sgd": 20.0, "asgd": 20.0, "rmsprop": 1e-3, "lamb": 1e-2}  # learning rates; Adam's depends on the width
GRADIENT_DECAY = 1.2e-6  # weight decay that is part of the gradient, as in AWD-LSTM
SAMPLED_FROM = 6000  # tokens in a vocabulary, from which the softmax is sampled
SAMPLED = 1024  # tokens that stand for it
ENOUGH_PASSES = 1.0  # over a text, below which the vocabulary shrinks
VOCABULARY_STEP = 0.8  # by which it shrinks at a time
LEAST_PIECES = 2000  # tokens, to which it shrinks at most
PIECES = ("unigram", "bpe")  # vocabularies of any size
CHARACTERS_PER_TOKEN = (  # by the size of a unigram vocabulary, on held-out text of the bases: English, Chinese
    {1000: 2.48, 2000: 2.94, 4000: 3.33, 8000: 3.65, 16_000: 3.9, 32_000: 4.12},
    {10_000: 1.07, 16_000: 1.15, 24_000: 1.19},
)
MEMORY_SHARE = 0.8  # of the memory, which a network may take
SECONDS_BETWEEN = (10.0, 300.0)  # validations of a planned run: at least, and at most
USUAL_VALIDATIONS = 10  # of a run that is neither short nor long
VALIDATED_SHARE = 0.1  # tokens that all validations score together, relative to those that are trained on
LARGEST_FOR = ((40_000, "tiny"), (400_000, "small"), (20_000_000, "medium"))  # tokens of training text


@dataclass(frozen=True)
class Sources:
    """What a run uses besides its corpus.

    Attributes:
        valid: Held-out text; None to hold out a fraction of the corpus.
        start: Model to fine-tune; None to start from random weights.
        tokenizer: Vocabulary to use; None to train one, or to keep that of `start`.
        choose_base: Whether a run without `start` may start from a base, where one suits the text.
    """

    valid: Corpus | None = None
    start: ModelFolder | None = None
    tokenizer: Tokenizer | None = None
    choose_base: bool = False


@dataclass(frozen=True)
class Hardware:
    """What a run is planned for.

    Attributes:
        flops: Float32 matrix product operations per second of all devices together; measured if None.
        shares: Replicas, processes and machines among which each batch is divided.
        memory: Memory of each machine in bytes; None if it is unknown.
    """

    flops: float | None = None
    shares: Shares = field(default_factory=Shares)
    memory: int | None = None

    def measured(self) -> Hardware:
        """The same with a known speed and memory."""
        flops = self.flops or measure_flops(self.shares.replicas, self.shares.machines)
        return replace(self, flops=flops, memory=self.memory or usable_memory())


@dataclass(frozen=True)
class CorpusFacts:
    """What is known of the corpus before a vocabulary is chosen.

    Attributes:
        stats: Counts of characters, words, documents and bytes.
        labels: Labels of documents that the model learns.
        valid_fraction: Fraction of the corpus to hold out, if there is no held-out text of its own.
    """

    stats: CorpusStats | SplitSummary
    labels: tuple[str, ...]
    valid_fraction: float


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary, and what the corpus comes to in its tokens.

    Attributes:
        tokenizer: Tokenizer to use; None if one is trained.
        config: Settings of the tokenizer.
        size: Tokens in the vocabulary (V); an estimate until it is trained.
        tokens: Tokens of training text, estimated.
    """

    tokenizer: Tokenizer | None
    config: TokenizerConfig
    size: int
    tokens: int


@dataclass(frozen=True)
class Estimates:
    """What a run is expected to need. All numbers are rough.

    Attributes:
        tokens: Tokens of training text.
        tokens_per_second: Speed of training.
        seconds: Duration of the run.
        memory_bytes: Peak memory of training on one machine.
        memory_there: Memory of each machine; None if it is unknown.
    """

    tokens: int
    tokens_per_second: float
    seconds: float
    memory_bytes: int
    memory_there: int | None = None

    @property
    def epochs(self) -> float:
        """Passes over the training text."""
        return self.seconds * self.tokens_per_second / self.tokens

    @property
    def has_room(self) -> bool:
        """Whether the memory suffices, as far as that is known."""
        return self.memory_there is None or self.memory_bytes <= self.memory_there


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All settings of a run, known before it starts.

    Attributes:
        corpus: Text to train on.
        sources: Held-out text, base model and vocabulary, where there are any.
        facts: Counts and labels of the corpus.
        corpus_config: How the corpus is read; the document mode is settled.
        tokenizer_config: How the vocabulary is trained.
        model_config: Shape of the network; its vocab_size is an estimate until the vocabulary is trained.
        training_config: How the network is trained.
        preset: Name of the chosen size; None if the size was given by single settings or by a base model.
        estimates: Expected duration, speed and memory.
        base: What the run starts from, and why.
        rival: The plan to try beside this one, where `base` is open.
    """

    corpus: Corpus | PreparedCorpus
    sources: Sources
    facts: CorpusFacts
    corpus_config: CorpusConfig
    tokenizer_config: TokenizerConfig
    model_config: ModelConfig
    training_config: TrainingConfig
    preset: str | None
    estimates: Estimates
    base: BaseChoice
    rival: Plan | None = None

    @property
    def base_name(self) -> str:
        """Name of the model that the run starts from, or "none"."""
        return self.sources.start.name if self.sources.start else NONE


def make_plan(
    corpus: Corpus | PreparedCorpus,
    settings: Mapping[str, Any] | None = None,
    *,
    preset: str | None = None,
    sources: Sources = Sources(),
    hardware: Hardware = Hardware(),
) -> Plan:
    """Chooses all settings that are not given.

    Args:
        corpus: Text to train on.
        settings: Flat settings by name, of `CorpusConfig`, `TokenizerConfig`, `ModelConfig` and `TrainingConfig`.
        preset: Size of the network, one of `textgen.training.presets.SIZES`; chosen if None.
        sources: Held-out text, base model and vocabulary.
        hardware: Speed, and how many devices share the work.

    Returns:
        The plan, for `textgen.training.run.train`.

    Raises:
        CorpusError: The text is too short.
        ConfigError: A setting is unknown or out of range, or contradicts another one or the base model.
    """
    given = dict(settings or {})
    _refuse_unknown(given, preset, sources.start)
    from_dict(TrainingConfig, select(TrainingConfig, given))  # checks the values before they are used
    from_dict(ModelConfig, {"vocab_size": MAX_VOCAB_SIZE, **select(ModelConfig, given)})
    if isinstance(corpus, PreparedCorpus):
        given = _without_prepared(corpus, given, sources)
    hardware = hardware.measured()
    if sources.start or not sources.choose_base:
        choice = BaseChoice(sources.start.name if sources.start else None, "given", "given")
        return _plan(corpus, given, preset, sources, hardware, choice)
    return _plan_with_base(corpus, given, preset, sources, hardware)


def _plan_with_base(
    corpus: Corpus | PreparedCorpus, given: Mapping[str, Any], preset: str | None, sources: Sources, hardware: Hardware
) -> Plan:
    """The plan from random weights or from a base, by the rule; with the other one as a rival where that is open."""
    _corpus_facts(corpus, given, sources)  # raises for too little text, before a vocabulary is learned from it
    if isinstance(corpus, PreparedCorpus):
        choice, base = BaseChoice(None, "a prepared corpus has a vocabulary of its own"), None
    else:
        choice, base = choose_base(corpus, given, preset=preset, tokenizer=sources.tokenizer)
    if base is None or not (choice.name or choice.is_open):
        return _plan(corpus, given, preset, sources, hardware, choice)
    of_base = [name for name in NEED_BASE if given.get(name) and given[name] != getattr(TrainingConfig, name)]
    own = {name: value for name, value in given.items() if name not in of_base}
    alone = _plan(corpus, own, preset, sources, hardware, choice)
    if _width(alone.model_config) > _width(base.model_config):
        choice = BaseChoice(None, f"the text supports a larger network than that of {base.name}", fit=choice.fit)
    elif choice.is_open and of_base:
        choice = replace(choice, name=base.name, is_open=False, reason=f"{choice.reason}; {of_base[0]} is given")
    elif choice.is_open and (why := _why_no_race(given, alone.training_config, hardware.shares)):
        choice = replace(choice, is_open=False, reason=f"{choice.reason}; {why}, so the likelier is taken")
    if choice.name is None and not choice.is_open:
        return _plan(corpus, given, preset, sources, hardware, choice)
    tuned = _plan(corpus, given, None, replace(sources, start=base), hardware, choice)
    if not choice.is_open:
        return tuned
    first, second = (tuned, alone) if choice.name else (alone, tuned)
    return replace(_for_race(first, given), rival=_for_race(second, given))


def _for_race(plan: Plan, given: Mapping[str, Any]) -> Plan:
    """The plan with a first validation after a tenth of the run."""
    if "num_validations" in given:
        return plan
    patience = plan.training_config.patience if "patience" in given else TrainingConfig.patience
    training = replace(plan.training_config, num_validations=RACE_VALIDATIONS, patience=patience)
    return replace(plan, training_config=training)


def _width(model: ModelConfig) -> int:
    return model.num_layers * model.hidden_units


def _why_no_race(given: Mapping[str, Any], training: TrainingConfig, shares: Shares) -> str:
    """Why two ways cannot be tried for a part of the run; "" if they can."""
    if shares.processes > 1:
        return "several processes do not try both"
    if given.get("num_validations", RACE_VALIDATIONS) < RACE_VALIDATIONS:
        return f"with fewer than {RACE_VALIDATIONS} validations there is none to compare by"
    if training.minutes is not None and training.minutes < RACE_MINUTES:
        return f"{training.minutes:g} minutes are too short to try both"
    return ""


def _plan(
    corpus: Corpus | PreparedCorpus,
    given: Mapping[str, Any],
    preset: str | None,
    sources: Sources,
    hardware: Hardware,
    choice: BaseChoice,
) -> Plan:
    facts = _corpus_facts(corpus, given, sources)
    vocabulary = _plan_vocabulary(corpus, facts, given, sources)
    basis = _basis(facts, vocabulary, given, sources, hardware)
    if sources.start is None:
        while smaller := _smaller_size(corpus, vocabulary, given, basis, preset):
            vocabulary = _plan_vocabulary(corpus, facts, given, sources, smaller)
            basis = replace(basis, vocab_size=vocabulary.size, tokens=vocabulary.tokens)
        model, preset = _plan_model(basis, preset)
    else:
        model, preset = _same_model(basis, sources.start), None
    basis = replace(basis, sampled_softmax=_plan_sampling(basis, model))
    training = _plan_training(basis, model)
    _refuse_contradictions(basis, facts, vocabulary, model, training)
    estimates = _estimate(basis, model, training)
    model = _plan_dropout(basis, model, estimates.epochs)
    return Plan(
        corpus=corpus,
        sources=replace(sources, tokenizer=vocabulary.tokenizer),
        facts=facts,
        corpus_config=replace(corpus.config, documents=corpus.documents_mode),
        tokenizer_config=vocabulary.config,
        model_config=model,
        training_config=training,
        preset=preset,
        estimates=estimates,
        base=choice,
    )


# === Checks of what is given ===


def _without_prepared(corpus: PreparedCorpus, given: Mapping[str, Any], sources: Sources) -> dict[str, Any]:
    """The settings without those that a prepared folder has fixed. Raises `ConfigError` where they differ."""
    if sources.valid:
        raise ConfigError(f"{corpus.folder} has held-out text of its own: leave valid out.")
    fixed = {**select(CorpusConfig, given), **select(TokenizerConfig, given)}
    fixed |= {name: value for name, value in given.items() if name == "valid_fraction"}
    corpus.require(fixed, sources.start.tokenizer if sources.start else sources.tokenizer)
    return {name: value for name, value in given.items() if name not in fixed}


def _refuse_unknown(settings: Mapping[str, Any], preset: str | None, start: ModelFolder | None) -> None:
    kinds = (CorpusConfig, TokenizerConfig, ModelConfig, TrainingConfig)
    known = [field.name for kind in kinds for field in fields(kind)]
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise ConfigError(f"There is no setting {shown(unknown[0])}. There are: {', '.join(dict.fromkeys(known))}.")
    if preset is not None and preset not in SIZES:
        raise ConfigError(f"There is no preset {preset!r}. There are: {', '.join(SIZES)}.")
    clash = network_settings(settings)
    if start and (clash or preset):
        raise ConfigError(
            f"{clash[0] if clash else 'preset'} cannot be set when fine-tuning: the model {start.name!r} decides it."
        )


def _refuse_contradictions(
    basis: _Basis, facts: CorpusFacts, vocabulary: Vocabulary, model: ModelConfig, training: TrainingConfig
) -> None:
    """Raises `ConfigError` for settings that exclude each other, `CorpusError` for less text than a batch."""
    replicas = basis.shares.replicas
    require_shares(training.batch_size, replicas)
    _refuse_unknown_layers(training, model)
    if training.needs_base and not basis.fine_tuning:
        setting = "interpolate_base" if training.interpolate_base else "decay_target base"
        raise ConfigError(f"{setting} needs a model to start from: name one, or leave it out.")
    if facts.labels and model.direction != "forward":
        raise ConfigError(
            "Labels need a network of direction forward, since they stand before the text: leave labels out, or "
            f"direction {model.direction}."
        )
    if training.subword_alpha:
        require_sampling(vocabulary.config.tokenizer)
    if basis.tokens < training.num_streams * training.sequence_length:
        raise CorpusError(
            f"The corpus makes about {counted(basis.tokens, 'token')} to train on, less than one batch of "
            f"{training.num_streams} x {training.sequence_length}: give more text, or a smaller batch_size or "
            "sequence_length"
            + (f"; batch_size is at least {replicas}, the number of replicas." if replicas > 1 else ".")
        )


def _refuse_unknown_layers(training: TrainingConfig, model: ModelConfig) -> None:
    layers = list(dict.fromkeys(name.split("/")[0] for name in model.weight_shapes()))
    for name in training.freeze_layers:
        if name not in layers:
            raise ConfigError(f"There is no layer {name!r} to freeze. There are: {', '.join(layers)}.")
    if set(layers) == set(training.freeze_layers):
        raise ConfigError("All layers are frozen, so nothing is left to train: leave one out of freeze_layers.")


# === Corpus and vocabulary ===


def _corpus_facts(corpus: Corpus | PreparedCorpus, given: Mapping[str, Any], sources: Sources) -> CorpusFacts:
    stats = corpus.stats()
    if stats.characters < LEAST_CHARACTERS:
        raise CorpusError(
            f"The corpus has {counted(stats.characters, 'character')}, too few to learn from: give at least "
            f"{LEAST_CHARACTERS:,}, better 50,000 or more."
        )
    if isinstance(corpus, PreparedCorpus):
        return CorpusFacts(stats, corpus.tokenizer.labels, corpus.settings.valid_fraction)
    default = TrainingConfig.valid_fraction if sources.valid else share_to_hold_out(stats.bytes)
    return CorpusFacts(stats, tuple(worth_learning(corpus.labels())), given.get("valid_fraction", default))


def _plan_vocabulary(
    corpus: Corpus | PreparedCorpus,
    facts: CorpusFacts,
    given: Mapping[str, Any],
    sources: Sources,
    size: int | None = None,
) -> Vocabulary:
    """The vocabulary, with `size` tokens if a size is chosen for it."""
    if isinstance(corpus, PreparedCorpus):
        own = corpus.tokenizer
        return Vocabulary(own, _plan_tokenizer(given, own), own.vocab_size, len(corpus.data().train))
    tokenizer = sources.tokenizer
    if sources.start and tokenizer is None and not select(TokenizerConfig, given):
        tokenizer = sources.start.tokenizer
    config, stats = _plan_tokenizer(given, tokenizer), corpus.stats()
    config = replace(config, vocab_size=size) if size else config
    size = tokenizer.vocab_size if tokenizer else _vocab_size(config, stats)
    held_out = 0.0 if sources.valid else facts.valid_fraction
    tokens = max(1, int(_tokens(config.tokenizer, stats, size) * (1 - held_out)))
    return Vocabulary(tokenizer, config, size + _num_new_labels(facts.labels, tokenizer), tokens)


def _smaller_size(
    corpus: Corpus | PreparedCorpus,
    vocabulary: Vocabulary,
    given: Mapping[str, Any],
    basis: _Basis,
    preset: str | None,
) -> int | None:
    """A smaller size to try for a vocabulary that is too large for the budget; None if it is not, or is given."""
    kind, is_given = vocabulary.config.tokenizer, vocabulary.tokenizer or given.get("vocab_size")
    if is_given or kind not in PIECES or isinstance(corpus, PreparedCorpus):
        return None
    model, _ = _plan_model(basis, preset)
    passes = _estimate(basis, model, _plan_training(basis, model)).epochs
    if passes >= ENOUGH_PASSES or model.vocab_size * model.embedding_dim <= _recurrent_weights(model):
        return None
    stats = corpus.stats()
    characters = choose_vocab_size(kind, 0, stats.character_counts, vocabulary.config.character_coverage)
    size = vocabulary.config.vocab_size or _vocab_size(vocabulary.config, stats)
    smaller = max(characters, LEAST_PIECES, 8 * int(VOCABULARY_STEP * size / 8))
    return smaller if smaller < size else None


def _plan_tokenizer(settings: Mapping[str, Any], tokenizer: Tokenizer | None) -> TokenizerConfig:
    if tokenizer is None:
        return from_dict(TokenizerConfig, select(TokenizerConfig, settings))
    if "tokenizer" in settings or "vocab_size" in settings:
        raise ConfigError("The tokenizer is taken from another model or file: leave out tokenizer and vocab_size.")
    return TokenizerConfig(tokenizer=tokenizer.tokenizer)


def _vocab_size(config: TokenizerConfig, stats: CorpusStats) -> int:
    if config.vocab_size is not None:
        return config.vocab_size
    chosen = choose_vocab_size(config.tokenizer, stats.characters, stats.character_counts, config.character_coverage)
    return min(chosen, max(300, stats.words // 4)) if config.tokenizer == "word" else chosen


def _num_new_labels(labels: Sequence[str], tokenizer: Tokenizer | None) -> int:
    """Tokens that the labels add to those that a tokenizer has."""
    known = tokenizer.labels if tokenizer else ()
    new = len(set(labels).difference(known))
    return new if known or not new else new + 1  # the first label adds the one for no label


def _tokens(tokenizer: str, stats: CorpusStats, vocab_size: int) -> int:
    """Estimated tokens of the whole corpus."""
    if tokenizer == "byte":
        return stats.bytes + stats.documents
    if tokenizer == "char":
        return stats.characters + stats.documents
    if tokenizer == "word":
        return stats.words + stats.lines
    wide = min(1.0, (stats.bytes / stats.characters - 1) / 2)  # 0 for English, 1 for Chinese
    english, chinese = (_interpolated(table, vocab_size) for table in CHARACTERS_PER_TOKEN)
    return round(stats.characters / (english * (1 - wide) + chinese * wide)) + stats.documents


def _interpolated(table: Mapping[int, float], vocab_size: int) -> float:
    """The value of a table by the logarithm of the size of a vocabulary; that of its ends beyond them."""
    sizes = [math.log(size) for size in table]
    return float(np.interp(math.log(vocab_size), sizes, list(table.values())))


# === Network and training ===


@dataclass(frozen=True)
class _Basis:
    """What the sizes of a run are computed from.

    Attributes:
        settings: Settings that were given, with precision and valid_fraction settled.
        vocab_size: Tokens in the vocabulary (V).
        tokens: Tokens of training text.
        flops: Float32 matrix product operations per second.
        shares: Replicas, processes and machines.
        fine_tuning: Whether the run starts from a trained model.
        well_read: Whether that model has read much more text than there is to train on, as a base has.
        memory: Memory of each machine in bytes; None if it is unknown.
        sampled_softmax: Tokens that stand for the vocabulary in the softmax; 0 for the full one, and until vocabulary
            and network are chosen.
    """

    settings: Mapping[str, Any]
    vocab_size: int
    tokens: int
    flops: float
    shares: Shares
    fine_tuning: bool
    well_read: bool
    memory: int | None
    sampled_softmax: int = 0

    def speed(self, model: ModelConfig, step_tokens: int = 2048) -> float:
        """Estimated tokens per second of a network, on average over the run."""
        precision = self.settings["precision"]
        full = tokens_per_second(model, self.flops, precision, step_tokens)
        if not 0 < self.sampled_softmax < model.vocab_size:
            return full
        fast = tokens_per_second(model, self.flops, precision, step_tokens, self.sampled_softmax)
        share = self.settings.get("full_softmax_share", TrainingConfig.full_softmax_share)
        if self.settings.get("minutes") is None:  # a share of the tokens
            return 1 / (share / full + (1 - share) / fast)
        return share * full + (1 - share) * fast


def _basis(
    facts: CorpusFacts, vocabulary: Vocabulary, given: Mapping[str, Any], sources: Sources, hardware: Hardware
) -> _Basis:
    shares = hardware.shares
    flops = hardware.flops or measure_flops(shares.replicas, shares.machines)
    precision = given.get("precision", "auto")
    settled = {
        "valid_fraction": facts.valid_fraction,
        "precision": best_precision() if precision == "auto" else precision,
    }
    start, tokens = sources.start, vocabulary.tokens
    well_read = start is not None and _is_well_read(start, tokens)
    settings = {**given, **settled}
    return _Basis(settings, vocabulary.size, tokens, flops, shares, start is not None, well_read, hardware.memory)


def _is_well_read(start: ModelFolder, tokens: int) -> bool:
    read = start.training.get("tokens", {}).get("train", 0)
    return is_base(start.folder) or read >= MUCH_MORE * tokens


def _same_model(basis: _Basis, start: ModelFolder) -> ModelConfig:
    """The network of a base model, with the dropout rates that were given."""
    rates = {name: value for name, value in basis.settings.items() if name in REGULARISERS}
    return replace(start.model_config, **rates, vocab_size=basis.vocab_size)


def _plan_model(basis: _Basis, preset: str | None) -> tuple[ModelConfig, str | None]:
    """The given preset, or the largest that corpus and budget support, changed by single settings."""
    own = {name: value for name, value in select(ModelConfig, basis.settings).items() if name != "vocab_size"}
    preset = preset or _largest_preset(basis)
    values: dict[str, Any] = {**SIZES[preset], **own, "vocab_size": basis.vocab_size}
    if "hidden_units" in own and "embedding_dim" not in own:
        values["embedding_dim"] = min(own["hidden_units"], 1024)
    has_own_shape = bool({"hidden_units", "embedding_dim", "num_layers"} & own.keys())
    return from_dict(ModelConfig, values), None if has_own_shape else preset


def _largest_preset(basis: _Basis) -> str:
    names = list(SIZES)
    largest = next((name for most, name in LARGEST_FOR if basis.tokens < most), names[-1])
    direction = basis.settings.get("direction", ModelConfig.direction)
    for name in reversed(names[: names.index(largest) + 1]):
        model = ModelConfig(vocab_size=basis.vocab_size, **SIZES[name])
        wanted = replace(model, direction=direction)
        speed, training = basis.speed(wanted), _plan_training(basis, wanted)
        if basis.memory and _memory_of_a_machine(wanted, training, basis.shares) > MEMORY_SHARE * basis.memory:
            continue
        seconds = _seconds(training, basis.tokens, speed)
        if seconds * speed >= TOKENS_PER_PARAMETER * _recurrent_weights(model):
            return name
    return names[0]


def _recurrent_weights(model: ModelConfig) -> int:
    """Weights that are not those of tokens: table rows cost little, and those of a tied output layer are table rows."""
    return model.num_parameters - model.vocab_size * (model.embedding_dim + 1)


def _plan_training(basis: _Basis, model: ModelConfig) -> TrainingConfig:
    """The training settings for a network; those that were given stay."""
    given, speed = select(TrainingConfig, basis.settings), basis.speed(model)
    values = {**_plan_batch(basis, given), "learning_rate": _plan_learning_rate(basis, model, given), **given}
    values["sampled_softmax"] = basis.sampled_softmax
    if given.get("epochs") is None and given.get("steps") is None:
        values["epochs"] = _plan_epochs(basis, given, speed)
    training = from_dict(TrainingConfig, values)
    seconds = _seconds(training, basis.tokens, speed)
    seen = seconds * speed  # tokens
    derived: dict[str, Any] = {}
    if "weight_decay" not in given:  # decoupled: 0.02 for few passes over the text, 0.3 for as many as are useful
        decoupled = float(f"{min(0.3, max(0.02, 0.01 * (seen / basis.tokens))):.2g}")
        derived["weight_decay"] = decoupled if training.optimizer in DECOUPLED else GRADIENT_DECAY
    if "num_validations" not in given:
        derived |= _plan_validations(training, seconds, given)
    validations = derived.get("num_validations", training.num_validations)
    if "valid_tokens" not in given:  # so that validation takes a few per cent of the time
        derived["valid_tokens"] = min(200_000, max(4096, int(VALIDATED_SHARE * seen / validations)))
    return replace(training, **derived)


def _plan_sampling(basis: _Basis, model: ModelConfig) -> int:
    """sampled_softmax: not 0 where the time limits the passes. Vocabulary and network suit the full softmax."""
    given = basis.settings
    if "sampled_softmax" in given:
        return int(given["sampled_softmax"])
    is_large = basis.vocab_size >= SAMPLED_FROM and not basis.fine_tuning and not given.get("label_smoothing")
    is_short_of_time = given.get("minutes") is not None or given.get("epochs") is None
    if not is_large or not is_short_of_time or given.get("steps") is not None:
        return 0
    passes = 60 * (given.get("minutes") or PATIENT_MINUTES) * basis.speed(model) / basis.tokens
    return SAMPLED if passes < min(_enough_passes(basis.tokens), given.get("epochs") or math.inf) else 0


def validations_in(seconds: float) -> int:
    """How many validations a run of so many seconds has: few in a short one, one every few minutes in a long one.

    Example:
        >>> validations_in(20), validations_in(60), validations_in(600), validations_in(7200)
        (2, 6, 10, 24)
    """
    least, most = SECONDS_BETWEEN
    return min(LARGE, max(2, min(USUAL_VALIDATIONS, int(seconds / least)), math.ceil(seconds / most)))


def _plan_validations(training: TrainingConfig, seconds: float, given: Mapping[str, Any]) -> dict[str, int]:
    """num_validations, and patience for half a run.

    The schedule plateau and some averages count validations, so they get no fewer than usual.
    """
    number = validations_in(seconds)
    if training.schedule == "plateau" or training.weight_averaging == "last-k" or training.optimizer == "asgd":
        number = max(USUAL_VALIDATIONS, number)
    usual = TrainingConfig.patience or 1
    return {"num_validations": number, **({} if "patience" in given else {"patience": max(usual, number // 2)})}


def _plan_batch(basis: _Basis, given: Mapping[str, Any]) -> dict[str, int]:
    """batch_size and sequence_length."""
    length = given.get("sequence_length", TrainingConfig.sequence_length)
    rows = max(4, min(32, 1 << int(math.log2(max(1, basis.tokens / (UPDATES_PER_PASS * length))))))
    replicas = basis.shares.replicas
    batch_size = given.get("batch_size", math.ceil(rows / replicas) * replicas)
    streams = batch_size * given.get("gradient_accumulation_steps", 1)
    if "sequence_length" not in given:  # a short text fills a batch for many replicas only with shorter windows
        while length > SHORTEST and streams * length > basis.tokens:
            length //= 2
    return {"batch_size": batch_size, "sequence_length": length}


def _plan_learning_rate(basis: _Basis, model: ModelConfig, given: Mapping[str, Any]) -> float:
    rate = min(5e-3, 4e-3 * (256 / model.hidden_units) ** 0.7)
    rate = RATES.get(given.get("optimizer", TrainingConfig.optimizer), rate) * (1 - given.get("momentum", 0.0))
    factor = TUNED_RATE if basis.well_read else 0.3 if basis.fine_tuning else 1
    return float(f"{rate * factor:.2g}")


def _plan_epochs(basis: _Basis, given: Mapping[str, Any], speed: float) -> float:
    passes = _tuned_passes(basis.tokens) if basis.well_read else MOST_PASSES
    if given.get("minutes") is None:
        passes = min(passes, _enough_passes(basis.tokens), 60 * PATIENT_MINUTES * speed / basis.tokens)
    return float(f"{passes * (0.5 if basis.fine_tuning and not basis.well_read else 1):.2g}")


def _enough_passes(tokens: int) -> float:
    """Passes over a text after which more of them help little."""
    return max(1.0, 10 * (1_000_000 / tokens) ** 0.5)


def _tuned_passes(tokens: int) -> float:
    """Passes for a well-read model.

    A shorter text needs more of them to be learned at all; a longer one is learned by heart more slowly.
    """
    times = tokens / SMALL_TEXT
    return TUNED_PASSES * max(times**-0.25, times**0.15)


def _plan_dropout(basis: _Basis, model: ModelConfig, epochs: float) -> ModelConfig:
    """More dropout the more often each token is seen: 0.1 for one pass, 0.35 for ten, at most 0.5.

    A well-read model would learn a short text by heart in few passes, so it gets as much for fewer of them. Other
    models that are fine-tuned keep their rates.
    """
    if basis.fine_tuning and not basis.well_read:
        return model
    given, planned = basis.settings, 0.1 * math.log2(1 + epochs)
    if basis.well_read:
        planned = max(planned, TUNED_DROPOUT * (SMALL_TEXT / basis.tokens) ** 0.25)
    planned = round(min(0.5, planned), 2)
    dropout = given.get("dropout", planned)
    return replace(model, dropout=dropout, embedding_dropout=given.get("embedding_dropout", round(dropout / 2, 2)))


# === Estimates ===


def _estimate(basis: _Basis, model: ModelConfig, training: TrainingConfig) -> Estimates:
    speed = basis.speed(model, training.num_streams * training.sequence_length)
    seconds = _seconds(training, basis.tokens, speed)
    memory = _memory_of_a_machine(model, training, basis.shares)
    return Estimates(basis.tokens, speed, seconds, memory, basis.memory)


def _seconds(training: TrainingConfig, tokens: int, speed: float) -> float:
    """Estimated duration of a run: that of the budget that is spent first."""
    seconds = math.inf if training.minutes is None else 60 * training.minutes
    if training.steps is not None:
        seconds = min(seconds, training.steps * training.num_streams * training.sequence_length / speed)
    if training.epochs is not None:
        seconds = min(seconds, training.epochs * tokens / speed)
    return seconds


def tokens_per_second(
    model: ModelConfig, flops: float, precision: str, step_tokens: int = 2048, logits: int | None = None
) -> float:
    """Estimates how fast a network trains: six operations per weight and token, and a constant time per update.

    Args:
        model: Shape of the network. With two directions, a token still counts once.
        flops: Float32 matrix product operations per second.
        precision: Precision of matrix products, "float32", "bfloat16" or "float16".
        step_tokens: Tokens of an update.
        logits: Tokens that stand for the vocabulary in the softmax; None for all.

    Returns:
        Tokens per second.
    """
    one = replace(model, direction=model.directions[0])
    products = one.num_parameters - (0 if model.tie_embeddings else model.vocab_size * model.embedding_dim)
    if logits is not None:
        products -= (model.vocab_size - logits) * model.embedding_dim
    products *= len(model.directions)
    products += 2 * model.attention * model.hidden_units  # as many as a matrix of that size
    efficiency = EFFICIENCY[precision] * model.hidden_units / (model.hidden_units + SMALL_LAYER)
    return step_tokens / (step_tokens * 6 * products / (flops * efficiency) + STEP_SECONDS)


def _memory_of_a_machine(model: ModelConfig, training: TrainingConfig, shares: Shares) -> int:
    here = shares.processes // shares.machines
    rows = training.batch_size // shares.processes
    shards = len(shard_rows(rows, num_cores(here)))
    return here * training_memory(model, replace(training, batch_size=rows), shards)


def training_memory(model: ModelConfig, training: TrainingConfig, shards: int = 1) -> int:
    """Estimates the peak memory of training, in bytes.

    A weight is kept with two moments and a gradient. Each shard has a gradient of its own, and a copy of the weight in
    the precision of products. For each token, every layer keeps gates, h and c; one layer at a time needs more.

    Args:
        model: Shape of the network.
        training: Batch size, sequence length and precision.
        shards: Parts of a batch that are computed side by side.
    """
    from textgen.model.layers.head import CHUNK_ELEMENTS  # late: it imports TensorFlow

    number = 4 if training.precision == "float32" else 2  # bytes
    weights = model.num_parameters * (16 + shards * (4 + number))
    tables = model.vocab_size * model.embedding_dim * 8 * shards  # sums of the output layer's gradients
    tokens = training.batch_size * training.sequence_length
    layers = model.num_layers * len(model.directions)
    activations = tokens * model.hidden_units * (layers * (5 * number + 4) + 8 * number)
    logits = min(tokens * model.vocab_size, shards * CHUNK_ELEMENTS) * (8 + 2 * number)
    if model.attention:
        outputs = model.attention + training.sequence_length  # that each token attends to
        activations += 4 * (5 * tokens * outputs + 4 * training.batch_size * outputs * model.hidden_units)
    return TENSORFLOW + weights + tables + activations + logits
