"""Signatures that show whether this user wrote a value, with this cache folder.

A resumed training reads the paths that are recorded in the folder of the model. A model folder received from somebody
else could name any file of the user, so recorded paths are signed (HMAC-SHA256) with a key that never leaves the user's
cache folder. If the key is missing or differs, the user is asked to name the paths again; nothing is lost.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from textgen.errors import TextgenError
from textgen.storage.cache_folder import cache_folder
from textgen.storage.file_reading import open_file
from textgen.storage.file_replacement import rename, write_through
from textgen.storage.files import TEMPORARY, random_hex
from textgen.storage.system_errors import DAMAGE_ERRORS

KEY_FILE = "key"
KEY_BYTES = 32


def sign(value: Any) -> str:
    """Signs a value with the key of this user, creating the key if necessary.

    Args:
        value: Any value that can be written as JSON.

    Returns:
        The signature in hexadecimal digits; an empty string if no key can be stored, or the key cannot be read.
    """
    with suppress(OSError, TextgenError):  # a key that cannot be read stays: it may be intact
        if key := _key() or _new_key():
            return _signature(key, value)
    return ""


def is_signed(value: Any, signature: object) -> bool:
    """Checks whether `sign` returned this signature for this value, with the same key.

    Args:
        value: The value that was signed.
        signature: The signature to check; anything but a string is rejected.

    Returns:
        True if the signature is valid.
    """
    with suppress(OSError, TextgenError):
        if (key := _key()) and isinstance(signature, str):
            return hmac.compare_digest(_signature(key, value).encode(), signature.encode(errors="replace"))
    return False


def _signature(key: bytes, value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _key() -> bytes:
    """Returns the key of this user; empty if it is missing or if other users could have written it.

    Raises:
        OSError: It cannot be read, and may be intact.
        TextgenError: There is no cache folder.
    """
    try:
        with open_file(cache_folder() / KEY_FILE) as file:
            about = os.fstat(file.fileno())
            is_private = not hasattr(os, "getuid") or (about.st_uid == os.getuid() and not about.st_mode & 0o077)
            key = file.read(KEY_BYTES + 1)
            return key if is_private and len(key) == KEY_BYTES else b""
    except OSError as error:
        if error.errno in (*DAMAGE_ERRORS, errno.EACCES, errno.EPERM):  # not this user's, as after sudo
            return b""
        raise


def _new_key() -> bytes:
    """Creates the key, or returns the key that another process created first; empty if it cannot be stored.

    Raises:
        OSError: It cannot be read.
    """
    with suppress(OSError, TextgenError):
        folder = cache_folder()
        temporary = folder / f"{TEMPORARY}{random_hex()}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            write_through(temporary, secrets.token_bytes(KEY_BYTES), 0o600)
            _put(temporary, folder / KEY_FILE)
        finally:
            temporary.unlink(missing_ok=True)
    return _key()


def _put(source: Path, target: Path) -> None:
    """Renames `source` to `target`, unless `target` already holds a valid key."""
    try:
        os.link(source, target)
    except FileExistsError:
        if not _key():  # the existing file is not a valid key
            rename(source, target, replace=True)
    except OSError:  # the file system does not support links
        rename(source, target, replace=True)
