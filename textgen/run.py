"""A training run, from a plan to a saved model: started, resumed, or continued on another corpus.

This is the story to read first; each line of it is a module of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgen.checkpoints import Checkpoint, newest_checkpoint
from textgen.config import (
    SETTLED,
    CorpusConfig,
    ModelConfig,
    SamplingConfig,
    TokenizerConfig,
    TrainingConfig,
    from_dict,
    to_dict,
)
from textgen.corpus import Corpus
from textgen.direction import one_way
from textgen.errors import ConfigError, SavedModelError, TextgenError, TrainingError
from textgen.labels import named
from textgen.lr_finder import Point, sweep
from textgen.novelty import MAX_NGRAMS, NgramIndex, index_stream
from textgen.plan import Plan
from textgen.prepared import PreparedCorpus, open_corpus
from textgen.reports import Observer, RunReport
from textgen.saved_model import (
    CHECKPOINTS,
    LOGS,
    NGRAMS,
    TRAINING,
    SavedModel,
    load_model,
    read_json,
    save_model,
    save_ngrams,
    write_training,
)
from textgen.storage import MANIFEST, locked, write_file, writing
from textgen.subwords import SampledStream
from textgen.tokenizer import MODEL_FILE, Tokenizer, load_tokenizer
from textgen.tokens import TokenData, prepare
from textgen.transfer import carried_over, shared_pieces
from textgen.vocabulary import add_labels, learn_vocabulary

if TYPE_CHECKING:
    import keras

    from textgen.distribution import Distribution
    from textgen.evaluation import Scores
    from textgen.model import LanguageModel

SAMPLE = SamplingConfig(max_tokens=150, seed=0)  # written at every validation
FINAL_TOKENS = 1_000_000  # of a large held-out text are scored at the end

Say = Callable[[str], None]


def train(
    plan: Plan,
    folder: Path,
    *,
    observers: Sequence[Observer] = (),
    callbacks: Sequence[keras.callbacks.Callback] = (),
    say: Say = lambda line: None,
    distribution: Distribution | None = None,
    step_timeout: float | None = None,
) -> SavedModel:
    """Trains as planned and saves the model in `folder`, which must not hold one.

    `say` is told in a line each what is done before the first step. Raises `TextgenError`s; whatever ends the
    run, the best weights so far stay saved.
    """
    if distribution:
        distribution.local_rows(plan.training_config)  # complains before the slow part
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if (folder / MANIFEST).exists() or any((folder / CHECKPOINTS).glob("step-*")):
            raise TrainingError(f"{folder} already holds a model: resume it, remove it, or choose another name.")
        try:
            run = _begun(plan, folder, say)
        except BaseException:
            with suppress(OSError):
                folder.rmdir()  # if nothing is in it yet
            raise
        return run.go(plan.start, observers, callbacks, distribution, step_timeout)


def _begun(plan: Plan, folder: Path, say: Say) -> _Run:
    """A run as planned before its first step, written down in `folder`."""
    tokenizer, data = _encoded(plan, say)
    say(f"{len(data.train):,} tokens to train on, {len(data.valid):,} held out.")
    knows_vocabulary = plan.start is not None and plan.start.tokenizer.is_part_of(tokenizer)
    if plan.start and knows_vocabulary:
        if new := [label for label in tokenizer.labels if label not in plan.start.tokenizer.labels]:
            say(f"New to {plan.start.name} are the labels {named(new)}.")
    elif plan.start:
        shared = len(shared_pieces(plan.start.tokenizer, tokenizer)[0])
        say(f"{shared:,} of {tokenizer.vocab_size:,} pieces are known to {plan.start.name}; the others start afresh.")
    model_config = replace(plan.model_config, vocab_size=tokenizer.vocab_size)
    run = _Run(folder, tokenizer, data, model_config, plan.tokenizer_config, plan.corpus_config, plan.training_config)
    run.record = _first_record(plan, model_config, tokenizer, data)
    if tokenizer.serialized:
        write_file(folder / MODEL_FILE, tokenizer.serialized)
    base = plan.start.ngrams() if plan.start and plan.start.has_ngrams and knows_vocabulary else None
    run.index_corpus(say, base)
    write_training(folder, run.record)
    return run


def resume(
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    observers: Sequence[Observer] = (),
    callbacks: Sequence[keras.callbacks.Callback] = (),
    say: Say = lambda line: None,
    distribution: Distribution | None = None,
    step_timeout: float | None = None,
) -> SavedModel:
    """Goes on with an interrupted run from its newest checkpoint; `settings` may give it another budget."""
    if not (folder / TRAINING).is_file():
        raise SavedModelError(f"There is no training to resume in {folder}: train without resuming.")
    with locked(folder):
        checkpoint, skipped = newest_checkpoint(folder / CHECKPOINTS)
        for line in skipped:
            say(f"Skipped a damaged checkpoint: {line}")
        run = _reopened(folder, settings or {})
        run.checkpoint = checkpoint
        if not (folder / NGRAMS).is_file():
            run.index_corpus(say)
        known = read_json(folder / TRAINING)
        write_training(folder, run.record)  # for those that join, and for the next time
        try:
            return run.go(None, observers, callbacks, distribution, step_timeout)
        except TextgenError:
            if not run.has_begun:  # the settings do not go with the checkpoint
                write_training(folder, known)
            raise


def join(folder: Path, distribution: Distribution, step_timeout: float | None = None) -> SavedModel:
    """Takes part in the run that the chief starts or resumes in `folder`, which all processes must see."""
    with distribution.together():
        distribution.total([])  # until the chief has written down what the run is
    run = _reopened(folder, {})
    with suppress(SavedModelError):  # the chief starts afresh
        run.checkpoint, _ = newest_checkpoint(folder / CHECKPOINTS)
    return run.go(None, (), (), distribution, step_timeout)


def _reopened(folder: Path, settings: Mapping[str, Any]) -> _Run:
    """The run that `folder` has a record of."""
    record = read_json(folder / TRAINING)
    corpus_config = from_dict(CorpusConfig, record["corpus"]["config"])
    training = to_dict(from_dict(TrainingConfig, record["training"]))
    for name in SETTLED:
        if settings.get(name, training[name]) != training[name]:
            raise ConfigError(f"{name} was settled when the run began, as {training[name]}: it stays when resuming.")
    if any(name in settings for name in ("epochs", "steps", "minutes")):
        training |= dict.fromkeys(("epochs", "steps", "minutes"))
    training_config = from_dict(TrainingConfig, {**training, **settings})
    tokenizer_config = from_dict(TokenizerConfig, record["tokenizer"])
    unsaved = tokenizer_config.tokenizer == "byte" and not (folder / MODEL_FILE).exists()
    tokenizer = load_tokenizer(b"" if unsaved else (folder / MODEL_FILE).read_bytes())
    data = _same_data(record, corpus_config, tokenizer, training_config)
    model_config = from_dict(ModelConfig, record["model"])
    run = _Run(folder, tokenizer, data, model_config, tokenizer_config, corpus_config, training_config)
    run.record = record | {"training": to_dict(training_config), "state": "running"}
    return run


def find_learning_rate(plan: Plan, *, say: Say = lambda line: None) -> list[Point]:
    """Tries learning rates around the planned one on the text, in a run of its own that leaves nothing behind."""
    from textgen.batches import Batches
    from textgen.distribution import Distribution
    from textgen.update import Update

    config = plan.training_config
    if not config.learning_rate:
        raise ConfigError("learning_rate is 0: give one above 0, around which others are tried.")
    tokenizer, data = _encoded(plan, say)
    model_config = replace(plan.model_config, vocab_size=tokenizer.vocab_size)
    model = _first_model(model_config, config, tokenizer, data, plan.start)
    update, state, step = Update(model, config, Distribution()), model.initial_state(config.num_streams), 0

    def learn(batch: tuple[Any, Any], learning_rate: float) -> float:
        nonlocal state, step
        inputs, targets = batch
        gradient = update.gradient(inputs, targets, state, step)
        update.apply(gradient, learning_rate)
        state, step = gradient.state if config.carry_state else state, step + 1
        return gradient.nats

    say("Trying learning rates ...")
    batches = Batches(
        data.train,
        config.num_streams,
        config.sequence_length,
        tokenizer.pad_id,
        config.seed,
        direction=model_config.direction,
    )
    return sweep(config.learning_rate, batches.dataset(endless=True), learn)


def _first_model(
    config: ModelConfig, training: TrainingConfig, tokenizer: Tokenizer, data: TokenData, start: SavedModel | None
) -> LanguageModel:
    """The network as a run begins with it."""
    from textgen.initialization import initialize
    from textgen.model import LanguageModel

    model = LanguageModel(config, pad_id=tokenizer.pad_id, seed=training.seed, precision=training.precision)
    initialize(model, training)
    model.start_bias(data.train.counts)
    if start:
        fresh = model.weights_as_arrays()
        model.assign_weights(carried_over(start.weights(), start.tokenizer, tokenizer, fresh))
    return model


def _encoded(plan: Plan, say: Say) -> tuple[Tokenizer, TokenData]:
    if isinstance(plan.corpus, PreparedCorpus):
        return plan.corpus.tokenizer, plan.corpus.data()
    tokenizer = plan.tokenizer
    if tokenizer is None:
        if plan.tokenizer_config.tokenizer != "byte":
            say(f"Learning a vocabulary ({plan.tokenizer_config.tokenizer}) ...")
        tokenizer = learn_vocabulary(plan.corpus, plan.tokenizer_config)
    else:
        tokenizer = add_labels(tokenizer, plan.corpus)
    say(f"Vocabulary: {tokenizer.vocab_size:,} pieces. Encoding the corpus ...")
    held_out = plan.valid or plan.training_config.valid_fraction
    return tokenizer, prepare(plan.corpus, tokenizer, held_out, seed=plan.training_config.seed, say=say)


def _first_record(plan: Plan, model_config: ModelConfig, tokenizer: Tokenizer, data: TokenData) -> dict[str, Any]:
    """What training.json says of a run before its first step."""
    return {
        "state": "running",
        "corpus": {
            "paths": [str(path.absolute()) for path in plan.corpus.files],
            "valid": [str(path.absolute()) for path in plan.valid.files] if plan.valid else None,
            "valid_fingerprint": plan.valid.fingerprint() if plan.valid else None,
            "config": to_dict(plan.corpus_config),
            "fingerprint": plan.corpus.fingerprint(),
            "characters": plan.stats.characters,
            "documents": plan.stats.documents,
            "bytes": plan.stats.bytes,
        },
        "tokens": {"folder": str(data.train.folder), "train": len(data.train), "valid": len(data.valid)},
        "tokenizer": to_dict(plan.tokenizer_config),
        "labels": list(tokenizer.labels),
        "model": to_dict(model_config),
        "training": to_dict(plan.training_config),
        "from": plan.start.name if plan.start else None,
        "parameters": model_config.num_parameters,
        "versions": {name: version(name) for name in ("textgen", "tensorflow", "keras", "sentencepiece")},
        "progress": {"step": 0, "epochs": 0.0, "seconds": 0.0},
        "scores": {},
    }


def _same_data(
    record: Mapping[str, Any], config: CorpusConfig, tokenizer: Tokenizer, training: TrainingConfig
) -> TokenData:
    """The tokens that the run was started with: from the cache, or encoded again from an unchanged corpus."""
    cached = TokenData.cached(Path(record["tokens"]["folder"]))
    if cached:
        return cached
    corpus, valid = open_corpus(record["corpus"]["paths"], config), record["corpus"]["valid"]
    held_out = Corpus(valid, config) if valid else training.valid_fraction
    known = record["corpus"].get("valid_fingerprint")
    changed = known and isinstance(held_out, Corpus) and held_out.fingerprint() != known
    if changed or corpus.fingerprint() != record["corpus"]["fingerprint"]:
        raise TrainingError("The corpus has changed since the run was started: train again instead of resuming.")
    if isinstance(corpus, PreparedCorpus):
        return corpus.data()
    data = prepare(corpus, tokenizer, held_out, seed=training.seed)
    if (len(data.train), len(data.valid)) != (record["tokens"]["train"], record["tokens"]["valid"]):
        raise TrainingError(
            "This version of textgen encodes or splits the corpus in another way than the one that started the run: "
            "train again instead of resuming."
        )
    return data


class _Run:
    """The part that starting and resuming have in common."""

    record: dict[str, Any]
    checkpoint: Checkpoint | None = None
    has_begun = False  # the first step

    def __init__(
        self,
        folder: Path,
        tokenizer: Tokenizer,
        data: TokenData,
        model_config: ModelConfig,
        tokenizer_config: TokenizerConfig,
        corpus_config: CorpusConfig,
        training_config: TrainingConfig,
    ) -> None:
        self.folder = folder
        self.tokenizer = tokenizer
        self.data = data
        self.configs = model_config, tokenizer_config, corpus_config
        self.training_config = training_config

    def index_corpus(self, say: Say, base: NgramIndex | None = None) -> None:
        """Makes the index by which copying is told, beside that of the model that the training goes on from."""
        if len(self.data.train) > MAX_NGRAMS:
            say("The corpus is too large for an index of its n-grams, so the model cannot tell what it copies.")
            return
        save_ngrams(self.folder, index_stream(self.data.train, self.tokenizer.eos_id, base))

    def go(
        self,
        start: SavedModel | None,
        observers: Sequence[Observer],
        callbacks: Sequence[keras.callbacks.Callback],
        distribution: Distribution | None = None,
        step_timeout: float | None = None,
    ) -> SavedModel:
        """Builds the network, trains it, and writes down how it went, whatever ends the run."""
        from textgen.callbacks import KerasCallbacks
        from textgen.distribution import Distribution
        from textgen.monitor import Monitor
        from textgen.trainer import Trainer

        self.distribution = distribution or Distribution()
        if self.distribution.is_chief:
            with self.distribution.together():
                self.distribution.total([])  # the others may read the record of the run
        with self.distribution.strategy.scope():
            self.model = _first_model(self.configs[0], self.training_config, self.tokenizer, self.data, start)
        with self.distribution.together():
            self.model.assign_weights(self.distribution.from_chief(self.model.weights_as_arrays()))
        self.trainer = Trainer(
            self.model,
            self._training_data(),
            self.training_config,
            self.folder / CHECKPOINTS,
            save_best=self._save,
            write_sample=self._sample_writer(),
            distribution=self.distribution,
            step_timeout=step_timeout,
        )
        if self.checkpoint:
            self.trainer.restore(self.checkpoint)
        settings = {name: self.record[name] for name in ("corpus", "tokenizer", "model", "training")}
        about = RunReport(self.folder.name, settings, self.trainer.position.step)
        watching: list[Observer] = []
        if self.distribution.is_chief:
            watching = [*observers, Monitor(self.folder / LOGS, self.model, self.tokenizer, self.data)]
        if callbacks:
            watching.append(KerasCallbacks(callbacks, self.model))
        self.has_begun = True
        try:
            reason = self.trainer.run(watching, about)
        except TextgenError as error:
            if self.distribution.is_chief and self.trainer.position.step and not (self.folder / MANIFEST).exists():
                self._save(None)
            self._write("interrupted" if hasattr(error, "exit_code") else f"failed: {error}", self.trainer.scores)
            raise
        return self._finish(reason)

    def _sample_writer(self) -> Callable[[], str]:
        """What writes a text with the network as it is at the moment."""
        from textgen.compiled_model import CompiledModel
        from textgen.filling import Filler
        from textgen.generator import Generator
        from textgen.numpy_model import NumpyModel

        if self.model.config.direction == "forward":
            generator = Generator(CompiledModel(self.model), self.tokenizer)
            return lambda: generator.generate("", SAMPLE)[0].text

        def write() -> str:
            config, weights = self.model.config, self.model.weights_as_arrays()
            direction = config.directions[0]
            model = NumpyModel(*one_way(config, weights, direction))
            if direction == "backward":
                return Filler(model, self.tokenizer).write(config=SAMPLE)[0].text
            return Generator(model, self.tokenizer).generate("", SAMPLE)[0].text

        return write

    def _training_data(self) -> TokenData:
        """The data, those to train on in other pieces in each epoch if that is asked for."""
        config = self.training_config
        if not config.subword_alpha:
            return self.data
        sampled = SampledStream(self.data.train, self.tokenizer, config.subword_alpha, config.seed)
        return replace(self.data, train=sampled)

    def _finish(self, reason: str) -> SavedModel:
        """Scores the best weights on all of the held-out text."""
        from textgen.evaluation import Evaluator

        if self.distribution.is_chief:
            saved = load_model(str(self.folder.absolute()))
            self.model.assign_weights(saved.weights())
            self._write(f"finished: {reason}", Evaluator(self.model).scores(self.data.valid, FINAL_TOKENS))
        with self.distribution.together():
            self.distribution.total([])  # the others wait
        return load_model(str(self.folder.absolute()))

    def _save(self, scores: Scores | None) -> None:
        if not self.distribution.is_chief:
            return
        save_model(self.folder, self.model.weights_as_arrays(), *self.configs, self.tokenizer)
        self._write("running", scores)

    def _write(self, state: str, scores: Scores | None) -> None:
        if not self.distribution.is_chief:
            return
        position = self.trainer.position
        self.record["state"] = state
        self.record["progress"] = {
            "step": position.step,
            "best_step": position.best_step,
            "epochs": self.trainer.epochs(),
            "seconds": position.seconds,
            "left_out": position.health.left_out,
            "rollbacks": position.health.rollbacks,
        }
        if scores:
            self.record["scores"] = scores.to_dict()
        write_training(self.folder, self.record)
