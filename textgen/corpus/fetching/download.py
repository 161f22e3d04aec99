"""Downloads one file over HTTP, in several attempts if need be, and checks it.

A broken download is kept as a `.part` file, and the next attempt goes on from there if the server can do that and still
has the same file. Proxies are those of the environment (HTTPS_PROXY and others).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from textgen.errors import CorpusError
from textgen.storage.file_reading import OPEN_FLAGS, read_file, sha256
from textgen.storage.file_replacement import rename, sync_file
from textgen.storage.files import write_own_file, writing
from textgen.system.process_settings import TemporarySetting, change_level
from textgen.versions import missing
from textgen.wording import Say

if TYPE_CHECKING:
    from requests import Response

CHUNK_BYTES = 1 << 13  # bytes read at a time; an incomplete chunk is lost when a connection breaks
MAX_FILE_BYTES = 1 << 32  # maximum size of a file, so that an endless answer does not fill the disk
ATTEMPTS = 4  # maximum number of attempts when the connection breaks
TIMEOUT = (15.0, 60.0)  # seconds: to connect, and between two bytes
TAG_BYTES = 1 << 12  # maximum size of the file that names a version

Progress = Callable[[int, int | None], None]


def _change_level_of_pooch(level: int) -> int:
    import pooch

    return change_level(pooch.get_logger(), level)


QUIET_POOCH = TemporarySetting(_change_level_of_pooch, logging.WARNING)


def download_file(url: str, folder: Path, checksum: str, say: Say, progress: Progress, not_found: str = "") -> Path:
    """Downloads a file, unless it is in the folder.

    Args:
        url: Address of the file.
        folder: Where to download it; it keeps its name.
        checksum: SHA-256 of the file, in hex; empty if none is known.
        say: Called with a line of text for each thing worth knowing.
        progress: Called with the bytes of the file so far, and how many it has, if the server says so.
        not_found: Error message if the server does not have the file; "" for the usual one.

    Returns:
        Path of the file.

    Raises:
        CorpusError: It cannot be downloaded, or has another checksum.
        CannotWrite: The folder cannot be written.
    """
    name = Path(urlsplit(url).path).name
    download = _Download(folder / f"{name}.part", checksum, say, progress)
    with QUIET_POOCH, writing(folder), _downloading(url, download.part, not_found):
        if path := _retrieve(url, checksum, folder / name, download):
            return path
        if download.was_resumed:
            say(f"What was left of an earlier download of {name} does not fit: downloading all of it.")
            if path := _retrieve(url, checksum, folder / name, download):
                return path
    raise wrong_checksum(url, "sha256", download.sha256, checksum)


def _retrieve(url: str, checksum: str, path: Path, download: _Download) -> Path | None:
    """Downloads a file, unless it is there; None if its checksum is wrong."""
    import pooch

    try:
        return Path(pooch.retrieve(url, checksum or None, path.name, path.parent, downloader=download))
    except ValueError:  # of the checksum; but some errors of requests are ValueErrors, too
        if not download.sha256:
            raise
    return None


def wrong_checksum(what: str, algorithm: str, found: str, expected: str) -> CorpusError:
    """Returns the error that a file is not the expected one.

    Args:
        what: Name or address of the file.
        algorithm: Name of the hash function.
        found: The checksum of the file, in hex.
        expected: The checksum that it should have.
    """
    return CorpusError(
        f"{what} is not the file that is known: its {algorithm} is {found[:16]}... and should be {expected[:16]}.... "
        "Nothing of it was kept. Try again later, or from another network."
    )


class _Download:
    """Downloads a file for pooch, in several attempts if need be, and goes on with what an earlier process left."""

    def __init__(self, part: Path, checksum: str, say: Say, progress: Progress) -> None:
        self.part = part
        self._tag = part.with_name(f"{part.name}.tag")  # says which version of the file the part belongs to
        self._checksum = checksum
        self._say, self._progress = say, progress
        self.was_resumed = False
        self.sha256 = ""

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Downloads `url` to `output_file`."""
        import requests

        self.was_resumed, self.sha256 = False, ""
        for attempt in range(1, ATTEMPTS + 1):
            before = self._size()
            try:
                self._request_rest(url)
                break
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
                if attempt == ATTEMPTS or self._size() <= before:
                    raise
                self._say(f"The connection broke after {self._size():,} bytes: going on.")
        self.sha256 = sha256(self.part)
        sync_file(self.part)
        rename(self.part, Path(output_file), replace=True)
        self._tag.unlink(missing_ok=True)

    def _size(self) -> int:
        with suppress(OSError):
            return self.part.stat().st_size
        return 0

    def _request_rest(self, url: str) -> None:
        from textgen import __version__

        headers = {"Accept-Encoding": "identity", "User-Agent": f"textgen/{__version__}"} | self._range_headers()
        with _get(url, headers) as response:
            if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and self._size():
                self.part.unlink(missing_ok=True)  # it is as long as the file, or longer
                return self._request_rest(url)
            response.raise_for_status()
            self._receive(response)
        return None

    def _range_headers(self) -> dict[str, str]:
        """The headers that ask for the rest, if it is sure to fit or a checksum will tell."""
        size, tag = self._size(), ""
        with suppress(OSError, ValueError):
            tag = read_file(self._tag, TAG_BYTES).decode()
        if not size or not (tag or self._checksum):
            return {}
        return {"Range": f"bytes={size}-"} | ({"If-Range": tag} if tag else {})

    def _receive(self, response: Response) -> None:
        """Writes what a response holds behind what is there, or anew if it is the whole file."""
        import requests

        size = self._size()
        is_rest = response.headers.get("Content-Range", "").startswith(f"bytes {size}-")
        is_rest = is_rest and response.status_code == HTTPStatus.PARTIAL_CONTENT
        done = size if is_rest else 0
        self.was_resumed |= is_rest
        if not is_rest:
            # before the tag: else the tag could stand beside bytes of another version
            self.part.unlink(missing_ok=True)
        write_own_file(self._tag, _strong_validator(response).encode())
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if length.isdigit() else None
        with _open_part(self.part, is_rest) as file:
            self._progress(done, total)
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                self._progress(done, total)
                if done > MAX_FILE_BYTES:
                    raise CorpusError(f"{response.url} has more than {MAX_FILE_BYTES:,} bytes: it is not a corpus.")
        if total is not None and done < total:
            raise requests.ConnectionError(f"{done:,} of {total:,} bytes came")


