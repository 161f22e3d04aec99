"""Logits to the next piece: the chain of transforms, the draw, and the sampler that keeps what both need to know.

Every row of a batch has its own settings, its own random numbers and its own past: what is drawn for it is the same
whatever stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from textgen.dataset.ngram_index import NgramIndex
from textgen.errors import SavedModelError
from textgen.generation.config import SAMPLERS, SamplingConfig, sampler_names
from textgen.generation.constraints import Constraints, Phrase
from textgen.generation.logit_filters import (
    Candidates,
    epsilon_cutoff,
    eta_cutoff,
    min_p,
    mirostat,
    reaching,
    surprise,
    temperature,
    top_k,
    top_n_sigma,
    top_p,
    typical_p,
    xtc,
)
from textgen.generation.penalties import History, dry, penalties
from textgen.model.probabilities import NOT_FINITE, require_finite
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.utf8 import Characters

Transform = Callable[..., Any]

TRANSFORMS: dict[str, tuple[Transform, tuple[str, ...]]] = {  # a sampler's function, and its inputs after the logits
    "penalties": (
        penalties,
        ("history", "repeat_penalty", "presence_penalty", "frequency_penalty", "repeat_last_n"),
    ),
    "dry": (
        dry,
        ("history", "breakers", "dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n"),
    ),
    "top_n_sigma": (top_n_sigma, ("top_n_sigma",)),
    "top_k": (top_k, ("top_k",)),
    "typical_p": (typical_p, ("typical_p",)),
    "top_p": (top_p, ("top_p",)),
    "min_p": (min_p, ("min_p",)),
    "epsilon_cutoff": (epsilon_cutoff, ("epsilon_cutoff",)),
    "eta_cutoff": (eta_cutoff, ("eta_cutoff",)),
    "xtc": (xtc, ("xtc_probability", "xtc_threshold", "xtc_uniforms")),
    "temperature": (temperature, ("temperature", "dynatemp_range", "dynatemp_exponent")),
}
OFF = {  # a sampler is off where all of its settings that stand here are as they stand here
    "repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "dry_multiplier": 0.0,
    "top_n_sigma": 0.0, "top_k": 0, "typical_p": 1.0, "top_p": 1.0, "min_p": 0.0, "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0, "xtc_probability": 0.0, "temperature": 1.0, "dynatemp_range": 0.0,
}  # fmt: skip
LOOKING_BACK = ("penalties", "dry")  # these know pieces by their ids: all must be there
AHEAD = 64  # pieces for which random numbers are made at once
NOT_WITH_MIROSTAT = tuple(name for name in SAMPLERS if name not in (*LOOKING_BACK, "temperature"))


def transform(logits: np.ndarray, inputs: Mapping[str, np.ndarray], order: Sequence[str] = SAMPLERS) -> Candidates:
    """Applies those samplers of `order` whose inputs are there to logits [B, V], which it changes.

    Once most pieces are left out, and nothing that looks back is to come, only the others are carried on.
    """
    pieces = Candidates(logits)
    names = [name for name in order if all(field in inputs for field in TRANSFORMS[name][1])]
    for number, name in enumerate(names):
        function, fields = TRANSFORMS[name]
        pieces.shrinks = not any(later in LOOKING_BACK for later in names[number:])
        changed = function(pieces.logits if name in LOOKING_BACK else pieces, *(inputs[field] for field in fields))
        if name in LOOKING_BACK:
            rows, ids, values = changed
            pieces.logits[rows, ids] = values
            pieces = Candidates(pieces.logits)
        else:
            pieces = changed
    return pieces


def draw(logits: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Draws a piece a row from softmax(logits [B, V]) with uniforms [B] in [0, 1): ids int32 [B].

    By inversion: the piece in whose stretch of the cumulative probability the uniform number falls.
    Raises `SavedModelError` for a row without a finite highest logit: there is nothing to draw from.
    """
    highest = np.max(logits, axis=-1, keepdims=True)  # [B, 1]
    if not np.isfinite(highest).all():
        raise SavedModelError(NOT_FINITE)
    weights = np.exp(logits - highest)  # [B, V]
    return reaching(weights, uniforms[:, None])[:, 0].astype(np.int32)


