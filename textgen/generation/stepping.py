"""The core of every decode loop: a model, one step at a time, for several texts side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from textgen.generation.text_state import join, pick
from textgen.model import exact_math
from textgen.model.probabilities import log_softmax, require_finite
from textgen.model.protocols import StepModel

PROMPT_WINDOW = 256  # tokens of a prompt read at a time


def log_probs_of(model: StepModel, logits: np.ndarray) -> np.ndarray:
    """Returns log probabilities in nats, in exact arithmetic if the model is exact.

    Args:
        model: The model.
        logits: Its logits [V].

    Raises:
        SavedModelError: The logits are not finite.
    """
    if not model.exact:
        return log_softmax(logits)
    require_finite(logits)
    return exact_math.log_softmax(logits)


class Stepper:
    """The state of a model for B texts, and the last token of each, which the model has yet to read.

    A decode loop alternates `step`, which reads the last tokens, and `advance`, which appends a token to each text.
    Texts are reordered, forked and dropped by `advance` and added by `join`.

    Attributes:
        ids: The last token of each text, int32 [B].
        state: The state of the model before it has read them, a nest of arrays [B, ...].
    """

    def __init__(self, model: StepModel, ids: np.ndarray, state: Any) -> None:
        self.ids = ids
        self.state = state
        self._model = model

    def step(self) -> np.ndarray:
        """Reads the last token of each text and returns the logits of the next, float32 [B, V]."""
        logits, self.state = self._model.step(self.ids, self.state)
        return logits

    def advance(self, ids: np.ndarray, parents: Sequence[int] | None = None) -> None:
        """Appends a token to each text; `parents` also chooses which texts are continued.

        Args:
            ids: The new last tokens, int32 [N].
            parents: The text that each token continues, as its present row, [N]: a row named twice is forked, a row
                not named is dropped. By default each text is continued in its place.
        """
        self.ids = ids
        if parents is not None:
            self.state = pick(self.state, parents)

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all other texts; those kept are numbered from 0 in the given order."""
        self.advance(self.ids[list(rows)], rows)

    def join(self, other: Stepper) -> None:
        """Adds the texts of another stepper of the same model after those that are there."""
        self.ids = np.concatenate([self.ids, other.ids])
        self.state = join([self.state, other.state])

    def state_of(self, row: int) -> Any:
        """Returns the state of one text, a nest of arrays [1, ...]."""
        return self.state if len(self.ids) == 1 else pick(self.state, [row])


def read_all(model: StepModel, rows: Sequence[Sequence[int]], state: Any) -> Any:
    """Reads token ids of different lengths; rows of equal length are read together.

    Args:
        model: The model that reads.
        rows: The ids of each text, which may be empty.
        state: The state of each text before them, a nest of arrays [B, ...].

    Returns:
        The state of each text after them.
    """
    order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
    state = pick(state, order)
    for start, end in pairwise(sorted({len(ids) for ids in rows} | {0})):
        reading = [rows[row] for row in order if len(rows[row]) >= end]
        part = pick(state, slice(len(reading)))
        for at in range(start, end, PROMPT_WINDOW):
            window = np.array([ids[at : min(at + PROMPT_WINDOW, end)] for ids in reading], np.int32)  # [B, T]
            part = model.read(window, part)
        state = join([part, pick(state, slice(len(reading), None))])
    return pick(state, [int(place) for place in np.argsort(order)])
