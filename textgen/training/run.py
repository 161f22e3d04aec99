"""A training run, from a plan to a saved model: started, resumed, or continued on another corpus.

Read this module first: it tells the whole story, and each line of it is a module of its own.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textgen.corpus.labels import named
from textgen.dataset.ngram_index import MAX_NGRAMS, NgramIndex, index_stream
from textgen.dataset.prepared_corpus import PreparedCorpus
from textgen.dataset.subword_sampling import SampledStream
from textgen.dataset.token_cache import TokenData, encode_and_split
from textgen.dataset.word_filter import MAX_TOKENS, WordFilter, stream_words, word_filter
from textgen.errors import ConfigError, SavedModelError, TextgenError
from textgen.generation.config import SamplingConfig
from textgen.model.config import ModelConfig
from textgen.model.directions import one_way
from textgen.model.vocabulary_transfer import carried_over, shared_tokens, spelled_tokens
from textgen.saved_model.creation import claimed
from textgen.saved_model.folder_contents import has_steps
from textgen.saved_model.layout import CHECKPOINTS, LOGS, NGRAMS, TRAINING, WORDS, read_training
from textgen.saved_model.saved_model import ModelFolder, load_model, save_model, save_ngrams, save_words, write_training
from textgen.settings import to_dict
from textgen.storage.files import write_own_file
from textgen.storage.folders import MANIFEST, refuse_links, sweep
from textgen.storage.locks import locked
from textgen.tokenizer.tokenizer import MODEL_FILE, Tokenizer
from textgen.tokenizer.vocabulary import add_labels, learn_vocabulary
from textgen.training.checkpoints import Checkpoint, newest_checkpoint
from textgen.training.config import TrainingConfig
from textgen.training.lr_finder import Point
from textgen.training.observers.observer import Observer, RunReport
from textgen.training.plan import Plan
from textgen.training.race import race
from textgen.training.resumption import ResumeSources, read_run, with_origin
from textgen.training.run_setup import RunOptions, RunSetup, Say, quiet
from textgen.versions import module_version
from textgen.wording import counted

if TYPE_CHECKING:
    from textgen.evaluation.evaluator import Scores
    from textgen.model.language_model import LanguageModel
    from textgen.training.distribution import Distribution

SAMPLE = SamplingConfig(max_tokens=150, seed=0)  # of the text written at every validation
TRANSFER_TOKENS = 4_096  # of the text, at most, that decide how a base model's bias moves to another vocabulary
FINAL_TOKENS = 1_000_000  # tokens of the held-out text that the final evaluation scores, at most
LEAST_FINAL_TOKENS = 20_000  # in a run of any length
FINAL_SHARE = 0.1  # of the tokens that were trained on, in a longer one


def train(plan: Plan, folder: Path, options: RunOptions = RunOptions()) -> ModelFolder:  # noqa: B008 - immutable
    """Trains as planned and saves the model.

    However the run ends, the best weights so far stay saved.

    Args:
        plan: Corpus and settings, from `textgen.training.plan.make_plan`.
        folder: Folder of the new model. It must not hold one.
        options: Observers, callbacks, devices.

    Returns:
        The saved model, with the best weights.

    Raises:
        TextgenError: The run cannot start or continue, or a signal stopped it.
    """
    distribution = options.distribution
    if distribution:
        distribution.local_rows(plan.training_config)  # checks the batch size before the slow part
    if options.callbacks:
        from textgen.training.observers.keras_callbacks import refuse_two_schedules

        num_workers = distribution.num_workers if distribution else 1
        refuse_two_schedules(options.callbacks, plan.training_config, num_workers)  # likewise
    with claimed(folder):
        if plan.rival is None or options.callbacks:  # callbacks watch a run from its first step on
            return _Run(begin(plan, folder, options.say), None, options).train()
        setup = race([plan, plan.rival], folder, _contend, options)
        write_training(folder, setup.record)
        options.say(f"Going on from {setup.record['base']['name'] or 'random weights'}.")
        return _Run(setup, newest_checkpoint(folder / CHECKPOINTS)[0], options).train()


def _contend(plan: Plan, folder: Path, options: RunOptions) -> RunSetup:
    """Trains a plan until an observer stops the run. Returns the run, its record with progress and scores so far."""
    with claimed(folder):
        setup = begin(plan, folder, options.say)
        _Run(setup, None, options).steps()
        return replace(setup, record=read_training(folder))


def begin(plan: Plan, folder: Path, say: Say = quiet) -> RunSetup:
    """Encodes the text of a new run and records the run in its folder.

    Args:
        plan: Corpus and settings.
        folder: Folder of the new model, locked by the caller.
        say: Called with a line of text for each stage.
    """
    tokenizer, data = _encode(plan, say)
    plan = plan.for_tokens(len(data.train))
    say(f"{counted(len(data.train), 'token')} to train on, {len(data.valid):,} held out.")
    start = plan.sources.start
    knows_vocabulary = start is not None and start.tokenizer.is_part_of(tokenizer)
    if plan.training_config.interpolate_base and not knows_vocabulary:
        raise ConfigError("interpolate_base needs a base model with the same vocabulary: leave one of them out.")
    _report_vocabulary(start, tokenizer, say)
    base = start.ngrams() if start and start.has_ngrams and knows_vocabulary else None
    _index_corpus(folder, tokenizer, data, say, base)
    _save_words(folder, tokenizer, data, say, start.words() if start else None)
    if tokenizer.serialized:  # after the others, beside which `claimed` knows that a run has written it
        write_own_file(folder / MODEL_FILE, tokenizer.serialized)
    model_config = replace(plan.model_config, vocab_size=tokenizer.vocab_size)
    record = with_origin(_first_record(plan, model_config, tokenizer, data), folder)
    write_training(folder, record)
    return RunSetup(
        folder=folder,
        record=record,
        model_config=model_config,
        tokenizer_config=plan.tokenizer_config,
        corpus_config=plan.corpus_config,
        training_config=plan.training_config,
        tokenizer=tokenizer,
        data=data,
        start=start,
    )


def resume(
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    sources: ResumeSources = ResumeSources(),  # noqa: B008 - immutable
    options: RunOptions = RunOptions(),  # noqa: B008 - immutable
) -> ModelFolder:
    """Continues an interrupted run from its newest checkpoint.

    Args:
        folder: Folder of the run.
        settings: Flat settings to change, such as another budget.
        sources: Where the corpus is now, and what else the run was started with. It must be the same as then.
        options: Observers, callbacks, devices.

    Returns:
        The saved model, with the best weights.

    Raises:
        TextgenError: There is nothing to resume, a setting is fixed, something has changed since the run began, or
            the run cannot continue.
    """
    if not os.path.lexists(folder / TRAINING):
        raise SavedModelError(_nothing_to_resume(folder))
    with locked(folder):
        refuse_links(folder)
        for place in (folder, folder / LOGS):
            sweep(place)
        if os.path.lexists(folder / MANIFEST) and not has_steps(folder):
            raise SavedModelError(
                f"{folder} contains a model without a checkpoint, so its run cannot be resumed. Start a new run from "
                "this model, with another name."
            )
        checkpoint, skipped = newest_checkpoint(folder / CHECKPOINTS)
        for line in skipped:
            options.say(f"Skipped a damaged checkpoint: {line}")
        setup = read_run(folder, settings or {}, sources, options.say)
        if not (folder / NGRAMS).is_file():
            _index_corpus(folder, setup.tokenizer, setup.data, options.say)
        if not (folder / WORDS).is_file():
            base = setup.start.words() if setup.start else None
            _save_words(folder, setup.tokenizer, setup.data, options.say, base)
        before = read_training(folder)
        try:
            write_training(folder, setup.record)  # for other processes that join, and for the next time
            run = _Run(setup, checkpoint, options)
        except BaseException:  # the settings do not fit the checkpoint, say: the next try finds the record as it was
            with suppress(TextgenError):  # the first error tells more
                write_training(folder, before)
            raise
        return run.train()


def join(
    folder: Path,
    options: RunOptions,
    sources: ResumeSources = ResumeSources(),  # noqa: B008 - immutable
) -> ModelFolder:
    """Takes part in a run that the chief starts or resumes.

    Args:
        folder: Folder of the run, which all processes must see.
        options: With the distribution that this process has joined.
        sources: Where this process finds the corpus.

    Returns:
        The saved model, once the chief has finished.

    Raises:
        TextgenError: The run cannot start or continue, or another process was lost.
    """
    from textgen.training.distribution import Distribution

    distribution = options.distribution or Distribution()
    with distribution.together():
        distribution.total([])  # waits until the chief has recorded the run
    setup, checkpoint = read_run(folder, {}, sources), None
    with suppress(SavedModelError):  # the chief starts from the beginning
        checkpoint, _ = newest_checkpoint(folder / CHECKPOINTS)
    return _Run(setup, checkpoint, options).train()


def _nothing_to_resume(folder: Path) -> str:
    if os.path.lexists(folder / MANIFEST):
        return f"There is no training to resume in {folder}: its model was made elsewhere. Start a new run from it."
    return f"There is no training to resume in {folder}: train without resuming."


def find_learning_rate(plan: Plan, *, say: Say = quiet, distribution: Distribution | None = None) -> list[Point]:
    """Tries rising learning rates around the planned one, in a short run that saves nothing.

    Everything but the learning rate is as in the planned run.

    Args:
        plan: Corpus and settings.
        say: Called with a line of text for each stage.
        distribution: Devices to train on; one if None.

    Returns:
        The smoothed loss at each learning rate; see `textgen.training.lr_finder.suggestion`.

    Raises:
        ConfigError: The planned rate is 0, or several processes would train together.
    """
    from textgen.training.distribution import Distribution
    from textgen.training.trainer import Trainer

    config, distribution = plan.training_config, distribution or Distribution()
    if not config.learning_rate:
        raise ConfigError("learning_rate is 0: give one above 0, since the rates to try are chosen around it.")
    if distribution.num_workers > 1:
        raise ConfigError("Learning rates are tried in one process: start only one.")
    distribution.local_rows(config)  # checks the batch size before the slow part
    tokenizer, data = _encode(plan, say)
    model_config = replace(plan.model_config, vocab_size=tokenizer.vocab_size)
    with distribution.strategy.scope():
        model = _first_model(model_config, config, tokenizer, data, plan.sources.start)
    data = _resegmented(data, tokenizer, config)
    trainer = Trainer(model, data, config, Path(), distribution=distribution)
    say("Trying learning rates ...")
    return trainer.sweep_learning_rates()


def _first_model(
    config: ModelConfig, training: TrainingConfig, tokenizer: Tokenizer, data: TokenData, start: ModelFolder | None
) -> LanguageModel:
    """The network before the first step: with random weights, or with those of a base model."""
    from textgen.model.language_model import LanguageModel
    from textgen.training.initializers import initialize

    model = LanguageModel(config, pad_id=tokenizer.pad_id, seed=training.seed, precision=training.precision)
    initialize(model, training)
    model.start_bias(data.train.counts)
    if start:
        fresh, ids = model.weights_as_arrays(), data.train.read(0, min(len(data.train), TRANSFER_TOKENS))
        model.assign_weights(carried_over(config, start.weights(), start.tokenizer, tokenizer, fresh, ids))
    return model


def _encode(plan: Plan, say: Say) -> tuple[Tokenizer, TokenData]:
    """The vocabulary, trained if need be, and the encoded text."""
    if isinstance(plan.corpus, PreparedCorpus):
        return plan.corpus.tokenizer, plan.corpus.data()
    tokenizer = plan.sources.tokenizer
    if tokenizer is None:
        if plan.tokenizer_config.tokenizer != "byte":
            say(f"Learning a vocabulary ({plan.tokenizer_config.tokenizer}) ...")
        tokenizer = learn_vocabulary(plan.corpus, plan.tokenizer_config)
    else:
        tokenizer = add_labels(tokenizer, plan.corpus)
    say(f"Vocabulary: {counted(tokenizer.vocab_size, 'token')}. Encoding the corpus ...")
    return tokenizer, encode_and_split(plan.corpus, tokenizer, plan.sources.valid or plan.training_config, say=say)


def _report_vocabulary(start: ModelFolder | None, tokenizer: Tokenizer, say: Say) -> None:
    """Reports which tokens or labels are new to a base model."""
    if start is None:
        return
    if start.tokenizer.is_part_of(tokenizer):
        if new := [label for label in tokenizer.labels if label not in start.tokenizer.labels]:
            say(f"Labels that {start.name} does not know: {named(new)}.")
        return
    shared = len(shared_tokens(start.tokenizer, tokenizer)[0])
    spelled = len(spelled_tokens(start.tokenizer, tokenizer))
    say(
        f"{shared:,} of {counted(tokenizer.vocab_size, 'token')} are known to {start.name}; {spelled:,} begin as the "
        "mean of the tokens that spell them."
    )


def _index_corpus(
    folder: Path, tokenizer: Tokenizer, data: TokenData, say: Say, base: NgramIndex | None = None
) -> None:
    """Saves the n-gram index that tells what the model copies, together with the n-grams of its base model."""
    if len(data.train) > MAX_NGRAMS:
        say("The corpus is too large for an index of its n-grams, so copies of it cannot be detected.")
        return
    save_ngrams(folder, index_stream(data.train, tokenizer.eos_id, base))


def _save_words(folder: Path, tokenizer: Tokenizer, data: TokenData, say: Say, base: WordFilter | None = None) -> None:
    """Saves the words of the text, together with those of its base model, so that the model writes no others."""
    if tokenizer.tokenizer == "word" or len(data.train) > MAX_TOKENS:
        return
    counts = stream_words(data.train, tokenizer)
    if words := word_filter(counts, base):
        save_words(folder, words)
    elif counts:
        say("Many of the words in the text occur only once, so the model may invent words.")


def _first_record(plan: Plan, model_config: ModelConfig, tokenizer: Tokenizer, data: TokenData) -> dict[str, Any]:
    """The contents of training.json before the first step."""
    return {
        "state": "running",
        "corpus": {
            "paths": plan.corpus.places,
            "valid": plan.sources.valid.places if plan.sources.valid else None,
            "valid_fingerprint": plan.sources.valid.fingerprint() if plan.sources.valid else None,
            "config": to_dict(plan.corpus_config),
            "fingerprint": plan.corpus.fingerprint(),
            "characters": plan.facts.stats.characters,
            "documents": plan.facts.stats.documents,
            "bytes": plan.facts.stats.bytes,
        },
        "tokens": {"folder": str(data.train.folder), "train": len(data.train), "valid": len(data.valid)},
        "tokenizer": to_dict(plan.tokenizer_config),
        "labels": list(tokenizer.labels),
        "model": to_dict(model_config),
        "training": to_dict(plan.training_config),
        "is_patience_planned": plan.is_patience_planned,
        "from": plan.sources.start.name if plan.sources.start else None,
        "base": plan.base.to_dict(),
        "parameters": model_config.num_parameters,
        "versions": {name: module_version(name) for name in ("textgen", "tensorflow", "keras", "sentencepiece")},
        "progress": {"step": 0, "epochs": 0.0, "seconds": 0.0},
        "scores": {},
    }


def _resegmented(data: TokenData, tokenizer: Tokenizer, config: TrainingConfig) -> TokenData:
    """The data, with another segmentation of the training text in each epoch if `subword_alpha` asks for it."""
    if not config.subword_alpha:
        return data
    return replace(data, train=SampledStream(data.train, tokenizer, config.subword_alpha, config.seed))


class _Run:
    """A run whose network is built and, if it is resumed, restored. All processes of a run make one together."""

    def __init__(self, setup: RunSetup, checkpoint: Checkpoint | None, options: RunOptions) -> None:
        """Raises `TextgenError` if the checkpoint does not fit the settings."""
        from textgen.training.distribution import Distribution
        from textgen.training.trainer import Hooks, Trainer

        self._setup = setup
        self._record = setup.record
        self._distribution = options.distribution or Distribution()
        if self._distribution.is_chief:
            with self._distribution.together():
                self._distribution.total([])  # now the other processes may read the record
        self._model = self._build()
        self._trainer = Trainer(
            self._model,
            _resegmented(setup.data, setup.tokenizer, setup.training_config),
            setup.training_config,
            setup.folder / CHECKPOINTS,
            hooks=Hooks(self._save, _sample_writer(self._model, setup.tokenizer)),
            distribution=self._distribution,
        )
        if checkpoint:
            self._trainer.restore(checkpoint)
        self._observers = self._make_observers(options)
        self._step_timeout = options.step_timeout

    def _build(self) -> LanguageModel:
        """The network, with the same weights in all processes."""
        setup, distribution = self._setup, self._distribution
        with distribution.strategy.scope():
            model = _first_model(setup.model_config, setup.training_config, setup.tokenizer, setup.data, setup.start)
        with distribution.together():
            model.assign_weights(distribution.from_chief(model.weights_as_arrays()))
        return model

    def _make_observers(self, options: RunOptions) -> list[Observer]:
        """The observers that were given and, on the chief, one that writes for TensorBoard."""
        from textgen.training.observers.keras_callbacks import KerasCallbacks
        from textgen.training.observers.tensorboard import Monitor

        setup, observers = self._setup, list[Observer]()
        if self._distribution.is_chief:
            monitor = Monitor(setup.folder / LOGS, self._model, setup.tokenizer, setup.data)
            observers = [*options.observers, monitor]
        if options.callbacks:
            observers.append(KerasCallbacks(options.callbacks, self._model, setup.training_config))
        return observers

    def train(self) -> ModelFolder:
        """Trains to the end and finishes the model."""
        return self._finish(self.steps())

    def steps(self) -> str:
        """Trains to the end, and records how the run ended if an error ended it. Returns why it is over."""
        trainer, folder = self._trainer, self._setup.folder
        settings = {name: self._record[name] for name in ("corpus", "tokenizer", "model", "training")}
        position = trainer.position
        about = RunReport(folder.name, settings, position.step, position.validations, position.learning_rate)
        try:
            return trainer.run(self._observers, about, self._step_timeout)
        except TextgenError as error:
            with suppress(TextgenError):  # the first error tells more
                reached = trainer.position
                if reached.step and reached.best_nats_per_token is None:  # no validation has chosen weights
                    self._save(None)
            with suppress(TextgenError):
                self._write("interrupted" if hasattr(error, "exit_code") else f"failed: {error}", trainer.best_scores)
            raise

    def _finish(self, reason: str) -> ModelFolder:
        """Scores the best weights on the held-out text."""
        name = str(self._setup.folder.absolute())
        if self._distribution.is_chief:
            self._model.assign_weights(load_model(name).weights())
            self._mix_with_base()
            self._write(f"finished: {reason}", self._final_scores())
        with self._distribution.together():
            self._distribution.total([])  # the other processes wait for the scores
        return load_model(name)

    def _final_scores(self) -> Scores:
        """Scores of the best weights, on more held-out text after a longer run, for a small share of its time."""
        config, trainer, held_out = self._setup.training_config, self._trainer, self._setup.data.valid
        if trainer.best_scores and len(held_out) <= config.valid_tokens and not config.interpolate_base:
            return trainer.best_scores  # of all of it already
        trained = trainer.position.step * config.num_streams * config.sequence_length
        tokens = max(LEAST_FINAL_TOKENS, config.valid_tokens, int(FINAL_SHARE * trained))
        return trainer.evaluator.scores(held_out, min(FINAL_TOKENS, tokens))  # compiled already

    def _mix_with_base(self) -> None:
        """Mixes the best weights with those of the base model, if `interpolate_base` asks for it."""
        config, trainer = self._setup.training_config, self._trainer
        if not config.interpolate_base:
            return
        from textgen.training.finishing import mix_with_base

        held_out, before = self._setup.data.valid, self._record.get("base_share", 0.0)
        share = mix_with_base(
            self._model, trainer.base, lambda: trainer.evaluator.nats(held_out, config.valid_tokens)[0]
        )
        if share:
            self._save(None, base_share=1 - (1 - before) * (1 - share))

    def _save(
        self, scores: Scores | None, weights: dict[str, np.ndarray] | None = None, base_share: float = 0.0
    ) -> None:
        """Saves weights, those of the network if none are given, of which `base_share` are those of the base model."""
        if not self._distribution.is_chief:
            return
        setup = self._setup
        save_model(setup.folder, weights or self._model.weights_as_arrays(), *setup.model_configs, setup.tokenizer)
        if setup.training_config.interpolate_base:
            self._record = self._record | {"base_share": base_share}
        self._write("running", scores)

    def _write(self, state: str, scores: Scores | None) -> None:
        """Records state, progress and, if there are any, scores in training.json."""
        if not self._distribution.is_chief:
            return
        position = self._trainer.position
        progress = {
            "step": position.step,
            "best_step": position.best_step,
            "epochs": self._trainer.epochs(),
            "seconds": position.seconds,
            "left_out": position.health.left_out,
            "rollbacks": position.health.rollbacks,
        }
        self._record = self._record | {"state": state, "progress": progress}
        if scores and math.isfinite(scores.nats_per_token):  # else the scores of the best validation stay
            self._record |= {"scores": _in_json(scores.to_dict())}
        write_training(self._setup.folder, self._record)


def _in_json(scores: Mapping[str, float]) -> dict[str, float]:
    """The scores that JSON can hold: the largest number in place of infinity, as of a perplexity, and no NaN."""
    return {name: min(value, sys.float_info.max) for name, value in scores.items() if not math.isnan(value)}


def _sample_writer(model: LanguageModel, tokenizer: Tokenizer) -> Callable[[], str]:
    """A function that writes a text with the weights that the network has when it is called.

    In NumPy, since TensorFlow would take longer to compile the steps of a few short texts than NumPy to write them.
    """
    from textgen.generation.generator import Generator
    from textgen.generation.infilling import Infiller
    from textgen.model.numpy_model import NumpyModel

    def write() -> str:
        direction = model.config.directions[0]
        numpy_model = NumpyModel(*one_way(model.config, model.weights_as_arrays(), direction))
        if direction == "backward":
            return Infiller(numpy_model, tokenizer).infill(config=SAMPLE)[0].text
        return Generator(numpy_model, tokenizer).generate("", SAMPLE)[0].text

    return write
