"""Compressed models: what they cost, and the folders that they are in."""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import random_weights
from sample_text import LINES

from textgen.corpus.config import CorpusConfig
from textgen.dataset.ngram_index import NgramIndex
from textgen.dataset.word_filter import WordFilter
from textgen.errors import SavedModelError, TextgenError
from textgen.evaluation.scoring import Scorer
from textgen.model.config import ModelConfig
from textgen.model.directions import one_way
from textgen.model.numpy_model import NumpyModel
from textgen.model.prediction_change import PredictionChange
from textgen.saved_model.compression import (
    Cost,
    checked_cost,
    compress,
    compressed_copy,
    cost_of,
    finish_compressing,
)
from textgen.saved_model.layout import CARD, CONFIG, NGRAMS, TRAINING, WEIGHTS, WORDS
from textgen.saved_model.loading import load_model
from textgen.saved_model.model_card import card_file
from textgen.saved_model.precision import compressed, restored
from textgen.saved_model.removal import remove_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model, save_ngrams, save_words, write_training
from textgen.storage import file_replacement, files, manifests
from textgen.storage.files import CannotWrite
from textgen.storage.manifests import MANIFEST, update_folder
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.model_file import MODEL_FILE
from textgen.tokenizer.tokenizer import Tokenizer

TRAINING_VALUES: dict[str, Any] = {
    "status": "running",
    "model": {"vocab_size": 300, "embedding_dim": 6, "hidden_units": 8, "num_layers": 2},
    "tokenizer": {"tokenizer": "char"},
    "training": {"seed": 7},
    "corpus": {"paths": ["/home/me/poems.txt"], "valid": ["/home/me/held.txt"], "characters": 12, "num_documents": 6},
    "tokens": {"folder": "/home/me/.cache/textgen/tokens/1", "train": 3, "valid": 2},
    "scores": {"bits_per_byte": 1.25},
    "progress": {"step": 10, "epochs": 2.5, "seconds": 90},
    "parameters": 98,
    "versions": {"textgen": "0.1.0"},
    "files": {},
    "signature": "00",
}


def made(folder: Path, tokenizer: Tokenizer, scale: float = 1.0, **settings: Any) -> ModelFolder:
    config = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8, **settings)
    weights = {name: scale * array for name, array in random_weights(config).items()}
    save_model(folder, weights, config, TokenizerConfig("char"), CorpusConfig(documents="line"), tokenizer)
    return load_model(str(folder))


@pytest.fixture
def saved(tmp_path: Path, tokenizer: Tokenizer) -> ModelFolder:
    return made(tmp_path / "models" / "songs", tokenizer)


# --- What it costs -------------------------------------------------------------------------------------------


def test_the_cost_on_a_text_is_that_of_the_scorer(saved: ModelFolder) -> None:
    cost = cost_of(saved, "int8", [LINES])
    weights = saved.weights()
    expected = [
        Scorer(NumpyModel(saved.model_config, each), saved.tokenizer).score(LINES, ends=False).total.bits_per_byte
        for each in (weights, restored(compressed(weights, "int8"), "int8"))
    ]
    assert [cost.before, cost.after] == pytest.approx(expected, rel=1e-6)
    assert cost.rise == pytest.approx(expected[1] / expected[0] - 1, abs=1e-6)
    assert (cost.unit, cost.tokens, cost.change) == ("byte", len(saved.tokenizer.encode(LINES)), None)


def test_the_cost_on_own_text_falls_with_the_levels(saved: ModelFolder) -> None:
    coarse, fine = cost_of(saved, "int8"), cost_of(saved, "float16")
    assert coarse.unit == fine.unit == "token"
    assert 0 < coarse.before < math.log2(saved.tokenizer.vocab_size)
    assert coarse.after > fine.after > fine.before == coarse.before
    assert coarse.change is not None
    assert coarse.after - coarse.before == pytest.approx(coarse.change.divergence_nats / math.log(2))
    assert 0.9 < coarse.change.same_top_fraction <= 1
    assert cost_of(saved, "int8") == coarse


def test_own_text_is_drawn_from_the_model(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """A model that always says the same has a distribution known in advance."""
    config = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8)
    weights = {name: np.zeros(shape, np.float32) for name, shape in config.weight_shapes().items()}
    weights["head/bias"][270:274] = 50.0
    save_model(tmp_path / "m", weights, config, TokenizerConfig("char"), CorpusConfig(), tokenizer)
    cost = cost_of(load_model(str(tmp_path / "m")), "int8")
    assert (cost.before, cost.after) == pytest.approx((2.0, 2.0), abs=1e-6)
    assert cost.tokens == 32 * 64


