"""What `textgen train corpus.txt` does when told nothing else: corpus, machine and budget -> settings.

The rules are rough on purpose, and each can be overridden by its field:

- vocabulary: what the corpus supports (see `textgen.tokenizer.tokenizer.choose_vocab_size`);
- length: passes over the text, fewer the longer it is (a recurrent network learns most in the first ones),
  and never so many that it learns the text by heart;
- batch: small for a short text, so that each pass makes enough updates; as many rows for each replica;
- size: the largest preset that the corpus can feed and that sees, within the budget, twice as many tokens as
  it has parameters (a larger network learns more from a token, but reads fewer of them);
- dropout and weight decay: by how often each token is seen; learning rate: by the width of the layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.labels import worth_learning
from textgen.corpus.statistics import CorpusStats
from textgen.dataset.prepared_corpus import PreparedCorpus
from textgen.dataset.split import share_to_hold_out
from textgen.dataset.subword_sampling import require_sampling
from textgen.dataset.token_files import SplitSummary
from textgen.errors import ConfigError, CorpusError
from textgen.machine import best_precision, measure_flops, num_cores
from textgen.model.config import ModelConfig
from textgen.model.sharding import shard_rows
from textgen.saved_model.saved_model import ModelFolder
from textgen.settings import from_dict, select, shown
from textgen.tokenizer.config import MAX_VOCAB_SIZE, TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import choose_vocab_size
from textgen.training.config import DECOUPLED, INITIAL, TrainingConfig
from textgen.training.distribution import Shares, require_shares
from textgen.training.presets import SIZES
from textgen.wording import counted

LEAST_CHARACTERS = 1000  # of a corpus; from less nothing can be learned and held out
PATIENT_MINUTES = 15.0  # a run without a budget is planned not to take longer
EFFICIENCY = {
    "float32": 0.8,
    "bfloat16": 1.05,
    "float16": 0.5,
}  # of the speed at float32 matrix products that training reaches
STEP_SECONDS = 0.006  # that an update takes besides
TENSORFLOW = 800_000_000  # bytes, with XLA and its compiler
SMALL_LAYER = 80  # units that cost as much as the rest of a step; narrow layers are less efficient
SHORTEST = 8  # tokens of a window, unless it is set
MOST_PASSES = 30.0  # over a text; more would only learn it by heart
UPDATES_PER_PASS = 48  # that a short text should make, at batches of at least 4 streams
TOKENS_PER_PARAMETER = 2.0  # that a network should see within its budget
REGULARISERS = ("dropout", "embedding_dropout", "word_dropout", "weight_drop")  # may change from run to run
RATES = {"sgd": 20.0, "asgd": 20.0, "rmsprop": 1e-3, "lamb": 1e-2}  # learning rates; Adam's goes by the width
GRADIENT_DECAY = 1.2e-6  # weight decay where it is part of the gradient, as AWD-LSTM has it
LARGEST_FOR = ((40_000, "tiny"), (400_000, "small"), (20_000_000, "medium"))  # tokens of training text


@dataclass(frozen=True)
class Plan:
    """A run, settled before it starts. The estimates are rough, the settings are what will be done."""

    corpus: Corpus | PreparedCorpus
    valid: Corpus | None
    start: ModelFolder | None  # fine-tuned instead of starting from nothing
    tokenizer: Tokenizer | None  # taken over instead of trained
    corpus_config: CorpusConfig
    tokenizer_config: TokenizerConfig
    model_config: ModelConfig  # its vocab_size is an estimate until the vocabulary is trained
    training_config: TrainingConfig
    stats: CorpusStats | SplitSummary
    labels: tuple[str, ...]  # that documents have and the model learns
    preset: str | None  # the size was chosen from these, unless single settings made it up
    tokens: int  # estimated, of training text
    tokens_per_second: float  # estimated
    seconds: float  # estimated
    memory_bytes: int  # estimated, at the peak of training

    @property
    def epochs(self) -> float:
        """Passes over the training text, estimated where the budget is time."""
        return self.seconds * self.tokens_per_second / self.tokens


def make_plan(
    corpus: Corpus | PreparedCorpus,
    settings: Mapping[str, Any] | None = None,
    *,
    preset: str | None = None,
    valid: Corpus | None = None,
    start: ModelFolder | None = None,
    tokenizer: Tokenizer | None = None,
    flops: float | None = None,
    shares: Shares | None = None,
) -> Plan:
    """Settles all settings: those given in flat `settings` as they are, the others from the corpus.

    `flops` is the speed at float32 matrix products, in operations a second, of all devices together; measured when
    not given. `shares` says among how many the batch will be shared.
    Raises `CorpusError` when the text is too short and `ConfigError` for settings that cannot be.
    """
    settings = dict(settings or {})
    _refuse_unknown(settings, preset, start)
    from_dict(TrainingConfig, select(TrainingConfig, settings))  # complains before they are counted with
    from_dict(ModelConfig, {"vocab_size": MAX_VOCAB_SIZE, **select(ModelConfig, settings)})
    if isinstance(corpus, PreparedCorpus):
        settings = _fit_prepared(corpus, settings, valid, start.tokenizer if start else tokenizer)
        tokenizer = corpus.tokenizer
    stats = corpus.stats()
    if stats.characters < LEAST_CHARACTERS:
        raise CorpusError(
            f"The corpus has {counted(stats.characters, 'character')}, too few to learn from: give at least "
            f"{LEAST_CHARACTERS:,}, better 50,000 or more."
        )
    if start and tokenizer is None and not select(TokenizerConfig, settings):
        tokenizer = start.tokenizer
    tokenizer_config = _plan_tokenizer(settings, tokenizer)
    if isinstance(corpus, PreparedCorpus):
        labels = corpus.tokenizer.labels
        vocab_size, tokens = corpus.tokenizer.vocab_size, len(corpus.data().train)
    else:
        fraction = 0.0 if valid else settings.setdefault("valid_fraction", share_to_hold_out(corpus.stats().bytes))
        labels = tuple(worth_learning(corpus.labels()))
        vocab_size = tokenizer.vocab_size if tokenizer else _vocab_size(tokenizer_config, corpus.stats())
        vocab_size += _num_new_labels(labels, tokenizer)
        tokens = max(1, int(_tokens(tokenizer_config.tokenizer, corpus.stats()) * (1 - fraction)))
    shares = shares or Shares()
    flops = flops or measure_flops(shares.replicas, shares.machines)
    if settings.get("precision", "auto") == "auto":
        settings["precision"] = best_precision()
    if start:
        model, preset = start.model_config, None
        model = replace(model, **{k: v for k, v in settings.items() if k in REGULARISERS}, vocab_size=vocab_size)
    else:
        model, preset = _plan_model(settings, preset, vocab_size, tokens, flops, shares.replicas)
    speed = tokens_per_second(model, flops, settings["precision"])
    training = _plan_training(settings, model, tokens, speed, shares.replicas, fine_tuning=start is not None)
    require_shares(training.batch_size, shares.replicas)
    _refuse_unknown_layers(training, model)
    if labels and model.direction != "forward":
        raise ConfigError(
            "Labels stand before a text, where only a network of direction forward begins: leave labels out, or "
            f"direction {model.direction}."
        )
    if training.subword_alpha:
        require_sampling(tokenizer_config.tokenizer)
    step_tokens = training.num_streams * training.sequence_length
    speed = tokens_per_second(model, flops, settings["precision"], step_tokens)
    if tokens < step_tokens:
        raise CorpusError(
            f"The corpus makes about {counted(tokens, 'token')} to train on, less than one batch of "
            f"{training.num_streams} x {training.sequence_length}: give more text, or a smaller batch_size or "
            "sequence_length"
            + (f"; batch_size is at least {shares.replicas}, the number of replicas." if shares.replicas > 1 else ".")
        )
    seconds = _seconds(training, tokens, speed)
    if not start:
        model = _plan_dropout(settings, model, epochs=seconds * speed / tokens)
    return Plan(
        corpus, valid, start, tokenizer,
        replace(corpus.config, documents=corpus.documents_mode), tokenizer_config, model, training,
        stats, labels, preset, tokens, speed, seconds, _memory_of_a_machine(model, training, shares),
    )  # fmt: skip


def _fit_prepared(
    corpus: PreparedCorpus, settings: Mapping[str, Any], valid: Corpus | None, tokenizer: Tokenizer | None
) -> dict[str, Any]:
    """The settings without those that the prepared folder has settled. Raises `ConfigError` where they differ."""
    if valid:
        raise ConfigError(f"{corpus.folder} has held-out text of its own: leave valid out.")
    settled = {**select(CorpusConfig, settings), **select(TokenizerConfig, settings)}
    settled |= {name: value for name, value in settings.items() if name == "valid_fraction"}
    corpus.require(settled, tokenizer)
    rest = {name: value for name, value in settings.items() if name not in settled}
    return rest | {"valid_fraction": corpus.settings.valid_fraction}


def _refuse_unknown(settings: Mapping[str, Any], preset: str | None, start: ModelFolder | None) -> None:
    kinds = (CorpusConfig, TokenizerConfig, ModelConfig, TrainingConfig)
    known = [field.name for kind in kinds for field in fields(kind)]
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise ConfigError(f"There is no setting {shown(unknown[0])}. There are: {', '.join(dict.fromkeys(known))}.")
    if preset is not None and preset not in SIZES:
        raise ConfigError(f"There is no preset {preset!r}. There are: {', '.join(SIZES)}.")
    fixed = {field.name for field in fields(ModelConfig)} - {*REGULARISERS, "vocab_size"} | {*INITIAL}
    clash = [name for name in settings if name in fixed]
    if start and (clash or preset):
        raise ConfigError(
            f"{clash[0] if clash else 'preset'} cannot be set when fine-tuning: the model {start.name!r} decides it."
        )


def _refuse_unknown_layers(training: TrainingConfig, model: ModelConfig) -> None:
    layers = list(dict.fromkeys(name.split("/")[0] for name in model.weight_shapes()))
    for name in training.freeze_layers:
        if name not in layers:
            raise ConfigError(f"There is no layer {name!r} to freeze. There are: {', '.join(layers)}.")
    if set(layers) == set(training.freeze_layers):
        raise ConfigError("All layers are frozen, so nothing is left to train: leave one out of freeze.")


def _plan_tokenizer(settings: Mapping[str, Any], tokenizer: Tokenizer | None) -> TokenizerConfig:
    if tokenizer is None:
        return from_dict(TokenizerConfig, select(TokenizerConfig, settings))
    if "tokenizer" in settings or "vocab_size" in settings:
        raise ConfigError("The tokenizer is taken over from elsewhere: leave out tokenizer and vocab_size.")
    return TokenizerConfig(tokenizer=tokenizer.tokenizer)


def _vocab_size(config: TokenizerConfig, stats: CorpusStats) -> int:
    if config.vocab_size is not None:
        return config.vocab_size
    chosen = choose_vocab_size(config.tokenizer, stats.characters, stats.character_counts)
    return min(chosen, max(300, stats.words // 4)) if config.tokenizer == "word" else chosen


def _num_new_labels(labels: Sequence[str], tokenizer: Tokenizer | None) -> int:
    """Pieces that the labels need besides those that a tokenizer has."""
    known = tokenizer.labels if tokenizer else ()
    new = len(set(labels).difference(known))
    return new if known or not new else new + 1  # with the first comes that for no label


def _tokens(tokenizer: str, stats: CorpusStats) -> int:
    """About how many tokens the corpus makes."""
    if tokenizer == "byte":
        return stats.bytes + stats.documents
    if tokenizer == "char":
        return stats.characters + stats.documents
    if tokenizer == "word":
        return stats.words + stats.lines
    wide = min(1.0, (stats.bytes / stats.characters - 1) / 2)  # 0 for English, 1 for Chinese
    return round(stats.characters / (3.3 * (1 - wide) + 1.25 * wide)) + stats.documents


def _plan_model(
    settings: Mapping[str, Any], preset: str | None, vocab_size: int, tokens: int, flops: float, replicas: int
) -> tuple[ModelConfig, str | None]:
    """The preset asked for, or the largest that corpus and budget can feed; single settings change it."""
    own = {k: v for k, v in select(ModelConfig, settings).items() if k != "vocab_size"}
    shape = {"hidden_units", "embedding_dim", "num_layers"} & own.keys()
    if preset is None:
        preset = _largest_preset(settings, vocab_size, tokens, flops, replicas)
    values: dict[str, Any] = {**SIZES[preset], **own, "vocab_size": vocab_size}
    if "hidden_units" in own and "embedding_dim" not in own:
        values["embedding_dim"] = min(own["hidden_units"], 1024)
    return from_dict(ModelConfig, values), None if shape else preset


def _largest_preset(settings: Mapping[str, Any], vocab_size: int, tokens: int, flops: float, replicas: int) -> str:
    names = list(SIZES)
    largest = next((name for most, name in LARGEST_FOR if tokens < most), names[-1])
    for name in reversed(names[: names.index(largest) + 1]):
        model = ModelConfig(vocab_size=vocab_size, **SIZES[name])
        wanted = replace(model, direction=settings.get("direction", model.direction))
        speed = tokens_per_second(wanted, flops, settings["precision"])
        seconds = _seconds(_plan_training(settings, model, tokens, speed, replicas), tokens, speed)
        recurrent = model.num_parameters - vocab_size * (model.embedding_dim + 1)  # rows of a table come cheap
        if seconds * speed >= TOKENS_PER_PARAMETER * recurrent:
            return name
    return names[0]


def _plan_training(
    settings: Mapping[str, Any],
    model: ModelConfig,
    tokens: int,
    speed: float,
    replicas: int,
    *,
    fine_tuning: bool = False,
) -> TrainingConfig:
    values = select(TrainingConfig, settings)
    length = values.get("sequence_length", TrainingConfig.sequence_length)
    if "batch_size" not in values:
        rows = max(4, min(32, 1 << int(math.log2(max(1, tokens / (UPDATES_PER_PASS * length))))))
        values["batch_size"] = math.ceil(rows / replicas) * replicas
    streams = values["batch_size"] * values.get("accumulate", 1)
    if "sequence_length" not in values:  # a short text makes a batch for many replicas only in shorter windows
        while length > SHORTEST and streams * length > tokens:
            length //= 2
        values["sequence_length"] = length
    if "learning_rate" not in values:
        rate = min(5e-3, 4e-3 * (256 / model.hidden_units) ** 0.7)
        rate = RATES.get(values.get("optimizer", TrainingConfig.optimizer), rate) * (1 - values.get("momentum", 0.0))
        values["learning_rate"] = float(f"{rate * (0.3 if fine_tuning else 1):.2g}")
    passes = MOST_PASSES
    if not any(values.get(name) is not None for name in ("epochs", "steps", "minutes")):
        passes = min(passes, max(1.0, 10 * (1_000_000 / tokens) ** 0.5), 60 * PATIENT_MINUTES * speed / tokens)
    if values.get("epochs") is None and values.get("steps") is None:
        values["epochs"] = float(f"{passes * (0.5 if fine_tuning else 1):.2g}")
    training = from_dict(TrainingConfig, values)
    if "weight_decay" not in values and training.optimizer not in DECOUPLED:
        training = replace(training, weight_decay=GRADIENT_DECAY)
    elif "weight_decay" not in values:  # 0.02 for few passes over the text, 0.3 for as many as are any good
        epochs = _seconds(training, tokens, speed) * speed / tokens
        training = replace(training, weight_decay=float(f"{min(0.3, max(0.02, 0.01 * epochs)):.2g}"))
    if "valid_tokens" not in values:  # so that validation takes a few per cent of the time
        seen = _seconds(training, tokens, speed) * speed
        share = int(0.15 * seen / training.num_validations)
        training = replace(training, valid_tokens=min(200_000, max(4096, share)))
    return training


def _plan_dropout(settings: Mapping[str, Any], model: ModelConfig, epochs: float) -> ModelConfig:
    """More dropout the more often each token is seen: 0.1 for one pass, 0.35 for ten, at most 0.5."""
    dropout = settings.get("dropout", round(min(0.5, 0.1 * math.log2(1 + epochs)), 2))
    return replace(model, dropout=dropout, embedding_dropout=settings.get("embedding_dropout", round(dropout / 2, 2)))


def _seconds(training: TrainingConfig, tokens: int, speed: float) -> float:
    """About how long a run takes: as long as the budget that is spent first."""
    seconds = math.inf if training.minutes is None else 60 * training.minutes
    if training.steps is not None:
        seconds = min(seconds, training.steps * training.num_streams * training.sequence_length / speed)
    if training.epochs is not None:
        seconds = min(seconds, training.epochs * tokens / speed)
    return seconds


def tokens_per_second(model: ModelConfig, flops: float, precision: str, step_tokens: int = 2048) -> float:
    """About how fast a network trains: six operations a weight and token, and a constant for each update.

    Where text is read in both directions, a token still counts once.
    """
    one = replace(model, direction=model.directions[0])
    products = one.num_parameters - (0 if model.tie_embeddings else model.vocab_size * model.embedding_dim)
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
    """About how many bytes training takes at its peak, with a batch in so many `shards`.

    A weight is kept with two moments and a gradient; each shard has a gradient of its own, and a copy of the weight
    in the precision of products. Of each token, every layer keeps gates, h and c; one of them at a time is at work.
    """
    from textgen.model.layers.head import CHUNK_ELEMENTS  # late: it brings TensorFlow

    number = 4 if training.precision == "float32" else 2  # bytes
    weights = model.num_parameters * (16 + shards * (4 + number))
    tables = model.vocab_size * model.embedding_dim * 8 * shards  # gradients of the output layer, being added up
    tokens = training.batch_size * training.sequence_length
    layers = model.num_layers * len(model.directions)
    activations = tokens * model.hidden_units * (layers * (5 * number + 4) + 8 * number)
    logits = min(tokens * model.vocab_size, shards * CHUNK_ELEMENTS) * (8 + 2 * number)
    if model.attention:
        outputs = model.attention + training.sequence_length  # that each token looks at
        activations += 4 * (5 * tokens * outputs + 4 * training.batch_size * outputs * model.hidden_units)
    return TENSORFLOW + weights + tables + activations + logits
