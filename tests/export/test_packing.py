from __future__ import annotations

import hashlib
import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from networks import random_weights

from textgen.cli import textgen
from textgen.dataset.word_filter import WordFilter
from textgen.errors import ConfigError, SavedModelError
from textgen.export.attribution import TEXT_BYTES, Attribution
from textgen.export.packing import MAGIC, MODULES, START, contents_in, engine_script, packed_model, unpacked
from textgen.saved_model.compression import compressed_copy
from textgen.saved_model.layout import CARD, CARD_BYTES, CONFIG, TRAINING, WEIGHTS
from textgen.saved_model.loading import load_model
from textgen.saved_model.precision import compressed, restored
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_words, write_training
from textgen.storage.manifests import MANIFEST, update_folder

RECORD = {
    "corpus": {"paths": ["/home/ann/secret/novel.txt"], "characters": 10, "num_documents": 1},
    "model": {"vocab_size": 300, "embedding_dim": 6, "hidden_units": 8, "num_layers": 2},
    "tokenizer": {"tokenizer": "char"},
    "training": {"seed": 0},
    "versions": {"textgen": "0.1.0"},
    "parameters": 3000,
    "progress": {"step": 1, "epochs": 1.0, "seconds": 1.0},
    "scores": {"bits_per_byte": 1.5},
    "tokens": {"folder": "/home/ann/cache", "train": 5, "valid": 5},
}


@pytest.fixture
def tiny(tiny_models: Path) -> ModelFolder:
    return load_model("tiny", tiny_models)


def header_of(packed: bytes) -> dict[str, Any]:
    (length,) = struct.unpack_from("<Q", packed, len(MAGIC))
    return json.loads(packed[START : START + length])


def test_the_saved_model_comes_back(tiny: ModelFolder, tmp_path: Path) -> None:
    """Its weights as int8, its tokenizer, its settings."""
    update_folder(tmp_path / "back", unpacked(packed_model(tiny)))
    back = load_model(str(tmp_path / "back"))
    assert back.precision == "int8"
    assert (back.model_config, back.tokenizer_config, back.corpus_config) == (
        tiny.model_config, tiny.tokenizer_config, tiny.corpus_config,
    )  # fmt: skip
    assert back.tokenizer.fingerprint() == tiny.tokenizer.fingerprint()
    rounded = restored(compressed(random_weights(tiny.model_config), "int8"), "int8")
    for name, array in back.weights().items():
        np.testing.assert_array_equal(array, rounded[name])
    assert "stored as | int8" in (tmp_path / "back" / CARD).read_text(encoding="utf-8")


def test_a_card_that_was_edited_comes_back(tiny: ModelFolder, tmp_path: Path) -> None:
    compressed_copy(tiny, tmp_path / "small", "float16")
    card = tmp_path / "small" / CARD
    card.write_bytes(card.read_bytes() + b"\nIt sings best in winter.\n")
    assert unpacked(packed_model(load_model(str(tmp_path / "small"))))[CARD] == card.read_bytes()


def test_a_model_of_int8_comes_back_byte_for_byte(tiny: ModelFolder, tmp_path: Path) -> None:
    compressed_copy(tiny, tmp_path / "small", "int8")
    save_words(tmp_path / "small", WordFilter.build(["cat", "mat"]))
    small = load_model(str(tmp_path / "small"))
    found = unpacked(packed_model(small))
    there = {path.name: path.read_bytes() for path in small.folder.iterdir() if path.name != MANIFEST}
    assert found == there


def test_paths_stay_private(tiny: ModelFolder, tmp_path: Path) -> None:
    compressed_copy(tiny, tmp_path / "trained", "int8")
    write_training(tmp_path / "trained", RECORD)
    packed = packed_model(load_model(str(tmp_path / "trained")))
    record = json.loads(unpacked(packed)[TRAINING])
    assert record["corpus"]["paths"] == ["novel.txt"]
    assert b"secret" not in packed
    assert b"/home" not in packed
    assert header_of(packed)["card"]["bits_per_byte"] == 1.5
    update_folder(tmp_path / "back", unpacked(packed))
    (tmp_path / "back" / TRAINING).write_bytes(unpacked(packed)[TRAINING])
    assert load_model(str(tmp_path / "back")).training["parameters"] == 3000


def test_header_describes_the_model(tiny: ModelFolder) -> None:
    header = header_of(packed_model(tiny, Attribution("CC0", "Hello </script> \u2028")))
    assert header["card"]["name"] == "tiny"
    assert (header["card"]["licence"], header["card"]["note"]) == ("CC0", "Hello </script> \u2028")
    assert header["network"]["hidden_units"] == 8
    assert header["vocabulary"]["kind"] == "char"
    assert len(header["vocabulary"]["pieces"]) == tiny.tokenizer.vocab_size - 260
    assert header["settings"]["temperature"] == 0.8
    assert {CONFIG, WEIGHTS, "tokenizer.model", CARD, "scores"} == header["sections"].keys()
    assert all(entry["at"] % 16 == 0 for entry in header["sections"].values())


@pytest.mark.parametrize("card", ['{"licence": 5}', '{"note": "\\ud800"}', "[]"])
def test_a_licence_or_note_that_is_no_text_is_refused(tiny: ModelFolder, card: str) -> None:
    described = (
        json.dumps(header_of(packed_model(tiny)) | {"card": {}}).replace('"card": {}', f'"card": {card}').encode()
    )
    packed = MAGIC + struct.pack("<Q", len(described)) + hashlib.sha256(described).digest() + described
    with pytest.raises(SavedModelError, match="damaged: "):
        contents_in(packed)