class Sampler:
    """Draws the pieces of B texts. First come the constraints on each text, then its samplers in their order.

    Whatever these say, no character is broken: see `textgen.tokenizer.utf8`. Attributes: `blocked` bool [B], the texts
    for which the last draw found no piece that may follow.
    """

    def __init__(
        self,
        configs: Sequence[SamplingConfig],
        tokenizer: Tokenizer,
        ngrams: NgramIndex | None = None,
        direction: str = "forward",
    ) -> None:
        """`ngrams` are those of the training text, for `no_copy`; the texts are written in `direction`.

        Raises `ConfigError` for constraints that the tokenizer's pieces cannot meet.
        """
        self._eos_id = tokenizer.eos_id
        self._characters = Characters(tokenizer, direction)
        self.states = np.zeros(len(configs), np.int8)  # of the last character of each text
        self.blocked = np.zeros(len(configs), bool)
        phrases: dict[str, Phrase] = {}
        self.constraints = [
            Constraints(config, tokenizer, phrases, ngrams, self._characters.starts) for config in configs
        ]
        orders: dict[tuple[str, ...], list[int]] = {}
        for row, config in enumerate(configs):
            orders.setdefault(sampler_names(config.samplers), []).append(row)
        self._chains = [
            (np.array(rows), Chain(order, [configs[row] for row in rows], tokenizer)) for order, rows in orders.items()
        ]

    def read(self, row: int, ids: Sequence[int]) -> None:
        """Tells of pieces of a row that were not drawn: its prompt, before the first draw.

        What stands before an end-of-document piece belongs to another text and does not count.
        """
        ids = self._of_document(ids)
        self.states[row] = self._characters.state_after(ids)
        self.constraints[row].read(ids)
        for rows, chain in self._chains:
            for number in np.flatnonzero(rows == row):
                chain.history.read(int(number), ids)

    def restrict(self, row: int, ids: Sequence[int]) -> None:
        """The next piece of a row can only be one of these; none of them restricts nothing."""
        self.constraints[row].allowed = list(ids)

    def possible(self, row: int, ids: Sequence[int], pieces: Sequence[int]) -> list[int]:
        """Those of `pieces` that could be the first one drawn in a row whose prompt were `ids`, which is not read."""
        constraints = self.constraints[row].fork()
        if not constraints.active:
            return list(pieces)
        ids = self._of_document(ids)
        constraints.read(ids)
        logits = self._characters.mask[self._characters.state_after(ids)].copy()
        constraints.apply(logits)
        return [piece for piece in pieces if logits[piece] > -np.inf]

    def keep(self, rows: Sequence[int]) -> None:
        """Forgets all other rows; these are numbered from 0 afterwards."""
        self.states = self.states[list(rows)]
        self.constraints = [self.constraints[row] for row in rows]
        chains = []
        for numbers, chain in self._chains:
            kept = np.isin(numbers, rows)
            if kept.any():
                chain.keep(np.flatnonzero(kept))
                chains.append((np.searchsorted(rows, numbers[kept]), chain))
        self._chains = chains

    @np.errstate(over="ignore")  # of very small logits, which become impossible ones
    def draw(self, logits: np.ndarray) -> np.ndarray:
        """logits [B, V] -> the next piece of each text, ids int32 [B].

        Where all masks together leave none, the text is `blocked`, and its piece is the end of the document.
        Raises `SavedModelError` for logits that are not finite.
        """
        require_finite(logits)
        logits = logits + self._characters.mask[self.states if self.states.any() else 0]
        active = [row for row, constraints in enumerate(self.constraints) if constraints.active]
        self.blocked = np.zeros(len(logits), bool)
        for row in active:
            self.constraints[row].apply(logits[row])
            self.blocked[row] = np.max(logits[row]) == -np.inf
        logits[self.blocked, self._eos_id] = 0.0
        if len(self._chains) == 1:
            ids = self._chains[0][1].draw(logits)
        else:
            ids = np.zeros(len(logits), np.int32)
            for rows, chain in self._chains:
                ids[rows] = chain.draw(logits[rows])
        for row in active:
            self.constraints[row].take(int(ids[row]))
        self.states = self._characters.after[self.states, ids]
        return ids

    def _of_document(self, ids: Sequence[int]) -> Sequence[int]:
        """What stands after the last end-of-document piece."""
        start = len(ids) - list(reversed(ids)).index(self._eos_id) if self._eos_id in ids else 0
        return ids[start:]


