"""Logits to the next piece: the chain of transforms, the draw, and the sampler that keeps what both need to know.

Every row of a batch has its own settings, its own random numbers and its own past: what is drawn for it is the same
whatever stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from textgen.characters import Characters
from textgen.config import SAMPLERS, SamplingConfig, sampler_names
from textgen.constraints import Constraints, Phrase
from textgen.novelty import NgramIndex
from textgen.penalties import History, dry, penalties
from textgen.tokenizer import Tokenizer
from textgen.transforms import (
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
NOT_WITH_MIROSTAT = tuple(name for name in SAMPLERS if name not in (*LOOKING_BACK, "temperature"))
FEW = 128  # pieces that are not worth sorting out further


def transform(
    logits: np.ndarray, inputs: Mapping[str, np.ndarray], order: Sequence[str] = SAMPLERS
) -> tuple[np.ndarray, np.ndarray]:
    """Applies those samplers of `order` whose inputs are there: logits [B, V] -> logits [B, C] and ids [B, C].

    Once most pieces are left out, only the C others are carried on, in the order of their ids; rows with fewer are
    filled up with -inf. The `logits` given are changed.
    """
    ids = np.broadcast_to(np.arange(logits.shape[-1]), logits.shape)
    names = [name for name in order if all(field in inputs for field in TRANSFORMS[name][1])]
    for number, name in enumerate(names):
        function, fields = TRANSFORMS[name]
        changed = function(logits, *(inputs[field] for field in fields))
        if name in LOOKING_BACK:
            rows, pieces, values = changed
            logits[rows, pieces] = values
        else:
            logits = changed
            if not any(later in LOOKING_BACK for later in names[number:]):
                logits, ids = _possible(logits, ids)
    return logits, ids


def draw(logits: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Draws a piece a row from softmax(logits [B, V]) with uniforms [B] in [0, 1): ids int32 [B].

    By inversion: the piece in whose stretch of the cumulative probability the uniform number falls.
    """
    weights = np.exp(logits - np.max(logits, axis=-1, keepdims=True))  # [B, V]
    return reaching(weights, uniforms[:, None])[:, 0].astype(np.int32)


class Sampler:
    """Draws the pieces of B texts. First come the constraints on each text, then its samplers in their order.

    Whatever these say, no character is broken: see `textgen.characters`.
    """

    def __init__(
        self, configs: Sequence[SamplingConfig], tokenizer: Tokenizer, ngrams: NgramIndex | None = None
    ) -> None:
        """`ngrams` are those of the training text, for `no_copy`.

        Raises `ConfigError` for constraints that the tokenizer's pieces cannot meet.
        """
        self._eos_id = tokenizer.eos_id
        self._characters = Characters(tokenizer)
        self.states = np.zeros(len(configs), np.int8)  # of the last character of each text
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
        start = len(ids) - list(reversed(ids)).index(self._eos_id) if self._eos_id in ids else 0
        self.states[row] = self._characters.state_after(ids[start:])
        self.constraints[row].read(ids[start:])
        for rows, chain in self._chains:
            for number in np.flatnonzero(rows == row):
                chain.history.read(int(number), ids[start:])

    def restrict(self, row: int, ids: Sequence[int]) -> None:
        """The next piece of a row can only be one of these; none of them restricts nothing."""
        self.constraints[row].allowed = list(ids)

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

    def draw(self, logits: np.ndarray) -> np.ndarray:
        """logits [B, V] -> the next piece of each text, ids int32 [B]."""
        logits = logits + self._characters.mask[self.states if self.states.any() else 0]
        active = [row for row, constraints in enumerate(self.constraints) if constraints.active]
        for row in active:
            self.constraints[row].apply(logits[row])
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


