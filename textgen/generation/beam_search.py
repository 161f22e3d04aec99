"""Beam search for the likeliest texts, and diverse beam search for several that differ.

Several texts (beams) are followed side by side, and each step keeps the best of all their continuations. With groups
(Vijayakumar et al. 2018, arXiv:1610.02424) one group after another chooses, and a token is penalized for each beam of
the earlier groups that takes it in the same step; the scores by which texts are compared do not contain this penalty.

Constraints forbid the same as in sampling. Required texts pull too, but this only decides which beams are kept in a
step: texts are compared by what the model says, and by `logit_bias`. Samplers have no effect.

The texts found are distinct. Many beams may write the same one, since a text that is cut does not contain its last
token: only the best of them counts, and the others leave their places to other texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from textgen.generation.config import SearchConfig
from textgen.generation.constraints.constraints import Constraints
from textgen.generation.decoding import Decoder
from textgen.generation.row import TextRow
from textgen.model.probabilities import log_softmax
from textgen.tokenizer.utf8 import Characters


class _Step(NamedTuple):
    """A token of a beam, and the one before it. Beams that begin alike share these."""

    before: _Step | None
    id: int
    logprob: float
    text: str  # text that is final once this token is there


@dataclass(frozen=True, eq=False)
class Beam:
    """An unfinished or finished text.

    Attributes:
        row: What decodes the text and decides whether it ends, after the last token.
        constraints: The constraints after the last token; of a finished text, before it.
        state: The UTF-8 state after the last token: see `textgen.tokenizer.utf8`.
        parent: The row of the model's state that the beam continues.
        last: Its last token; None if there is none.
        length: Number of its tokens.
        total: Sum of the log probabilities of its tokens, and of each `logit_bias` that these have, in nats.
    """

    row: TextRow
    constraints: Constraints
    state: int
    parent: int = 0
    last: _Step | None = None
    length: int = 0
    total: float = 0.0

    @property
    def ids(self) -> tuple[int, ...]:
        """Its tokens."""
        return tuple(step.id for step in self._steps())

    @property
    def logprobs(self) -> tuple[float, ...]:
        """Log probability of each token in nats, under the model alone."""
        return tuple(step.logprob for step in self._steps())

    @cached_property
    def text(self) -> str:
        """The text that is final."""
        return "".join(step.text for step in self._steps())

    @property
    def stop_reason(self) -> str:
        """Why it ended; empty until it is finished."""
        return self.row.stop_reason

    @property
    def last_id(self) -> int:
        """The last token; -1 if there is none."""
        return self.last.id if self.last else -1

    def followed_by(self, id: int, logprob: float, total: float, *, blocked: bool = False) -> Beam:
        """Returns the beam with one more token, which its constraints do not know yet.

        Args:
            id: The token.
            logprob: Its log probability in nats.
            total: The new total.
            blocked: Whether nothing may follow, so that `id` is the end of the document instead.
        """
        row = self.row.fork()
        step = _Step(self.last, id, logprob, row.append(id, blocked=blocked).text)
        return replace(self, row=row, last=step, length=self.length + 1, total=total)

    def constrained(self) -> Beam:
        """Returns the beam with constraints that know its last token."""
        constraints = self.constraints.fork()
        constraints.accept(self.last_id)
        return replace(self, constraints=constraints)

    def _steps(self) -> list[_Step]:
        steps, step = [], self.last
        while step is not None:
            steps.append(step)
            step = step.before
        return steps[::-1]


def search(decoder: Decoder, row: TextRow, settings: SearchConfig) -> list[Beam]:
    """Searches the likeliest texts that continue a row.

    A group of beams ends when it has enough finished texts and none of its others, at its present length, is better.

    Args:
        decoder: Reads the prompt; no text joins it.
        row: The text to continue.
        settings: Number and groups of beams, penalties.

    Returns:
        The best texts, best first, each once: `num_beams`, or fewer if there are no more or groups find the same.
    """
    stepper, sampler = decoder.prepare([row])
    tokenizer, characters = decoder.tokenizer, sampler.tables.characters
    size = settings.num_beams // settings.num_beam_groups
    constraints, state = sampler.constraints[0], int(sampler.states[0])
    roots = [Beam(row.fork(), constraints.fork(), state) for _ in range(settings.num_beam_groups)]
    groups = [_Group(size, settings.length_penalty, root, characters, tokenizer.eos_id) for root in roots]
    stepper.advance(np.repeat(stepper.ids, len(groups)), [0] * len(groups))
    while any(group.live for group in groups):
        log_probs = log_softmax(stepper.step())  # [N, V]
        endings = log_probs[:, tokenizer.eos_id].copy()  # [N], also where a character would be broken
        log_probs += characters.mask[[beam.state for group in groups for beam in group.live]]
        taken, first = np.zeros(log_probs.shape[-1]), 0  # by how many beams of this step, [V]
        for group in groups:
            rows, first = slice(first, first + len(group.live)), first + len(group.live)
            totals = group.totals(log_probs[rows], endings[rows])
            penalty = settings.diversity_penalty * taken
            tokens = group.advance(log_probs[rows], totals, penalty, rows.start)
            np.add.at(taken, tokens, 1)
        live = [beam for group in groups for beam in group.live]
        stepper.advance(np.array([beam.last_id for beam in live], np.int32), [beam.parent for beam in live])
    return _distinct((beam for group in groups for beam in group.best()), groups[0].score)


class _Group:
    """Beams that compete with one another."""

    def __init__(self, size: int, length_penalty: float, root: Beam, characters: Characters, eos_id: int) -> None:
        self.live = [root]
        self._characters = characters
        self._eos_id = eos_id
        self._finished: list[Beam] = []  # the best, best first, as are the next
        self._blocked: list[Beam] = []  # which nothing may follow
        self._size = size
        self._length_penalty = length_penalty

    def score(self, beam: Beam) -> float:
        """The score by which texts of different lengths are compared."""
        return beam.total / beam.length**self._length_penalty

    def best(self) -> list[Beam]:
        """The best finished texts, best first; if there are none, those after which nothing may follow."""
        return self._finished or self._blocked

    def totals(self, log_probs: np.ndarray, endings: np.ndarray) -> np.ndarray:
        """Adds the log probabilities of the next tokens to the totals of the live beams.

        A beam that nothing may follow is set aside, closed by the end of the document.

        Args:
            log_probs: Log probabilities of the next tokens, nats [n, V].
            endings: Log probability of the end of the document, nats [n].

        Returns:
            The totals of all continuations, each `logit_bias` included, nats [n, V].
        """
        totals = log_probs.copy()
        for beam, values, ending in zip(self.live, totals, endings.tolist(), strict=True):
            if beam.constraints.active:
                beam.constraints.apply_to_search(values)
            if np.max(values) == -np.inf:
                blocked = beam.followed_by(self._eos_id, ending, beam.total + ending, blocked=True)
                self._blocked = self._best_of([*self._blocked, blocked])
            values += beam.total
        return totals

    def advance(self, log_probs: np.ndarray, totals: np.ndarray, penalty: np.ndarray, row: int) -> list[int]:
        """Chooses the continuations of one step.

        Args:
            log_probs: Log probabilities of the next tokens, nats [n, V].
            totals: The totals of all continuations, nats [n, V].
            penalty: The diversity penalty of each token, nats [V].
            row: The row of the model's state that belongs to the first live beam.

        Returns:
            The tokens that were chosen.
        """
        if not self.live:
            return []
        best = {beam.text: beam for beam in self._finished}  # of each text that has ended
        candidates: list[Beam] = []
        for beam in self._continuations(log_probs, totals, penalty, row):
            if beam.stop_reason and (other := best.get(beam.text)):
                best[beam.text] = max(other, beam, key=self.score)
                continue
            if beam.stop_reason:
                best[beam.text] = beam
            candidates.append(beam)
            if len(candidates) == 2 * self._size:
                break
        ended = [beam for beam in candidates[: self._size] if beam.stop_reason]
        kept = [beam for beam in candidates if not beam.stop_reason][: self._size]
        self.live = [beam.constrained() for beam in kept]
        chosen = [beam.last_id for beam in (*ended, *self.live)]
        self._finished = self._best_of(best[beam.text] for beam in (*self._finished, *ended))
        if len(self._finished) == self._size and all(
            self.score(beam) <= self.score(self._finished[-1]) for beam in self.live
        ):
            self.live = []
        return chosen

    def _continuations(
        self, log_probs: np.ndarray, totals: np.ndarray, penalty: np.ndarray, row: int
    ) -> Iterator[Beam]:
        """The live beams, each with one more token, best first; the arguments are those of `advance`."""
        scores = totals - penalty
        for beam, values in zip(self.live, scores, strict=True):
            beam.constraints.guide(values)
        for number, id in _highest_first(scores, 2 * self._size):
            before = self.live[number]
            beam = before.followed_by(id, float(log_probs[number, id]), float(totals[number, id]))
            state = int(self._characters.after[before.state, id])
            yield replace(beam, state=state, parent=row + number)

    def _best_of(self, beams: Iterable[Beam]) -> list[Beam]:
        return _distinct(beams, self.score)[: self._size]


def _distinct(beams: Iterable[Beam], score: Callable[[Beam], float]) -> list[Beam]:
    """The best beam of each text, best first."""
    best: dict[str, Beam] = {}
    for beam in sorted(beams, key=score, reverse=True):
        best.setdefault(beam.text, beam)
    return list(best.values())


def _highest_first(values: np.ndarray, number: int) -> Iterator[tuple[int, int]]:
    """All places that `_highest` finds. It looks for `number` at first, then for more as long as they are taken."""
    done = 0
    while True:
        places = _highest(values, number)
        yield from places[done:]
        if len(places) < number:
            return
        done, number = number, 4 * number


def _highest(values: np.ndarray, number: int) -> list[tuple[int, int]]:
    """The places of the highest of values [N, V], highest first, then in order; -inf does not count."""
    flat = values.reshape(-1)
    threshold = np.partition(flat, -min(number, flat.size))[-min(number, flat.size)]
    places = np.flatnonzero((flat >= threshold) & (flat > -np.inf))
    order = places[np.argsort(-flat[places], kind="stable")][:number]
    return [(int(row), int(id)) for row, id in zip(*np.unravel_index(order, values.shape), strict=True)]
