"""Encoded text on a full disk: an error, however few numbers are left to write."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textgen.corpus.corpus import Part
from textgen.dataset.token_files import COUNTS, ENDS, IDS, OPENINGS
from textgen.dataset.token_writer import _SplitWriter, encode_parts
from textgen.storage.files import CannotWrite
from textgen.tokenizer.kinds import ByteTokenizer

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="a device of Linux")
TEXT = "one\n\ntwo\n\n" * 200


@pytest.mark.parametrize("name", [IDS, ENDS, OPENINGS, COUNTS])
def test_the_last_numbers_of_a_file_are_written_or_an_error_is_raised(name: str, tmp_path: Path) -> None:
    tokenizer, text = ByteTokenizer(), TEXT if name == OPENINGS else "ten bytes."
    (tmp_path / f"train{name}.bin").symlink_to(FULL)
    writer = _SplitWriter(tmp_path, "train", tokenizer, np.dtype(np.uint16))
    writer.write([Part(text, ends_document=True)], [np.array(tokenizer.encode(text))])
    with pytest.raises(OSError, match="No space left") as caught:
        writer.finish()
    assert caught.value.errno == errno.ENOSPC
    writer.close()


@pytest.mark.parametrize("text", ["ten bytes.", TEXT * 100])
def test_the_message_of_a_full_disk(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Path.open

    def on_full_disk(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        return usual(FULL if path.suffix == ".bin" else path, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", on_full_disk)
    parts = [(split, Part(text, ends_document=True)) for split in ("train", "valid")]
    folder = tmp_path / "encoded"
    with pytest.raises(CannotWrite) as caught:
        encode_parts(parts, ByteTokenizer(), folder)
    why = "No space left on device. Free some space or choose another folder; what was there before is untouched."
    assert str(caught.value) == f"Cannot write {folder}: {why}"
    assert list(tmp_path.iterdir()) == []
