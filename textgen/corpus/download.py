"""Downloads well-known corpora into the cache folder and checks them.

A text is complete or absent. A broken download is kept as a `.part` file, and the next attempt goes on from there if
the server can do that and still has the same file. Proxies are those of the environment (HTTPS_PROXY and others).

    CACHE/corpora/NAME.txt         the text
    CACHE/corpora/NAME.txt.json    its address, title, licence and checksum
    CACHE/corpora/downloads/KEY/   files as they were downloaded; only archives are kept
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from textgen.corpus.catalogue import Entry
from textgen.corpus.gutenberg import read_book
from textgen.errors import CorpusError
from textgen.schema import check
from textgen.storage.cache_eviction import CORPORA, DOWNLOADS, evict, limit_bytes, record_of
from textgen.storage.cache_folder import cache_folder, filling_cache, named_cache_folder
from textgen.storage.files import (
    OPEN_FLAGS,
    json_bytes,
    new_file,
    open_file,
    read_file,
    sha256,
    write_chunks,
    write_own_file,
    writing,
)
from textgen.storage.locks import locked_in_turn

if TYPE_CHECKING:
    from requests import Response

CHUNK_BYTES = 1 << 13  # of which an incomplete one is lost when a connection breaks
LARGEST_BYTES = 1 << 32  # of a file: a server that never ends does not fill the disk
TRIES = 4  # of a download whose connection breaks
TIMEOUT = (15.0, 60.0)  # seconds to connect, and without a byte
FORMAT_BYTES = 1 << 22  # of the record of a text
TAG_BYTES = 1 << 12  # of the file that names a version

Say = Callable[[str], None]
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Fetched:
    """A text that was fetched, and what is known of it; the fields are those of its record.

    Attributes:
        name: Name of the corpus.
        title: Its title.
        author: Its author; empty if unknown.
        licence: Licence or copyright.
        urls: Where it comes from.
        sha256: Checksum of the text, in hex.
        bytes: Size of the text.
        checked: "published" if a checksum known beforehand decided, "first download" if there is none.
    """

    name: str
    title: str
    author: str
    licence: str
    urls: list[str]
    sha256: str
    bytes: int
    checked: str


RECORD = dict.fromkeys(("name", "title", "author", "licence", "sha256", "checked"), str) | {"urls": [str], "bytes": int}


def fetch(
    entry: Entry, say: Say = lambda line: None, progress: Progress = lambda done, total: None
) -> tuple[Path, Fetched]:
    """Downloads a corpus, unless it is in the cache folder already. Waits for another process that downloads it.

    Args:
        entry: The corpus.
        say: Called with a line of text for each thing worth knowing.
        progress: Called with the bytes of a file so far, and how many it has, if the server says so.

    Returns:
        The path of the text in the cache folder, and its record.

    Raises:
        CorpusError: It cannot be downloaded, or is not what it should be.
        TextgenError: The cache folder cannot be written.
    """
    path = cache_folder(say).absolute() / CORPORA / entry.file_name
    if known := _known(entry, path, say):
        return path, known
    downloads = path.parent / DOWNLOADS / hashlib.sha256("\n".join(entry.urls).encode()).hexdigest()[:32]
    with filling_cache(), _held(downloads, say):
        fetched = _known(entry, path) or _fetched(entry, path, downloads, say, progress)
        if entry.kind != "member":  # other texts may be made of the same archive
            shutil.rmtree(downloads, ignore_errors=True)  # while it is locked: it may be another process's next
    evict(downloads.parent, limit_bytes())
    return path, fetched


def _known(entry: Entry, path: Path, say: Say = lambda line: None) -> Fetched | None:
    """The record of a text that is there; None if it is not, or is damaged."""
    record = _read_record(record_of(path))
    if record is None or record.urls != list(entry.urls) or not path.is_file():
        return None
    if _is_sound(path, record):
        return record
    say(f"{path} is damaged: downloading it again.")
    return None


def _fetched(entry: Entry, path: Path, downloads: Path, say: Say, progress: Progress) -> Fetched:
    """Downloads a corpus to a path, and writes its record."""
    record = record_of(path)
    before = _read_record(record)
    files = [_downloaded(entry, url, downloads, say, progress) for url in entry.urls]
    with new_file(path, follow_link=False) as temporary, _removed_if_bad(downloads), _reading(downloads):
        chunks, title, author = _text(entry, files)
        write_chunks(temporary, chunks, shown=path)
        fetched = _record(entry, temporary, title, author)
        _check(fetched, before, record)
    write_own_file(record, json_bytes(asdict(fetched)))
    return fetched


@contextmanager
def _held(downloads: Path, say: Say) -> Iterator[None]:
    """Makes and locks a folder for the block. It is removed after the block if it is empty."""
    with locked_in_turn(downloads, say):
        try:
            yield
        finally:
            with suppress(OSError):  # it is not empty, or removed
                downloads.rmdir()


@contextmanager
def _removed_if_bad(downloads: Path) -> Iterator[None]:
    """Removes files that are not what they should be, so that the next attempt does not find them."""
    try:
        yield
    except CorpusError:
        shutil.rmtree(downloads, ignore_errors=True)
        raise


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Converts errors of reading in the block, such as a damaged disk, to `CorpusError`."""
    try:
        yield
    except OSError as error:
        raise CorpusError(
            f"Cannot read {error.filename or folder}: {error.strerror or error}. Fetch the text again."
        ) from None


