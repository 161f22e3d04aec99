from __future__ import annotations

import numpy as np

from textgen.generation.sampling.random_numbers import AHEAD, Uniforms, row_generator


def test_row_generator_is_a_function_of_its_seed() -> None:
    whole = row_generator(7).random(100)
    parts = row_generator(7)
    np.testing.assert_array_equal(np.concatenate([parts.random(n) for n in (1, 4, 32, 63)]), whole)
    assert not np.array_equal(row_generator(8).random(100), whole)
    row_generator((1 << 63) - 1).random()


def test_uniforms_are_those_of_the_rows_own_generator() -> None:
    """Also where they were made ahead, and when other rows leave."""
    uniforms = Uniforms([3, 4, 5], [False, True, False])
    alone, both = row_generator(5), row_generator(4)
    for _ in range(AHEAD + 10):
        to_exclude, to_draw = uniforms.draw()
        assert [to_exclude[1], to_draw[1]] == both.random(2).tolist()
        assert [to_exclude[2], to_draw[2]] == [0.0, alone.random()]
    uniforms.keep(np.array([2]))
    for _ in range(AHEAD + 10):
        to_exclude, to_draw = uniforms.draw()
        assert [*to_exclude, *to_draw] == [0.0, alone.random()]