@pytest.mark.parametrize("direction", ["backward", "both"])
def test_every_direction_counts(tmp_path: Path, tokenizer: Tokenizer, direction: str) -> None:
    saved = made(tmp_path / "m", tokenizer, direction=direction)
    weights = saved.weights()
    if direction == "both":
        weights["backward_lstm_0/kernel"][:, 0] = 40.0  # coarse levels for one direction only
        configs = (saved.model_config, saved.tokenizer_config, saved.corpus_config)
        save_model(saved.folder, weights, *configs, saved.tokenizer)
    cost = cost_of(load_model(str(saved.folder)), "int8", [LINES])
    after = restored(compressed(weights, "int8"), "int8")
    shares = []
    for way in saved.model_config.directions:
        one, two = (
            Scorer(NumpyModel(*one_way(saved.model_config, each, way)), tokenizer, way).score(LINES, ends=False).total
            for each in (weights, after)
        )
        shares.append(two.bits_per_byte / one.bits_per_byte - 1)
    assert cost.rise == pytest.approx(max(shares), abs=1e-6)


def test_labels_are_read(tmp_path: Path, tokenizer: Tokenizer) -> None:
    labelled = tokenizer.with_labels(("a", "b"))
    assert cost_of(made(tmp_path / "m", labelled), "int8").after > 0


def test_what_cannot_be_measured_is_refused(saved: ModelFolder) -> None:
    for texts in ([], [" \n"], ["", "\n"]):
        with pytest.raises(SavedModelError, match="There is no text to measure on"):
            cost_of(saved, "int8", texts)
    compress(saved, "float16")
    with pytest.raises(SavedModelError, match="is stored as float16 already, and its full weights are not in it"):
        cost_of(load_model("songs"), "int8")


def test_only_the_beginning_of_a_long_text_is_read(saved: ModelFolder) -> None:
    assert cost_of(saved, "int8", iter(["x" * 31_500, "y" * 100_000, "z"])).tokens == 32_000
    assert cost_of(saved, "int8", ["x" * 10] * 4_000).tokens == 32_000, "short documents count by their characters"


@pytest.mark.parametrize(
    ("precision", "advice"),
    [("int8", r"Set precision to float16, or use accept_loss\."), ("float16", r"Use accept_loss to .*\.")],
)
def test_a_cost_above_the_limit_is_refused_unless_it_is_accepted(
    saved: ModelFolder, monkeypatch: pytest.MonkeyPatch, precision: str, advice: str
) -> None:
    monkeypatch.setattr("textgen.saved_model.compression.MAX_RISE", 1.0)
    cost = checked_cost(saved, precision, [LINES])
    monkeypatch.setattr("textgen.saved_model.compression.MAX_RISE", -1.0)
    told = (
        rf"songs was left as it is: as {precision} it needs {re.escape(str(cost))}, and the limit is -100 %\. {advice}"
    )
    with pytest.raises(SavedModelError, match=f"^{told}$"):
        checked_cost(saved, precision, [LINES])
    assert checked_cost(saved, precision, [LINES], accept_loss=True) == cost


def test_a_cost_without_bits() -> None:
    assert Cost("byte", 2.0, 2.01, 5).rise == pytest.approx(0.005)
    assert Cost("byte", 0.0, 0.1, 5).rise == math.inf
    assert Cost("byte", 0.0, 0.0, 5).rise == 0


def test_the_names_of_a_cost_do_not_depend_on_what_was_measured() -> None:
    change = PredictionChange(0.002, 0.001, 0.99, 5)
    measured, given = Cost("token", 2.0, 2.01, 5, change).to_dict(), Cost("byte", 2.0, 2.01, 5).to_dict()
    assert measured == {"cost_unit": "token", "before": 2.0, "after": 2.01} | change.to_dict()
    assert list(given) == list(measured)
    assert (given["divergence_nats"], given["tokens"]) == (None, 5)


# --- Folders -------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(saved: ModelFolder) -> ModelFolder:
    """A model with an index and a record of its training."""
    save_ngrams(saved.folder, NgramIndex.build([np.arange(100, dtype=np.int32)], 4, 100, saved.tokenizer.eos_id))
    write_training(saved.folder, TRAINING_VALUES)
    return load_model("songs")


