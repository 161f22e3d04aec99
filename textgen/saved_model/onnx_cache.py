"""Networks in int8 for ONNX Runtime, made and measured once and kept in the cache folder.

cache folder/networks/KEY/
  network.onnx   the network; not there if it loses too much
  loss.json      how much its predictions change: see `textgen.model.prediction_change.PredictionChange`
  MANIFEST.json  size and sha256 of both
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from textgen.errors import ConfigError, SavedModelError, TextgenError
from textgen.model.config import ModelConfig
from textgen.model.onnx_model import OnnxModel
from textgen.model.prediction_change import PredictionChange
from textgen.schema import json_object
from textgen.settings import to_dict
from textgen.storage.cache_eviction import evict, limit_bytes, unfinished
from textgen.storage.cache_folder import cache_folder, filling_cache, named_cache_folder
from textgen.storage.cache_layout import LOSS, NETWORK, NETWORKS
from textgen.storage.file_reading import read_file
from textgen.storage.files import CannotWrite, json_bytes, write_own_file
from textgen.storage.folders import new_folder
from textgen.storage.leftovers import sweep_abandoned
from textgen.storage.locks import SharedLock
from textgen.storage.manifests import read_manifest, verified
from textgen.versions import load, module_version
from textgen.wording import Say, silent

FORMAT = 2  # part of the key: raise it when the files change, so that old entries are not used
LOSS_BYTES = 1 << 16  # maximum size of loss.json

MeasuredNetwork = tuple[bytes | None, PredictionChange]  # the network, None if it loses too much; and how much it loses


@dataclass(frozen=True)
class NetworkSource:
    """What a network in int8 is made from.

    Attributes:
        name: Name of the model.
        fingerprint: Tells its weights from others.
        config: Shape of the network, which reads forward.
        weights: Reads the weights.
        openings: The tokens before a text: without a label, and with each.
    """

    name: str
    fingerprint: str
    config: ModelConfig
    weights: Callable[[], Mapping[str, np.ndarray]]
    openings: Sequence[Sequence[int]]

    @property
    def key(self) -> str:
        """Name of the entry: other weights, programs or processors have another."""
        parts = (
            FORMAT,
            self.fingerprint,
            json.dumps(to_dict(self.config)),
            self.openings,
            module_version("onnxruntime"),
        )
        return sha256(repr((*parts, _processor())).encode()).hexdigest()[:32]


def cached_int8_network(
    source: NetworkSource, say: Say = silent, note: Say | None = None
) -> tuple[OnnxModel | None, PredictionChange]:
    """Returns a network in int8, which is made first if it is not in the cache.

    Args:
        source: What it is made from.
        say: Called with a line of text before it is made.
        note: Called with a line of text if it cannot be kept; `say` by default.

    Returns:
        The network, None if it would lose too much; and how much its predictions change.

    Raises:
        ConfigError: The limit of the cache in the environment is not a size.
        SavedModelError: The weights are damaged.
    """
    folder = _folder(source)
    known = None if folder is None else _read(folder)
    note = note or say
    if known is None:
        say(
            f"Checking how much accuracy the model {source.name} loses with 8-bit weights. "
            "This is done once and takes a few seconds."
        )
        known = _made(source)
        if folder is None:
            note("The result is not kept, since the cache folder cannot be written: see TEXTGEN_CACHE.")
        else:
            _keep(folder, source, known, note)
    data, change = known
    return (None if data is None else OnnxModel(data, source.config)), change


def known_loss(source: NetworkSource) -> PredictionChange | None:
    """Returns how much the predictions of a network in int8 change, if that was measured."""
    cache = named_cache_folder()
    known = None if cache is None else _read(cache / NETWORKS / source.key)
    return None if known is None else known[1]


def _made(source: NetworkSource) -> MeasuredNetwork:
    load("onnx", "ONNX Runtime", "onnx", ConfigError)
    from textgen.model.onnx_int8 import int8_network

    data, change = int8_network(source.config, source.weights(), source.openings)
    return (data if change.is_small else None), change


def _folder(source: NetworkSource) -> Path | None:
    """The folder of the entry; None if the cache folder cannot be written."""
    with suppress(TextgenError):
        return cache_folder() / NETWORKS / source.key
    return None


def _keep(folder: Path, source: NetworkSource, entry: MeasuredNetwork, note: Say) -> None:
    """Writes an entry of the cache, and removes others if there are too many."""
    data, change = entry
    limit = limit_bytes()
    sweep_abandoned(unfinished(folder.parent))
    try:
        with filling_cache(), new_folder(folder) as temporary:
            write_own_file(temporary / LOSS, json_bytes({"model": source.name, "loss": change.to_dict()}))
            if data is not None:
                write_own_file(temporary / NETWORK, data)
        evict(folder.parent, limit)
    except CannotWrite as error:
        note(str(error))


def _read(folder: Path) -> MeasuredNetwork | None:
    """Reads an entry of the cache. Returns None if it is missing or damaged."""
    with suppress(SavedModelError, OSError, ValueError, TypeError, KeyError), SharedLock(folder):
        files: dict[str, Any] = read_manifest(folder)["files"]
        content = json_object(read_file(verified(folder, LOSS, files[LOSS]), LOSS_BYTES))
        change = PredictionChange.from_dict(content["loss"])
        data = verified(folder, NETWORK, files[NETWORK]).read_bytes() if change.is_small else None
        os.utime(folder)  # the entries unused for longest are removed first
        return data, change
    return None


def _processor() -> str:
    """What tells kinds of processors apart: the instructions that sums of integers are made with."""
    with suppress(OSError, UnicodeDecodeError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
    return f"{platform.machine()} {platform.processor()}"
