"""textgen: train a recurrent language model on your own text and write more of it.

    import textgen

    generator = textgen.train("novel.txt", minutes=10)
    generator = textgen.load("novel")
    print(generator.generate("It was a")[0].text)

Nothing heavy is imported until one of the functions is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

    from textgen.generator import Generator

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
    given is chosen from the text. The model is saved as `name` (by default the name of the first path) in
    `models_dir`. Raises `TextgenError`s.
    """
    from textgen.runtime import load_tensorflow

    load_tensorflow()
    from textgen.config import CorpusConfig, from_dict, select
    from textgen.generator import Generator
    from textgen.plan import make_plan
    from textgen.prepared import open_corpus
    from textgen.presets import with_preset
    from textgen.run import train as run
    from textgen.saved_model import models_folder

    preset, settings = with_preset(settings.pop("preset", None), settings)
    first = paths if isinstance(paths, (str, Path)) else paths[0]
    corpus = open_corpus(
        [first] if isinstance(paths, (str, Path)) else paths,
        from_dict(CorpusConfig, select(CorpusConfig, settings)),
    )
    plan = make_plan(corpus, settings, preset=preset)
    folder = models_folder(models_dir) / (name or Path(first).name.split(".")[0])
    saved = run(plan, folder, callbacks=callbacks)
    return Generator(saved.writer(), saved.tokenizer, saved.ngrams(), fingerprint=saved.fingerprint)


def load(name: str | None = None, models_dir: str | Path | None = None) -> Generator:
    """A generator for a saved model: its name or folder, or the newest when None. Raises `TextgenError`s."""
    from textgen.generator import Generator
    from textgen.saved_model import load_model

    saved = load_model(name, models_dir)
    return Generator(
        saved.writer(), saved.tokenizer, saved.ngrams() if saved.has_ngrams else None, fingerprint=saved.fingerprint
    )
