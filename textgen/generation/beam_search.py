"""Beam search for the likeliest texts, and diverse beam search for several that differ.

Several texts (beams) are followed side by side, and each step keeps the best of all their continuations. With groups
(Vijayakumar et al. 2018, arXiv:1610.02424) one group after another chooses, and a token is penalised for each beam of
the earlier groups that takes it in the same step; the scores by which texts are compared do not contain this penalty.

Constraints forbid the same as in sampling. Required texts pull too, but this only decides which beams are kept in a
step: texts are compared by what the model says, and by `logit_bias`. Samplers have no effect.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from textgen.generation.config import SearchConfig
from textgen.generation.constraints import Constraints
from textgen.generation.decoding import Decoder
from textgen.generation.row import TextRow
from textgen.model.probabilities import log_softmax
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.utf8 import Characters


@dataclass(frozen=True)
class Beam:
    """An unfinished or finished text.

    Attributes:
        ids: Its tokens.
        logprobs: Log probability of each token in nats, under the model alone.
        total: Their sum, and of each `logit_bias` that its tokens have.
        constraints: The constraints after the last token.
        state: The UTF-8 state after the last token: see `textgen.tokenizer.utf8`.
        row: The row of the model's state that the beam continues.
        text: The text, once it is finished.
        stop_reason: Why it ended, once it is finished.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    total: float
    constraints: Constraints
    state: int
    row: int = 0
    text: str = ""
    stop_reason: str = ""


def search(decoder: Decoder, row: TextRow, settings: SearchConfig) -> list[Beam]:
    """Searches the likeliest texts that continue a row.

    A group of beams ends when it has enough finished texts and none of its others, at its present length, is better.

    Args:
        decoder: Reads the prompt; no text joins it.
        row: The text to continue.
        settings: Number and groups of beams, penalties.

    Returns:
        The best texts, best first: `num_beams`, or fewer if there are no more.
    """
    stepper, sampler = decoder.prepare([row])
    tokenizer, characters = decoder.tokenizer, sampler.tables.characters
    judge = _Judge(row, tokenizer)
    size = settings.num_beams // settings.num_beam_groups
    constraints, state = sampler.constraints[0], int(sampler.states[0])
    roots = [Beam((), (), 0.0, constraints.fork(), state) for _ in range(settings.num_beam_groups)]
    groups = [_Group(size, settings.length_penalty, root, characters) for root in roots]
    stepper.advance(np.repeat(stepper.ids, len(groups)), [0] * len(groups))
    while any(group.live for group in groups):
        log_probs = log_softmax(stepper.step())  # [N, V]
        endings = log_probs[:, tokenizer.eos_id].copy()  # [N], also where a character would be broken
        log_probs += characters.mask[[beam.state for group in groups for beam in group.live]]
        taken, first = np.zeros(log_probs.shape[-1]), 0  # by how many beams of this step, [V]
        for group in groups:
            rows, first = slice(first, first + len(group.live)), first + len(group.live)
            totals = group.totals(log_probs[rows], endings[rows], judge)
            penalty = settings.diversity_penalty * taken
            tokens = group.advance(log_probs[rows], totals, penalty, rows.start, judge)
            np.add.at(taken, tokens, 1)
        live = [beam for group in groups for beam in group.live]
        stepper.advance(np.array([beam.ids[-1] for beam in live], np.int32), [beam.row for beam in live])
    found = [beam for group in groups for beam in group.best()]
    return sorted(found, key=groups[0].score, reverse=True)