class Chain:
    """The samplers of texts that apply the same ones in the same order, and what they remember."""

    def __init__(self, order: Sequence[str], configs: Sequence[SamplingConfig], tokenizer: Tokenizer) -> None:
        self._order = order
        self._eos_id = tokenizer.eos_id
        self._inputs = settings_of(configs, order)
        self._generators = [row_generator(config.seed or 0) for config in configs]
        self._xtc = ["xtc" in order and _setting(config, "xtc", "xtc_probability") > 0 for config in configs]
        self._mirostat = {
            name: np.array([[getattr(config, name)] for config in configs])
            for name in ("mirostat", "mirostat_tau", "mirostat_eta")
        }
        self._mu = 2.0 * self._mirostat["mirostat_tau"]  # bits [B, 1]
        longest = [int(self._inputs[name].max()) for name in LOOK_BACK if name in self._inputs]
        self.history = History(len(configs), max(longest, default=0))
        if "dry_multiplier" in self._inputs:
            known: dict[tuple[str, ...], np.ndarray] = {}
            for breakers in {config.dry_sequence_breakers for config in configs}:
                known[breakers] = pieces_with(breakers, tokenizer)
            self._inputs["breakers"] = np.stack([known[config.dry_sequence_breakers] for config in configs])  # [B, V]

    def draw(self, logits: np.ndarray) -> np.ndarray:
        """logits [B, V] -> ids int32 [B]."""
        uniforms = np.zeros((2, len(logits)))
        for row, generator in enumerate(self._generators):
            if self._xtc[row]:
                uniforms[1, row] = generator.random()
            uniforms[0, row] = generator.random()
        self._inputs |= {"history": self.history.ids, "xtc_uniforms": uniforms[1][:, None]}
        logits, ids = transform(logits, self._inputs, self._order)  # [B, C]
        steered = self._mirostat["mirostat"]
        truncated = mirostat(logits, steered, self._mu) if steered.any() else logits
        columns = draw(truncated, uniforms[0])[:, None]  # [B, 1]
        if steered.any():
            self._mu -= self._mirostat["mirostat_eta"] * (surprise(logits, columns) - self._mirostat["mirostat_tau"])
        drawn = np.take_along_axis(ids, columns, axis=-1)[:, 0].astype(np.int32)
        self.history.append(drawn)
        for ended in np.flatnonzero(drawn == self._eos_id):
            self.history.clear(int(ended))
        return drawn

    def keep(self, rows: np.ndarray) -> None:
        """Forgets all other rows; these are numbered from 0 afterwards."""
        self._inputs = {name: values[rows] for name, values in self._inputs.items()}
        self._mirostat = {name: values[rows] for name, values in self._mirostat.items()}
        self._mu = self._mu[rows]
        self._generators = [self._generators[row] for row in rows]
        self._xtc = [self._xtc[row] for row in rows]
        self.history.ids = self.history.ids[rows]


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
    """Where one row's uniforms come from: a function of its seed alone, whatever else is in the batch."""
    return np.random.Generator(np.random.Philox(seed))


def pieces_with(texts: Sequence[str], tokenizer: Tokenizer) -> np.ndarray:
    """True for the pieces in which one of the texts stands, bool [V]."""
    parts = [text.encode() for text in texts]
    return np.array([any(part in piece for part in parts) for piece in tokenizer.piece_bytes])


def _setting(config: SamplingConfig, sampler: str, field: str) -> float:
    return OFF[field] if config.mirostat and sampler in NOT_WITH_MIROSTAT and field in OFF else getattr(config, field)


def _possible(logits: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """logits and ids [B, V] of the pieces that are not left out, [B, C], if they are few."""
    size = logits.shape[-1]
    possible = logits > -np.inf
    if size <= FEW or np.count_nonzero(possible) > logits.size / 8:
        return logits, ids
    flat = np.flatnonzero(possible)
    rows = flat // size
    counts = np.bincount(rows, minlength=len(logits))
    columns = np.arange(len(flat)) - (np.cumsum(counts) - counts)[rows]
    shape = (len(logits), int(counts.max()))
    fewer, theirs = np.full(shape, -np.inf, logits.dtype), np.zeros(shape, np.int64)
    fewer[rows, columns] = logits.reshape(-1)[flat]
    theirs[rows, columns] = ids[rows, flat - rows * size]
    return fewer, theirs