def has_lasting_cache() -> bool:
    """Checks whether a text that is fetched is kept: without a cache folder it is lost when the program ends."""
    return cache_folder() == named_cache_folder()


def _read_record(path: Path) -> Fetched | None:
    """The record of a text that was fetched before; None without a sound one."""
    try:
        values = json.loads(read_file(path, FORMAT_BYTES))
        check(values, RECORD)
        return Fetched(**values)
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def _is_sound(path: Path, record: Fetched) -> bool:
    with suppress(OSError):
        return sha256(path) == record.sha256
    return False


def _record(entry: Entry, text: Path, title: str, author: str) -> Fetched:
    checked = "published" if entry.is_pinned else "first download"
    size = text.stat().st_size
    return Fetched(entry.name, title, author, entry.licence, list(entry.urls), sha256(text), size, checked)


def _check(fetched: Fetched, before: Fetched | None, record: Path) -> None:
    """Raises `CorpusError` if a text without a published checksum differs from its first download."""
    if fetched.checked == "published" or before is None or before.urls != fetched.urls:
        return
    if fetched.sha256 != before.sha256:
        raise CorpusError(
            f"{fetched.name} differs from its first download: its SHA-256 is {fetched.sha256[:16]}... and was "
            f"{before.sha256[:16]}.... If there is a new edition, delete {record} and fetch it again."
        )


# === From files to a text ===


def _text(entry: Entry, files: list[Path]) -> tuple[Iterable[bytes], str, str]:
    """The parts of the text, its title and its author."""
    if entry.kind == "gutenberg":
        book = read_book(files[0].read_bytes(), int(entry.name.partition(":")[2]))
        return [book.text.encode()], book.title or entry.title, book.author
    if entry.kind == "poems":
        return ["\n".join(_poems(file) for file in files).encode()], entry.title, ""
    if entry.kind == "member":
        return _member(entry, files[0]), entry.title, ""
    return _chunks(open_file(files[0])), entry.title, ""


def _poems(path: Path) -> str:
    """The poems of a JSON file as blocks: the title, then the lines."""
    try:
        poems = [(poem["title"], "\n".join(poem["paragraphs"])) for poem in json.loads(path.read_bytes())]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorpusError(f"{path.name} does not hold poems: {error}. Try again later.") from None
    return "\n".join(f"{title}\n{text}\n" for title, text in poems if text.strip())


def _member(entry: Entry, archive: Path) -> Iterator[bytes]:
    """Unpacks one file of an archive, and checks it when all of it has come."""
    algorithm, _, expected = entry.text_checksum.partition(":")
    found = hashlib.new(algorithm or "sha256")
    try:
        with zipfile.ZipFile(archive) as files, files.open(entry.member) as source:
            if files.getinfo(entry.member).file_size > LARGEST_BYTES:
                raise zipfile.BadZipFile(f"{entry.member} is too large")
            while chunk := source.read(CHUNK_BYTES):
                found.update(chunk)
                yield chunk
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError, RuntimeError) as error:
        raise CorpusError(f"The archive of {entry.name} is damaged: {error}. Fetch it again.") from None
    if expected and found.hexdigest() != expected:
        raise _wrong_checksum(entry.name, algorithm, found.hexdigest(), expected)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


# === One file ===


def _downloaded(entry: Entry, url: str, folder: Path, say: Say, progress: Progress) -> Path:
    """Downloads a file, unless it is in the folder."""
    import pooch

    pooch.get_logger().setLevel("WARNING")
    name = Path(urlsplit(url).path).name
    download = _Download(folder / f"{name}.part", entry, say, progress)
    with writing(folder), _speaking_of(url, entry, download.part):
        if path := _retrieved(url, entry, folder / name, download):
            return path
        if download.was_resumed:
            say(f"What was left of an earlier download of {name} does not fit: downloading all of it.")
            if path := _retrieved(url, entry, folder / name, download):
                return path
    raise _wrong_checksum(url, "sha256", download.sha256, entry.checksum)


def _retrieved(url: str, entry: Entry, path: Path, download: _Download) -> Path | None:
    """Downloads a file, unless it is there; None if its checksum is wrong."""
    import pooch

    try:
        return Path(pooch.retrieve(url, entry.checksum or None, path.name, path.parent, downloader=download))
    except ValueError:  # of the checksum; but some errors of requests are ValueErrors, too
        if not download.sha256:
            raise
    return None


def _wrong_checksum(what: str, algorithm: str, found: str, expected: str) -> CorpusError:
    return CorpusError(
        f"{what} is not the file that is known: its {algorithm} is {found[:16]}... and should be {expected[:16]}.... "
        "Nothing of it was kept. Try again later, or from another network."
    )


