"""A training run, from a plan to a saved model: started, resumed, or continued on another corpus.

The steps of a run are called here one after another; each is in a module of its own. Read this module first.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textgen.errors import Interrupted, SavedModelError, TextgenError, Unreadable, WorkerLost
from textgen.generation.config import SamplingConfig
from textgen.model.directions import one_way
from textgen.saved_model.creation import claimed, claimed_or_another
from textgen.saved_model.folder_contents import has_steps
from textgen.saved_model.layout import CHECKPOINTS, LOGS, NGRAMS, TRAINING, WORDS, read_training, shown_record
from textgen.saved_model.loading import load_model
from textgen.saved_model.run_status import FAILED, FINISHED, INTERRUPTED, RUNNING, is_finished
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model, write_training
from textgen.storage.folders import refuse_links
from textgen.storage.leftovers import sweep
from textgen.storage.locks import locked, require_held, wait_until_free
from textgen.storage.manifests import MANIFEST
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.training.checkpoints import Checkpoint, newest_checkpoint
from textgen.training.observers.observer import Observer, RunReport
from textgen.training.planning.plan import Plan
from textgen.training.race import race
from textgen.training.resumption import ResumeSources, read_run
from textgen.training.run_setup import RunOptions, RunSetup
from textgen.training.run_start import begin, initial_model, save_known_words, save_ngram_index, training_data
from textgen.wording import Say

if TYPE_CHECKING:
    from textgen.evaluation.scores import Scores
    from textgen.model.language_model import LanguageModel

SAMPLE = SamplingConfig(max_tokens=150, seed=0)  # settings of the text written at every validation
FINAL_TOKENS = 1_000_000  # held-out tokens that the final evaluation scores at most; more if a validation scores more
MIN_FINAL_TOKENS = 20_000  # held-out tokens that it scores after a short run
FINAL_FRACTION = 0.1  # held-out tokens that it scores after a longer run, relative to the tokens trained on


def train(plan: Plan, folder: Path, options: RunOptions = RunOptions()) -> ModelFolder:  # noqa: B008 - immutable
    """Trains as planned and saves the model.

    However the run ends, the best weights so far stay saved.

    Args:
        plan: Corpus and settings, from `textgen.training.planning.plan.make_plan`.
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
    _wait_for_lost(folder, options)
    with claimed_or_another(folder, options.free_folder) as place:
        options.on_claimed(place)
        if place != folder:
            options.say(f"Another run has taken {folder}: this model is saved as {place}.")
            folder = place
        if plan.rival is None or options.callbacks:  # callbacks watch a run from its first step on
            return _Run(begin(plan, folder, options.say), None, options).train()
        setup = race([plan, plan.rival], folder, _contend, options)
        write_training(folder, setup.record)
        options.say(f"Going on from {setup.record['start']['name'] or 'random weights'}.")
        return _Run(setup, newest_checkpoint(folder / CHECKPOINTS)[0], options).train()


def _contend(plan: Plan, folder: Path, options: RunOptions) -> RunSetup:
    """Trains a plan until an observer stops the run. Returns the run, its record with progress and scores so far."""
    with claimed(folder):
        setup = begin(plan, folder, options.say)
        _Run(setup, None, options).steps()
        return replace(setup, record=read_training(folder))


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
    _wait_for_lost(folder, options)
    with locked(folder):
        refuse_links(folder)
        for place in (folder, folder / LOGS, folder / CHECKPOINTS):  # restores a checkpoint that was moved aside
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
        _save_missing_filters(setup, options.say)
        before = read_training(folder)
        run = _recorded_run(setup, checkpoint, before, options)
        options.say(f"Resuming {folder}.")
        saved = run.train()
        if is_finished(before) and saved.training["progress"]["step"] == before["progress"]["step"]:
            options.say("The run was finished before: more steps, minutes or epochs continue it.")
        return saved


def _save_missing_filters(setup: RunSetup, say: Say) -> None:
    """Makes the index of n-grams and the list of words of a resumed run if they are missing.

    Not if the run started from a model: those of the text alone would lack what that model has read, so its text could
    be copied without being detected, and its words could not be written.
    """
    start, has_index = setup.record["start"]["name"], (setup.folder / NGRAMS).is_file()
    if start:
        if not has_index:
            say(f"There is no index of n-grams, and a new one would lack the text of {start}: copies are not detected.")
        return
    if not has_index:
        save_ngram_index(setup.folder, setup.tokenizer, setup.data, say)
    if not (setup.folder / WORDS).is_file():
        save_known_words(setup.folder, setup.tokenizer, setup.data, say)


