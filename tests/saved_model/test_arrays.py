"""Files of weights that do not fit their model."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from textgen.errors import SavedModelError
from textgen.saved_model.arrays import read_weights, write_arrays


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


def test_arrays_are_written_in_their_order_with_the_permissions_of_a_new_file(tmp_path: Path) -> None:
    arrays: dict[str, np.ndarray] = {
        "f": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "i": np.arange(3, dtype=np.int8),
    }
    write_arrays(tmp_path / "a.safetensors", arrays)
    (tmp_path / "new").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "new").stat().st_mode
    read = load_file(tmp_path / "a.safetensors")
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "new"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_an_error_of_the_disk_is_that_of_the_system(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(arrays: object, path: Path) -> None:
        raise SafetensorError(f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})")

    monkeypatch.setattr("textgen.saved_model.arrays.save_file", fails)
    with pytest.raises(OSError, match=r"a\.safetensors") as caught:
        write_arrays(tmp_path / "a.safetensors", {"f": np.zeros(2)})
    assert caught.value.errno == number


def test_the_library_names_errors_of_the_system_by_their_number(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r".") as caught:
        write_arrays(tmp_path / "missing" / "a.safetensors", {"f": np.zeros(2)})
    assert caught.value.errno == errno.ENOENT