def _get(url: str, headers: Mapping[str, str]) -> Response:
    """Sends a GET request.

    Raises:
        CorpusError: What the connection needs is not there, such as the file of REQUESTS_CA_BUNDLE.
    """
    import requests

    try:
        return requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except requests.RequestException:
        raise
    except OSError as error:
        raise CorpusError(
            f"Cannot ask {urlsplit(url).hostname or url}: {error}. Check REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE."
        ) from None


def _open_part(part: Path, is_rest: bool) -> BinaryIO:
    """Opens the file of a download to write it anew or to go on at its end. A link is not followed."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if is_rest else os.O_TRUNC) | OPEN_FLAGS
    return os.fdopen(os.open(part, flags, 0o666), "ab" if is_rest else "wb")


def _strong_validator(response: Response) -> str:
    """What names this version of a file byte by byte: its ETag, or the time of its last change; empty without one."""
    tag = response.headers.get("ETag", "")
    return "" if tag.startswith("W/") else tag or response.headers.get("Last-Modified", "")


@contextmanager
def _downloading(url: str, part: Path, not_found: str) -> Iterator[None]:
    """Converts errors of the network to a `CorpusError`, in one line."""
    import requests

    place = urlsplit(url).hostname or url

    def kept_note() -> str:
        is_some = part.exists() and part.stat().st_size > 0
        return " What has come so far is kept, and the next attempt goes on from there if it can." if is_some else ""

    try:
        yield
    except requests.HTTPError as error:
        raise CorpusError(_status_error_message(url, error, not_found)) from None
    except requests.exceptions.ProxyError:
        raise CorpusError(
            f"Cannot reach {place} through the proxy {_proxy(url)}: check HTTPS_PROXY and HTTP_PROXY, or name {place} "
            "in NO_PROXY."
        ) from None
    except requests.exceptions.SSLError:
        raise CorpusError(
            f"Cannot trust {place}: its certificate is not valid here. Check the clock, or set REQUESTS_CA_BUNDLE to "
            "the certificates of your network."
        ) from None
    except requests.Timeout:
        raise CorpusError(f"{place} does not answer. Try again later.{kept_note()}") from None
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        raise CorpusError(
            f"Cannot reach {place}, or the connection broke: check the network, and set HTTPS_PROXY if there is a "
            f"proxy.{kept_note()}"
        ) from None
    except (requests.RequestException, ValueError) as error:
        raise CorpusError(_request_error_message(url, error)) from None


def _request_error_message(url: str, error: Exception) -> str:
    """Returns the message for a request that cannot be sent, as with a proxy whose address is not valid."""
    import requests

    place, proxy = urlsplit(url).hostname or url, _proxy(url)
    if proxy.lower().startswith("socks") and missing(["socks"]):
        return f"Cannot reach {place} through the proxy {proxy}: SOCKS needs a library: pip install pysocks."
    if proxy and isinstance(error, ValueError) and not isinstance(error, requests.exceptions.InvalidSchema):
        return (  # without the text of the error, which may show a password
            f"Cannot reach {place} through the proxy {proxy}, which is not of the form http://HOST:PORT: correct "
            f"HTTPS_PROXY and HTTP_PROXY, or name {place} in NO_PROXY."
        )
    return f"Cannot download {url}: {error}."


def _proxy(url: str) -> str:
    """The proxy of the environment for an address, without a user and a password; "" without one."""
    from requests.utils import get_environ_proxies, select_proxy

    scheme, separator, rest = (select_proxy(url, get_environ_proxies(url)) or "").rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _status_error_message(url: str, error: Any, not_found: str) -> str:
    """Returns the message for a request that the server refused."""
    status = error.response.status_code
    if status == HTTPStatus.NOT_FOUND and not_found:
        return not_found
    return f"Cannot download {url}: the server says {status} {error.response.reason}. Try again later."
