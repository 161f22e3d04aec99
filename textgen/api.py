"""The functions of `import textgen`: train, load, evaluate, score, embed.

They leave the process as it was: see `textgen.system.runtime`. Whatever a user can put right raises a `TextgenError`.
What a user should know, such as skipped records, is a warning of the logger "textgen"; the stages of a training, and
what else takes long, are its information.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgen.arguments import check_is_path, check_kind, several, several_paths, several_texts
from textgen.corpus.config import ignoring_labels
from textgen.errors import ConfigError, CorpusError, SavedModelError
from textgen.evaluation.config import DynamicConfig, NeuralCacheConfig
from textgen.evaluation.scoring import TextScore
from textgen.generation.config import AUTO
from textgen.generation.generator import Generator
from textgen.generation.infilling import Infiller
from textgen.saved_model.adaptation import Adaptation, adapted_generator
from textgen.saved_model.bases import installed_bases
from textgen.saved_model.creation import free_folder, refuse_taken
from textgen.saved_model.loading import load_model
from textgen.saved_model.model_names import check_name
from textgen.saved_model.other_texts import opened_text, scoring, text_to_score
from textgen.saved_model.registry import find_run, list_models, models_folder
from textgen.saved_model.saved_model import ModelFolder
from textgen.settings import python_number
from textgen.storage.files import check_folder_writable
from textgen.system.runtime import load_tensorflow
from textgen.training.observers.observer import Observer, ValidationReport
from textgen.training.presets import with_preset, with_sizes
from textgen.training.run_setup import RunOptions
from textgen.wording import Say, short_repr

if TYPE_CHECKING:
    import keras
    import numpy as np

    from textgen.corpus.corpus import Corpus
    from textgen.evaluation.scores import Scores

Paths = str | Path | Iterable[str | Path]
Model = str | Path | ModelFolder
_log = logging.getLogger("textgen")


@dataclass(frozen=True)
class TrainingResult:
    """What `textgen.train` returns.

    Attributes:
        model: The saved model, with the weights that did best on held-out text; from a base, mixed with those of
            the base where that does better.
        history: A report of each validation of this call, in order. `model.training["history"]` also has the scores of
            those before the run was resumed.
    """

    model: ModelFolder
    history: list[ValidationReport] = field(repr=False, hash=False)  # a list has no hash

    def __getstate__(self) -> dict[str, Any]:
        """The fields, without the generators, which other processes make of the model."""
        return {"model": self.model, "history": self.history}

    @property
    def scores(self) -> Scores:
        """Scores of the model on held-out text, of which at most a million tokens are scored."""
        from textgen.evaluation.scores import Scores

        return Scores(**self.model.training["scores"])

    @cached_property
    def generator(self) -> Generator:
        """Writes with the model. Raises `ConfigError` for a direction of backward: use `infiller`."""
        return self.model.generator(say=_log.info, note=_log.warning)

    @cached_property
    def infiller(self) -> Infiller:
        """Writes towards an ending. Raises `ConfigError` for a direction of forward: use `generator`."""
        return self.model.infiller()


def train(
    paths: Paths = (),
    *,
    name: str | None = None,
    models_dir: str | Path | None = None,
    preset: str | None = None,
    resume: Model | None = None,
    start: Model | None = None,
    tokenizer_from: Model | None = None,
    valid_file: str | Path | None = None,
    progress: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **settings: Any,
) -> TrainingResult:
    """Trains a model on text and saves it.

    It trains on one device; `textgen train` takes all GPUs of the machine, and several processes and machines. Ctrl-C
    saves and raises `textgen.errors.Interrupted`; `resume` goes on from there. While two ways to start are tried
    (see `textgen.training.race`) nothing is saved.

    Args:
        paths: Files, folders or globs with the text, or a prepared folder. To resume, only if they were moved.
        name: Name of the saved model. By default it is made from the path, or from the folder that several paths
            are in, with a number if it is taken.
        models_dir: Folder of the models; by default `$TEXTGEN_MODELS` or `saved_models`.
        preset: Size of the network (tiny, small, ...) or settings for a well-known text; see `textgen train --help`.
        resume: Run to go on with: its name, its folder, or the `ModelFolder` that it has saved. `settings` may then
            change its length.
        start: Model to fine-tune: its name, its folder, a `ModelFolder`, or a base, "english" or "chinese"; "none" to
            start from random weights. By default a base where one suits the text.
        tokenizer_from: Name or folder of a model, `ModelFolder`, base or .model file whose vocabulary the new model
            uses.
        valid_file: File with the held-out text. By default a part of the corpus is held out.
        progress: Show the progress on standard error, as the command line does.
        callbacks: Keras callbacks. An epoch is the time between two validations. They may set the learning rate with
            `schedule="constant"`, in one process.
        settings: Fields of `CorpusConfig`, `TokenizerConfig`, `ModelConfig` and `TrainingConfig`, such as
            `minutes=10` or `documents="line"`. What is not given is chosen from the text and the machine.

    Returns:
        The saved model, the history of validations, and generators that write with the model.

    Raises:
        ConfigError: A setting is unknown, not allowed, or contradicts another.
        CorpusError: The text cannot be read, or there is too little of it.
        TrainingError: Training cannot start or go on.
        SavedModelError: A model that is named is missing or damaged, or the new one cannot have its name.
        TokenizerError: A vocabulary cannot be learned or read, or a text is not valid Unicode.
        CannotWrite: The folder of the model, or the cache folder, cannot be written or is full.
        Interrupted: A signal, such as that of Ctrl-C, has ended the training.

    Example:
        result = textgen.train("novel.txt", name="novel", minutes=10)
        print(f"{result.scores.bits_per_byte:.3f} bits per byte on held-out text")
        print(result.generator.generate("It was a")[0].text)
    """
    preset, settings = with_preset(preset, {name: python_number(value) for name, value in settings.items()})
    places = several_paths("paths", paths)
    for argument, given in (("resume", resume), ("start", start), ("tokenizer_from", tokenizer_from)):
        if given is not None:
            _check_is_model(argument, given)
    if valid_file is not None:
        check_is_path("valid_file", valid_file)
    callbacks = list(several("callbacks", callbacks, "Keras callback", may_be_one=False))
    job = _Job(places, models_dir, preset, settings, start, tokenizer_from, valid_file)
    if resume is not None and name is not None:
        raise ConfigError("resume names the model already: leave name out.")
    target = job.target(name) if resume is None else _run_folder(resume, models_dir)
    target = target.absolute()  # callbacks may change the working directory
    history = _History()
    watcher, say, note = _watched(progress)
    options = RunOptions(
        [history, watcher], callbacks, say, free_folder=job.absolute_free_folder if name is None else None
    )
    model = job.begin(target, options, note) if resume is None else job.resume(target, options)
    return TrainingResult(model, history.reports)


def _run_folder(run: Model, models_dir: str | Path | None) -> Path:
    return find_run(os.fspath(run.folder if isinstance(run, ModelFolder) else run), models_dir)


def _watched(progress: bool) -> tuple[Observer, Say, Say]:
    """What shows a run on standard error, or logs it: an observer, and what takes stages and what takes notes."""
    if not progress:
        return _Logging(), _log.info, _log.warning
    from textgen.training.observers.progress import Display

    display = Display()
    return display, display.say, display.say


def load(
    model: Model | None = None,
    *,
    exact: bool = False,
    runtime: str = AUTO,
    adapt: Paths | None = None,
    dynamic: DynamicConfig | None = None,
    neural_cache: NeuralCacheConfig | None = None,
    clamps: Sequence[str] = (),
    ensemble: Model | Sequence[Model] = (),
    label: str | None = None,
    models_dir: str | Path | None = None,
    **settings: Any,
) -> Generator:
    """A generator for a saved model, which writes at once, without TensorFlow.

    `load(model).network()` is the `keras.Model` that writes; that of `load_model(model)` may be any direction, or both.

    Args:
        model: Name or folder of the model, or a `ModelFolder`. By default the model that was saved last.
        exact: Compute in exact arithmetic, as `textgen sample --exact` does: the same settings and seed then give the
            same text on every machine and in every batch. Leave `runtime` out, or give "numpy".
        runtime: What computes the network: "numpy", "onnx" or "tensorflow". "auto" is ONNX Runtime if it is installed,
            the network has a million weights or more, and 8-bit weights hardly change its predictions; otherwise NumPy.
            "onnx" falls back to NumPy where they would change them, and logs a warning. The same seed gives another
            text with another runtime.
        adapt: Files, folders or globs with a text to train on first. The saved model stays as it is.
        dynamic: Settings of that training.
        neural_cache: Write with a neural cache.
        clamps: Values of cells that are held, such as "L1/89=3.8".
        ensemble: More models with the same vocabulary, whose probabilities are averaged with those of the first. Each
            is trained on the text of `adapt` and has a neural cache of its own; `clamps` are cells of the first.
        label: Read the text of `adapt` as documents of this label.
        models_dir: Folder of the models; by default `$TEXTGEN_MODELS` or `saved_models`.
        settings: Fields of `CorpusConfig` for the text of `adapt`; by default those of the training, but UTF-8, and
            not strict.

    Returns:
        The generator, whose methods write texts.

    Raises:
        SavedModelError: The model is missing or damaged.
        CorpusError: The text cannot be read.
        ConfigError: The model reads text backward only: use `load_model(name).infiller()`. Or there is no such
            runtime, it is not installed, or it does not compute this; or the model does not know the label, or diverged
            while it learned; or a model of the ensemble has another vocabulary, or reads text backward only; or a
            setting is not allowed.

    Example:
        generator = textgen.load("novel")
        for text in generator.generate("It was a", textgen.SamplingConfig(temperature=0.7, max_tokens=100), num=3):
            print(text.text)
    """
    held = tuple(several_texts("clamps", clamps))
    check_kind("dynamic", dynamic, DynamicConfig)
    check_kind("neural_cache", neural_cache, NeuralCacheConfig)
    saved = _newest(models_dir) if model is None else _opened(model, models_dir)
    text = _text_to_learn(saved, adapt, {"dynamic": dynamic, "label": label}, settings)
    others = _others(ensemble, models_dir)
    adaptation = Adaptation(text, dynamic or DynamicConfig(), label, neural_cache, held, others)
    if not exact:
        return adapted_generator(saved, adaptation, runtime=runtime, say=_log.info, note=_log.warning)
    if adaptation.changes:
        raise ConfigError(f"Exact arithmetic cannot be combined with {adaptation.changes[0]}: leave out one of them.")
    return saved.generator(exact=True, runtime=runtime, say=_log.info, note=_log.warning)


def _newest(models_dir: str | Path | None) -> ModelFolder:
    """The model that was saved last. If there is none, the error says how to load a base."""
    try:
        return load_model(None, models_dir)
    except SavedModelError as error:
        if list_models(models_dir) or not (bases := installed_bases()):
            raise
        raise SavedModelError(f'{error} For example: textgen.load("{bases[0]}").') from None


def _text_to_learn(
    saved: ModelFolder, adapt: Paths | None, others: Mapping[str, Any], settings: Mapping[str, Any]
) -> Corpus | None:
    """The text of `adapt`, if there is one. Without it, `others` must be None, and there must be no settings."""
    reading = settings if others.get("label") is None else ignoring_labels(settings)
    saved.reading(reading)  # raises for settings that are not allowed, before all else
    if adapt is not None:
        places = several_paths("adapt", adapt)
        with _hinting_at_texts(places):
            return opened_text(saved, places, reading, _log.warning)
    if idle := [*(name for name, value in others.items() if value is not None), *settings]:
        raise ConfigError(
            f"Without a text to train on, {idle[0]} does nothing: pass a text as adapt, or leave {idle[0]} out."
        )
    return None


@contextmanager
def _hinting_at_texts(places: Sequence[str | Path]) -> Iterator[None]:
    """Adds to an error of the block that texts belong in a file, if there are texts in place of paths."""
    try:
        yield
    except (CorpusError, OSError) as error:  # systems refuse long paths
        text = next((place for place in map(str, places) if _looks_like_text(place)), None)
        if text is None:
            raise
        problem = error if isinstance(error, CorpusError) else f"Cannot read {short_repr(text)}: {error.strerror}."
        raise CorpusError(f"{problem} Texts themselves belong in a file, for example one on each line.") from None


def _looks_like_text(place: str) -> bool:
    return (place.count(" ") > 2 or "\n" in place or len(place) > 255) and not os.path.lexists(place)


def evaluate(
    model: Model,
    paths: Paths,
    *,
    label: str | None = None,
    neural_cache: NeuralCacheConfig | None = None,
    dynamic: DynamicConfig | None = None,
    ensemble: Model | Sequence[Model] = (),
    models_dir: str | Path | None = None,
    **settings: Any,
) -> Scores:
    """Scores how well a model predicts a text, as `textgen evaluate` does.

    Args:
        model: Name or folder of the model, or a `ModelFolder`.
        paths: Files, folders or globs with the text.
        label: Score all documents as those of this label. Their own labels are then not read.
        neural_cache: Adapt with a neural cache.
        dynamic: Adapt by dynamic evaluation.
        ensemble: More models with the same vocabulary, whose probabilities are averaged with those of the first.
        models_dir: Folder of the models; by default `$TEXTGEN_MODELS` or `saved_models`.
        settings: Fields of `CorpusConfig`; by default those of the training, but UTF-8, and not strict.

    Returns:
        Nats per token, bits per byte, perplexity and counts. If the model reads in both directions, those of forward.

    Raises:
        CorpusError: The text cannot be read.
        ConfigError: A setting is not allowed, the model does not know the label, or a model of the ensemble has
            another vocabulary, or does not read in the direction of the first.
        SavedModelError: A model is missing or damaged.

    Example:
        scores = textgen.evaluate("novel", "other-novel.txt")
        print(f"{scores.bits_per_byte:.3f} bits per byte")
    """
    places = several_paths("paths", paths)
    check_kind("dynamic", dynamic, DynamicConfig)
    check_kind("neural_cache", neural_cache, NeuralCacheConfig)
    saved, others = _opened(model, models_dir), _others(ensemble, models_dir)
    with _hinting_at_texts(places):
        text = text_to_score(saved, others, places, settings, label, _log.warning)
    adapts = bool(neural_cache or dynamic)
    with scoring(saved, others, text, label, adapts=adapts, note=_log.warning) as (networks, stream):
        from textgen.evaluation.evaluator import Evaluator  # needs TensorFlow, which is loaded now

        network, *ensemble_networks = networks
        return Evaluator(network, neural_cache, dynamic, ensemble_networks).scores(stream)


def score(
    model: Model,
    texts: str | Iterable[str],
    *,
    ends: bool = True,
    label: str | None = None,
    models_dir: str | Path | None = None,
) -> list[TextScore]:
    """Scores texts token by token, as `textgen score` does.

    Args:
        model: Name or folder of the model, or a `ModelFolder`.
        texts: A text, or several; each is scored on its own.
        ends: Score a text as a whole document, whose end is one more token.
        label: Score the texts as those of this label.
        models_dir: Folder of the models; by default `$TEXTGEN_MODELS` or `saved_models`.

    Returns:
        For each text the ids of its tokens and the surprisal of each in bits; `total` sums them up.

    Raises:
        TokenizerError: A text is not valid Unicode.
        ConfigError: The model does not know the label, or one of the texts is not a string, such as None.
        SavedModelError: The model is missing or damaged.

    Example:
        likely, odd = textgen.score("novel", ["It was raining.", "Raining it was."])
        print(f"The second text takes {odd.surprisal.sum() - likely.surprisal.sum():.1f} bits more.")
    """
    scorer = _opened(model, models_dir).scorer()
    return list(scorer.scores(several_texts("texts", texts), ends=ends, label=label))


def embed(model: Model, texts: str | Iterable[str], *, models_dir: str | Path | None = None) -> list[np.ndarray]:
    """Makes a vector of each text, as `textgen embed` does.

    The dot product of two vectors is the cosine similarity of the texts. `load_model(name).embedder()` also makes
    vectors of single tokens, and finds the texts that are most similar to another one.

    Args:
        model: Name or folder of the model, or a `ModelFolder`.
        texts: A text, or several; each is read on its own.
        models_dir: Folder of the models; by default `$TEXTGEN_MODELS` or `saved_models`.

    Returns:
        The vector of each text, float32 [D] of length 1; zeros for an empty text.

    Raises:
        TokenizerError: A text is not valid Unicode.
        ConfigError: One of the texts is not a string, such as None.
        SavedModelError: The model is missing or damaged.

    Example:
        rain, storm = textgen.embed("novel", ["It was raining.", "A storm came."])
        print(f"They are alike to {rain @ storm:.2f}.")
    """
    embedder = _opened(model, models_dir).embedder()
    return list(embedder.vectors(several_texts("texts", texts)))


class _History(Observer):
    """Keeps the reports of all validations."""

    def __init__(self) -> None:
        super().__init__()
        self.reports: list[ValidationReport] = []

    def on_validation(self, report: ValidationReport) -> None:
        self.reports.append(report)


class _Logging(Observer):
    """Logs skipped updates and returns to a checkpoint."""

    def on_fault(self, line: str) -> None:
        _log.warning(line)


@dataclass(frozen=True)
class _Job:
    """What `train` was asked for; an empty `places` means that a resumed run knows its text."""

    places: Sequence[str | Path]
    models_dir: str | Path | None
    preset: str | None
    settings: Mapping[str, Any]
    start: Model | None
    tokenizer_from: Model | None
    valid_file: str | Path | None

    def target(self, name: str | None) -> Path:
        """The folder of a new model."""
        if not self.places:
            raise ConfigError("paths is empty: give the text to train on, or resume a run.")
        target = self._free_folder() if name is None else models_folder(self.models_dir) / check_name(name)
        refuse_taken(target)
        check_folder_writable(target)
        return target

    def absolute_free_folder(self) -> Path:
        """The absolute path of a folder with a name made from the paths."""
        return self._free_folder().absolute()

    def _free_folder(self) -> Path:
        return free_folder(models_folder(self.models_dir), *self.places)

    def begin(self, target: Path, options: RunOptions, note: Say) -> ModelFolder:
        from textgen.training.planning.checked_inputs import open_inputs
        from textgen.training.planning.plan import make_plan

        with _hinting_at_texts(self.places):
            corpus, sources = open_inputs(
                self.places,
                self.settings,
                preset=self.preset,
                start=self.start,
                tokenizer_from=self.tokenizer_from,
                valid_file=self.valid_file,
                models_dir=self.models_dir,
                note=note,
            )
        load_tensorflow()
        from textgen.training.observers.keras_callbacks import check_callbacks
        from textgen.training.run import train as run

        check_callbacks(options.callbacks)
        plan = make_plan(corpus, self.settings, preset=self.preset, sources=sources)
        return run(plan, target, options)

    def resume(self, target: Path, options: RunOptions) -> ModelFolder:
        load_tensorflow()
        from textgen.training.observers.keras_callbacks import check_callbacks
        from textgen.training.planning.checked_inputs import named_tokenizer
        from textgen.training.resumption import ResumeSources
        from textgen.training.run import resume

        check_callbacks(options.callbacks)
        start = self.start.folder if isinstance(self.start, ModelFolder) else self.start
        tokenizer = named_tokenizer(self.tokenizer_from, self.models_dir)
        sources = ResumeSources(self.places, self.valid_file, None if start is None else str(start), tokenizer)
        settings = with_sizes(self.preset, self.settings)
        return resume(target, settings, sources=sources, options=options)


def _check_is_model(name: str, value: object) -> None:
    """Checks that an argument names a model: None would be taken for the newest one. Raises `ConfigError`."""
    if not isinstance(value, (str, os.PathLike, ModelFolder)):
        raise ConfigError(f"{name} is {short_repr(value)}, not a model: give its name, its folder or a ModelFolder.")


def _opened(model: Model, models_dir: str | Path | None, name: str = "model") -> ModelFolder:
    _check_is_model(name, model)
    return model if isinstance(model, ModelFolder) else load_model(model, models_dir)


def _others(ensemble: Model | Sequence[Model], models_dir: str | Path | None) -> tuple[ModelFolder, ...]:
    """The models of an ensemble after the first."""
    is_one = isinstance(ensemble, (str, os.PathLike, ModelFolder))
    more: Iterable[Any] = [ensemble] if is_one else several("ensemble", ensemble, "model")
    return tuple(_opened(each, models_dir, f"ensemble[{number}]") for number, each in enumerate(more))
