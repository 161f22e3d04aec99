"""Changes a cell and looks at what follows: a cell may know something that the network does not use.

Ablating a cell holds its memory at the mean that it has in the text. Clamping holds it at a low or a high value that
it really has: the 5 % and 95 % quantiles. What changes is the loss, where the property of the cell is there and
elsewhere, and the probability of tokens. The same is done to cells chosen at random, since any change costs a little.
The mean over a few hundred tokens is an estimate: its standard error comes with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textgen.insight.cells import all_cells
from textgen.insight.estimates import Estimate, estimated
from textgen.insight.reading import Reader, Reading, softmax
from textgen.model.clamping import Clamp, Place

DIGITS = 4  # of the number at which a cell is held, so that it can be typed
NUM_STEPS = 256  # tokens that are read again under each change
NUM_RANDOM = 8
NUM_TOKENS = 5  # tokens that are shown: those whose probability rises or falls most
LOW, HIGH = 0.05, 0.95  # quantiles of the values of a cell at which it is held


@dataclass(frozen=True)
class Change:
    """What holding a cell at a number does.

    Attributes:
        number: What the memory of the cell is held at.
        bits: Mean change of the loss, bits per token, with its standard error.
        bits_with: The same where the property is there; None without such places.
        bits_without: The same elsewhere.
        rising: Tokens whose mean probability grows most: id, before, after.
        falling: Tokens whose mean probability shrinks most.
    """

    number: float
    bits: Estimate
    bits_with: Estimate | None
    bits_without: Estimate | None
    rising: tuple[tuple[int, float, float], ...]
    falling: tuple[tuple[int, float, float], ...]


@dataclass(frozen=True)
class Intervention:
    """What three changes of a cell do.

    Attributes:
        layer: Layer of the cell.
        unit: Unit of the cell.
        mean: The cell is held at its mean: ablated.
        low: It is held at its 5 % quantile.
        high: It is held at its 95 % quantile.
    """

    layer: int
    unit: int
    mean: Change
    low: Change
    high: Change


@dataclass(frozen=True)
class Interventions:
    """Changes of several cells, and of others chosen at random for comparison.

    Attributes:
        cells: The changes of each cell.
        random_bits: Mean change of the loss when another cell is held at its mean, bits per token, for each of them.
        steps: Tokens that were read under each change.
    """

    cells: list[Intervention]
    random_bits: list[float]
    steps: int


def intervene(
    reader: Reader,
    reading: Reading,
    places: Sequence[tuple[int, int]],
    where: Sequence[np.ndarray | None],
    is_scored: np.ndarray,
    seed: int = 0,
) -> Interventions:
    """Ablates and clamps cells, all of them side by side.

    Args:
        reader: The network.
        reading: Its reading of one text, with h and c kept.
        places: Layer and unit of each cell.
        where: For each cell where its property is there, bool [N], or None.
        is_scored: Whether the token after each one counts, bool [N - 1].
        seed: Seed of the random cells.

    Returns:
        What each change does to the loss and to the tokens.
    """
    ids, config = reading.ids[0], reader.config
    steps = min(NUM_STEPS, len(ids) // 2)
    start = len(ids) - steps - 1  # at the end of the text, which had no part in choosing the cells
    values = all_cells(reading, reader.memory)  # [N, C]
    rng = np.random.default_rng(seed)
    others = [cell for cell in np.ndindex(config.num_layers, config.hidden_units) if cell not in set(places)]
    random = [others[number] for number in rng.permutation(len(others))[:NUM_RANDOM]]
    rows: list[list[Clamp]] = [[]]
    for number, (layer, unit) in enumerate([*places, *random]):
        of_cell = values[:, layer * config.hidden_units + unit]
        low, high = np.quantile(of_cell, [LOW, HIGH])
        held = [of_cell.mean(), low, high] if number < len(places) else [of_cell.mean()]
        rows += [[Clamp(Place(layer, unit, reader.memory), round(float(value), DIGITS))] for value in held]
    counts = is_scored[start : start + steps]
    targets = ids[start + 1 : start + 1 + steps]
    losses, means = _read_clamped(reader, reading, rows, start, targets, counts)
    bits = (losses[1:] - losses[0]) / np.log(2)  # [rows - 1, steps that count]
    changes: list[Intervention] = []
    for number, (layer, unit) in enumerate(places):
        own = where[number]
        there = None if own is None else own[start : start + steps][counts].astype(bool)
        effects = [
            _change(rows[1 + row][0].number, bits[row], there, means[0], means[1 + row])
            for row in range(3 * number, 3 * number + 3)
        ]
        changes.append(Intervention(layer, unit, *effects))
    return Interventions(changes, bits[3 * len(places) :].mean(axis=1).tolist(), steps)


def _read_clamped(
    reader: Reader, reading: Reading, rows: list[list[Clamp]], start: int, targets: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The losses in nats, [rows, steps that count], and the mean probability of each token, [rows, V]."""
    inputs = np.tile(reading.ids[:, start : start + len(targets)], (len(rows), 1))
    state = reader.state_at(reading, [start] * len(rows))
    features = reader.read(inputs, state, rows, keep=()).features
    losses, means = [], []
    for row in features:
        p, nats = softmax(reader.model.logits(row[counts]), targets[counts])  # [n, V], [n]
        losses.append(nats)
        means.append(p.mean(axis=0))
    return np.stack(losses), np.stack(means)


def _change(number: float, bits: np.ndarray, there: np.ndarray | None, before: np.ndarray, after: np.ndarray) -> Change:
    """What holding a cell at a number changes.

    Args:
        number: The number.
        bits: Change of the loss at each step that counts, [n].
        there: At which of these steps the property of the cell is there, bool [n]; None if there is no such property.
        before: Mean probability of each token while the cell is free, [V].
        after: The same while it is held, [V].
    """
    order = np.argsort(after - before)
    moved = [(int(id), float(before[id]), float(after[id])) for id in order]
    with_it = None if there is None or not there.any() else estimated(bits[there])
    without = None if there is None or there.all() else estimated(bits[~there])
    rising, falling = tuple(moved[: -1 - NUM_TOKENS : -1]), tuple(moved[:NUM_TOKENS])
    return Change(number, estimated(bits), with_it, without, rising, falling)
