"""Logits to the next token: constraints, the chain of samplers, the random draw.

Every text has its own settings, random numbers and past, so what is drawn for it does not depend on the texts beside
it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from textgen.dataset.ngram_index import NgramIndex
from textgen.errors import SavedModelError
from textgen.generation.config import SAMPLERS, SamplingConfig, sampler_names
from textgen.generation.constraints import Constraints, read_biases
from textgen.generation.exact_chain import EXACT, SMALLEST, draw_exactly, draw_with_mirostat, possible
from textgen.generation.logit_filters import (
    MIN_TEMPERATURE,
    Candidates,
    draw_plainly,
    epsilon_cutoff,
    eta_cutoff,
    inverse_cdf,
    min_p,
    mirostat,
    surprisal_bits,
    temperature,
    top_k,
    top_n_sigma,
    top_p,
    typical_p,
    xtc,
)
from textgen.generation.ngrams import ngrams_of
from textgen.generation.penalties import DrySettings, History, dry, penalties
from textgen.generation.phrase import Phrase
from textgen.generation.word_guard import WordTokens
from textgen.model.probabilities import NOT_FINITE, require_finite
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.utf8 import Characters

Transform = Callable[..., Any]

TRANSFORMS: dict[str, tuple[Transform, tuple[str, ...]]] = {  # a sampler's function and its inputs after the logits
    "penalties": (
        penalties,
        ("history", "repeat_penalty", "presence_penalty", "frequency_penalty", "repeat_last_n"),
    ),
    "dry": (
        lambda logits, history, breakers, *settings: dry(logits, history, breakers, DrySettings(*settings)),
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
OFF = {  # a sampler is off if all of its settings listed here have these values
    "repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "dry_multiplier": 0.0,
    "top_n_sigma": 0.0, "top_k": 0, "typical_p": 1.0, "top_p": 1.0, "min_p": 0.0, "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0, "xtc_probability": 0.0, "temperature": 1.0, "dynatemp_range": 0.0,
}  # fmt: skip
LOOKING_BACK = ("penalties", "dry")  # these index logits by token id, so no filter may have shrunk the candidates
AHEAD = 64  # tokens for which random numbers are made at once
BIASES_KEPT = 16  # settings of `logit_bias` whose tokens are kept
BREAKERS_KEPT = 16  # sets of DRY's sequence breakers whose tables are kept
NO_TEXT = b"\xff"  # a byte that no text has
PROMPTS_KEPT = 8  # prompts whose n-grams are kept for texts that continue the same one
PLAIN = ((), ("min_p",), ("temperature",), ("min_p", "temperature"))  # chains for `draw_plainly`
NOT_WITH_MIROSTAT = tuple(name for name in SAMPLERS if name not in (*LOOKING_BACK, "temperature"))


class Step(NamedTuple):
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


def steps_of(inputs: Collection[str], order: Sequence[str] = SAMPLERS) -> list[Step]:
    """Returns the samplers of `order` whose inputs are given, by their names."""
    names = [name for name in order if all(field in inputs for field in TRANSFORMS[name][1])]
    return [
        Step(*TRANSFORMS[name], name in LOOKING_BACK, not any(later in LOOKING_BACK for later in names[number:]))
        for number, name in enumerate(names)
    ]


def transform(candidates: Candidates, inputs: Mapping[str, np.ndarray], steps: Iterable[Step]) -> Candidates:
    """Applies samplers.

    Once most tokens are filtered out, only the remaining ones are carried on, unless a later sampler looks back.

    Args:
        candidates: All tokens; their logits are changed in place.
        inputs: Inputs of the samplers by name: settings [B, 1], and what some samplers need besides, see `TRANSFORMS`.
        steps: The samplers: see `steps_of`.

    Returns:
        The tokens that are left, with their logits.
    """
    for function, fields, looks_back, shrinks in steps:
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


class SamplingTables:
    """Tables of a vocabulary that the samplers of all texts share.

    Attributes:
        tokenizer: The tokenizer.
        characters: Which tokens may follow so that no UTF-8 character is broken.
        phrases: Banned and required texts of the present constraints, by text.
        biases: Returns the tokens of a `logit_bias` setting.
        tokens_with: Returns which tokens contain one of some texts, bool [V].
        ngrams: Returns the n-grams of a prompt, from their size and its tokens.
    """

    def __init__(self, tokenizer: Tokenizer, direction: str = "forward") -> None:
        self.tokenizer = tokenizer
        self.characters = Characters(tokenizer, direction)
        self.phrases = WeakValueDictionary[str, Phrase]()
        self.biases = lru_cache(BIASES_KEPT)(lambda entries: read_biases(entries, tokenizer))
        self.tokens_with = lru_cache(BREAKERS_KEPT)(lambda texts: tokens_with(texts, tokenizer))
        self.ngrams = lru_cache(PROMPTS_KEPT)(ngrams_of)


class Sampler:
    """Draws the next tokens of B texts: constraints first, then the samplers of each text in their order.

    Tokens that would break a UTF-8 character are never drawn: see `textgen.tokenizer.utf8`.

    Attributes:
        blocked: The texts for which the last draw found no token that may follow, bool [B].
        states: The UTF-8 state after the last token of each text, int8 [B].
        constraints: The constraints on each text, [B].
        tables: Tables of the vocabulary.
    """

    def __init__(
        self,
        configs: Sequence[SamplingConfig],
        tokenizer: Tokenizer,
        ngrams: NgramIndex | None = None,
        direction: str = "forward",
        tables: SamplingTables | None = None,
        words: WordTokens | None = None,
        *,
        exact: bool = False,
    ) -> None:
        """Makes a sampler for texts that have not begun.

        Args:
            configs: The settings of each text, [B].
            tokenizer: The tokenizer.
            ngrams: The n-grams of the training text, for `no_copy`.
            direction: The direction in which the texts are generated, forward or backward.
            tables: Tables of the vocabulary, if another sampler of this tokenizer and direction has them.
            words: The words that exist, for texts without `coin_words`; None if any may be written.
            exact: Draw in exact arithmetic, from float64 logits: see `textgen.generation.exact_chain`.

        Raises:
            ConfigError: The tokenizer's tokens cannot meet the constraints.
        """
        self._exact = exact
        self.tables = tables or SamplingTables(tokenizer, direction)
        self._eos_id = tokenizer.eos_id
        self._characters = self.tables.characters
        self.states = np.zeros(len(configs), np.int8)
        self.blocked = np.zeros(len(configs), bool)
        self.constraints = [
            Constraints(
                config,
                tokenizer,
                self.tables.phrases,
                ngrams,
                self._characters.starts,
                words,
                self.tables.biases(config.logit_bias),
                self.tables.ngrams,
            )
            for config in configs
        ]
        orders: dict[tuple[str, ...], list[int]] = {}
        for row, config in enumerate(configs):
            orders.setdefault(sampler_names(config.samplers), []).append(row)
        self._chains = [
            (np.array(rows), Chain(order, [configs[row] for row in rows], self.tables, exact=exact))
            for order, rows in orders.items()
        ]

    def for_others(
        self, configs: Sequence[SamplingConfig], ngrams: NgramIndex | None = None, words: WordTokens | None = None
    ) -> Sampler:
        """Returns a sampler for other texts, with the tables of this one, which may `join` it later."""
        return Sampler(configs, self.tables.tokenizer, ngrams, tables=self.tables, words=words, exact=self._exact)

    def read(self, row: int, ids: Sequence[int]) -> None:
        """Tells which tokens come before the first draw of a text.

        Args:
            row: The text.
            ids: Its prompt. Tokens up to the last end of a document belong to other texts and do not count.
        """
        ids = self._of_document(ids)
        self.states[row] = self._characters.state_after(ids)
        self.constraints[row].read(ids)
        for rows, chain in self._chains:
            for number in np.flatnonzero(rows == row):
                chain.history.read(int(number), ids)

    def restrict(self, row: int, ids: Sequence[int]) -> None:
        """Restricts the next token of a text to these; an empty list restricts nothing."""
        self.constraints[row].allowed = list(ids)

    def possible(self, row: int, ids: Sequence[int], covers: Sequence[Sequence[int]]) -> list[list[int]]:
        """Returns which tokens constraints allow as the first one drawn, where a prompt is cut. Nothing is read.

        Args:
            row: The text.
            ids: The prompt.
            covers: The tokens that may take the place of the last k of the prompt, of the last k - 1, and so on; [k].

        Returns:
            Those of each of `covers` that are allowed, [k].
        """
        constraints = self.constraints[row].fork()
        if not constraints.active:
            return [list(cover) for cover in covers]
        ids = self._of_document(ids)
        allowed, read = [], 0
        for end, cover in enumerate(covers, len(ids) - len(covers)):
            constraints.read(ids[:end], read)
            logits, read = self._characters.mask[self._characters.state_after(ids[:end])].copy(), end
            constraints.fork().apply(logits)
            allowed.append([id for id in cover if logits[id] > -np.inf])
        return allowed

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all other texts; those kept, named in ascending order, are numbered from 0 afterwards."""
        self.states, self.blocked = self.states[list(rows)], self.blocked[list(rows)]
        self.constraints = [self.constraints[row] for row in rows]
        chains = []
        for numbers, chain in self._chains:
            kept = np.isin(numbers, rows)
            if kept.any():
                chain.keep(np.flatnonzero(kept))
                chains.append((np.searchsorted(rows, numbers[kept]), chain))
        self._chains = chains

    def join(self, other: Sampler) -> None:
        """Adds the texts of another sampler after those that are there; the other must not be used afterwards."""
        first = len(self.constraints)
        self.states = np.concatenate([self.states, other.states])
        self.blocked = np.concatenate([self.blocked, other.blocked])
        self.constraints += other.constraints
        for numbers, chain in other._chains:
            numbers = numbers + first
            for at, (before, mine) in enumerate(self._chains):
                if mine.order == chain.order:
                    mine.join(chain)
                    self._chains[at] = np.concatenate([before, numbers]), mine
                    break
            else:
                self._chains.append((numbers, chain))

    @np.errstate(over="ignore")  # of very small logits, which become impossible ones
    def draw(self, logits: np.ndarray) -> np.ndarray:
        """Draws the next token of each text.

        Where constraints leave none, the text is `blocked` and its token is the end of the document.

        Args:
            logits: Float32 [B, V]; float64 where draws are exact.

        Returns:
            Token ids, int32 [B].

        Raises:
            SavedModelError: The logits are not finite.
        """
        logits = logits + self._characters.mask[self.states if any(self.states.tolist()) else 0]
        candidates = Candidates(logits)
        require_finite(candidates.highest)
        active = [row for row, constraints in enumerate(self.constraints) if constraints.active]
        self.blocked = np.zeros(len(logits), bool)
        for row in active:
            self.constraints[row].apply(logits[row])
            if np.max(logits[row]) == -np.inf:
                self.blocked[row] = True
                logits[row, self._eos_id] = 0.0
        if active:
            candidates = Candidates(logits)
        if len(self._chains) == 1:
            ids = self._chains[0][1].draw(candidates)
        else:
            ids = np.zeros(len(logits), np.int32)
            for rows, chain in self._chains:
                ids[rows] = chain.draw(Candidates(logits[rows]))
        for row in active:
            self.constraints[row].take(int(ids[row]))
        self.states = self._characters.after[self.states, ids]
        return ids

    def _of_document(self, ids: Sequence[int]) -> Sequence[int]:
        """The tokens after the last end of a document."""
        start = len(ids) - list(reversed(ids)).index(self._eos_id) if self._eos_id in ids else 0
        return ids[start:]


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
        tables: SamplingTables,
        *,
        exact: bool = False,
    ) -> None:
        self.order = order
        self._exact = exact
        self._configs = list(configs)
        self._tables = tables
        self._used = [_used(config, order) for config in configs]
        none = np.zeros(len(tables.tokenizer.piece_bytes), bool)
        self._breakers = [  # the tokens that end a repetition in each text, bool [V]
            tables.tokens_with(config.dry_sequence_breakers) if "dry" in used else none
            for config, used in zip(configs, self._used, strict=True)
        ]
        self._settings = settings_of(configs, order)
        excludes = [("xtc" in order and _setting(config, "xtc", "xtc_probability") > 0) for config in configs]
        self._uniforms = Uniforms([config.seed or 0 for config in configs], excludes)
        self._mirostat = {
            name: np.array([[getattr(config, name)] for config in configs])
            for name in ("mirostat", "mirostat_tau", "mirostat_eta")
        }
        self._mu = 2.0 * self._mirostat["mirostat_tau"]  # bits [B, 1]
        self.history = History(len(configs), self._look_back())
        self._begin()

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
        inputs = self._settings | {"history": self.history.ids, "xtc_uniforms": to_exclude[:, None]}
        candidates = transform(candidates, inputs, self._steps)
        if self._uses_mirostat:
            candidates.shrinks = False
            columns = draw(mirostat(candidates, self._mirostat["mirostat"], self._mu), to_draw)
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
            if "breakers" in self._settings:
                inputs["breakers"] = self._settings["breakers"][row]
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
        self._begin()

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
        self._begin()

    def _fields(self) -> dict[str, str]:
        """The settings of the samplers that at least one text uses, each with the name of its sampler."""
        return _fields(name for name in self.order if any(name in used for used in self._used))

    def _settings_for(self, fields: Mapping[str, str]) -> dict[str, np.ndarray]:
        """These settings of all texts [B, 1], also of samplers that none of them uses."""
        missing = {field: sampler for field, sampler in fields.items() if field not in self._settings}
        return self._settings | _columns(self._configs, missing)

    def _look_back(self) -> int:
        """The number of last tokens that some sampler needs, at least 1."""
        return max([1, *(int(self._settings[name].max()) for name in LOOK_BACK if name in self._settings)])

    def _begin(self) -> None:
        """Finds what stays the same until texts join or leave."""
        if "dry_multiplier" in self._settings:
            self._settings["breakers"] = np.stack(self._breakers)  # [B, V]
        self._steps = steps_of({*self._settings, "history", "xtc_uniforms"}, self.order)
        self._uses_mirostat = bool(self._mirostat["mirostat"].any())
        self._plain = self._plain_settings()

    def _plain_settings(self) -> tuple[float | None, float] | None:
        """What `draw_plainly` needs, log(min_p) and the temperature; None if it cannot draw for these texts."""
        names = tuple(name for name in self.order if name in self._used[0])
        if len(self._configs) > 1 or names not in PLAIN or self._uses_mirostat or self._exact:
            return None
        config = self._configs[0]
        if config.temperature <= MIN_TEMPERATURE or ("temperature" in names and config.dynatemp_range):
            return None
        p, t = np.float32(max(config.min_p, SMALLEST)), config.temperature if "temperature" in names else 1.0
        return (float(np.log(p)) if "min_p" in names else None), t


