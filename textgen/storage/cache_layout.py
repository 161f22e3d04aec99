"""The folders of the cache, and the records of fetched texts.

cache folder/
  tokens/KEY/      an encoded corpus (`textgen.dataset.token_cache.encode_and_split`)
  networks/KEY/    a network in 8 bits (`textgen.saved_model.onnx_cache`)
  remote/KEY/      a copy of a file or of a folder elsewhere (`textgen.storage.remote_cache`)
  corpora/         texts that were fetched (`textgen.corpus.fetching.fetched_text`), each with a record
  corpora/downloads/KEY/   archives that texts were made of
  epochs-XXXX/     segmentations of the training text of a running process (`textgen.dataset.subword_sampling`)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textgen.schema import check, decoded_json
from textgen.storage.file_reading import read_file

TOKENS, SUMMARY = "tokens", "tokens.json"  # the folder, and the description in an entry
NETWORKS, NETWORK, LOSS = "networks", "network.onnx", "loss.json"  # the folder, and the files of an entry
REMOTE, ADDRESS = "remote", ".address.json"  # the folder, and the file in an entry that names the address
CORPORA, DOWNLOADS = "corpora", "downloads"  # the folder of fetched texts, and its folder of archives
EPOCHS = "epochs-"  # prefix of the names of folders with epochs
TEXT_RECORD = {  # fields of the record of a fetched text
    **dict.fromkeys(("name", "title", "author", "licence", "sha256", "checked"), str), "urls": [str], "bytes": int,
}  # fmt: skip
TEXT_RECORD_BYTES = 1 << 22  # its maximum size


def record_of(text: Path) -> Path:
    """The place of the record of a fetched text."""
    return text.with_name(f"{text.name}.json")


def read_record(text: Path) -> dict[str, Any] | None:
    """Reads the record of a fetched text.

    Args:
        text: Path of the text, which may be missing.

    Returns:
        The fields of `TEXT_RECORD`. None without a record that textgen has written.
    """
    try:
        values = decoded_json(read_file(record_of(text), TEXT_RECORD_BYTES))
        check(values, TEXT_RECORD)
    except (OSError, ValueError):
        return None
    return {name: values[name] for name in TEXT_RECORD} if len(values) == len(TEXT_RECORD) else None