def test_a_model_is_compressed_where_it_is(trained: ModelFolder) -> None:
    weights, ngrams = trained.weights(), (trained.folder / NGRAMS).read_bytes()
    compress(trained, "int8")
    after = load_model("songs")
    assert (after.precision, after.training) == ("int8", TRAINING_VALUES)
    assert after.record == TRAINING_VALUES | {"precision": "int8"}
    expected = restored(compressed(weights, "int8"), "int8")
    assert all(np.array_equal(array, expected[name]) for name, array in after.weights().items())
    assert (trained.folder / NGRAMS).read_bytes() == ngrams
    assert "| weights stored as | int8 |" in (trained.folder / CARD).read_text()


def test_a_copy_is_a_model_without_paths(trained: ModelFolder) -> None:
    before = {path.name: path.read_bytes() for path in trained.folder.iterdir()}
    target = trained.folder.with_name("small")
    compressed_copy(trained, target, "float16")
    assert {path.name: path.read_bytes() for path in trained.folder.iterdir()} == before
    assert sorted(path.name for path in target.iterdir()) == sorted(before)
    copy = load_model("small")
    assert copy.precision == "float16"
    assert copy.has_ngrams
    assert copy.tokenizer.fingerprint() == trained.tokenizer.fingerprint()
    assert "/home/me" not in (target / TRAINING).read_text() + (target / CARD).read_text()
    assert copy.training["corpus"]["paths"] == ["poems.txt"]
    assert copy.training["scores"] == TRAINING_VALUES["scores"]
    assert "status" not in copy.training


def test_a_model_whose_record_is_not_valid_text_is_copied(saved: ModelFolder) -> None:
    odd = {"versions": {"textgen": "\ud800"}, "scores": {"\ud800": 1.0}, "labels": ["\ud800"]}
    write_training(saved.folder, TRAINING_VALUES | odd)
    compressed_copy(load_model("songs"), saved.folder.with_name("small"), "float16")
    compress(load_model("songs"), "float16")
    for name in ("small", "songs"):
        assert load_model(name).training["scores"] == odd["scores"]
        assert "trained with textgen \\ud800 on" in (saved.folder.with_name(name) / CARD).read_text(encoding="utf-8")


def test_a_card_that_was_edited_is_kept(trained: ModelFolder, caplog: pytest.LogCaptureFixture) -> None:
    card, target = trained.folder / CARD, trained.folder.with_name("small")
    own = card.read_bytes() + b"\nIt sings best in winter.\n"
    card.write_bytes(own)
    compressed_copy(trained, target, "float16")
    assert caplog.messages == [f"{card} is not as textgen wrote it, so small gets it unchanged."]
    compress(trained, "int8")
    assert card.read_bytes() == (target / CARD).read_bytes() == own
    assert caplog.messages[1:] == [f"{card} was edited, so it stays as it is. To get a new card, remove or rename it."]


def test_a_copy_may_lack_the_index_and_the_record(trained: ModelFolder, saved: ModelFolder) -> None:
    compressed_copy(trained, trained.folder.with_name("small"), "int8", with_index=False)
    assert not load_model("small").has_ngrams
    (trained.folder / TRAINING).unlink()
    compressed_copy(load_model("songs"), trained.folder.with_name("bare"), "int8", with_index=False)
    names = {path.name for path in trained.folder.with_name("bare").iterdir()}
    assert names == {CONFIG, WEIGHTS, MODEL_FILE, MANIFEST, CARD}
    assert load_model("bare").record["precision"] == "int8"


def test_a_copy_holds_nothing_but_a_model_and_can_be_removed(trained: ModelFolder) -> None:
    update_folder(trained.folder, {"film.mkv": b"large"})
    save_words(trained.folder, WordFilter.build(["cat"]))
    compressed_copy(load_model("songs"), trained.folder.with_name("small"), "int8")
    copy = load_model("small")
    assert set(copy.files) == {CONFIG, WEIGHTS, MODEL_FILE, NGRAMS, WORDS}
    remove_model(copy.folder)


def test_a_copy_replaces_nothing(trained: ModelFolder) -> None:
    target = trained.folder.with_name("small")
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    with pytest.raises(TextgenError):
        compressed_copy(trained, target, "int8")
    assert [path.name for path in target.iterdir()] == ["notes.txt"]
    with pytest.raises(SavedModelError, match="A model cannot be called"):
        compressed_copy(trained, trained.folder.with_name(".hidden"), "int8")


