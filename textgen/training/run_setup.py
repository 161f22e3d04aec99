"""A run as it is known before its network is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgen.corpus.config import CorpusConfig
from textgen.dataset.token_cache import TokenData
from textgen.model.config import ModelConfig
from textgen.saved_model.saved_model import ModelFolder
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.training.config import TrainingConfig
from textgen.training.observers.observer import Observer
from textgen.wording import Say, silent

if TYPE_CHECKING:
    import keras

    from textgen.training.distributed.distribution import Distribution


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out and watched; nothing here is part of its settings.

    Attributes:
        observers: Called at the start, at each step, at each validation and at the end; in the first process only.
        callbacks: Keras callbacks. For them an epoch is the stretch between two validations.
        say: Called with one line of text for each stage before the first step.
        distribution: Devices and processes that train together; one device if None.
        step_timeout: With several processes, seconds after which a step that does not end ends this process. It also
            limits how long a process waits for the first weights, for those of a checkpoint, while the saved ones are
            scored again, and at the end.
        free_folder: Returns an unused folder for a new model whose own was taken by another run meanwhile. If it is
            None, that is an error.
        on_claimed: Called with the folder of a new model once it belongs to this run.
    """

    observers: Sequence[Observer] = ()
    callbacks: Sequence[keras.callbacks.Callback] = ()
    say: Say = silent
    distribution: Distribution | None = None
    step_timeout: float | None = None
    free_folder: Callable[[], Path] | None = None
    on_claimed: Callable[[Path], None] = lambda folder: None


@dataclass(frozen=True)
class RunSetup:
    """A run that is recorded in its folder, with its text encoded: all that its network is built from.

    Attributes:
        folder: Folder of the model.
        record: Contents of training.json.
        model_config: Shape of the network.
        tokenizer_config: How the vocabulary was trained.
        corpus_config: How the corpus was read.
        training_config: How the network is trained.
        tokenizer: The vocabulary.
        data: Token ids to train on and held-out ones.
        start: Model to fine-tune; None to start from random weights, or from a checkpoint.
    """

    folder: Path
    record: dict[str, Any]
    model_config: ModelConfig
    tokenizer_config: TokenizerConfig
    corpus_config: CorpusConfig
    training_config: TrainingConfig
    tokenizer: Tokenizer
    data: TokenData
    start: ModelFolder | None = None

    @property
    def model_configs(self) -> tuple[ModelConfig, TokenizerConfig, CorpusConfig]:
        """The settings that are saved with the model."""
        return self.model_config, self.tokenizer_config, self.corpus_config