def _recorded_run(setup: RunSetup, checkpoint: Checkpoint, before: dict[str, Any], options: RunOptions) -> _Run:
    """Records a resumed run and builds it; puts the old record back if that fails."""
    try:
        write_training(setup.folder, setup.record)  # for other processes that join, and for the next time
        return _Run(setup, checkpoint, options)
    except BaseException:  # the settings do not fit the checkpoint, say: the next try finds the record as it was
        with suppress(TextgenError):  # the first error tells more
            write_training(setup.folder, before)
        raise


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
    from textgen.training.distributed.distribution import Distribution

    distribution = options.distribution or Distribution()
    with distribution.together():
        distribution.total([])  # waits until the chief has recorded the run
    setup, checkpoint = read_run(folder, {}, sources), None
    try:
        checkpoint, _ = newest_checkpoint(folder / CHECKPOINTS)
    except Unreadable:
        raise
    except SavedModelError:
        pass  # the chief starts from the beginning
    return _Run(setup, checkpoint, options).train()


def _wait_for_lost(folder: Path, options: RunOptions) -> None:
    """Waits for the lock on the folder of a run of several processes to end with those that a restart replaces.

    Raises:
        WorkerLost: The folder is still locked, so that whoever restarts lost processes tries again.
    """
    distribution = options.distribution
    if distribution and distribution.num_workers > 1 and not wait_until_free(folder, options.say):
        raise WorkerLost(f"Another process is still writing to {folder}: end it, or choose another name.")


def _nothing_to_resume(folder: Path) -> str:
    if os.path.lexists(folder / MANIFEST):
        return f"There is no training to resume in {folder}: its model was made elsewhere. Start a new run from it."
    return f"There is no training to resume in {folder}: train without resuming."