class Chain:
    """The samplers of texts that apply the same ones in the same order, and what they remember."""

    def __init__(self, order: Sequence[str], configs: Sequence[SamplingConfig], tokenizer: Tokenizer) -> None:
        self._order = order
        self._eos_id = tokenizer.eos_id
        self._inputs = settings_of(configs, order)
        excludes = [("xtc" in order and _setting(config, "xtc", "xtc_probability") > 0) for config in configs]
        self._uniforms = Uniforms([config.seed or 0 for config in configs], excludes)
        self._mirostat = {
            name: np.array([[getattr(config, name)] for config in configs])
            for name in ("mirostat", "mirostat_tau", "mirostat_eta")
        }
        self._mu = 2.0 * self._mirostat["mirostat_tau"]  # bits [B, 1]
        longest = [int(self._inputs[name].max()) for name in LOOK_BACK if name in self._inputs]
        self.history = History(len(configs), max([1, *longest]))
        if "dry_multiplier" in self._inputs:
            known: dict[tuple[str, ...], np.ndarray] = {}
            for breakers in {config.dry_sequence_breakers for config in configs}:
                known[breakers] = pieces_with(breakers, tokenizer)
            self._inputs["breakers"] = np.stack([known[config.dry_sequence_breakers] for config in configs])  # [B, V]

    def draw(self, logits: np.ndarray) -> np.ndarray:
        """logits [B, V] -> ids int32 [B]."""
        to_exclude, to_draw = self._uniforms.draw()
        self._inputs |= {"history": self.history.ids, "xtc_uniforms": to_exclude[:, None]}
        pieces = transform(logits, self._inputs, self._order)
        steered = self._mirostat["mirostat"]
        if steered.any():
            pieces.shrinks = False
            columns = draw(mirostat(pieces, steered, self._mu).logits, to_draw)
            bits = surprise(pieces, columns[:, None])  # [B, 1]
            self._mu -= self._mirostat["mirostat_eta"] * (bits - self._mirostat["mirostat_tau"])
        else:
            columns = draw(pieces.logits, to_draw)
        drawn = pieces.ids_at(columns).astype(np.int32)
        self.history.append(drawn)
        for ended in np.flatnonzero(drawn == self._eos_id):
            self.history.clear(int(ended))
        return drawn

    def keep(self, rows: np.ndarray) -> None:
        """Forgets all other rows; these are numbered from 0 afterwards."""
        self._inputs = {name: values[rows] for name, values in self._inputs.items()}
        self._mirostat = {name: values[rows] for name, values in self._mirostat.items()}
        self._mu = self._mu[rows]
        self._uniforms.keep(rows)
        self.history.keep(rows)


class Uniforms:
    """The random numbers of each row, a function of its seed alone, whatever else is in the batch."""

    def __init__(self, seeds: Sequence[int], excludes: Sequence[bool]) -> None:
        """The rows that `excludes` take two numbers a piece, the others one."""
        self._generators = [row_generator(seed) for seed in seeds]
        self._excludes = list(excludes)
        self._drawn = np.zeros((len(seeds), 0, 2))  # [B, pieces, 2]

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        """In [0, 1): a number [B] for the XTC filter, 0 where there is none, and one [B] for the draw."""
        if not self._drawn.shape[1]:
            self._drawn = np.zeros((len(self._generators), AHEAD, 2))
            for row, (generator, both) in enumerate(zip(self._generators, self._excludes, strict=True)):
                self._drawn[row, :, 0 if both else 1 :] = generator.random((AHEAD, 2 if both else 1))
        first, self._drawn = self._drawn[:, 0], self._drawn[:, 1:]
        return first[:, 0], first[:, 1]

    def keep(self, rows: np.ndarray) -> None:
        """Forgets all other rows."""
        self._generators = [self._generators[row] for row in rows]
        self._excludes = [self._excludes[row] for row in rows]
        self._drawn = self._drawn[rows]


DRAWING = frozenset(  # settings of the draw alone: a search knows none of them
    field for _, fields in TRANSFORMS.values() for field in fields if hasattr(SamplingConfig, field)
) | {"samplers", "mirostat", "mirostat_tau", "mirostat_eta"}
LOOK_BACK = ("repeat_last_n", "dry_penalty_last_n")


def settings_of(configs: Sequence[SamplingConfig], order: Sequence[str] = SAMPLERS) -> dict[str, np.ndarray]:
    """Settings [B, 1] of those samplers of `order` that at least one row uses."""
    settings: dict[str, np.ndarray] = {}
    for name in order:
        fields = [field for field in TRANSFORMS[name][1] if hasattr(SamplingConfig, field)]
        columns = {field: [_setting(config, name, field) for config in configs] for field in fields}
        if any(value != OFF[field] for field in fields if field in OFF for value in columns[field]):
            for field, values in columns.items():
                kind = np.int64 if isinstance(getattr(SamplingConfig, field), int) else np.float32
                settings[field] = np.array(values, kind)[:, None]
    return settings


def row_generator(seed: int) -> np.random.Generator:
    """Where one row's uniforms come from."""
    return np.random.Generator(np.random.Philox(seed))


def pieces_with(texts: Sequence[str], tokenizer: Tokenizer) -> np.ndarray:
    """True for the pieces in which one of the texts stands, bool [V]."""
    parts = [text.encode() for text in texts]
    return np.array([any(part in piece for part in parts) for piece in tokenizer.piece_bytes])


def _setting(config: SamplingConfig, sampler: str, field: str) -> float:
    return OFF[field] if config.mirostat and sampler in NOT_WITH_MIROSTAT and field in OFF else getattr(config, field)
