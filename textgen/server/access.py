"""Who may use the server: keys, hosts and origins."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from textgen.errors import ConfigError
from textgen.server.config import ServerConfig
from textgen.server.failures import ApiError
from textgen.server.host_names import ANY, host_in, host_name, is_address, origin_of, own_names
from textgen.wording import shell_word

KEY_VARIABLE = "TEXTGEN_API_KEY"
KEYS_BYTES = 1 << 20  # maximum size of a file of keys
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
ALLOWED_HEADERS = ("Authorization", "Content-Type")
TOKEN = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)  # form of the name of a header
ANYBODY = ""  # owner of all requests on a server without keys


def read_keys(path: str | None, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Reads the keys of a file, one a line, and that of $TEXTGEN_API_KEY.

    Empty lines and lines whose first word begins with # are left out.

    Raises:
        ConfigError: The file cannot be read, holds no key, or is no file of keys; or no client can send a key.
    """
    keys = [key] if (key := environment.get(KEY_VARIABLE, "").strip()) else []
    _check_key(f"${KEY_VARIABLE}", *keys)
    if path is None:
        return keys
    try:
        with Path(path).open("rb") as file:
            data = file.read(KEYS_BYTES + 1)
        text = "" if len(data) > KEYS_BYTES else data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"Cannot read the keys in {path}: {reason}. Name a file with one key a line.") from None
    if len(data) > KEYS_BYTES:
        raise ConfigError(
            f"{path} is no file of keys, since it has more than {KEYS_BYTES:,} bytes: name one with one key a line."
        )
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    found = [(number, line) for number, line in lines if line and not line.startswith("#")]
    for number, key in found:
        _check_key(f"Line {number} of {path}", key)
    if not found:
        raise ConfigError(f"{path} holds no key: write one a line.")
    return keys + [key for _, key in found]


def _check_key(place: str, *keys: str) -> None:
    """Raises `ConfigError` for keys that no header of a request can have."""
    if not all(key.isascii() and key.isprintable() for key in keys):
        raise ConfigError(f"{place} is not a valid key: write one of ASCII letters, digits and punctuation.")


class Access:
    """Decides whether a request is answered, and whose it is."""

    def __init__(self, config: ServerConfig, keys: Iterable[str] = ()) -> None:
        self._digests = [_digest(key) for key in keys]
        self._origins = {origin_of(origin) for origin in config.allow_origin}
        self._hosts = {*LOCAL_NAMES, config.host.lower(), *map(host_name, config.allow_host)}
        is_open = not (config.is_local or config.allow_host)
        self._takes_any_host = is_open and self.needs_key  # a page of another site does not know the key
        self._takes_addresses = is_open
        if is_open and not self.needs_key:
            self._hosts |= own_names()

    @property
    def needs_key(self) -> bool:
        """Whether a request needs a key."""
        return bool(self._digests)

    def owner(self, headers: Headers) -> str:
        """Returns whose request it is: a digest of its key, or `ANYBODY` on a server without keys.

        Raises:
            ApiError: The key is missing or wrong.
        """
        if not self._digests:
            return ANYBODY
        kind, _, key = headers.get("authorization", "").partition(" ")
        given = _digest(key.strip() if kind.lower() == "bearer" else "")
        found = [digest for digest in self._digests if hmac.compare_digest(digest, given)]  # all: constant time
        if not found:
            raise ApiError(
                401, "The key is missing or wrong: send Authorization: Bearer KEY.",
                code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        return found[0].hex()

    def check_place(self, headers: Headers) -> None:
        """Refuses requests that a page of another site makes in the browser of somebody who can reach the server.

        Raises:
            ApiError: The request has a foreign host or origin.
        """
        host = headers.get("host", "")
        if not self._goes_by(host_in(host)):
            name = host_in(host)[:100]
            raise ApiError(
                403, f"This server refuses requests to the host name {name!r}. {_advice_for(name)}",
                code="host_not_allowed",
            )  # fmt: skip
        origin = headers.get("origin")
        if origin is not None and not self.allows(origin) and (not host or _authority(origin) != host):
            raise ApiError(
                403, f"Pages of {origin[:100]} may not use this server. To allow them, start it with "
                f"--allow-origin {shell_word(origin[:100])}.", code="origin_not_allowed",
            )  # fmt: skip

    def _goes_by(self, name: str) -> bool:
        """Whether a host is this server's, and not a name that somebody else lets lead here (DNS rebinding)."""
        if not name or self._takes_any_host or name in self._hosts:  # browsers always send a host
            return True
        return self._takes_addresses and is_address(name)

    def allows(self, origin: str) -> bool:
        """Whether pages of an origin may read answers."""
        return ANY in self._origins or origin in self._origins

    def cross_origin_headers(self, origin: str | None, asked: str = "") -> dict[str, str]:
        """The headers of an answer that let a page of another origin read it; none unless it is allowed.

        Args:
            origin: The origin of the page.
            asked: Names of headers that the page wants to send, as its browser asks before.
        """
        if origin is None or not self.allows(origin):
            return {}
        names = [name for part in asked.split(",") if TOKEN.fullmatch(name := part.strip())]
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": "GET, POST, DELETE",
            "Access-Control-Allow-Headers": ", ".join(dict.fromkeys([*ALLOWED_HEADERS, *names])),
            "Access-Control-Expose-Headers": "X-Request-Id",
            "Vary": "Origin, Access-Control-Request-Headers",
        }


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()


def _advice_for(host: str) -> str:
    """What to do if a host is refused."""
    try:
        host_name(host)
    except ValueError:
        return "It is not a valid one: send the name or the address of this server as Host."
    return f"To allow it, start the server with --allow-host {shell_word(host)}."


def _authority(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
