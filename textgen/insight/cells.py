"""Finds cells whose value follows a property of the text, and checks that they do not do so by chance.

1. On the first half of the text each cell gets a score for each property: for a property that is there or not, the area
   under the ROC curve (AUC: the probability that the cell is higher at a place with the property than at one without);
   for a count, the rank correlation (Spearman). Both depend on the order of the values alone.
2. With hundreds of cells some would fit any property. So the property is turned round, y[t] -> y[t + s] for many s,
   which keeps its runs and its periods, and the best score of all cells is noted: 95 % of these best scores lie below
   the threshold that a cell must pass.
3. The best cell must do so again, in the same sense, on the second half, which had no part in choosing it.

A cell that follows a property need not be used for it: see `textgen.insight.interventions`. And a property that the
current token already tells needs no memory: `token_alone` is the score of that token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from textgen.insight.properties import Property
from textgen.insight.reading import Reading

NUM_SHIFTS = 100
LEVEL = 0.95  # fraction of best scores by chance that lie below the threshold
MIN_HALF = 100  # minimum number of tokens of each half
MIN_PLACES = 10  # minimum number of places in each half that have a property, and that do not
NUM_OTHERS = 4


@dataclass(frozen=True)
class Finding:
    """The cell that follows a property best.

    Attributes:
        follows: Name of the property.
        is_count: Whether the scores are rank correlations; otherwise AUCs.
        layer: Layer of the cell.
        unit: Unit of the cell.
        first: Its score on the first half of the text.
        second: Its score on the second half.
        threshold: What the distance of `first` from chance (0.5 or 0) must exceed.
        second_threshold: The same for `second`, of this cell alone.
        token_alone: Score on the second half of the current token alone, from what the first half tells of it.
        property_mean: Mean of the property; for one that is there or not, the fraction of places that have it.
        others: Layer, unit and first score of the next best cells above the threshold.
    """

    follows: str
    is_count: bool
    layer: int
    unit: int
    first: float
    second: float
    threshold: float
    second_threshold: float
    token_alone: float
    property_mean: float
    others: tuple[tuple[int, int, float], ...] = field(default=())

    @property
    def strength(self) -> float:
        """The distance of `first` from chance, from 0 to 1."""
        return abs(self.first) if self.is_count else 2 * abs(self.first - 0.5)

    @property
    def is_found(self) -> bool:
        """Whether the cell follows the property on both halves, more than chance explains."""
        chance = 0.0 if self.is_count else 0.5
        first, second = self.first - chance, self.second - chance
        same_sense = first * second > 0
        return same_sense and abs(first) > self.threshold and abs(second) > self.second_threshold


def find_cells(
    cells: np.ndarray, properties: Sequence[Property], ids: np.ndarray, units: int, seed: int = 0
) -> list[Finding]:
    """Looks for the cell that follows each property best.

    Args:
        cells: Values of all cells, [N, C], layer after layer.
        properties: Properties of the text.
        ids: Token ids, [N].
        units: Cells of a layer.
        seed: Seed of the shifts.

    Returns:
        A finding for each property that is neither rare nor common in both halves; those found first, strongest first.
    """
    half = len(cells) // 2
    if half < MIN_HALF:
        return []
    first, second = _ranks(cells[:half]), _ranks(cells[half : 2 * half])
    rng = np.random.default_rng(seed)
    findings = [
        _best(first, second, wanted, ids[: 2 * half], units, rng)
        for wanted in properties
        if _varies(wanted.values[:half]) and _varies(wanted.values[half : 2 * half])
    ]
    return sorted(findings, key=lambda found: (not found.is_found, -found.strength))


def score_of_cell(values: np.ndarray, wanted: Property) -> float:
    """The AUC, or for a count the rank correlation, of the values of one cell [N] with a property."""
    y = _comparable(wanted, 0, len(values))
    return float(_scores(_ranks(values[:, None]), y[:, None], wanted.is_count)[0, 0])


def all_cells(reading: Reading, value: str) -> np.ndarray:
    """The values of all cells after each token of one text, [N, C], layer after layer."""
    return np.concatenate([values[value][0] for values in reading.layers], axis=-1)


def drawn_memory(values: np.ndarray, name: str) -> np.ndarray:
    """The memory of cells as pictures show it, from -1 to 1: tanh(c), since c has no bounds, or h.

    Args:
        values: Values of the memory, of any shape.
        name: Name of the value that carries it: "c" or "h".

    Example:
        >>> drawn_memory(np.array([-0.5, 0.25, 3.0]), "h")  # only that of an RNN with relu exceeds 1
        array([-0.5 ,  0.25,  1.  ])
    """
    return np.tanh(values) if name == "c" else np.clip(values, -1, 1)


def _best(
    first: np.ndarray, second: np.ndarray, wanted: Property, ids: np.ndarray, units: int, rng: np.random.Generator
) -> Finding:
    half, chance = len(first), 0.0 if wanted.is_count else 0.5
    y_first, y_second = _comparable(wanted, 0, half), _comparable(wanted, half, 2 * half)
    scores = _scores(first, y_first[:, None], wanted.is_count)[:, 0]  # [C]
    best = int(np.argmax(np.abs(scores - chance)))
    shifts = rng.integers(half // 10, half - half // 10, NUM_SHIFTS)
    by_chance = np.abs(_scores(first, _shifted(y_first, shifts), wanted.is_count) - chance).max(axis=0)
    threshold = float(np.quantile(by_chance, LEVEL))
    own = second[:, [best]]
    own_by_chance = np.abs(_scores(own, _shifted(y_second, shifts), wanted.is_count) - chance)[0]
    order = [cell for cell in np.argsort(-np.abs(scores - chance)).tolist() if abs(scores[cell] - chance) > threshold]
    return Finding(
        wanted.name,
        wanted.is_count,
        *divmod(best, units),
        float(scores[best]),
        float(_scores(own, y_second[:, None], wanted.is_count)[0, 0]),
        threshold,
        float(np.quantile(own_by_chance, LEVEL)),
        _token_alone(wanted, ids, half),
        float(wanted.values.mean()),
        tuple((*divmod(cell, units), float(scores[cell])) for cell in order[1 : 1 + NUM_OTHERS]),
    )


def _token_alone(wanted: Property, ids: np.ndarray, half: int) -> float:
    """How well the current token tells the property on the second half, from its means on the first."""
    sums = np.bincount(ids[:half], wanted.values[:half], ids.max() + 1)
    counts = np.bincount(ids[:half], minlength=ids.max() + 1)
    guess = np.where(counts > 0, sums / np.maximum(counts, 1), wanted.values[:half].mean())[ids[half:]]
    y_second = _comparable(wanted, half, 2 * half)
    return float(_scores(_ranks(guess[:, None]), y_second[:, None], wanted.is_count)[0, 0])


def _comparable(wanted: Property, start: int, stop: int) -> np.ndarray:
    """A stretch of a property; counts as ranks."""
    values = wanted.values[start:stop]
    return _ranks(values[:, None])[:, 0] if wanted.is_count else values


def _varies(values: np.ndarray) -> bool:
    """Whether the property has more than one value, and not only in a few places."""
    return int((values != np.median(values)).sum()) >= MIN_PLACES and float(values.std()) > 0


def _shifted(values: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """The values turned round by each shift, [N, S]."""
    return values[(np.arange(len(values))[:, None] + shifts) % len(values)]


def _ranks(columns: np.ndarray) -> np.ndarray:
    """The rank of each value in its column, from 1; equal values share their mean rank. [N, C] float32."""
    order = np.argsort(columns, axis=0, kind="stable")
    ordered = np.take_along_axis(columns, order, axis=0)
    ranks = np.empty(columns.shape, np.float32)
    np.put_along_axis(ranks, order, np.arange(1, len(columns) + 1, dtype=np.float32)[:, None], axis=0)
    for column in np.flatnonzero((ordered[1:] == ordered[:-1]).any(axis=0)):
        _, inverse, counts = np.unique(columns[:, column], return_inverse=True, return_counts=True)
        ranks[:, column] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks


def _scores(ranks: np.ndarray, properties: np.ndarray, is_count: bool) -> np.ndarray:
    """The score of each column of ranks [N, C] for each column of properties, or ranks of counts, [N, S]: [C, S]."""
    if is_count:
        x, y = _standard(ranks), _standard(properties)
        return x.T @ y / len(x)
    positive = properties.sum(axis=0)  # [S]
    sums = ranks.T @ properties.astype(np.float32)
    return (sums - positive * (positive + 1) / 2) / np.maximum(positive * (len(ranks) - positive), 1)


def _standard(columns: np.ndarray) -> np.ndarray:
    """Columns with mean 0 and variance 1; constant ones become 0."""
    centred = columns - columns.mean(axis=0)
    deviation = centred.std(axis=0)
    return (centred / np.where(deviation > 0, deviation, 1)).astype(np.float32)
