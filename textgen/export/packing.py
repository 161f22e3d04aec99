"""A saved model as one array of bytes, for the page that writes without a server: see `textgen.export.onefile`.

The bytes hold the files of the model, its weights as int8, so that `unpacked` gives the saved model back; and what
JavaScript needs besides, so that it reads neither SentencePiece's format nor settings that it does not know:

    8 bytes   MAGIC, whose last byte is the version of this format
    8 bytes   length of the header in bytes, little-endian
    32 bytes  SHA-256 of the header
    header    JSON: the card, the settings of the network, the vocabulary, and each section's place and checksum
    sections  one after another, each at a multiple of `ALIGNMENT`

Files for resuming, and the n-gram index of the training text, are left out.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textgen.dataset.words import letter_changes
from textgen.errors import ConfigError, SavedModelError
from textgen.export.attribution import NO_ATTRIBUTION, Attribution
from textgen.generation.config import SamplingConfig
from textgen.html_page import joined_modules
from textgen.saved_model.compression import record_of_copy
from textgen.saved_model.layout import (
    CARD,
    CARD_BYTES,
    CONFIG,
    FILTER_BYTES,
    INT8,
    TRAINING,
    WEIGHTS,
    WORDS,
    training_bytes,
)
from textgen.saved_model.model_card import card_file, with_attribution
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import edited_card, model_files
from textgen.schema import check, json_object
from textgen.settings import to_dict
from textgen.tokenizer.kinds import SentencePieceTokenizer
from textgen.tokenizer.model_file import MODEL_FILE
from textgen.tokenizer.pieces import FIRST_LEARNED, NEWLINE, SPACE
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.wording import LISTED_LENGTH, counted, shortened, visible

MAGIC = b"textgen\x01"
START = len(MAGIC) + 8 + 32  # bytes before the header
ALIGNMENT = 16  # bytes: sections begin at multiples of it
SCORES = "scores"  # the section with the scores of the learned pieces
LETTERS = "letters"  # the section that says which characters are letters, for the filter of words
FILES = (CONFIG, MODEL_FILE, WEIGHTS, WORDS, TRAINING, CARD)  # sections that are files of the saved model
SECTIONS = (*FILES, SCORES, LETTERS)
HEADER_BYTES = 1 << 26  # maximum size of the header
HEADER = {
    "card": {"licence?": str, "note?": str},
    "network": dict,
    "vocabulary": {"kind": str, "pieces": [str], "labels": [str]},
    "settings": dict,
    "sections": {str: {"at": int, "size": int, "sha256": str}},
}
MODULES = (  # modules of JavaScript, in the order in which they use each other
    "arithmetic", "random", "utf8", "tokenizer", "kernel", "packed", "network", "samplers", "healing", "word_guard",
    "constraints", "stopping", "writer",
)  # fmt: skip


def packed_model(model: ModelFolder, attribution: Attribution = NO_ATTRIBUTION) -> bytes:
    """Packs a model.

    Args:
        model: The model. Weights that are not stored as int8 are rounded.
        attribution: Licence and note, which the README.md of the packed model has too, if it was edited by a person.

    Returns:
        The packed model.

    Raises:
        SavedModelError: A file of the model is damaged, or its vocabulary is too large for the header.
    """
    scores = learned_scores(model.tokenizer)
    parts = {**shared_files(model, attribution), SCORES: scores.astype("<f4").tobytes()}
    if WORDS in parts:
        parts[LETTERS] = np.array([4 * code + kind for code, kind in letter_changes()], "<u4").tobytes()
    header: dict[str, Any] = {
        "card": _card(model, attribution),
        "network": to_dict(model.model_config),
        "vocabulary": {
            "kind": model.tokenizer.kind,
            "pieces": learned_pieces(model.tokenizer),
            "labels": list(model.tokenizer.labels),
        },
        "settings": to_dict(SamplingConfig()),
        "sections": {},
    }
    at = 0
    for name, data in parts.items():
        header["sections"][name] = {"at": at, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        at = _aligned(at + len(data))
    described = json.dumps(header, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    if len(described) > HEADER_BYTES - ALIGNMENT:
        raise SavedModelError(
            f"The model {model.name} cannot be packed: its vocabulary, licence and note would have "
            f"{counted(len(described), 'byte')}, more than {HEADER_BYTES:,}. Train it with a smaller vocabulary."
        )
    described += b" " * (_aligned(START + len(described)) - START - len(described))
    packed = bytearray(MAGIC + struct.pack("<Q", len(described)) + hashlib.sha256(described).digest() + described)
    for data in parts.values():
        packed += data + b"\0" * (_aligned(len(data)) - len(data))
    return bytes(packed)


def unpacked(data: bytes) -> dict[str, bytes]:
    """Returns the files of a packed model by name; written into a folder they are the saved model.

    Args:
        data: What `packed_model` returned.

    Raises:
        SavedModelError: The bytes are not a packed model, of another version, incomplete or altered.
    """
    return _files(data, _header(data))


def contents_in(data: bytes) -> tuple[dict[str, bytes], Attribution]:
    """Returns the files of a packed model by name, and the licence and the note in its card; see `unpacked`."""
    header = _header(data)
    attribution = _attribution(header["card"])
    return _files(data, header), attribution


def _files(data: bytes, header: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a packed model by name. Raises `SavedModelError` if one is altered, cut off or too large."""
    found: dict[str, bytes] = {}
    start = START + struct.unpack_from("<Q", data, len(MAGIC))[0]
    for name, entry in header["sections"].items():
        part = data[start + entry["at"] : start + entry["at"] + entry["size"]]
        if hashlib.sha256(part).hexdigest() != entry["sha256"]:
            raise SavedModelError(f"The packed model is damaged: {name} does not match its checksum. Get it again.")
        if name == CARD and len(part) > CARD_BYTES:  # the saved model could not be read
            raise SavedModelError(
                f"The packed model cannot be used: {CARD} has {len(part):,} bytes, more than {CARD_BYTES:,}. "
                "Shorten it in the model, and export that again."
            )
        if name in FILES:
            found[name] = part
    return found