class Uniforms:
    """The random numbers of each text, which depend on its seed alone."""

    def __init__(self, seeds: Sequence[int], excludes: Sequence[bool]) -> None:
        """Makes the random generators.

        Args:
            seeds: The seed of each text, [B].
            excludes: The texts that take two numbers for each token, one of them for XTC, [B]; the others take one.
        """
        self._generators = [row_generator(seed) for seed in seeds]
        self._excludes = list(excludes)
        self._ahead = np.zeros((len(seeds), 0, 2))  # made and not used yet, [B, tokens, 2]

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns numbers in [0, 1): for the XTC filter, 0 where it is off, [B], and for the draw, [B]."""
        if not self._ahead.shape[1]:
            self._make(AHEAD)
        first, self._ahead = self._ahead[:, 0], self._ahead[:, 1:]
        return first[:, 0], first[:, 1]

    def keep(self, rows: np.ndarray) -> None:
        """Drops all other texts."""
        self._generators = [self._generators[row] for row in rows]
        self._excludes = [self._excludes[row] for row in rows]
        self._ahead = self._ahead[rows]

    def join(self, other: Uniforms) -> None:
        """Adds other texts after those that are there."""
        length = max(self._ahead.shape[1], other._ahead.shape[1])
        self._make(length - self._ahead.shape[1])
        other._make(length - other._ahead.shape[1])
        self._generators += other._generators
        self._excludes += other._excludes
        self._ahead = np.concatenate([self._ahead, other._ahead])

    def _make(self, number: int) -> None:
        """Makes the numbers of `number` more tokens of each text."""
        if not number:
            return
        more = np.zeros((len(self._generators), number, 2))
        for row, (generator, both) in enumerate(zip(self._generators, self._excludes, strict=True)):
            more[row, :, 0 if both else 1 :] = generator.random((number, 2 if both else 1))
        self._ahead = np.concatenate([self._ahead, more], axis=1)


DRAWING = frozenset(  # settings of the draw, which have no effect in a search
    field for _, fields in TRANSFORMS.values() for field in fields if hasattr(SamplingConfig, field)
) | {"samplers", "mirostat", "mirostat_tau", "mirostat_eta"}
LOOK_BACK = ("repeat_last_n", "dry_penalty_last_n")


def settings_of(configs: Sequence[SamplingConfig], order: Sequence[str] = SAMPLERS) -> dict[str, np.ndarray]:
    """Returns the settings [B, 1] of the samplers of `order` that at least one text uses, by name."""
    used = [_used(config, order) for config in configs]
    return _columns(configs, _fields(name for name in order if any(name in names for names in used)))


def row_generator(seed: int) -> np.random.Generator:
    """Returns the random generator of a text with this seed."""
    return np.random.Generator(np.random.Philox(seed))


def tokens_with(texts: Sequence[str], tokenizer: Tokenizer) -> np.ndarray:
    """Returns True for the tokens that contain one of the texts, bool [V]."""
    pieces = NO_TEXT.join(tokenizer.piece_bytes)
    ends = np.cumsum([len(piece) + len(NO_TEXT) for piece in tokenizer.piece_bytes])
    found = np.zeros(len(ends), bool)
    for text in texts:
        places = [match.start() for match in re.finditer(re.escape(text.encode()), pieces)]
        found[np.searchsorted(ends, places, side="right")] = True
    return found


def _used(config: SamplingConfig, order: Sequence[str]) -> frozenset[str]:
    """The samplers of `order` that these settings switch on."""
    return frozenset(
        name
        for name in order
        if any(_setting(config, name, field) != OFF[field] for field in TRANSFORMS[name][1] if field in OFF)
    )


def _fields(samplers: Iterable[str]) -> dict[str, str]:
    """The settings of these samplers, each with the name of its sampler."""
    return {field: name for name in samplers for field in TRANSFORMS[name][1] if hasattr(SamplingConfig, field)}


def _columns(configs: Sequence[SamplingConfig], fields: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Settings [B, 1] by name."""
    columns = {}
    for field, sampler in fields.items():
        kind = np.int64 if isinstance(getattr(SamplingConfig, field), int) else np.float32
        columns[field] = np.array([_setting(config, sampler, field) for config in configs], kind)[:, None]
    return columns


def _setting(config: SamplingConfig, sampler: str, field: str) -> float:
    return OFF[field] if config.mirostat and sampler in NOT_WITH_MIROSTAT and field in OFF else getattr(config, field)