class _Download:
    """Downloads a file for pooch, in several attempts if need be, and goes on with what an earlier process left."""

    def __init__(self, part: Path, entry: Entry, say: Say, progress: Progress) -> None:
        self.part = part
        self._tag = part.with_name(f"{part.name}.tag")  # says which version of the file the part belongs to
        self._entry = entry
        self._say, self._progress = say, progress
        self.was_resumed = False
        self.sha256 = ""

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Downloads `url` to `output_file`."""
        import requests

        self.was_resumed, self.sha256 = False, ""
        for attempt in range(1, TRIES + 1):
            before = self._size()
            try:
                self._go_on(url)
                break
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
                if attempt == TRIES or self._size() <= before:
                    raise
                self._say(f"The connection broke after {self._size():,} bytes: going on.")
        self.sha256 = sha256(self.part)
        os.replace(self.part, output_file)
        self._tag.unlink(missing_ok=True)

    def _size(self) -> int:
        with suppress(OSError):
            return self.part.stat().st_size
        return 0

    def _go_on(self, url: str) -> None:
        from textgen import __version__

        headers = {"Accept-Encoding": "identity", "User-Agent": f"textgen/{__version__}"} | self._range()
        with _answer(url, headers) as response:
            if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and self._size():
                self.part.unlink(missing_ok=True)  # it is as long as the file, or longer
                return self._go_on(url)
            response.raise_for_status()
            self._receive(response)
        return None

    def _range(self) -> dict[str, str]:
        """The headers that ask for the rest, if it is sure to fit or a checksum will tell."""
        size, tag = self._size(), ""
        with suppress(OSError, ValueError):
            tag = read_file(self._tag, TAG_BYTES).decode()
        if not size or not (tag or self._entry.checksum):
            return {}
        return {"Range": f"bytes={size}-"} | ({"If-Range": tag} if tag else {})

    def _receive(self, response: Response) -> None:
        """Writes what a response holds behind what is there, or anew if it is the whole file."""
        import requests

        size = self._size()
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {size}-")
        goes_on = goes_on and response.status_code == HTTPStatus.PARTIAL_CONTENT
        done = size if goes_on else 0
        self.was_resumed |= goes_on
        write_own_file(self._tag, _strong_tag(response).encode())
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if length.isdigit() else None
        with _opened(self.part, goes_on) as file:
            self._progress(done, total)
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                self._progress(done, total)
                if done > LARGEST_BYTES:
                    raise CorpusError(f"{response.url} has more than {LARGEST_BYTES:,} bytes: it is not a corpus.")
        if total is not None and done < total:
            raise requests.ConnectionError(f"{done:,} of {total:,} bytes came")


def _answer(url: str, headers: Mapping[str, str]) -> Response:
    """Asks a server.

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


def _opened(part: Path, goes_on: bool) -> BinaryIO:
    """Opens the file of a download to write it anew or to go on at its end. A link is not followed."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if goes_on else os.O_TRUNC) | OPEN_FLAGS
    return os.fdopen(os.open(part, flags, 0o666), "ab" if goes_on else "wb")


def _strong_tag(response: Response) -> str:
    """What names this version of a file byte by byte: its ETag, or the time of its last change; empty without one."""
    tag = response.headers.get("ETag", "")
    return "" if tag.startswith("W/") else tag or response.headers.get("Last-Modified", "")


@contextmanager
def _speaking_of(url: str, entry: Entry, part: Path) -> Iterator[None]:
    """Converts errors of the network to a `CorpusError`, in one line."""
    import requests

    place = urlsplit(url).hostname or url

    def kept() -> str:
        is_some = part.exists() and part.stat().st_size > 0
        return " What has come so far is kept, and the next attempt goes on from there if it can." if is_some else ""

    try:
        yield
    except requests.HTTPError as error:
        raise CorpusError(_refused(url, entry, error)) from None
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
        raise CorpusError(f"{place} does not answer. Try again later.{kept()}") from None
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        raise CorpusError(
            f"Cannot reach {place}, or the connection broke: check the network, and set HTTPS_PROXY if there is a "
            f"proxy.{kept()}"
        ) from None
    except (requests.RequestException, ValueError) as error:
        raise CorpusError(_unasked(url, error)) from None


def _unasked(url: str, error: Exception) -> str:
    """The message that a server cannot even be asked, as with a proxy that is none."""
    import requests

    place, proxy = urlsplit(url).hostname or url, _proxy(url)
    if proxy.lower().startswith("socks") and find_spec("socks") is None:
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


def _refused(url: str, entry: Entry, error: Any) -> str:
    status = error.response.status_code
    if status == HTTPStatus.NOT_FOUND and entry.kind == "gutenberg":
        number = entry.name.partition(":")[2]
        return f"Project Gutenberg has no plain text of a book {number}: look up the number at www.gutenberg.org."
    return f"Cannot download {url}: the server says {status} {error.response.reason}. Try again later."


def copy_text(path: Path, target: Path) -> None:
    """Copies a text, atomically.

    Raises:
        CorpusError: The text cannot be read.
        TextgenError: The target cannot be written.
    """
    with new_file(target) as temporary, _reading(path):
        write_chunks(temporary, _chunks(open_file(path)), shown=target)
