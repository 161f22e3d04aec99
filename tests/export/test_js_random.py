"""The random numbers of the page are NumPy's, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from javascript import in_node, needs_node

pytestmark = needs_node

SEEDS = [0, 1, 7, 42, 255, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**40 + 5, 2**53 + 1, 2**62, 2**63 - 1]
NUMBERS = 41


def hexes(values: np.ndarray) -> list[str]:
    """The bits of doubles."""
    return [f"{bits:016x}" for bits in np.asarray(values, np.float64).view(np.uint64).tolist()]


HEX = """
const bits = (values) => {
  const numbers = new BigUint64Array(Float64Array.from(values).buffer);
  return Array.from(numbers, (number) => number.toString(16).padStart(16, "0"));
};
"""


def test_random_numbers_are_those_of_numpy(tmp_path: Path) -> None:
    """For each seed alone, and for the pair with 1 that token healing takes."""
    seeds = [[seed] for seed in SEEDS] + [[seed, 1] for seed in SEEDS] + [[2**62, 2**62, 2**62]]
    script = HEX + (
        f"return given.map((seeds) => {{ const random = new Random(...seeds); "
        f"return bits(Array.from({{ length: {NUMBERS} }}, () => random.next())); }});"
    )
    found = in_node(script, [[str(seed) for seed in pair] for pair in seeds], tmp_path)
    for pair, own in zip(seeds, found, strict=True):
        seed = pair[0] if len(pair) == 1 else pair
        assert own == hexes(np.random.Generator(np.random.Philox(seed)).random(NUMBERS)), pair


def test_going_back_gives_the_same_numbers(tmp_path: Path) -> None:
    script = """
    const random = new Random(given);
    const first = Array.from({ length: 10 }, () => random.next());
    random.drawn = 3;
    return [first.slice(3), Array.from({ length: 7 }, () => random.next())];
    """
    first, again = in_node(script, "7", tmp_path)
    assert first == again
    assert len({*first}) == 7