def _attribution(card: Mapping[str, Any]) -> Attribution:
    """The licence and the note in the card of a packed model. Raises `SavedModelError` if they are no texts."""
    try:
        return Attribution(**{name: card[name] for name in NO_ATTRIBUTION.to_dict() if name in card})
    except ConfigError as error:
        raise SavedModelError(f"The packed model is damaged: {error}") from None


def _header(data: bytes) -> dict[str, Any]:
    """The header of a packed model, checked."""
    if data[: len(MAGIC) - 1] != MAGIC[:-1]:
        raise SavedModelError("This is not a model that textgen has packed.")
    if data[: len(MAGIC)] != MAGIC:
        raise SavedModelError(
            f"The packed model has the version {data[len(MAGIC) - 1 : len(MAGIC)].hex()}, this program reads "
            f"{MAGIC[-1:].hex()}. Upgrade textgen."
        )
    try:
        (length,) = struct.unpack_from("<Q", data, len(MAGIC))
        if length > HEADER_BYTES:
            raise ValueError(f"its header should have at most {HEADER_BYTES:,} bytes, not {length:,}")
        described = data[START : START + length]
        if hashlib.sha256(described).digest() != data[START - 32 : START]:
            raise ValueError("its header does not match its checksum")
        header = json_object(described)
        check(header, HEADER)
        if odd := sorted(header["sections"].keys() - SECTIONS):
            raise ValueError(f"it has a section {shortened(odd[0], LISTED_LENGTH)!r}, which is not known")
    except (struct.error, ValueError) as error:
        raise SavedModelError(f"The packed model is damaged: {error}. Get it again.") from None
    return header


def shared_files(model: ModelFolder, attribution: Attribution | None = None) -> dict[str, bytes]:
    """Returns the files of a model that a packed one holds, by name: its weights as int8, without paths of the corpus.

    The card is built for these, unless a person has changed it.

    Args:
        model: The model.
        attribution: Licence and note that a card gets which a person has changed, in place of its own. By default it
            stays as it is.

    Raises:
        SavedModelError: A file is damaged.
    """
    if model.precision == INT8:
        names = [CONFIG, WEIGHTS, *([MODEL_FILE] if model.tokenizer.serialized else [])]
        found = {name: model.read_file(name, FILTER_BYTES) for name in names}
    else:
        found = model_files(model.weights(), *model.model_configs, model.tokenizer, INT8)
    if WORDS in model.files:
        found[WORDS] = model.read_file(WORDS, FILTER_BYTES)
    record = record_of_copy(model.training) if model.training else {}
    if record:
        found[TRAINING] = training_bytes(record)
    card = edited_card(model.folder, model.record)
    if card is None:
        card = card_file(model.name, (record or model.record) | {"precision": INT8})
    elif attribution is not None:
        card = with_attribution(card, attribution.to_dict())
    found[CARD] = card
    return found


def learned_pieces(tokenizer: Tokenizer) -> list[str]:
    """Returns the pieces of a vocabulary that were learned, in the order of their ids, as SentencePiece has them.

    Example:
        >>> from textgen.tokenizer.kinds import load_tokenizer
        >>> learned_pieces(load_tokenizer(b""))
        []
    """
    if tokenizer.kind == "byte":
        return []
    if tokenizer.kind == "word":
        words = tokenizer.piece_bytes[NEWLINE + 1 : tokenizer.first_label]
        return [word.decode().removeprefix(" ") for word in words]
    learned = tokenizer.piece_bytes[FIRST_LEARNED : tokenizer.first_label]
    return [piece.decode().replace(" ", SPACE) for piece in learned]


def learned_scores(tokenizer: Tokenizer) -> np.ndarray:
    """Returns the scores of these pieces, float32; empty for a vocabulary without."""
    if not isinstance(tokenizer, SentencePieceTokenizer) or tokenizer.kind not in ("unigram", "bpe"):
        return np.zeros(0, np.float32)
    return np.array(tokenizer.scores()[FIRST_LEARNED : tokenizer.first_label], np.float32)


def engine_script() -> str:
    """Returns the JavaScript that writes with a packed model, as one script without imports and exports.

    Its classes and functions are those of the modules in `textgen/export/onefile/`; `Writer` is the one to begin with.
    """
    return joined(MODULES)


def joined(names: Sequence[str]) -> str:
    """Returns modules of JavaScript as one script without imports and exports.

    Args:
        names: Names of files in `onefile/`, in the order in which they use each other.
    """
    return joined_modules("textgen.export", "onefile", names)


def _card(model: ModelFolder, attribution: Attribution) -> dict[str, Any]:
    """What the page says about the model."""
    scores = model.training.get("scores", {})
    return {
        "name": visible(model.name),
        **attribution.to_dict(),
        "parameters": model.model_config.num_parameters,
        "bits_per_byte": scores.get("bits_per_byte"),
    }


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
