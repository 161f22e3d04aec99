"""A training run, from a plan to a saved model: started, resumed, or continued on another corpus.

This is the story to read first; each line of it is a module of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgen import storage
from textgen.corpus.config import CorpusConfig
from textgen.corpus.labels import named
from textgen.dataset.ngram_index import MAX_NGRAMS, NgramIndex, index_stream
from textgen.dataset.prepared_corpus import PreparedCorpus
from textgen.dataset.subword_sampling import SampledStream
from textgen.dataset.token_cache import TokenData, prepare
from textgen.errors import ConfigError, SavedModelError, TextgenError
from textgen.generation.config import SamplingConfig
from textgen.model.config import ModelConfig
from textgen.model.directions import one_way
from textgen.model.vocabulary_transfer import carried_over, shared_pieces
from textgen.saved_model.layout import CHECKPOINTS, LOGS, NGRAMS, TRAINING, read_training
from textgen.saved_model.registry import claimed, has_steps
from textgen.saved_model.saved_model import ModelFolder, load_model, save_model, save_ngrams, write_training
from textgen.settings import to_dict
from textgen.storage import MANIFEST, locked, refuse_links, write_own_file
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import MODEL_FILE, Tokenizer
from textgen.tokenizer.vocabulary import add_labels, learn_vocabulary
from textgen.training.checkpoints import Checkpoint, newest_checkpoint
from textgen.training.config import TrainingConfig
from textgen.training.lr_finder import Point
from textgen.training.observers.observer import Observer, RunReport
from textgen.training.plan import Plan
from textgen.training.resumption import Named, read_run, with_origin
from textgen.wording import counted

if TYPE_CHECKING:
    import keras

    from textgen.evaluation.evaluator import Scores
    from textgen.model.language_model import LanguageModel
    from textgen.training.distribution import Distribution

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
) -> ModelFolder:
    """Trains as planned and saves the model in `folder`, which must not hold one.

    `say` is told in a line each what is done before the first step. Raises `TextgenError`s; whatever ends the
    run, the best weights so far stay saved.
    """
    if distribution:
        distribution.local_rows(plan.training_config)  # complains before the slow part
    if callbacks:
        from textgen.training.observers.keras_callbacks import refuse_two_schedules

        num_workers = distribution.num_workers if distribution else 1
        refuse_two_schedules(callbacks, plan.training_config, num_workers)  # likewise
    with claimed(folder):
        return _begun(plan, folder, say).go(plan.start, observers, callbacks, distribution, step_timeout)


def _begun(plan: Plan, folder: Path, say: Say) -> _Run:
    """A run as planned before its first step, written down in `folder`."""
    tokenizer, data = _encoded(plan, say)
    say(f"{counted(len(data.train), 'token')} to train on, {len(data.valid):,} held out.")
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
        write_own_file(folder / MODEL_FILE, tokenizer.serialized)
    base = plan.start.ngrams() if plan.start and plan.start.has_ngrams and knows_vocabulary else None
    run.index_corpus(say, base)
    run.record = with_origin(run.record, folder)
    write_training(folder, run.record)
    return run


def resume(
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    given: Named = Named(),  # noqa: B008 - it cannot be changed
    observers: Sequence[Observer] = (),
    callbacks: Sequence[keras.callbacks.Callback] = (),
    say: Say = lambda line: None,
    distribution: Distribution | None = None,
    step_timeout: float | None = None,
) -> ModelFolder:
    """Goes on with an interrupted run from its newest checkpoint; `settings` may give it another budget.

    `given` says where the corpus is now, and what else the run was begun with: it must be the same.
    """
    if not os.path.lexists(folder / TRAINING):
        raise SavedModelError(_nothing_to_resume(folder))
    with locked(folder):
        refuse_links(folder)
        for place in (folder, folder / LOGS):
            storage.sweep(place)
        if os.path.lexists(folder / MANIFEST) and not has_steps(folder):
            raise SavedModelError(
                f"{folder} holds a model without a checkpoint, so its run cannot be resumed: start a run of another "
                "name from it."
            )
        checkpoint, skipped = newest_checkpoint(folder / CHECKPOINTS)
        for line in skipped:
            say(f"Skipped a damaged checkpoint: {line}")
        run = _reopened(folder, settings or {}, given, say)
        run.checkpoint = checkpoint
        if not (folder / NGRAMS).is_file():
            run.index_corpus(say)
        known = read_training(folder)
        write_training(folder, run.record)  # for those that join, and for the next time
        try:
            return run.go(None, observers, callbacks, distribution, step_timeout)
        except TextgenError:
            if not run.has_begun:  # the settings do not go with the checkpoint
                write_training(folder, known)
            raise


def join(
    folder: Path,
    distribution: Distribution,
    step_timeout: float | None = None,
    given: Named = Named(),  # noqa: B008 - it cannot be changed
) -> ModelFolder:
    """Takes part in the run that the chief starts or resumes in `folder`, which all processes must see."""
    with distribution.together():
        distribution.total([])  # until the chief has written down what the run is
    run = _reopened(folder, {}, given, lambda line: None)
    with suppress(SavedModelError):  # the chief starts afresh
        run.checkpoint, _ = newest_checkpoint(folder / CHECKPOINTS)
    return run.go(None, (), (), distribution, step_timeout)


def _reopened(folder: Path, settings: Mapping[str, Any], given: Named, say: Say) -> _Run:
    """The run that `folder` has a record of."""
    found = read_run(folder, settings, given, say)
    configs = found.model_config, found.tokenizer_config, found.corpus_config, found.training_config
    run = _Run(folder, found.tokenizer, found.data, *configs)
    run.record = found.record | {"training": to_dict(found.training_config), "state": "running"}
    return run


def _nothing_to_resume(folder: Path) -> str:
    if os.path.lexists(folder / MANIFEST):
        return f"There is no training to resume in {folder}: its model was made elsewhere. Start a new run from it."
    return f"There is no training to resume in {folder}: train without resuming."


def find_learning_rate(
    plan: Plan, *, say: Say = lambda line: None, distribution: Distribution | None = None
) -> list[Point]:
    """Tries learning rates around the planned one on the text, in a run of its own that leaves nothing behind.

    Everything but the rate is as it will be in the run that is planned. Raises `ConfigError` where the rate is 0, or
    several processes train together.
    """
    from textgen.training.distribution import Distribution
    from textgen.training.trainer import Trainer

    config, distribution = plan.training_config, distribution or Distribution()
    if not config.learning_rate:
        raise ConfigError("learning_rate is 0: give one above 0, around which others are tried.")
    if distribution.num_workers > 1:
        raise ConfigError("Learning rates are tried in one process: leave out the other ones.")
    distribution.local_rows(config)  # complains before the slow part
    tokenizer, data = _encoded(plan, say)
    model_config = replace(plan.model_config, vocab_size=tokenizer.vocab_size)
    with distribution.strategy.scope():
        model = _first_model(model_config, config, tokenizer, data, plan.start)
    data = _drawn_by_lot(data, tokenizer, config)
    trainer = Trainer(model, data, config, Path(), save_best=lambda scores: None, distribution=distribution)
    say("Trying learning rates ...")
    return trainer.sweep()


def _first_model(
    config: ModelConfig, training: TrainingConfig, tokenizer: Tokenizer, data: TokenData, start: ModelFolder | None
) -> LanguageModel:
    """The network as a run begins with it."""
    from textgen.model.language_model import LanguageModel
    from textgen.training.initializers import initialize

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


def _drawn_by_lot(data: TokenData, tokenizer: Tokenizer, config: TrainingConfig) -> TokenData:
    """The data, those to train on in other pieces in each epoch if that is asked for."""
    if not config.subword_alpha:
        return data
    return replace(data, train=SampledStream(data.train, tokenizer, config.subword_alpha, config.seed))


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
        start: ModelFolder | None,
        observers: Sequence[Observer],
        callbacks: Sequence[keras.callbacks.Callback],
        distribution: Distribution | None = None,
        step_timeout: float | None = None,
    ) -> ModelFolder:
        """Builds the network, trains it, and writes down how it went, whatever ends the run."""
        from textgen.training.distribution import Distribution
        from textgen.training.observers.keras_callbacks import KerasCallbacks
        from textgen.training.observers.tensorboard import Monitor
        from textgen.training.trainer import Trainer

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
            _drawn_by_lot(self.data, self.tokenizer, self.training_config),
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
        position = self.trainer.position
        about = RunReport(self.folder.name, settings, position.step, position.validations, position.learning_rate)
        watching: list[Observer] = []
        if self.distribution.is_chief:
            watching = [*observers, Monitor(self.folder / LOGS, self.model, self.tokenizer, self.data)]
        if callbacks:
            watching.append(KerasCallbacks(callbacks, self.model, self.training_config))
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
        from textgen.generation.generator import Generator
        from textgen.generation.infilling import Infiller
        from textgen.model.compiled_model import CompiledModel
        from textgen.model.numpy_model import NumpyModel

        if self.model.config.direction == "forward":
            generator = Generator(CompiledModel(self.model), self.tokenizer)
            return lambda: generator.generate("", SAMPLE)[0].text

        def write() -> str:
            config, weights = self.model.config, self.model.weights_as_arrays()
            direction = config.directions[0]
            model = NumpyModel(*one_way(config, weights, direction))
            if direction == "backward":
                return Infiller(model, self.tokenizer).infill(config=SAMPLE)[0].text
            return Generator(model, self.tokenizer).generate("", SAMPLE)[0].text

        return write

    def _finish(self, reason: str) -> ModelFolder:
        """Scores the best weights on all of the held-out text."""
        if self.distribution.is_chief:
            saved = load_model(str(self.folder.absolute()))
            self.model.assign_weights(saved.weights())
            scores = self.trainer.evaluator.scores(self.data.valid, FINAL_TOKENS)  # compiled already
            self._write(f"finished: {reason}", scores)
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
