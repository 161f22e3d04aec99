"""Saved models: what was saved comes back, and whatever is damaged is refused in one clear line."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from disk import unreadable
from model_folders import CORPUS, OTHER_TOKENIZER, save, saved, small, weights_of
from safetensors.numpy import save as to_safetensors

from textgen.dataset.bloom_filter import BloomFilter
from textgen.dataset.ngram_index import NgramIndex
from textgen.dataset.word_filter import WordFilter
from textgen.errors import ConfigError, ModelChanged, SavedModelError, TextgenError, Unreadable
from textgen.model.config import ModelConfig
from textgen.saved_model import layout, loading
from textgen.saved_model.layout import CONFIG, FILTER_BYTES, JSON_BYTES, NGRAMS, TRAINING, WEIGHTS, WORDS, read_json
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model, save_ngrams, save_words
from textgen.storage.file_reading import sha256
from textgen.storage.files import json_bytes, write_file
from textgen.storage.manifests import MANIFEST, read_manifest, update_folder, verified
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer, _control_pieces
from textgen.tokenizer.model_file import MODEL_BYTES, MODEL_FILE, read_tokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

if TYPE_CHECKING:
    from textgen.model.language_model import LanguageModel

__all__ = ["saved"]


def test_a_model_comes_back_as_it_was_saved(tmp_path: Path, model: LanguageModel, tokenizer: Tokenizer) -> None:
    weights, kind = model.weights_as_arrays(), TokenizerConfig("char", vocab_size=300)
    save_model(tmp_path / "model", weights, model.config, kind, CORPUS, tokenizer)
    saved = load_model(str(tmp_path / "model"))
    assert (saved.model_config, saved.tokenizer_config, saved.corpus_config) == (model.config, kind, CORPUS)
    assert (saved.name, saved.folder, saved.training) == ("model", tmp_path / "model", {})
    found = saved.weights()
    assert found.keys() == weights.keys() == model.config.weight_shapes().keys()
    assert all(
        np.array_equal(found[name], array) and found[name].dtype == np.float32 for name, array in weights.items()
    )
    built = saved.network()
    ids = np.array([[2, 270, 263, 3]], np.int32)
    assert np.array_equal(built(ids)[0], model(ids)[0])
    for build in (saved.network, saved.numpy_model, saved.exact_weights, saved.one_way):
        with pytest.raises(ConfigError, match=r"^direction must be one of forward, backward. Received: ''"):
            build("")


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_the_network_of_a_generator_is_the_one_that_writes(
    tmp_path: Path, tokenizer: Tokenizer, direction: str
) -> None:
    config = ModelConfig(tokenizer.vocab_size, embedding_dim=4, hidden_units=3, num_layers=1, direction=direction)
    save_model(tmp_path / "model", weights_of(config), config, TokenizerConfig("char"), CORPUS, tokenizer)
    generator = load_model(tmp_path / "model").generator()
    network, ids, state = generator.network(), [2, 270, 263], generator.model.initial_state(1)
    logits, _ = network(np.array([ids], np.int32))
    for place, id in enumerate(ids):
        expected, state = generator.model.step(np.array([id], np.int32), state)
        np.testing.assert_allclose(logits[0, place], expected[0], atol=1e-5)


@pytest.mark.parametrize("part", ["infiller", "embedder"])
def test_the_networks_of_both_directions_share_their_tables(tmp_path: Path, tokenizer: Tokenizer, part: str) -> None:
    config = ModelConfig(tokenizer.vocab_size, embedding_dim=4, hidden_units=3, num_layers=1, direction="both")
    save_model(tmp_path / "both", weights_of(config), config, TokenizerConfig("char"), CORPUS, tokenizer)
    models = getattr(load_model(tmp_path / "both"), part)()._models
    assert set(models) == {"forward", "backward"}
    assert models["forward"]._table is models["backward"]._table
    assert models["forward"]._head is models["backward"]._head


def test_another_text_is_read_as_the_training_text_except_what_is_of_one_text(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    config, kind = small(tokenizer.vocab_size), TokenizerConfig("char")
    corpus = replace(CORPUS, encoding="cp1252", text_column="body", strict=True)
    save_model(tmp_path / "model", weights_of(config), config, kind, corpus, tokenizer)
    saved = load_model(str(tmp_path / "model"))
    assert saved.reading({}) == replace(corpus, encoding=None, strict=False)
    given: dict[str, Any] = {"encoding": "utf-16", "documents": "file", "strict": True}
    assert saved.reading(given) == replace(corpus, **given)


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word", "byte"])
def test_every_tokenizer_comes_back(tmp_path: Path, kind: str) -> None:
    text = "The cat sat on the mat.\nThe dog saw the cat, the cat saw the dog.\n"
    tokenizer = train_tokenizer([text] * 5, TokenizerConfig(kind))
    found = load_model(str(save(tmp_path / "model", tokenizer))).tokenizer
    assert (found.kind, found.vocab_size) == (kind, tokenizer.vocab_size)
    assert found.fingerprint() == tokenizer.fingerprint()
    assert found.pieces() == tokenizer.pieces()
    assert found.encode(text + "月") == tokenizer.encode(text + "月")
    assert (tmp_path / "model" / MODEL_FILE).exists() == (kind != "byte")


def change(name: str, data: bytes) -> Callable[[Path], None]:
    """A file that the manifest agrees with: written so, not damaged on the way."""
    return lambda folder: update_folder(folder, {name: data})


def set_config(section: str, **values: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_bytes())
        (config[section] if section else config).update(values)
        update_folder(folder, {CONFIG: json.dumps(config).encode()})  # `json_bytes` writes no NaN

    return damage


def drop_config(section: str, key: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_bytes())
        del (config[section] if section else config)[key]
        update_folder(folder, {CONFIG: json_bytes(config)})

    return damage


def set_weights(**arrays: np.ndarray | None) -> Callable[[Path], None]:
    """Weights with some changed, added, or, if None, left out; `__` in a name is `/`."""

    def damage(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_bytes())["model"]
        weights: dict[str, np.ndarray | None] = {**weights_of(ModelConfig(**config))}
        weights |= {name.replace("__", "/"): array for name, array in arrays.items()}
        left = {name: array for name, array in weights.items() if array is not None}
        update_folder(folder, {WEIGHTS: to_safetensors(left)})

    return damage


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size - 1)


def flip(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)

    return damage


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def forget(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        del manifest["files"][name]
        (folder / MANIFEST).write_bytes(json_bytes(manifest))

    return damage


def many_pieces(folder: Path) -> None:
    pieces = _control_pieces([f"<piece {number}>" for number in range(100_000)])
    change(MODEL_FILE, (folder / MODEL_FILE).read_bytes() + pieces)(folder)


def header(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    **{f"{name} missing": (remove(name), f"{name} is missing") for name in (CONFIG, MODEL_FILE, WEIGHTS)},
    **{f"{name} cut": (cut(name), rf"{name} is [\d,]+ bytes long, not ") for name in (CONFIG, MODEL_FILE, WEIGHTS)},
    **{f"{name} altered": (flip(name), f"{name} was altered") for name in (CONFIG, MODEL_FILE, WEIGHTS)},
    **{f"{name} unnamed": (forget(name), f"does not name {name}") for name in (CONFIG, MODEL_FILE, WEIGHTS)},
    "manifest missing": (remove(MANIFEST), "There is no model"),
    "manifest cut": (lambda folder: os.truncate(folder / MANIFEST, 30), f"{MANIFEST} is damaged"),
    "manifest empty": (lambda folder: os.truncate(folder / MANIFEST, 0), f"{MANIFEST} is damaged"),
    "config is no JSON": (change(CONFIG, b"{"), "Cannot read"),
    "config is no text": (change(CONFIG, b"\xff\xfe\x00"), "Cannot read"),
    "config is a list": (change(CONFIG, b"[1]"), "should be an object"),
    "config is bottomless": (change(CONFIG, b"[" * 200_000), "Cannot read"),
    "config is empty": (change(CONFIG, b"{}"), "format version None.*Train the model again"),
    "newer format": (set_config("", format_version=3), "format version 3.*Upgrade textgen"),
    "older format": (set_config("", format_version=0), "format version 0.*Train the model again"),
    "no whole format": (set_config("", format_version=1.0), "format version 1.0.*Train the model again"),
    "odd format": (set_config("", format_version="new"), "format version 'new'.*Train the model again"),
    "no model": (drop_config("", "model"), "lacks 'model'"),
    "no tokenizer": (drop_config("", "tokenizer"), "lacks 'tokenizer'"),
    "model is null": (set_config("", model=None), "is damaged"),
    "model is a list": (set_config("", model=[1]), "is damaged"),
    "corpus is a text": (set_config("", corpus="line"), "is damaged"),
    "no vocab_size": (drop_config("model", "vocab_size"), "cannot be used: The model setting 'vocab_size' is"),
    "unknown key": (set_config("model", memory=True), "cannot be used: There is no model setting 'memory'"),
    "unknown corpus key": (set_config("corpus", url="x"), "cannot be used: There is no corpus setting 'url'"),
    "wrong type": (set_config("model", hidden_units="8"), "cannot be used: hidden_units must be an integer"),
    "not finite": (set_config("model", dropout=float("nan")), "cannot be used: dropout must be a number"),
    "units over the limit": (set_config("model", hidden_units=10**12), "cannot be used: hidden_units must be"),
    "negative units": (set_config("model", hidden_units=-1), "cannot be used: hidden_units must be"),
    "units beyond memory": (set_config("model", hidden_units=1 << 15, num_layers=64), "does not fit.*lstm_0/bias"),
    "attention over the limit": (set_config("model", attention=1 << 30), "cannot be used: attention must be"),
    "attention without weights": (set_config("model", attention=8), "does not fit.*attention/beta, attention/gamma"),
    "table beyond memory": (set_config("model", embedding_dim=1 << 15), "does not fit.*embedding/table"),
    "another vocabulary": (change(MODEL_FILE, OTHER_TOKENIZER), "be used: The tokenizer has 262 tokens and the model"),
    "a vocabulary beyond the model": (many_pieces, r"has 100,\d+ tokens and the model \d+\. They do not belong"),
    "vocab_size of another": (set_config("model", vocab_size=1 << 20), "tokens and the model 1,048,576"),
    "a byte tokenizer": (set_config("tokenizer", tokenizer="byte"), "the configuration says byte"),
    "no SentencePiece": (change(MODEL_FILE, b"garbage"), "cannot be used: The vocabulary is not a SentencePiece"),
    "a weight of another shape": (set_weights(head__bias=np.zeros(7, np.float32)), r"does not fit.*\(head/bias\)"),
    "a weight transposed": (set_weights(lstm_0__kernel=np.zeros((12, 4), np.float32)), "does not fit.*lstm_0/kernel"),
    "a weight too many": (set_weights(extra=np.zeros(1, np.float32)), r"does not fit.*\(extra\)"),
    "a weight too few": (set_weights(head__bias=None), r"does not fit.*\(head/bias\)"),
    "float64": (set_weights(lstm_0__bias=np.zeros(12)), r"does not fit.*\(not float32\)"),
    "float16": (set_weights(lstm_0__bias=np.zeros(12, np.float16)), r"does not fit.*\(not float32\)"),
    "whole numbers": (set_weights(lstm_0__bias=np.zeros(12, np.int32)), r"does not fit.*\(not float32\)"),
    "no safetensors": (change(WEIGHTS, b"garbage" * 9), "is damaged"),
    "empty weights": (change(WEIGHTS, b""), "is damaged"),
    "a header without end": (change(WEIGHTS, struct.pack("<Q", 1 << 62)), "is damaged"),
    "weights beyond the file": (
        change(WEIGHTS, header('{"head/bias": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}')),
        "is damaged",
    ),
    "training is no JSON": (lambda folder: write_file(folder / TRAINING, b"{"), "Cannot read"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_clear_line(saved: Path, kind: str) -> None:
    load_model(str(saved)).weights()
    damage, words = DAMAGE[kind]
    damage(saved)
    tracemalloc.start()
    with pytest.raises(SavedModelError, match=words) as caught:
        load_model(str(saved)).weights()
    assert tracemalloc.get_traced_memory()[1] < 5_000_000, "nothing is allocated that the file does not hold"
    tracemalloc.stop()
    message = str(caught.value)
    assert str(saved) in message
    assert message.count(str(saved)) == 1 or kind == "manifest missing"
    assert "\n" not in message
    assert re.search(r"(\.|: .*\.)$", message)


def test_a_vocabulary_that_is_taken_over_is_checked_too(saved: Path) -> None:
    assert read_tokenizer(saved).fingerprint() == load_model("songs").tokenizer.fingerprint()
    flip(MODEL_FILE)(saved)
    with pytest.raises(SavedModelError, match=f"{MODEL_FILE} was altered"):
        read_tokenizer(saved)


def test_a_vocabulary_beyond_memory_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.model").open("wb") as file:
        file.truncate(12 << 30)
    with pytest.raises(TextgenError, match="has more than 268,435,456 bytes, the limit"):
        read_tokenizer(tmp_path / "huge.model")


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        (CONFIG, JSON_BYTES),
        (MODEL_FILE, MODEL_BYTES),
        (NGRAMS, FILTER_BYTES),
        (WORDS, FILTER_BYTES),
        (WEIGHTS, 1 << 25),
    ],
)
def test_no_checksum_of_a_file_beyond_its_limit_is_computed(
    saved: Path, monkeypatch: pytest.MonkeyPatch, name: str, limit: int
) -> None:
    size = limit + 1
    (saved / name).touch()
    os.truncate(saved / name, size)
    files = read_manifest(saved)["files"] | {name: {"size": size, "sha256": "0" * 64}}
    (saved / MANIFEST).write_bytes(json_bytes({"files": files}))
    checked = list[str]()

    def noted(path: Path) -> str:
        checked.append(path.name)
        return sha256(path)

    monkeypatch.setattr("textgen.storage.manifests.sha256", noted)
    with pytest.raises(SavedModelError, match=rf"{name}: it has more than [0-9,]+ bytes, the limit for such a file"):
        use_all(load_model("songs"))
    assert name not in checked


def use_all(model: ModelFolder) -> None:
    """Reads every file of a model."""
    model.weights()
    model.words()
    model.ngrams()


def test_labels_beyond_the_model_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", ByteTokenizer(["Poe"]))
    assert load_model(str(folder)).tokenizer.labels == ("Poe",)
    change(MODEL_FILE, b'["Poe", "Stoker"]')(folder)
    with pytest.raises(SavedModelError, match="The tokenizer has 262 tokens and the model 261"):
        load_model(str(folder))


def test_read_json(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes('{"a": "月"}'.encode())
    assert read_json(tmp_path / "file") == {"a": "月"}
    with pytest.raises(SavedModelError, match="Cannot read"):
        read_json(tmp_path / "nowhere")


def test_a_config_of_an_untied_model_fits_its_weights(tmp_path: Path) -> None:
    config = replace(small(259), tie_embeddings=False, hidden_units=4)
    save_model(tmp_path, weights_of(config), config, TokenizerConfig("byte"), CORPUS, ByteTokenizer())
    assert load_model(str(tmp_path)).weights().keys() == config.weight_shapes().keys()


def with_filters(folder: Path, words: int = 1) -> None:
    save_ngrams(folder, NgramIndex(6 + words, [BloomFilter.for_size(100)]))
    save_words(folder, WordFilter.build([f"cat{number}" for number in range(words)]))


def train_anew(folder: Path) -> None:
    """Writes another model of the same shape, file by file, as a training does."""
    config = small(ByteTokenizer().vocab_size)
    weights = {name: 2 * array for name, array in weights_of(config).items()}
    save_model(folder, weights, config, TokenizerConfig("byte"), CORPUS, ByteTokenizer())
    with_filters(folder, words=2)


def replace_folder(folder: Path) -> None:
    """Puts another model in the place of the folder."""
    shutil.rmtree(folder)
    train_anew(folder)


READS: dict[str, Callable[[ModelFolder], object]] = {
    "weights": ModelFolder.weights,
    "integers": ModelFolder.exact_weights,
    "a network": ModelFolder.numpy_model,
    "n-grams": ModelFolder.ngrams,
    "words": ModelFolder.words,
    "a file": lambda saved: saved.read_file(WEIGHTS, 1 << 20),
}


@pytest.mark.parametrize("change", [train_anew, replace_folder, shutil.rmtree])
def test_versions_of_a_model_are_never_mixed(tmp_path: Path, change: Callable[[Path], None]) -> None:
    folder = save(tmp_path / "model", ByteTokenizer())
    with_filters(folder)
    saved = load_model(str(folder))
    fingerprint, generator = saved.fingerprint, saved.generator()
    change(folder)
    assert (saved.is_current, saved.fingerprint, saved.has_ngrams) == (False, fingerprint, True)
    for read in READS.values():
        with pytest.raises(ModelChanged, match=r"model was saved anew or removed since it was read: load it again"):
            read(saved)
    with pytest.raises(ModelChanged):
        _ = generator.index
    if change is not shutil.rmtree:
        again = load_model(str(folder))
        assert again.fingerprint != fingerprint
        assert all(read(again) for read in READS.values())


def test_files_that_stay_the_same_can_be_read_when_another_one_changes(saved: Path) -> None:
    before = load_model(str(saved))
    assert before.is_current
    with_filters(saved)
    assert before.weights().keys() == load_model(str(saved)).weights().keys()
    assert (before.is_current, before.has_ngrams, before.words()) == (False, False, None)


def test_damage_is_no_change(saved: Path) -> None:
    before = load_model(str(saved))
    flip(WEIGHTS)(saved)
    assert before.is_current
    with pytest.raises(SavedModelError, match="was altered") as caught:
        before.weights()
    assert not isinstance(caught.value, ModelChanged)
    os.truncate(saved / MANIFEST, 30)
    assert before.is_current, "what cannot be read was not replaced"


def test_what_cannot_be_read_for_a_moment_is_no_change(saved: Path) -> None:
    before = load_model(str(saved))
    for path in (saved, saved / WEIGHTS):
        with unreadable(path), pytest.raises(Unreadable, match=r"Cannot read .*: Input/output error\. Try again"):
            before.weights()
    assert before.weights()


def test_a_file_that_is_replaced_while_it_is_read_is_not_used(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_model(str(saved))

    def replaced(*given: Any) -> Path:
        path = verified(*given)
        change(WEIGHTS, b"another")(saved)
        return path

    monkeypatch.setattr(layout, "verified", replaced)
    with pytest.raises(ModelChanged):
        before.read_file(WEIGHTS, 1 << 20)


def test_a_model_that_is_saved_while_it_is_loaded_is_loaded_again(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, checks = train_tokenizer(["xyz"], TokenizerConfig("char")), list[Any]()

    def slow(*given: Any) -> None:
        layout.check_config(*given)
        checks.append(given)
        if len(checks) == 1:
            save(saved, other)

    monkeypatch.setattr(loading, "check_config", slow)
    found = load_model(str(saved))
    assert (found.tokenizer.fingerprint(), len(checks)) == (other.fingerprint(), 2)
    assert found.weights()
