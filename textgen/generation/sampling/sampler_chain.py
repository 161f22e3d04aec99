"""The chain of samplers: logits to the next token by penalties, filters, temperature and a random draw."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from textgen.errors import SavedModelError
from textgen.generation.config import SAMPLERS, SamplingConfig
from textgen.generation.sampling.exact_chain import EXACT, draw_exactly, draw_with_mirostat, possible
from textgen.generation.sampling.logit_filters import (
    MIN_PROBABILITY,
    MIN_TEMPERATURE,
    Candidates,
    draw_plainly,
    inverse_cdf,
    mirostat,
    surprisal_bits,
)
from textgen.generation.sampling.penalties import History
from textgen.generation.sampling.random_numbers import Uniforms
from textgen.generation.sampling.sampler_settings import (
    LOOKING_BACK,
    TRANSFORMS,
    Transform,
    columns_of,
    fields_of,
    settings_of,
    used_samplers,
    value_of,
)
from textgen.generation.sampling.vocabulary_tables import Breakers, VocabularyTables
from textgen.model.probabilities import NOT_FINITE

PLAIN_CHAINS = ((), ("min_p",), ("temperature",), ("min_p", "temperature"))  # chains of `draw_plainly`
LOOK_BACK_SETTINGS = ("repeat_last_n", "dry_penalty_last_n")  # settings that are a number of last tokens


class ActiveSampler(NamedTuple):
    """A sampler in a chain.

    Attributes:
        function: What it does.
        fields: Names of the function's inputs after the logits.
        looks_back: Whether it changes the logits of tokens by their ids.
        shrinks: Whether it may carry on the remaining tokens alone, since no later sampler looks back.
    """

    function: Transform
    fields: tuple[str, ...]
    looks_back: bool
    shrinks: bool


def active_samplers(inputs: Collection[str], order: Sequence[str] = SAMPLERS) -> list[ActiveSampler]:
    """Returns the samplers of `order` whose inputs are given, by their names."""
    names = [name for name in order if all(field in inputs for field in TRANSFORMS[name][1])]
    return [
        ActiveSampler(
            *TRANSFORMS[name], name in LOOKING_BACK, not any(later in LOOKING_BACK for later in names[number:])
        )
        for number, name in enumerate(names)
    ]


def transform(candidates: Candidates, inputs: Mapping[str, Any], samplers: Iterable[ActiveSampler]) -> Candidates:
    """Applies samplers.

    Once most tokens are filtered out, only the remaining ones are carried on, unless a later sampler looks back.

    Args:
        candidates: All tokens; their logits are changed in place.
        inputs: Inputs of the samplers by name: settings [B, 1], and what some samplers need besides, see `TRANSFORMS`.
        samplers: The samplers: see `active_samplers`.

    Returns:
        The tokens that are left, with their logits.
    """
    for function, fields, looks_back, shrinks in samplers:
        candidates.shrinks = shrinks
        values = [inputs[field] for field in fields]
        if looks_back:
            rows, ids, changed = function(candidates.logits, *values)
            candidates.logits[rows, ids] = changed
            candidates = Candidates(candidates.logits)
        else:
            candidates = function(candidates, *values)
    return candidates


def draw(candidates: Candidates, uniforms: np.ndarray) -> np.ndarray:
    """Draws a token for each text from softmax(logits), by inversion of the cumulative distribution.

    Args:
        candidates: The tokens, C of each text.
        uniforms: Random numbers in [0, 1), [B].

    Returns:
        Their columns in the candidates, [B].

    Raises:
        SavedModelError: The highest logit of a row is not finite, so there is nothing to draw from.
    """
    if not np.isfinite(candidates.highest).all():
        raise SavedModelError(NOT_FINITE)
    return inverse_cdf(np.exp(candidates.below), uniforms[:, None])[:, 0]


class Chain:
    """The texts that apply the same samplers in the same order, and what these remember of each.

    Attributes:
        order: The names of the samplers.
        history: The last tokens of each text.
    """

    def __init__(
        self,
        order: tuple[str, ...],
        configs: Sequence[SamplingConfig],
        tables: VocabularyTables,
        *,
        exact: bool = False,
    ) -> None:
        """Makes a chain.

        Args:
            order: The names of the samplers.
            configs: Settings of each text.
            tables: Tables of the vocabulary.
            exact: Whether the samplers compute in exact arithmetic.
        """
        self.order = order
        self._exact = exact
        self._configs = list(configs)
        self._tables = tables
        self._used = [used_samplers(config, order) for config in configs]
        none = Breakers(np.zeros(tables.tokenizer.vocab_size, bool), None)
        self._breakers = [  # what ends a repetition in each text
            tables.breakers(config.dry_sequence_breakers) if "dry" in used else none
            for config, used in zip(configs, self._used, strict=True)
        ]
        self._settings = settings_of(configs, order)
        excludes = [("xtc" in order and value_of(config, "xtc", "xtc_probability") > 0) for config in configs]
        self._uniforms = Uniforms([config.seed or 0 for config in configs], excludes)
        self._mirostat = {
            name: np.array([[getattr(config, name)] for config in configs])
            for name in ("mirostat", "mirostat_tau", "mirostat_eta")
        }
        self._mu = 2.0 * self._mirostat["mirostat_tau"]  # bits [B, 1]
        self.history = History(len(configs), self._look_back())
        self._refresh()

    def draw(self, candidates: Candidates) -> np.ndarray:
        """Draws a token of each text from all tokens, whose logits may change: ids int32 [B]."""
        uniforms = self._uniforms.draw()
        drawn = self._drawn_exactly(candidates.logits, *uniforms) if self._exact else self._drawn(candidates, *uniforms)
        self.history.append(drawn)
        for row, id in enumerate(drawn.tolist()):
            if id == self._tables.tokenizer.eos_id:
                self.history.clear(row)
        return drawn

    def _drawn(self, candidates: Candidates, to_exclude: np.ndarray, to_draw: np.ndarray) -> np.ndarray:
        """The tokens drawn with random numbers [B] for XTC and for the draw."""
        if self._plain and math.isfinite(candidates.highest.item()):
            return np.array([draw_plainly(candidates, *self._plain, to_draw.item())], np.int32)
        inputs: dict[str, Any] = self._settings | {"history": self.history.ids, "xtc_uniforms": to_exclude[:, None]}
        inputs["breaker_texts"] = self._breaker_texts
        candidates = transform(candidates, inputs, self._active)
        if self._uses_mirostat:
            candidates.shrinks = False
            vocab_size = self._tables.tokenizer.vocab_size
            columns = draw(mirostat(candidates, self._mirostat["mirostat"], self._mu, vocab_size), to_draw)
            bits = surprisal_bits(candidates, columns[:, None])  # [B, 1]
            self._mu -= self._mirostat["mirostat_eta"] * (bits - self._mirostat["mirostat_tau"])
        else:
            columns = draw(candidates, to_draw)
        return candidates.ids_at(columns).astype(np.int32)

    def _drawn_exactly(self, logits: np.ndarray, to_exclude: np.ndarray, to_draw: np.ndarray) -> np.ndarray:
        """The same in exact arithmetic, one text after the other."""
        drawn = np.zeros(len(logits), np.int32)
        for row, config in enumerate(self._configs):
            inputs = vars(config) | {"history": self.history.ids[row], "xtc_uniforms": float(to_exclude[row])}
            inputs["breakers"], inputs["breaker_texts"] = self._breakers[row]
            names = [name for name in self.order if name in self._used[row]]
            is_first = names[:1] == ["min_p"]  # as it is by default; it is quicker on all tokens
            left = possible(logits[row], config.min_p if is_first else 0.0)
            for name in names[is_first:]:
                left = EXACT[name](left, *(inputs[field] for field in TRANSFORMS[name][1]))
            if config.mirostat:
                drawn[row], mu = draw_with_mirostat(
                    left, config, float(self._mu[row, 0]), float(to_draw[row]), logits.shape[-1]
                )
                self._mu[row] = mu
            else:
                drawn[row] = draw_exactly(left, float(to_draw[row]))
        return drawn

    def keep(self, rows: np.ndarray) -> None:
        """Drops all other texts, and the samplers that none of the rest uses; rows are numbered from 0 afterwards."""
        self._configs = [self._configs[row] for row in rows]
        self._used = [self._used[row] for row in rows]
        self._breakers = [self._breakers[row] for row in rows]
        fields = self._fields()
        self._settings = {name: values[rows] for name, values in self._settings.items() if name in fields}
        self._mirostat = {name: values[rows] for name, values in self._mirostat.items()}
        self._mu = self._mu[rows]
        self._uniforms.keep(rows)
        self.history.keep(rows, self._look_back())
        self._refresh()

    def join(self, other: Chain) -> None:
        """Adds the texts of another chain of the same order after those that are there."""
        self._used += other._used
        self._breakers += other._breakers
        fields = self._fields()
        mine, theirs = self._settings_for(fields), other._settings_for(fields)
        self._settings = {field: np.concatenate([mine[field], theirs[field]]) for field in fields}
        self._configs += other._configs
        for name, values in other._mirostat.items():
            self._mirostat[name] = np.concatenate([self._mirostat[name], values])
        self._mu = np.concatenate([self._mu, other._mu])
        self._uniforms.join(other._uniforms)
        self.history.join(other.history)
        self._refresh()

    def _fields(self) -> dict[str, str]:
        """The settings of the samplers that at least one text uses, each with the name of its sampler."""
        return fields_of(name for name in self.order if any(name in used for used in self._used))

    def _settings_for(self, fields: Mapping[str, str]) -> dict[str, np.ndarray]:
        """These settings of all texts [B, 1], also of samplers that none of them uses."""
        missing = {field: sampler for field, sampler in fields.items() if field not in self._settings}
        return self._settings | columns_of(self._configs, missing)

    def _look_back(self) -> int:
        """The number of last tokens that some sampler needs, at least 1."""
        return max([1, *(int(self._settings[name].max()) for name in LOOK_BACK_SETTINGS if name in self._settings)])

    def _refresh(self) -> None:
        """Recomputes what stays the same until texts join or leave."""
        if "dry_multiplier" in self._settings:
            self._settings["breakers"] = np.stack([breakers.tokens for breakers in self._breakers])  # [B, V]
        texts = [breakers.texts for breakers in self._breakers]
        self._breaker_texts = texts if any(texts) else []
        self._active = active_samplers({*self._settings, "breaker_texts", "history", "xtc_uniforms"}, self.order)
        self._uses_mirostat = bool(self._mirostat["mirostat"].any())
        self._plain = self._plain_settings()

    def _plain_settings(self) -> tuple[float | None, float] | None:
        """What `draw_plainly` needs, log(min_p) and the temperature; None if it cannot draw for these texts."""
        names = tuple(name for name in self.order if name in self._used[0])
        if len(self._configs) > 1 or names not in PLAIN_CHAINS or self._uses_mirostat or self._exact:
            return None
        config = self._configs[0]
        if config.temperature <= MIN_TEMPERATURE or ("temperature" in names and config.dynatemp_range):
            return None
        p, t = np.float32(max(config.min_p, MIN_PROBABILITY)), config.temperature if "temperature" in names else 1.0
        return (float(np.log(p)) if "min_p" in names else None), t
