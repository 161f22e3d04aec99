"""Whether a file was written here: by this user, with this cache folder.

Paths in the folder of a model are read when its training is resumed. A folder that somebody sends could name any file
of ours there. So such paths carry a signature, made with a key that never leaves the user's cache folder. Without the
key, or where it is another one, nothing is lost: the user is asked for the paths again.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from textgen.errors import TextgenError
from textgen.storage import OPEN_FLAGS, TEMPORARY, cache_folder, open_file

KEY_FILE = "key"
KEY_BYTES = 32


def sign(value: Any) -> str:
    """What `is_signed` knows a value by; the empty text where no key can be kept."""
    key = _key() or _new_key()
    return _signature(key, value) if key else ""


def is_signed(value: Any, signature: object) -> bool:
    """Whether `sign` gave this signature for this value here."""
    key = _key()
    return (
        bool(key)
        and isinstance(signature, str)
        and hmac.compare_digest(_signature(key, value).encode(), signature.encode(errors="replace"))
    )


def _signature(key: bytes, value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _key() -> bytes:
    """The key of this user; empty where there is none that only he can have written."""
    with suppress(OSError, TextgenError), open_file(cache_folder() / KEY_FILE) as file:
        about = os.fstat(file.fileno())
        is_private = not hasattr(os, "getuid") or (about.st_uid == os.getuid() and not about.st_mode & 0o077)
        key = file.read(KEY_BYTES + 1)
        if is_private and len(key) == KEY_BYTES:
            return key
    return b""


def _new_key() -> bytes:
    """Makes the key, unless another process is faster; empty where it cannot be kept."""
    with suppress(OSError, TextgenError):
        folder = cache_folder()
        temporary = folder / f"{TEMPORARY}{secrets.token_hex(8)}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
            _put(temporary, folder / KEY_FILE)
        finally:
            temporary.unlink(missing_ok=True)
    return _key()


def _put(source: Path, target: Path) -> None:
    """Gives the file its name, unless a file has it."""
    try:
        os.link(source, target)
    except FileExistsError:
        if not _key():  # what is there cannot be one
            os.replace(source, target)
    except OSError:  # a file system that knows no links
        os.replace(source, target)