def with_header(packed: bytes, header: dict[str, Any]) -> bytes:
    """A packed model with another header, whose checksum is right."""
    (length,) = struct.unpack_from("<Q", packed, len(MAGIC))
    described = json.dumps(header).encode()
    start = MAGIC + struct.pack("<Q", len(described)) + hashlib.sha256(described).digest()
    return start + described + packed[START + length :]


def test_a_section_that_is_not_known_is_refused_before_its_checksum_is_computed(tiny: ModelFolder) -> None:
    """A header can name the same bytes thousands of times."""
    packed = packed_model(tiny)
    header = header_of(packed)
    header["sections"] |= {f"odd\n{n}": header["sections"][WEIGHTS] | {"sha256": "0"} for n in range(1000)}
    with pytest.raises(SavedModelError, match=r"is damaged: it has a section 'odd\\n0', which is not known\. Get it"):
        unpacked(with_header(packed, header))


def test_a_header_that_is_too_large_is_neither_decoded_nor_written(
    tiny: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = packed_model(tiny)
    large = with_header(packed, header_of(packed) | {"network": {"a": [[]] * 1000}})
    assert unpacked(large)
    monkeypatch.setattr("textgen.export.packing.HEADER_BYTES", 2000)
    with pytest.raises(
        SavedModelError, match=r"damaged: its header should have at most 2,000 bytes, not [0-9,]+\. Get"
    ):
        unpacked(large)
    with pytest.raises(SavedModelError, match=r"The model tiny cannot be packed: .* more than 2,000\. Train it with a"):
        packed_model(tiny, Attribution("a" * 2000))


@pytest.mark.parametrize("at", [5, START + 3, -30])
def test_damage_is_found(tiny: ModelFolder, at: int) -> None:
    damaged = bytearray(packed_model(tiny))
    damaged[at] ^= 4
    with pytest.raises(SavedModelError, match=r"packed|damaged"):
        unpacked(bytes(damaged))


@pytest.mark.parametrize("size", [0, 7, 20, 100, -17])
def test_what_is_cut_off_is_refused(tiny: ModelFolder, size: int) -> None:
    with pytest.raises(SavedModelError, match="packed"):
        unpacked(packed_model(tiny)[:size])


def test_another_version_is_refused(tiny: ModelFolder) -> None:
    packed = packed_model(tiny)
    with pytest.raises(SavedModelError, match="version 02, this program reads 01"):
        unpacked(MAGIC[:-1] + b"\x02" + packed[len(MAGIC) :])


def test_a_header_that_names_no_sections_is_refused(tiny: ModelFolder) -> None:
    header = b'{"card": {}}'
    packed = MAGIC + struct.pack("<Q", len(header)) + hashlib.sha256(header).digest() + header
    with pytest.raises(SavedModelError, match="damaged: "):
        unpacked(packed)


def test_engine_is_one_script_without_module_syntax() -> None:
    script = engine_script()
    assert not re.search(r"^\s*(import|export)\b", script, re.MULTILINE)
    assert "</script" not in script.lower()
    assert "const { Writer } =" in script
    folder = Path(__file__).parent.parent.parent / "textgen" / "export" / "onefile"
    of_the_page = {"page.js", "shelf.js", "story.js", "words.js", "worker.js"}
    assert {f"{name}.js" for name in MODULES} == {path.name for path in folder.glob("*.js")} - of_the_page


@pytest.mark.parametrize(("licence", "expected"), [("MIT", "\n## Licence\n\n> MIT\n"), ("", "")])
def test_the_licence_of_an_export_is_the_only_one_in_a_card_that_was_edited(
    tiny: ModelFolder, tmp_path: Path, licence: str, expected: str
) -> None:
    compressed_copy(tiny, tmp_path / "small", "float16")
    (tmp_path / "small" / CARD).write_text("# Mine\n\n## Licence\n\nCC0\n", encoding="utf-8")
    page = tmp_path / "page.html"
    for arguments in (
        ["export", str(tmp_path / "small"), str(page), "--licence", licence],
        ["import", str(page), "--name", "again"],
    ):
        assert CliRunner().invoke(textgen, arguments, catch_exceptions=False).exit_code == 0
    card = (load_model("again").folder / CARD).read_text(encoding="utf-8")
    assert card == "# Mine\n" + expected


@pytest.mark.parametrize("name", ["licence", "note"])
def test_a_text_that_no_card_could_hold_is_refused(tiny: ModelFolder, name: str) -> None:
    assert len(getattr(Attribution(**{name: "é" * (TEXT_BYTES // 2)}), name)) == TEXT_BYTES // 2
    with pytest.raises(ConfigError, match=rf"{name} must be a text of at most 1,048,576 bytes\. Received: 1,048,577"):
        Attribution(**{name: "é" * (TEXT_BYTES // 2) + "a"})
    described = json.dumps(header_of(packed_model(tiny)) | {"card": {name: "a" * (TEXT_BYTES + 1)}}).encode()
    packed = MAGIC + struct.pack("<Q", len(described)) + hashlib.sha256(described).digest() + described
    with pytest.raises(SavedModelError, match=f"damaged: {name} must be a text of at most"):
        contents_in(packed)


def test_a_card_that_could_not_be_read_is_refused(tiny: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = packed_model(tiny)
    size = len(unpacked(packed)[CARD])
    assert size < CARD_BYTES
    monkeypatch.setattr("textgen.export.packing.CARD_BYTES", size - 1)
    with pytest.raises(SavedModelError, match=f"README.md has {size:,} bytes, more than {size - 1:,}"):
        unpacked(packed)
