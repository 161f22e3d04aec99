"""textgen: train a recurrent language model on your own text and write more of it.

    import textgen

    result = textgen.train("novel.txt", minutes=10)
    print(result.generator.generate("It was a")[0].text)
    generator = textgen.load("novel")

Importing textgen imports nothing else: each name is loaded when it is first used. The functions leave the process as
it was; a program that only trains and writes calls `textgen.configure_process()` first and is faster.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it, without importing typing
if TYPE_CHECKING:
    from textgen.api import TrainingResult, evaluate, load, score, train
    from textgen.corpus.config import CorpusConfig
    from textgen.errors import (
        ConfigError,
        CorpusError,
        Interrupted,
        SavedModelError,
        TextgenError,
        TokenizerError,
        TrainingError,
    )
    from textgen.evaluation.config import CacheConfig, DynamicConfig
    from textgen.generation.config import SamplingConfig, SearchConfig
    from textgen.generation.generator import Generator
    from textgen.generation.infilling import Infiller
    from textgen.model.config import ModelConfig
    from textgen.runtime import configure_process
    from textgen.saved_model.saved_model import ModelFolder, load_model
    from textgen.tokenizer.config import TokenizerConfig
    from textgen.training.config import TrainingConfig

__version__ = "0.1.0"
__all__ = [
    "CacheConfig",
    "ConfigError",
    "CorpusConfig",
    "CorpusError",
    "DynamicConfig",
    "Generator",
    "Infiller",
    "Interrupted",
    "ModelConfig",
    "ModelFolder",
    "SamplingConfig",
    "SavedModelError",
    "SearchConfig",
    "TextgenError",
    "TokenizerConfig",
    "TokenizerError",
    "TrainingConfig",
    "TrainingError",
    "TrainingResult",
    "configure_process",
    "evaluate",
    "load",
    "load_model",
    "score",
    "train",
]

_MODULES = {  # of each public name
    "api": ("TrainingResult", "evaluate", "load", "score", "train"),
    "corpus.config": ("CorpusConfig",),
    "errors": (
        "ConfigError",
        "CorpusError",
        "Interrupted",
        "SavedModelError",
        "TextgenError",
        "TokenizerError",
        "TrainingError",
    ),
    "evaluation.config": ("CacheConfig", "DynamicConfig"),
    "generation.config": ("SamplingConfig", "SearchConfig"),
    "generation.generator": ("Generator",),
    "generation.infilling": ("Infiller",),
    "model.config": ("ModelConfig",),
    "runtime": ("configure_process",),
    "saved_model.saved_model": ("ModelFolder", "load_model"),
    "tokenizer.config": ("TokenizerConfig",),
    "training.config": ("TrainingConfig",),
}


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            from importlib import import_module

            value: object = getattr(import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