@pytest.mark.parametrize("part", [b"textgen sample small", b'"bits_per_byte": 1.25', b'"format_version"'])
def test_a_copy_that_is_interrupted_is_not_there(
    trained: ModelFolder, monkeypatch: pytest.MonkeyPatch, part: bytes
) -> None:
    """Otherwise a second try would be refused, since the model would be there already."""
    write, target = file_replacement.write_through, trained.folder.with_name("small")

    def interrupted(path: Path, data: bytes, mode: int = 0o666) -> None:
        if part in data:
            raise KeyboardInterrupt
        write(path, data, mode)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_through", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compressed_copy(trained, target, "int8")
    assert [path.name for path in target.parent.iterdir()] == ["songs"]
    compressed_copy(trained, target, "int8")
    assert load_model("small").training["scores"] == TRAINING_VALUES["scores"]
    assert (target / CARD).read_bytes() == card_file("small", load_model("small").record)


def test_a_licence_and_a_note_stay_in_the_card(trained: ModelFolder) -> None:
    """In a copy and in the folder of the model."""
    texts = {"licence": "CC0", "note": "Mine."}
    (trained.folder / CARD).write_bytes(card_file("songs", trained.record, texts))
    compressed_copy(trained, trained.folder.with_name("small"), "int8")
    compress(trained, "int8")
    for name in ("small", "songs"):
        model = load_model(name)
        assert (model.folder / CARD).read_bytes() == card_file(name, model.record, texts)


def test_damage_is_found_before_a_copy_is_there(trained: ModelFolder) -> None:
    data = bytearray((trained.folder / NGRAMS).read_bytes())
    data[-1] ^= 1
    (trained.folder / NGRAMS).write_bytes(data)
    with pytest.raises(SavedModelError, match=f"{NGRAMS} was altered"):
        compressed_copy(trained, trained.folder.with_name("small"), "int8")
    assert [path.name for path in trained.folder.parent.iterdir()] == ["songs"]


# --- A disk that is full, and kills --------------------------------------------------------------------------


def test_a_full_disk_at_the_card_says_what_is_written_and_the_next_time_renews_the_card(trained: ModelFolder) -> None:
    write, told = file_replacement.write_through, "The weights are stored as float16 already: .* to renew the card"

    def full(path: Path, data: bytes, mode: int = 0o666) -> None:
        if b"weights stored as" in data:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, data, mode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "write_through", full)
        with pytest.raises(CannotWrite, match=f"Cannot write .*{CARD}: No space left on device. {told}"):
            compress(trained, "float16")
    assert load_model("songs").precision == "float16"
    assert "weights stored as" not in (trained.folder / CARD).read_text()
    assert finish_compressing(load_model("songs"))
    assert "| weights stored as | float16 |" in (trained.folder / CARD).read_text()
    assert not finish_compressing(load_model("songs"))


def test_a_compressed_model_without_a_card_is_finished(trained: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless other files show an interruption: then it gets the card that compressing would have written."""
    before = shutil.copytree(trained.folder, trained.folder.with_name("again"))
    compress(trained, "int8")
    (trained.folder / CARD).unlink()
    assert not finish_compressing(load_model("songs"))
    assert not (trained.folder / CARD).exists()

    def killed(*paths: Path, replace: bool = False) -> None:
        raise KeyboardInterrupt

    (before / CARD).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(manifests, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            compress(load_model("again"), "int8")
    assert finish_compressing(load_model("again"))
    assert "| weights stored as | int8 |" in (before / CARD).read_text(encoding="utf-8")


@pytest.mark.parametrize("is_edited", [False, True])
def test_what_a_kill_between_the_manifest_and_the_renames_left_is_put_in_place(
    trained: ModelFolder, monkeypatch: pytest.MonkeyPatch, is_edited: bool
) -> None:
    def killed(*paths: Path, replace: bool = False) -> None:
        raise KeyboardInterrupt

    before = sorted(path.name for path in trained.folder.iterdir())
    card = (trained.folder / CARD).read_bytes() + b"It sings." * is_edited
    (trained.folder / CARD).write_bytes(card)
    with monkeypatch.context() as patch:
        patch.setattr(manifests, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            compress(trained, "int8")
    (trained.folder / ".tmp-0123456789abcdef.md").write_bytes(card[:10])
    assert len(list(trained.folder.glob("*.new"))) > 1
    assert finish_compressing(load_model("songs"))
    assert sorted(path.name for path in trained.folder.iterdir()) == before
    assert load_model("songs").precision == "int8"
    assert ((trained.folder / CARD).read_bytes() == card) == is_edited
    assert not finish_compressing(load_model("songs"))
