"""A model that is loaded: its engine, and what is read of it when a request needs it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal
from weakref import WeakValueDictionary

from textgen.errors import ConfigError
from textgen.generation.constraints.word_tokens import most_bytes
from textgen.generation.fingerprint import Fingerprint
from textgen.generation.generator import Generator
from textgen.model.clamping import Clamp, parse_clamps
from textgen.model.numpy_model import NumpyModel
from textgen.saved_model.layout import WORDS
from textgen.saved_model.registry import status_of
from textgen.saved_model.run_status import RUNNING
from textgen.saved_model.saved_model import ModelFolder
from textgen.server.engine import Engine
from textgen.server.failures import ApiError
from textgen.server.token_texts import token_texts
from textgen.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from textgen.dataset.ngram_index import NgramIndex
    from textgen.evaluation.embeddings import Embedder
    from textgen.generation.infilling import Infiller

Part = Literal["network", "embedder", "infiller", "ngrams"]  # of a model that is read when it is needed

FLOAT_BYTES = 4
EXACT_BYTES = 9  # bytes per weight in exact mode: the integer and two layouts
COPIES = 3  # copies of the weights in memory, about: those read and two layouts for products


@dataclass
class ServedModel:
    """A model that is loaded.

    Attributes:
        name: Its name.
        saved: Its folder.
        engine: Writes its texts; None if it reads text backward only.
        exact: Its generator in exact arithmetic; None if nobody has asked for that yet.
        awaits_training: Whether it was loaded during its training, so that its runtime is not chosen yet.
        used_at: When it was last asked for or used, by `time.monotonic`.
        checked_at: When `is_current` was last asked for.
        users: Number of requests that use it now: see `in_use`.
    """

    name: str
    saved: ModelFolder
    engine: Engine | None
    exact: Generator | None = None
    awaits_training: bool = False
    used_at: float = field(default_factory=time.monotonic)
    checked_at: float = field(default_factory=time.monotonic)
    users: int = 0
    _clamped: WeakValueDictionary[tuple[Clamp, ...], Generator] = field(default_factory=WeakValueDictionary)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps it from being dropped while the block waits for other work. For the thread of the event loop."""
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1
            self.used_at = time.monotonic()

    @property
    def is_current(self) -> bool:
        """Whether its folder still has the files that were loaded, and the training that goes on there has not ended.

        The end of a training changes none of these files.
        """
        has_ended = self.awaits_training and status_of(self.saved.folder, self.saved.training) != RUNNING
        return self.saved.is_current and not has_ended

    @property
    def is_idle(self) -> bool:
        """Whether no request uses it and its engine has nothing to do."""
        return not self.users and (self.engine is None or self.engine.is_idle)

    @property
    def bytes(self) -> int:
        """Approximate size in memory, in bytes."""
        is_second = "network" in vars(self) and self.network is not self.writer.generator.model
        others = is_second + self.has("embedder") + self.has("infiller")  # which have networks of their own
        each = COPIES * FLOAT_BYTES * (1 + others) + (EXACT_BYTES if self.exact else 0)
        index = self.ngrams if self.has("ngrams") else None
        from_text = self._word_bytes * (1 + self.has("infiller")) + (index.num_bytes if index else 0)
        return each * self.saved.model_config.num_parameters + from_text

    @property
    def _word_bytes(self) -> int:
        """The most that the words of its training text take in memory, about, with the tokens that fit each; in bytes.

        It counts from the beginning, since any text may need them.
        """
        if self.engine is None or WORDS not in self.saved.files or self.tokenizer.kind == "word":
            return 0
        return int(self.saved.files[WORDS]["size"]) + most_bytes(self.tokenizer.vocab_size)

    def has(self, part: Part) -> bool:
        """Whether a part is there without a look at the disk."""
        return part in vars(self) or (part == "network" and self._writes_in_float32)

    @property
    def writer(self) -> Engine:
        """Its engine.

        Raises:
            ApiError: It reads text backward only.
        """
        if self.engine is None:
            raise ApiError(
                400,
                f"The model {self.name!r} reads text backward only, towards an ending: give a suffix.",
                param="suffix",
            )
        return self.engine

    def generator(self, clamps: Sequence[str] = ()) -> Generator:
        """Returns its generator: the same one for the same clamps as long as a text needs it, so that texts share it.

        Args:
            clamps: Values of cells that are held, such as L1/89=3.8.

        Raises:
            ApiError: It reads text backward only, or there is no such cell.
        """
        free = self.writer.generator
        held = self.held(clamps)
        if not held:
            return free
        found = self._clamped.get(held)
        if found is None:
            network = self.network.clamped(held)
            fingerprint = Fingerprint(self.fingerprint, clamps=held)
            found = self._clamped[held] = free.with_model(network, str(fingerprint))
        return found

    def held(self, clamps: Sequence[str]) -> tuple[Clamp, ...]:
        """Parses clamps.

        Raises:
            ApiError: There is no such cell.
        """
        try:
            return parse_clamps(clamps, self.saved.model_config)
        except ConfigError as error:
            raise ApiError(400, str(error), param="clamp") from None

    @cached_property
    def network(self) -> NumpyModel:
        """Its network in float32, whatever writes: it holds cells, and scores as `textgen score` does.

        Raises:
            ApiError: It reads text backward only.
            SavedModelError: Its weights are damaged.
        """
        model = self.writer.generator.model
        return model if isinstance(model, NumpyModel) else self.saved.numpy_model()

    @property
    def _writes_in_float32(self) -> bool:
        return self.engine is not None and isinstance(self.engine.generator.model, NumpyModel)

    def scoring_generator(self, generator: Generator) -> Generator:
        """Returns the generator whose network scores the prompts of another of this model: never in 8 bits."""
        if not self.scores_by_network(generator):
            return generator
        return generator.with_model(self.network, self.fingerprint)

    def scores_by_network(self, generator: Generator) -> bool:
        """Whether `network` scores the prompts of a generator of this model in its place."""
        return generator is self.writer.generator and not self._writes_in_float32

    def exact_generator(self) -> Generator:
        """Returns its generator in exact arithmetic, which is made the first time.

        Raises:
            ApiError: It reads text backward only.
            SavedModelError: Its weights are damaged.
        """
        if self.exact is None:
            self.exact = exactly(self.saved, self.writer.generator)
        return self.exact

    @property
    def fingerprint(self) -> str:
        """Tells the model from others."""
        return self.saved.fingerprint

    @cached_property
    def embedder(self) -> Embedder:
        """Makes vectors of texts."""
        return self.saved.embedder()

    @cached_property
    def infiller(self) -> Infiller:
        """Writes texts that lead to an ending."""
        return self.saved.infiller()

    @cached_property
    def ngrams(self) -> NgramIndex | None:
        """The index of its training text, for `no_copy`, which all its generators share; None if there is none.

        Raises:
            ApiError: It reads text backward only.
            SavedModelError: The index is damaged.
        """
        return self.writer.generator.index

    @cached_property
    def token_texts(self) -> list[str]:
        """A text for each token: see `textgen.server.token_texts`."""
        return token_texts(self.saved.tokenizer)

    @cached_property
    def token_bytes(self) -> list[tuple[int, ...]]:
        """The bytes of each token, as answers name them."""
        return list(map(tuple, self.saved.tokenizer.piece_bytes))

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""
        return self.saved.tokenizer


def exactly(saved: ModelFolder, generator: Generator) -> Generator:
    """Returns the same generator in exact arithmetic, ready for its first text."""
    exact = generator.with_model(saved.exact_model(), str(Fingerprint(saved.fingerprint, is_exact=True)))
    next(iter(exact.tokens("a")))  # arranges the weights
    return exact
