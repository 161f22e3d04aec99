"""What is written of a model: all of it or nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from pathlib import Path

import model_folders
import numpy as np
import pytest
from disk import unreadable
from model_folders import TRAINING_VALUES, files_in, save, small, weights_of

from textgen.errors import SavedModelError, TextgenError
from textgen.saved_model.layout import CARD, CONFIG, TRAINING, WEIGHTS, read_training, training_bytes
from textgen.saved_model.loading import load_model
from textgen.saved_model.model_card import card_file, model_card
from textgen.saved_model.saving import write_training
from textgen.storage import file_replacement, files
from textgen.storage.files import CannotWrite
from textgen.storage.manifests import MANIFEST
from textgen.tokenizer.model_file import MODEL_FILE
from textgen.tokenizer.tokenizer import Tokenizer

saved = model_folders.saved  # fixture


def test_saving_again_replaces_the_model(saved: Path, tokenizer: Tokenizer) -> None:
    weights = {name: -array for name, array in weights_of(small(tokenizer.vocab_size)).items()}
    weights["lstm_0/kernel"] = np.asfortranarray(weights["lstm_0/kernel"])  # column by column in memory
    save(saved, tokenizer, weights)
    found = load_model("songs").weights()
    assert all(np.array_equal(found[name], array) for name, array in weights.items())
    assert sorted(files_in(saved)) == [MANIFEST, CONFIG, WEIGHTS, MODEL_FILE]


def test_the_checksum_is_that_of_what_the_file_holds(saved: Path) -> None:
    """JSON has no infinity, so null stands for it."""
    write_training(saved, TRAINING_VALUES | {"odd": [float("inf"), (1, float("nan"))]})
    assert load_model("songs").training == TRAINING_VALUES | {"odd": [None, [1, None]]}


def test_training_and_card(saved: Path) -> None:
    write_training(saved, TRAINING_VALUES)
    assert load_model("songs").training == TRAINING_VALUES
    card = (saved / CARD).read_text(encoding="utf-8")
    assert card.startswith("# songs\n")
    for words in (
        "`poems.txt`", "12,345 characters in 6 documents", "textgen sample songs", "2 LSTM layers of 8 units",
        "| parameters | 98,765 |", "300 tokens (char)", "1,000 steps, 2.5 epochs, 1.5 minutes", "| seed | 7 |",
        "| bits per byte | 1.235 |",
    ):  # fmt: skip
        assert words in card
    assert "/home/me" not in card


def test_a_card_is_written_anew_until_a_person_changes_it(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    card = saved / CARD
    write_training(saved, TRAINING_VALUES)
    later = TRAINING_VALUES | {"parameters": 98_766}
    write_training(saved, later)
    assert card.read_bytes() == card_file("songs", later)
    own = card.read_bytes() + b"\nIt sings best in winter.\n"
    card.write_bytes(own)
    for _ in range(2):
        write_training(saved, TRAINING_VALUES)
    assert card.read_bytes() == own
    assert caplog.messages == [f"{card} was edited, so it stays as it is. To get a new card, remove or rename it."]
    card.unlink()
    write_training(saved, TRAINING_VALUES)
    assert card.read_bytes() == card_file("songs", TRAINING_VALUES)


def test_a_card_that_cannot_be_read_stays(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_training(saved, TRAINING_VALUES)
    before = (saved / CARD).read_bytes()
    monkeypatch.setattr("textgen.saved_model.saving.CARD_BYTES", len(before) - 1)
    write_training(saved, TRAINING_VALUES | {"parameters": 98_766})
    assert (saved / CARD).read_bytes() == before
    assert load_model("songs").training["parameters"] == 98_766


def test_a_card_that_cannot_be_read_for_a_moment_is_not_called_edited(
    saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_training(saved, TRAINING_VALUES)
    with unreadable(saved / CARD):
        write_training(saved, TRAINING_VALUES | {"parameters": 98_766})
    (message,) = caplog.messages
    assert message.startswith(f"{saved / CARD} cannot be read (Input/output error), so it stays as it is.")


def test_a_record_that_could_not_be_read_again_is_not_written(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = TRAINING_VALUES | {"labels": ["x" * 99] * 200}
    write_training(saved, TRAINING_VALUES)
    monkeypatch.setattr("textgen.saved_model.layout.JSON_BYTES", 20_000)
    with pytest.raises(SavedModelError, match=r"would have 2\d,\d+ bytes, .* The largest entry is 'labels'"):
        write_training(saved, record)
    assert read_training(saved) == TRAINING_VALUES


def test_entries_that_older_versions_named_otherwise_are_read(saved: Path) -> None:
    of_mix = {"sources": {"tales": {"characters": 9}}, "bits_per_byte": 1.5}
    start = {"name": None, "decided_by": "rule", "reason": "there is no base for this writing system"}
    record = TRAINING_VALUES | {"start": start | {"unknown_byte_fraction": 0.25}, "mix": deepcopy(of_mix)}
    record["mix"]["sources"]["tales"]["num_documents"] = 2
    record["status"] = "interrupted"
    settings = {"full_softmax_fraction": 0.5, "decay_target": "start", "interpolate_start": True}
    record |= {"training": record["training"] | settings, "start_fraction": 0.3}
    old = deepcopy(record) | {"base": start | {"unknown_bytes": 0.25}, "from": None, "mix": deepcopy(of_mix)}
    del old["start"]
    old["state"] = old.pop("status")
    old["corpus"]["documents"] = old["corpus"].pop("num_documents")
    old["mix"]["sources"]["tales"]["documents"] = 2
    old["training"]["full_softmax_share"] = old["training"].pop("full_softmax_fraction")
    old["training"] |= {"decay_target": "base", "interpolate_base": old["training"].pop("interpolate_start")}
    old["base_share"] = old.pop("start_fraction")
    (saved / TRAINING).write_bytes(training_bytes(old))
    assert read_training(saved) == record
    old["base_fraction"] = old.pop("base_share")
    (saved / TRAINING).write_bytes(training_bytes(old))
    assert read_training(saved) == record
    del old["base"]
    (saved / TRAINING).write_bytes(training_bytes(old | {"from": "novel"}))
    assert read_training(saved)["start"]["name"] == "novel"
    assert "12,345 characters in 6 documents" in model_card("songs", load_model(str(saved)).record)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_not_saved_over_good_ones(
    tmp_path: Path, saved: Path, tokenizer: Tokenizer, value: float
) -> None:
    before = files_in(saved)
    weights = weights_of(small(tokenizer.vocab_size))
    weights["lstm_0/kernel"][1, 2] = value
    for folder in (saved, tmp_path / "other"):
        with pytest.raises(SavedModelError, match="The weights lstm_0/kernel are not finite"):
            save(folder, tokenizer, weights)
    assert files_in(saved) == before
    assert not (tmp_path / "other").exists()


def test_a_full_disk_leaves_the_model_as_it_was(
    saved: Path, tokenizer: Tokenizer, disk_of: Callable[[int], AbstractContextManager[None]]
) -> None:
    before = files_in(saved)
    with disk_of(2000), pytest.raises(TextgenError, match=f"Cannot write {saved}: File too large"):
        save(saved, tokenizer, {"weights": np.zeros(5000, np.float32)})
    after = files_in(saved)
    assert {name: after[name] for name in before} == before
    load_model("songs").weights()


def test_a_full_disk_at_the_card_does_not_say_that_all_is_as_before(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = file_replacement.write_through

    def full(path: Path, data: bytes, mode: int = 0o666) -> None:
        if data.startswith(b"# "):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, data, mode)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_through", full)
        with pytest.raises(CannotWrite, match=f"{CARD}: No space left on device. {TRAINING} is written already, and"):
            write_training(saved, TRAINING_VALUES)
    assert read_training(saved) == TRAINING_VALUES
    write_training(saved, TRAINING_VALUES)
    assert (saved / CARD).read_bytes() == card_file(saved.name, TRAINING_VALUES)
