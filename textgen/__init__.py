"""textgen: train a recurrent language model on your own text and write more of it.

    import textgen

    generator = textgen.train("novel.txt", minutes=10)
    generator = textgen.load("novel")
    print(generator.generate("It was a")[0].text)

Nothing is imported until one of the functions is called: `python -m textgen` comes by here before it can leave the
current folder out of Python's search for modules. They leave the process as it was; a program that only trains and
writes calls `textgen.configure_process()` first and is faster.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it, without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    import keras

    from textgen.generation.generator import Generator
    from textgen.saved_model.saved_model import ModelFolder

__version__ = "0.1.0"


def train(
    paths: str | Path | Sequence[str | Path],
    *,
    name: str | None = None,
    models_dir: str | Path | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **settings: Any,
) -> Generator:
    """Trains a model on the text in `paths` and returns a generator that writes with it.

    `settings` are those of the command line (`minutes=10`, `hidden_units=512`, `documents="line"`); what is not
    given is chosen from the text. The model is saved in `models_dir` as `name`; by default that is made from the first
    path, with a number where it is taken. Raises `TextgenError`s.
    """
    if settings.get("direction") == "backward":
        from textgen.errors import ConfigError

        raise ConfigError("textgen.train returns what writes forward: choose direction both, or run the program.")
    from textgen.runtime import load_tensorflow

    load_tensorflow()
    from pathlib import Path

    from textgen.corpus.config import CorpusConfig
    from textgen.dataset.prepared_corpus import open_corpus
    from textgen.saved_model.registry import check_name, free_name, models_folder
    from textgen.settings import from_dict, select
    from textgen.training.plan import make_plan
    from textgen.training.presets import with_preset
    from textgen.training.run import train as run
    from textgen.training.run_setup import RunOptions

    if name is not None:
        check_name(name)
    preset, settings = with_preset(settings.pop("preset", None), settings)
    names = [paths] if isinstance(paths, (str, Path)) else paths
    corpus = open_corpus(names, from_dict(CorpusConfig, select(CorpusConfig, settings)))
    plan = make_plan(corpus, settings, preset=preset)
    folder = models_folder(models_dir)
    return _generator(run(plan, folder / (name or free_name(folder, names[0])), RunOptions(callbacks=callbacks)))


def configure_process(threads: int | None = None) -> None:
    """Sets this process up for textgen alone, as the command line does; call it before TensorFlow is imported.

    It changes the environment, TensorFlow's thread counts (`threads` cores, by default all) and log lines, and how the
    process keeps memory: see `textgen.runtime.configure_process`. Raises `ConfigError` where there are fewer cores.
    """
    from textgen.runtime import configure_process as configure

    configure(threads)


def load(name: str | None = None, models_dir: str | Path | None = None) -> Generator:
    """A generator for a saved model: its name or folder, or the newest when None. Raises `TextgenError`s."""
    from textgen.saved_model.saved_model import load_model

    return _generator(load_model(name, models_dir))


def _generator(saved: ModelFolder) -> Generator:
    from textgen.generation.generator import Generator

    ngrams = saved.ngrams if saved.has_ngrams else None  # read when it is needed; too large a text has no index
    return Generator(saved.writer(), saved.tokenizer, ngrams, fingerprint=saved.fingerprint)