class _Run:
    """A run whose network is built and, if it is resumed, restored. All processes of a run make one together."""

    def __init__(self, setup: RunSetup, checkpoint: Checkpoint | None, options: RunOptions) -> None:
        """Raises `TextgenError` if the checkpoint does not fit the settings, or other processes have another state."""
        from textgen.training.distributed.distribution import Distribution
        from textgen.training.distributed.same_state import require_same_state
        from textgen.training.trainer import Trainer
        from textgen.training.validator import Hooks

        self._setup = setup
        self._record = setup.record
        self._saved_step = 0  # step of the weights on disk; the best ones, if saving them has failed, are newer
        self._distribution = options.distribution or Distribution()
        self._step_timeout = options.step_timeout if self._distribution.num_workers > 1 else None
        with self._distribution.together():
            if self._distribution.is_chief:
                self._distribution.total([])  # now the other processes may read the record
            self._distribution.total([])  # now they have read it and the text, for which there is no time limit
            require_same_state(self._distribution, checkpoint, self._record)
        self._model = self._build()
        with self._distribution.together():
            self._trainer = Trainer(
                self._model,
                training_data(setup.data, setup.tokenizer, setup.training_config),
                setup.training_config,
                setup.folder / CHECKPOINTS,
                hooks=Hooks(self._save, _sample_writer(self._model, setup.tokenizer)),
                distribution=self._distribution,
                token_bytes=setup.tokenizer.token_bytes,
                windows_format=setup.record.get("windows_format", 1),
            )
            self._distribution.total([])  # all have the text of the first epoch, also where it is segmented anew
        if checkpoint:
            self._restore(checkpoint)
        self._observers = self._make_observers(options)

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint."""
        with self._distribution.together(self._step_timeout):
            self._trainer.restore(checkpoint)
        self._rescore_saved()
        position = self._trainer.position
        self._saved_step = position.saved_step if position.has_best else self._record["progress"].get("best_step", 0)

    def _rescore_saved(self) -> None:
        """Scores the saved weights again if the checkpoint has another score, so that only better ones replace them.

        The score in the checkpoint may not be theirs for three reasons: the saved weights were mixed with those that
        the run started from; validations now score another part of the held-out text; or a run that ended with an error
        saved better weights after its last checkpoint (their step is in the record). Later validations score unmixed
        weights, so they are still compared with the best unmixed score.
        """
        position, validator, distribution = self._trainer.position, self._trainer.validator, self._distribution
        recorded = self._record["progress"].get("best_step") if self._record.get("scores") else None
        step = position.saved_step if recorded is None else recorded
        is_mixed = bool(self._record.get("start_fraction"))
        is_other = position.has_best and not validator.is_same_text(position)
        if step == position.saved_step and not is_other and not (is_mixed and position.has_best):
            return
        name = str(self._setup.folder.absolute())
        with distribution.together(self._step_timeout):
            weights = load_model(name).weights() if distribution.is_chief else None
            rescore = validator.rescore_best if is_other and not is_mixed else validator.keep_saved
            rescore(position, weights, step)

    def _build(self) -> LanguageModel:
        """The network, with the same weights in all processes."""
        setup, distribution = self._setup, self._distribution
        with distribution.together(self._step_timeout):
            with distribution.strategy.scope():
                configs = setup.model_config, setup.training_config
                model = initial_model(*configs, setup.tokenizer, setup.data, setup.start)
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
        settings = shown_record({name: self._record[name] for name in ("corpus", "tokenizer", "model", "training")})
        position = trainer.position
        about = RunReport(folder.name, settings, position.step, position.validations, position.learning_rate)
        try:
            return trainer.run(self._observers, about, self._step_timeout)
        except Exception as error:  # a bug must not cost what was learned either
            with suppress(Exception):  # the first error tells more
                reached = trainer.position
                if reached.step and not reached.has_best:  # no validation has chosen weights
                    self._save(None, trainer.weights_to_save())
            with suppress(Exception):
                status = f"{FAILED}: {str(error) or type(error).__name__}"
                if isinstance(error, (Interrupted, WorkerLost)):
                    status = INTERRUPTED
                self._write(status, None)  # the best scores may be of weights that could not be saved
            raise

    def _finish(self, reason: str) -> ModelFolder:
        """Scores the best weights on the held-out text, while the other processes wait."""
        from textgen.training.distributed.heartbeat import Heartbeat

        name, heartbeat = str(self._setup.folder.absolute()), Heartbeat(self._distribution, self._step_timeout)
        if self._distribution.is_chief:
            self._trainer.validator.evaluator.on_window = heartbeat.beat
            require_held(self._setup.folder)  # else the model of another run may be there
            self._model.assign_weights(load_model(name).weights())
            self._mix_with_start()
            self._write(f"{FINISHED}: {reason}", self._final_scores())
            heartbeat.end()
        else:
            heartbeat.wait()
        return load_model(name)

    def _final_scores(self) -> Scores:
        """Scores of the best weights, on more held-out text after a longer run, for a small fraction of its time.

        It scores at least as much text as a validation does.
        """
        config, validator, held_out = self._setup.training_config, self._trainer.validator, self._setup.data.valid
        if validator.best_scores and len(held_out) <= config.valid_tokens and not config.interpolate_start:
            return validator.best_scores  # these are of all held-out text already
        trained = self._trainer.position.step * config.num_streams * config.sequence_length
        wanted = min(FINAL_TOKENS, max(MIN_FINAL_TOKENS, int(FINAL_FRACTION * trained)))
        tokens = max(config.valid_tokens, wanted)
        # The function is compiled already, unless validations read the text in another number of rows.
        return validator.evaluator.scores(held_out, tokens)

    def _mix_with_start(self) -> None:
        """Mixes the best weights with those that the run started from, if `interpolate_start` asks for it.

        The saved weights may be a mix already. The weights of a later validation, although worse unmixed, replace them
        if their mix is better.
        """
        config, model = self._setup.training_config, self._model
        if not config.interpolate_start:
            return
        from textgen.training.finishing import mix_with_start

        validator, position = self._trainer.validator, self._trainer.position

        def score() -> float:
            nats, tokens = validator.evaluator.nats(self._setup.data.valid, config.valid_tokens)
            return nats / tokens

        mix = partial(mix_with_start, model, self._trainer.tensors.start_weights, score)
        saved, before = mix(), self._record.get("start_fraction", 0.0)
        of_saved = model.weights_as_arrays()
        if later := validator.runner_up:
            model.assign_weights(later.weights)
            of_later = mix()
            if of_later.nats_per_token < saved.nats_per_token:
                position.kept_step, position.kept_nats_per_token = later.step, of_later.nats_per_token
                self._save(None, start_fraction=of_later.fraction)
                return
            model.assign_weights(of_saved)
        if saved.fraction:
            self._save(None, start_fraction=1 - (1 - before) * (1 - saved.fraction))

    def _save(
        self, scores: Scores | None, weights: dict[str, np.ndarray] | None = None, start_fraction: float = 0.0
    ) -> None:
        """Saves the given weights, by default the network's, and records their scores.

        `start_fraction` is the fraction of the start model in them.
        """
        if not self._distribution.is_chief:
            return
        setup = self._setup
        save_model(setup.folder, weights or self._model.weights_as_arrays(), *setup.model_configs, setup.tokenizer)
        position = self._trainer.position
        self._saved_step = position.saved_step if position.has_best else position.step
        if setup.training_config.interpolate_start:
            self._record = self._record | {"start_fraction": start_fraction}
        self._write(RUNNING, scores)

    def _write(self, status: str, scores: Scores | None) -> None:
        """Records status, progress, validations and, if there are any, scores of the saved weights in training.json."""
        if not self._distribution.is_chief:
            return
        position = self._trainer.position
        progress = {
            "step": position.step,
            "best_step": self._saved_step,
            "epochs": self._trainer.epochs(),
            "seconds": position.seconds,
            "compiling_seconds": position.compiling_seconds,
            "left_out": position.health.left_out,
            "rollbacks": position.health.rollbacks,
        }
        self._record = self._record | {"status": status, "progress": progress, "history": position.history}
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
