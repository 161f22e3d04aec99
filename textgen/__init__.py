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
    from textgen.api import TrainingResult, embed, evaluate, load, score, train
    from textgen.corpus.config import CorpusConfig
    from textgen.errors import (
        ConfigError,
        CorpusError,
        Interrupted,
        ModelChanged,
        RemoteError,
        SavedModelError,
        TextgenError,
        TokenizerError,
        TrainingError,
        WorkerLost,
    )
    from textgen.evaluation.config import DynamicConfig, NeuralCacheConfig
    from textgen.evaluation.embeddings import Embedder, TextVectors
    from textgen.evaluation.scores import Scores
    from textgen.evaluation.scoring import Score, Scorer, TextScore
    from textgen.generation.config import SamplingConfig, SearchConfig
    from textgen.generation.generated_text import Generation, Stream
    from textgen.generation.generator import Generator
    from textgen.generation.infilling import Infill, Infiller
    from textgen.generation.request import Request
    from textgen.generation.row import Token
    from textgen.generation.text_state import TextState
    from textgen.model.config import ModelConfig
    from textgen.saved_model.loading import load_model
    from textgen.saved_model.registry import NoSuchModel
    from textgen.saved_model.saved_model import ModelFolder
    from textgen.storage.files import CannotWrite
    from textgen.storage.locks import InUse
    from textgen.system.runtime import configure_process
    from textgen.tokenizer.config import TokenizerConfig
    from textgen.tokenizer.tokenizer import Tokenizer
    from textgen.training.config import TrainingConfig
    from textgen.training.observers.observer import ValidationReport

__version__ = "0.1.0"
__all__ = [
    "CannotWrite",
    "ConfigError",
    "CorpusConfig",
    "CorpusError",
    "DynamicConfig",
    "Embedder",
    "Generation",
    "Generator",
    "InUse",
    "Infill",
    "Infiller",
    "Interrupted",
    "ModelChanged",
    "ModelConfig",
    "ModelFolder",
    "NeuralCacheConfig",
    "NoSuchModel",
    "RemoteError",
    "Request",
    "SamplingConfig",
    "SavedModelError",
    "Score",
    "Scorer",
    "Scores",
    "SearchConfig",
    "Stream",
    "TextScore",
    "TextState",
    "TextVectors",
    "TextgenError",
    "Token",
    "Tokenizer",
    "TokenizerConfig",
    "TokenizerError",
    "TrainingConfig",
    "TrainingError",
    "TrainingResult",
    "ValidationReport",
    "WorkerLost",
    "configure_process",
    "embed",
    "evaluate",
    "load",
    "load_model",
    "score",
    "train",
]

_MODULES = {  # of each public name
    "api": ("TrainingResult", "embed", "evaluate", "load", "score", "train"),
    "corpus.config": ("CorpusConfig",),
    "errors": (
        "ConfigError",
        "CorpusError",
        "Interrupted",
        "ModelChanged",
        "RemoteError",
        "SavedModelError",
        "TextgenError",
        "TokenizerError",
        "TrainingError",
        "WorkerLost",
    ),
    "evaluation.config": ("NeuralCacheConfig", "DynamicConfig"),
    "evaluation.embeddings": ("Embedder", "TextVectors"),
    "evaluation.scores": ("Scores",),
    "evaluation.scoring": ("Score", "Scorer", "TextScore"),
    "generation.config": ("SamplingConfig", "SearchConfig"),
    "generation.generated_text": ("Generation", "Stream"),
    "generation.generator": ("Generator",),
    "generation.infilling": ("Infill", "Infiller"),
    "generation.request": ("Request",),
    "generation.row": ("Token",),
    "generation.text_state": ("TextState",),
    "model.config": ("ModelConfig",),
    "saved_model.loading": ("load_model",),
    "saved_model.registry": ("NoSuchModel",),
    "saved_model.saved_model": ("ModelFolder",),
    "storage.files": ("CannotWrite",),
    "storage.locks": ("InUse",),
    "system.runtime": ("configure_process",),
    "tokenizer.config": ("TokenizerConfig",),
    "tokenizer.tokenizer": ("Tokenizer",),
    "training.config": ("TrainingConfig",),
    "training.observers.observer": ("ValidationReport",),
}


if not TYPE_CHECKING:  # for type checkers it would make every name valid

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
