"""A model as one HTML page that writes without a network, and back.

The page holds the packed model (`textgen.export.packing`) in base64, the program that writes with it in a Worker, and
its own script and style; its files are in `onefile/`. A content security policy allows these by their hashes, and
WebAssembly, and nothing else: the page cannot make a request. Names, labels and tokens are data that its script shows
as text; what Python puts into the page itself, its title, is escaped.
"""

from __future__ import annotations

import base64
import binascii
import errno
import os
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from textgen import __version__
from textgen.errors import ConfigError, SavedModelError, TextgenError, Unreadable
from textgen.export.attribution import NO_ATTRIBUTION, Attribution
from textgen.export.packing import contents_in, engine_script, joined, packed_model, unpacked
from textgen.export.quality import check_quality
from textgen.html_page import asset, fill, policy
from textgen.saved_model.creation import check_place
from textgen.saved_model.layout import CARD, INT8, TRAINING
from textgen.saved_model.loading import load_model
from textgen.saved_model.model_card import card_file, renamed_card
from textgen.saved_model.precision import compressed, restored
from textgen.saved_model.saved_model import ModelFolder
from textgen.storage.files import write_file, write_own_file
from textgen.storage.folders import new_folder
from textgen.storage.temporary import temporary_folder
from textgen.wording import counted, visible

OPENING = '<script type="application/octet-stream;base64" id="model">'  # start tag of the element that holds the model
CLOSING = "</script>"
PAGE_BYTES = 1 << 31  # maximum size of a page that is read
FOLDER_ADVICE = re.compile(r"[.:] (copy (the whole folder|it)|train the model) again\b.*", re.DOTALL | re.IGNORECASE)
"""What errors advise for the folder of a model."""
SCRIPT = ("words", "shelf", "story", "page")
"""Modules of the page's own script, in the order in which they use each other."""


def export_html(model: ModelFolder, path: Path, attribution: Attribution = NO_ATTRIBUTION) -> str:
    """Writes a model as one page, and checks first what rounding costs, and that the page gives the same weights back.

    Args:
        model: The model.
        path: Path of the page. An existing file is replaced.
        attribution: Licence and note for its card on the page.

    Returns:
        What was written, in one sentence.

    Raises:
        ConfigError: The page cannot write with such a model.
        SavedModelError: A file of the model is damaged, rounding would cost too much, or the page would hold other
            weights.
        TextgenError: The file cannot be written.
    """
    data = page(model, attribution)
    check_quality(model, model.exact_model(), str(path), instead="onnx")
    _check(model, data)
    write_file(path, data)
    parameters = counted(model.model_config.num_parameters, "parameter")
    return f"Wrote {path}: {parameters} as int8, {len(data) / 1e6:.1f} MB. Open it in a browser."


def page(model: ModelFolder, attribution: Attribution = NO_ATTRIBUTION) -> bytes:
    """Makes the page; the arguments are those of `export_html`."""
    _refuse(model)
    style, script = _asset("page.css"), joined(SCRIPT)
    worker = engine_script() + _asset("worker.js")
    for code in (script, worker):
        if "</script" in code.lower() or "<!--" in code:
            raise ValueError("A script contains what would end its element in HTML.")
    parts = {
        "csp": policy(script, style, runs_worker=True),
        "version": escape(__version__),
        "title": escape(visible(model.name)),
        "fingerprint": model.fingerprint[:16],
        "style": style,
        "script": script,
        "worker": worker,
        "model": base64.b64encode(packed_model(model, attribution)).decode(),
    }
    return fill(_asset("page.html"), parts).encode()


def import_html(path: Path, folder: Path) -> ModelFolder:
    """Makes the saved model that a page holds. Its card is written anew for its name, unless a person has changed it.

    The card also gets the licence and the note of the page; a model without a card gets one for them.

    Args:
        path: The page. Links are followed, and a pipe is read to its end.
        folder: Folder of the new model.

    Returns:
        The model.

    Raises:
        SavedModelError: The file is no such page, or was altered or cut off; or no model may have the folder.
        TextgenError: The folder exists, or cannot be written.
    """
    check_place(folder)
    if os.path.lexists(folder):
        raise TextgenError(f"{folder} exists: choose another name.")
    found, attribution = contents_of(path)
    record = _record_of(found, path)
    texts = attribution.to_dict()
    if CARD in found:
        found[CARD] = renamed_card(found[CARD], folder.name, record, texts)
    elif any(texts.values()):
        found[CARD] = card_file(folder.name, record, texts)
    return _restore(found, folder)