class _Group:
    """Beams that compete with one another."""

    def __init__(self, size: int, length_penalty: float, root: Beam, characters: Characters) -> None:
        self.live = [root]
        self._characters = characters
        self._finished: list[Beam] = []
        self._blocked: list[Beam] = []  # which nothing may follow
        self._size = size
        self._length_penalty = length_penalty

    def score(self, beam: Beam) -> float:
        """The score by which texts of different lengths are compared."""
        return beam.total / len(beam.ids) ** self._length_penalty

    def best(self) -> list[Beam]:
        """The best finished texts, best first; if there are none, those after which nothing may follow."""
        return sorted(self._finished or self._blocked, key=self.score, reverse=True)[: self._size]

    def totals(self, log_probs: np.ndarray, endings: np.ndarray, judge: _Judge) -> np.ndarray:
        """Adds the log probabilities of the next tokens to the totals of the live beams.

        A beam that nothing may follow is set aside, closed by the end of the document.

        Args:
            log_probs: Log probabilities of the next tokens, nats [n, V].
            endings: Log probability of the end of the document, nats [n].
            judge: Turns a beam that nothing may follow into a text.

        Returns:
            The totals of all continuations, each `logit_bias` included, nats [n, V].
        """
        totals = log_probs.copy()
        for beam, values, ending in zip(self.live, totals, endings, strict=True):
            if beam.constraints.active:
                beam.constraints.apply_to_search(values)
            if np.max(values) == -np.inf:
                self._blocked.append(judge.blocked(beam, float(ending)))
            values += beam.total
        return totals

    def advance(
        self, log_probs: np.ndarray, totals: np.ndarray, penalty: np.ndarray, row: int, judge: _Judge
    ) -> list[int]:
        """Chooses the continuations of one step.

        Args:
            log_probs: Log probabilities of the next tokens, nats [n, V].
            totals: The totals of all continuations, nats [n, V].
            penalty: The diversity penalty of each token, nats [V].
            row: The row of the model's state that belongs to the first live beam.
            judge: Decides which continuations end their texts.

        Returns:
            The tokens that were chosen.
        """
        if not self.live:
            return []
        candidates, scores = [], totals - penalty
        for beam, values in zip(self.live, scores, strict=True):
            beam.constraints.guide(values)
        for number, id in _highest(scores, 2 * self._size):
            before = self.live[number]
            ids, logprobs = (*before.ids, id), (*before.logprobs, float(log_probs[number, id]))
            constraints = before.constraints.fork()
            constraints.take(id)
            total = float(totals[number, id])
            state = int(self._characters.after[before.state, id])
            candidates.append(Beam(ids, logprobs, total, constraints, state, row + number, *judge.judge(ids)))
        ended = [beam for beam in candidates[: self._size] if beam.stop_reason]
        self.live = [beam for beam in candidates if not beam.stop_reason][: self._size]
        chosen = [beam.ids[-1] for beam in (*ended, *self.live)]
        self._finished += ended
        finished = self.best()
        if len(finished) == self._size and all(self.score(beam) <= self.score(finished[-1]) for beam in self.live):
            self.live = []
        return chosen


class _Judge:
    """Decides whether a text has ended, and what its text is."""

    def __init__(self, row: TextRow, tokenizer: Tokenizer) -> None:
        self._row = row
        self._tokenizer = tokenizer

    def judge(self, ids: tuple[int, ...]) -> tuple[str, str]:
        """Returns text and stop reason of a text; both are empty if it has not ended."""
        config = self._row.config
        text_matters = config.stop or config.until != "document" or config.max_seconds is not None
        if not text_matters and len(ids) < config.max_tokens and ids[-1] != self._tokenizer.eos_id:
            return "", ""
        row = self._row.fork()
        text = row.replay(ids[:-1]) + row.take(ids[-1]).text
        return (text, row.stop_reason) if row.stop_reason else ("", "")

    def blocked(self, beam: Beam, ending: float) -> Beam:
        """Returns a beam that nothing may follow as a finished text.

        Args:
            beam: The beam.
            ending: Log probability of the end of the document, nats.
        """
        row, eos_id = self._row.fork(), self._tokenizer.eos_id
        text = row.replay(beam.ids) + row.take(eos_id, blocked=True).text
        return replace(
            beam,
            ids=(*beam.ids, eos_id),
            logprobs=(*beam.logprobs, ending),
            total=beam.total + ending,
            text=text,
            stop_reason=row.stop_reason,
        )


def _highest(values: np.ndarray, number: int) -> list[tuple[int, int]]:
    """The places of the highest of values [N, V], highest first, then in order; -inf does not count."""
    flat = values.reshape(-1)
    threshold = np.partition(flat, -min(number, flat.size))[-min(number, flat.size)]
    places = np.flatnonzero((flat >= threshold) & (flat > -np.inf))
    order = places[np.argsort(-flat[places], kind="stable")][:number]
    return [(int(row), int(id)) for row, id in zip(*np.unravel_index(order, values.shape), strict=True)]
