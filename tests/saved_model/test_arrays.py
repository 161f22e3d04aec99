"""Files of weights that do not fit their model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from textgen.errors import SavedModelError
from textgen.saved_model.arrays import read_weights


def test_of_many_arrays_that_do_not_fit_the_first_are_named_each_in_one_line(tmp_path: Path) -> None:
    names = [f"{number:04}\n\x1b[31m{'x' * 1000}" for number in range(500)]
    save_file({name: np.full(1, np.nan, np.float32) for name in names}, tmp_path / "weights")
    all_of_them: dict[str, tuple[int, ...]] = dict.fromkeys(names, (1,))
    for shapes in ({}, all_of_them):
        with pytest.raises(SavedModelError) as caught:
            read_weights(tmp_path / "weights", shapes)
        assert " and 492 more)" in str(caught.value)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1500


def test_what_the_library_says_about_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    header = b'{"' + b"x\\n" * 5000 + b'": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}'
    (tmp_path / "weights").write_bytes(len(header).to_bytes(8, "little") + header + bytes(12))
    with pytest.raises(SavedModelError, match="is damaged: ") as caught:
        read_weights(tmp_path / "weights", {})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
