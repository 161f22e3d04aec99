"""Texts of well-known corpora: downloaded into the cache folder and checked.

A text is complete or absent.

    CACHE/corpora/NAME.txt         the text
    CACHE/corpora/NAME.txt.json    its address, title, licence and checksum
    CACHE/corpora/downloads/KEY/   files as they were downloaded; only archives are kept
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from textgen.corpus.fetching.catalogue import CatalogueEntry
from textgen.corpus.fetching.download import CHUNK_BYTES, MAX_FILE_BYTES, Progress, download_file, wrong_checksum
from textgen.corpus.fetching.gutenberg import read_book
from textgen.errors import CorpusError
from textgen.schema import decoded_json
from textgen.storage.cache_eviction import evict, limit_bytes
from textgen.storage.cache_folder import cache_folder, filling_cache, named_cache_folder
from textgen.storage.cache_layout import CORPORA, DOWNLOADS, read_record, record_of
from textgen.storage.file_reading import open_file, sha256
from textgen.storage.files import json_bytes, write_chunks, write_own_file
from textgen.storage.locks import locked_in_turn, remove_empty
from textgen.storage.new_files import new_file
from textgen.wording import Say, silent


@dataclass(frozen=True)
class FetchedText:
    """A text that was fetched, and what is known of it; the fields are those of its record (`TEXT_RECORD`).

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


def fetch(
    entry: CatalogueEntry, say: Say = silent, progress: Progress = lambda done, total: None
) -> tuple[Path, FetchedText]:
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
    if known := _cached_record(entry, path, say):
        return path, known
    downloads = path.parent / DOWNLOADS / hashlib.sha256("\n".join(entry.urls).encode()).hexdigest()[:32]
    with filling_cache(), _locked_folder(downloads, say):
        fetched = _cached_record(entry, path) or _download_and_record(entry, path, downloads, say, progress)
        if entry.kind != "member":  # other texts may be made of the same archive
            shutil.rmtree(downloads, ignore_errors=True)  # while it is locked: it may be another process's next
    evict(downloads.parent, limit_bytes())
    return path, fetched


def has_lasting_cache() -> bool:
    """Checks whether a text that is fetched is kept: without a cache folder it is lost when the program ends."""
    return cache_folder() == named_cache_folder()


def copy_text(path: Path, target: Path) -> None:
    """Copies a text, atomically.

    Raises:
        CorpusError: The text cannot be read.
        TextgenError: The target cannot be written.
    """
    with new_file(target) as temporary, _reading(path):
        write_chunks(temporary, _chunks(open_file(path)), message_path=target)


def _cached_record(entry: CatalogueEntry, path: Path, say: Say = silent) -> FetchedText | None:
    """The record of a text that is there; None if it is not, or is damaged."""
    record = _read_record(path)
    if record is None or record.urls != list(entry.urls) or not path.is_file():
        return None
    if _is_intact(path, record):
        return record
    say(f"{path} is damaged: downloading it again.")
    return None


def _download_and_record(
    entry: CatalogueEntry, path: Path, downloads: Path, say: Say, progress: Progress
) -> FetchedText:
    """Downloads a corpus to a path, and writes its record."""
    record = record_of(path)
    previous = _read_record(path)
    files = [download_file(url, downloads, entry.checksum, say, progress, _not_found(entry)) for url in entry.urls]
    with new_file(path, follow_link=False) as temporary, _removed_if_invalid(downloads), _reading(downloads):
        chunks, title, author = _make_text(entry, files)
        write_chunks(temporary, chunks, message_path=path)
        fetched = _new_record(entry, temporary, title, author)
        _check_first_download(fetched, previous, record)
    write_own_file(record, json_bytes(asdict(fetched)))
    return fetched


@contextmanager
def _locked_folder(downloads: Path, say: Say) -> Iterator[None]:
    """Makes and locks a folder for the block. It is removed after the block if it is empty."""
    with locked_in_turn(downloads, say):
        try:
            yield
        finally:
            with suppress(OSError):  # it is not empty, or removed
                remove_empty(downloads)


@contextmanager
def _removed_if_invalid(downloads: Path) -> Iterator[None]:
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


def _read_record(path: Path) -> FetchedText | None:
    """The record of a text that was fetched before; None without a valid one."""
    values = read_record(path)
    return FetchedText(**values) if values else None


def _is_intact(path: Path, record: FetchedText) -> bool:
    with suppress(OSError):
        return sha256(path) == record.sha256
    return False


def _not_found(entry: CatalogueEntry) -> str:
    """The error message for a file that the server does not have; "" for the usual one."""
    if entry.kind != "gutenberg":
        return ""
    number = entry.name.partition(":")[2]
    return f"Project Gutenberg has no plain text of a book {number}: look up the number at www.gutenberg.org."


def _new_record(entry: CatalogueEntry, text: Path, title: str, author: str) -> FetchedText:
    checked = "published" if entry.is_pinned else "first download"
    size = text.stat().st_size
    return FetchedText(entry.name, title, author, entry.licence, list(entry.urls), sha256(text), size, checked)


def _check_first_download(fetched: FetchedText, previous: FetchedText | None, record: Path) -> None:
    """Raises `CorpusError` if a text without a published checksum differs from its first download."""
    if fetched.checked == "published" or previous is None or previous.urls != fetched.urls:
        return
    if fetched.sha256 != previous.sha256:
        raise CorpusError(
            f"{fetched.name} differs from its first download: its SHA-256 is {fetched.sha256[:16]}... and was "
            f"{previous.sha256[:16]}.... If there is a new edition, delete {record} and fetch it again."
        )


# === From files to a text ===


def _make_text(entry: CatalogueEntry, files: list[Path]) -> tuple[Iterable[bytes], str, str]:
    """The parts of the text, its title and its author."""
    if entry.kind == "gutenberg":
        book = read_book(files[0].read_bytes(), int(entry.name.partition(":")[2]))
        return [book.text.encode()], book.title or entry.title, book.author
    if entry.kind == "poems":
        return ["\n".join(_poem_blocks(file) for file in files).encode()], entry.title, ""
    if entry.kind == "member":
        return _unpacked_member(entry, files[0]), entry.title, ""
    return _chunks(open_file(files[0])), entry.title, ""


def _poem_blocks(path: Path) -> str:
    """The poems of a JSON file as blocks: the title, then the lines."""
    try:
        poems = [(poem["title"], "\n".join(poem["paragraphs"])) for poem in decoded_json(path.read_bytes())]
    except (ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{path.name} does not hold poems: {error}. Try again later.") from None
    return "\n".join(f"{title}\n{text}\n" for title, text in poems if text.strip())


def _unpacked_member(entry: CatalogueEntry, archive: Path) -> Iterator[bytes]:
    """Unpacks one file of an archive, and checks it when all of it has come."""
    algorithm, _, expected = entry.text_checksum.partition(":")
    found = hashlib.new(algorithm or "sha256")
    try:
        with zipfile.ZipFile(archive) as files, files.open(entry.member) as source:
            if files.getinfo(entry.member).file_size > MAX_FILE_BYTES:
                raise zipfile.BadZipFile(f"{entry.member} is too large")
            while chunk := source.read(CHUNK_BYTES):
                found.update(chunk)
                yield chunk
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError, RuntimeError) as error:
        raise CorpusError(f"The archive of {entry.name} is damaged: {error}. Fetch it again.") from None
    if expected and found.hexdigest() != expected:
        raise wrong_checksum(entry.name, algorithm, found.hexdigest(), expected)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