def contents_of(path: Path) -> tuple[dict[str, bytes], Attribution]:
    """Reads the files of the saved model that a page holds, by name, and what its card on the page says.

    Args:
        path: The page. Links are followed, and a pipe is read to its end.

    Returns:
        The files by name, and the licence and the note of the card.

    Raises:
        SavedModelError: The file is no such page, or was altered or cut off.
    """
    try:
        data = _read(path)
    except OSError as error:
        raise SavedModelError(
            f"Cannot read {path}: {error.strerror}. Name a page that textgen export MODEL FILE.html has made."
        ) from None
    try:
        return contents_in(packed_in(data))
    except SavedModelError as error:
        raise SavedModelError(f"Cannot read a model from {path}: {error}") from None


def packed_in(data: bytes) -> bytes:
    """Returns the packed model in a page.

    Raises:
        SavedModelError: There is none, or it was altered or cut off.
    """
    opening, closing = OPENING.encode(), CLOSING.encode()
    start = data.find(opening)
    if start < 0:
        raise SavedModelError("It is not a page that textgen export wrote, or it is cut off.")
    start += len(opening)
    end = data.find(closing, start)
    if end < 0:
        raise SavedModelError("The page is cut off. Get it again.")
    try:
        return base64.b64decode(data[start:end].strip(), validate=True)
    except binascii.Error as error:
        raise SavedModelError(f"The page is damaged: {error}. Get it again.") from None


def _refuse(model: ModelFolder) -> None:
    """Raises `ConfigError` for a network that cannot write from left to right."""
    if model.model_config.direction == "backward":
        raise ConfigError(
            "A page cannot write with a network of direction backward: train one with the setting direction forward, "
            "or both."
        )


def _read(path: Path) -> bytes:
    """Reads the file that a user names. `read_file` is for folders of textgen, where links are not followed."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size  # 0 of a pipe
        if size <= PAGE_BYTES and len(data := file.read((size or PAGE_BYTES) + 1)) <= PAGE_BYTES:
            return data
    raise OSError(errno.EFBIG, f"it has more than {PAGE_BYTES:,} bytes, the limit for a page", str(path))


def _record_of(found: Mapping[str, bytes], path: Path) -> dict[str, Any]:
    """Loads the model of a page, so that nothing is left of one that cannot write, and returns its record."""
    with temporary_folder() as scratch:
        folder = scratch / "model"
        try:
            model = _restore(found, folder)
            model.weights()
            model.words()
        except Unreadable:  # the disk is at fault, not the page
            raise
        except SavedModelError as error:
            said = str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), "the page")
            said = FOLDER_ADVICE.sub(".", said)
            advice = "" if said.endswith("Upgrade textgen.") else " Get it again."
            raise SavedModelError(f"Cannot read a model from {path}: {said}{advice}") from None
        return model.record


def _restore(found: Mapping[str, bytes], folder: Path) -> ModelFolder:
    """Writes the files of a saved model into a new folder, and loads it."""
    with new_folder(folder, replace=False, unlisted=(TRAINING, CARD)) as temporary:
        for name, data in found.items():
            write_own_file(temporary / name, data)
    return load_model(str(folder.absolute()))


def _check(model: ModelFolder, data: bytes) -> None:
    """Raises `SavedModelError` unless a page gives the weights of the model, as int8, to the last bit."""
    expected = model.weights()
    if model.precision != INT8:
        expected = restored(compressed(expected, INT8), INT8)
    with temporary_folder() as scratch:
        found = _restore(unpacked(packed_in(data)), scratch / "model")
        weights = found.weights()
    same = found.model_config == model.model_config and found.tokenizer.fingerprint() == model.tokenizer.fingerprint()
    if not same or any(not np.array_equal(weights[name], array) for name, array in expected.items()):
        raise SavedModelError(f"The page would not hold the model {model.name} as it is. Nothing was written.")


def _asset(name: str) -> str:
    return asset("textgen.export", f"onefile/{name}")
