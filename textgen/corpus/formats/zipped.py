"""The parts of files that are archives, such as .docx, .odt and .epub files. What is decompressed has limits."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from textgen.corpus.formats.extras import load
from textgen.errors import CorpusError

CHUNK_BYTES = 1 << 16
MAX_MEMBER_BYTES = 1 << 28  # maximum size in bytes of a decompressed part of a .docx, .odt or .epub file
MAX_CHAPTER_BYTES = 1 << 25  # maximum size in bytes of a chapter, which is read into memory as a whole


@contextmanager
def unzipping(name: str) -> Iterator[None]:
    """Turns errors of reading an archive in the block into a `CorpusError`.

    Args:
        name: Name of the file in messages.

    Raises:
        CorpusError: The block failed to read the archive.
    """
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, LookupError, RuntimeError, ValueError) as error:
        why = str(error).strip("'\"").rstrip(".") or "it ends too early"
        raise CorpusError(f"{name} is damaged, or protected by a password: {why}. Save it again.") from None


def chunks(archive: zipfile.ZipFile, member: str, name: str, limit: int | None = None) -> Iterator[bytes]:
    """Iterates over the decompressed bytes of a part, which cannot be more than the archive says.

    Args:
        archive: The file.
        member: Name of the part.
        name: Name of the file in messages.
        limit: Maximum size in bytes; `MAX_MEMBER_BYTES` by default.

    Yields:
        The bytes, in pieces.

    Raises:
        CorpusError: The part is larger.
        KeyError: There is no such part.
    """
    limit = MAX_MEMBER_BYTES if limit is None else limit
    size = archive.getinfo(member).file_size
    if size > limit:
        raise CorpusError(f"{name}: its part {member} has {size:,} bytes, more than the limit of {limit:,}. Split it.")
    with archive.open(member) as part:
        while chunk := part.read(CHUNK_BYTES):
            yield chunk


def parsed_part(archive: zipfile.ZipFile, member: str, name: str) -> Any:
    """Parses a part in XML.

    Args:
        archive: The file.
        member: Name of the part.
        name: Name of the file in messages.

    Returns:
        The root element.

    Raises:
        CorpusError: The part is too large or damaged, or lxml is missing.
        KeyError: There is no such part.
    """
    etree = load("lxml.etree", name)
    data = b"".join(chunks(archive, member, name, MAX_CHAPTER_BYTES))
    try:
        return etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as error:
        raise CorpusError(f"{name} is damaged: its part {member} ({error}). Save it again.") from None


def optional_part(archive: zipfile.ZipFile, member: str) -> Any:
    """Parses a part that the text can do without. Returns None if there is none, or none that can be read."""
    if member not in archive.namelist():
        return None
    try:
        with unzipping(member):
            return parsed_part(archive, member, member)
    except CorpusError:
        return None
