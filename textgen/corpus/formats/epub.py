"""The text of books: .epub files."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Container, Iterator
from typing import Any
from urllib.parse import unquote

from textgen.corpus.encoding_guess import has_controls, marked_encoding
from textgen.corpus.encodings import WEB_ERRORS
from textgen.corpus.formats.markup import is_mostly_links, page_text
from textgen.corpus.formats.web_pages import as_html, declared_encoding, name_of
from textgen.corpus.formats.zipped import MAX_CHAPTER_BYTES, chunks, optional_part, parsed_part
from textgen.errors import CorpusError

ENCRYPTION = "META-INF/encryption.xml"
CONTENTS = "//*[local-name()='guide']/*[local-name()='reference'][@type='toc']/@href"  # the table, before EPUB 3


def book_text(archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    """Iterates over the text of an .epub file: its chapters in reading order, between blank lines.

    Args:
        archive: The file.
        name: Name of the file in messages.

    Yields:
        Consecutive strings that make up the text.

    Raises:
        CorpusError: The file is damaged, protected or too large, or lxml is missing.
    """
    roots = parsed_part(archive, "META-INF/container.xml", name).xpath("//*[local-name()='rootfile']/@full-path")
    if not roots:
        raise CorpusError(f"{name} is damaged: it does not say where its contents are. Save it again.")
    package, folder = parsed_part(archive, str(roots[0]), name), posixpath.dirname(str(roots[0]))
    encrypted = _encrypted(archive)
    contents = {_member(folder, href) for href in package.xpath(CONTENTS)}
    is_first = True
    for member in _chapters(package, folder):
        data = b"".join(chunks(archive, member, name, MAX_CHAPTER_BYTES))
        _check_protection(data, name, member, encrypted)
        page = "".join(_chapter(data, name, member))
        if member in contents and is_mostly_links(page, name):
            continue
        for text in page_text([page], name):
            yield text if is_first or text.isspace() else f"\n{text}"
            is_first = True
        is_first = False


def _chapters(package: Any, folder: str) -> Iterator[str]:
    """The parts of an .epub file that hold its chapters, in reading order."""
    items = {item.get("id"): item for item in package.xpath("//*[local-name()='manifest']/*[local-name()='item']")}
    for entry in package.xpath("//*[local-name()='spine']/*[local-name()='itemref']"):
        item = items.get(entry.get("idref"))
        if item is None or entry.get("linear") == "no" or "nav" in str(item.get("properties", "")).split():
            continue
        if str(item.get("media-type", "")) in ("application/xhtml+xml", "text/html"):
            yield _member(folder, item.get("href", ""))


def _member(folder: str, href: str) -> str:
    """The part of an .epub file to which a link leads."""
    return posixpath.normpath(posixpath.join(folder, unquote(href.partition("#")[0])))


def _encrypted(archive: zipfile.ZipFile) -> set[str]:
    """The parts of an .epub file that are listed as encrypted; often none but fonts.

    A list that cannot be read hinders nobody from reading the parts that are not encrypted.
    """
    root = optional_part(archive, ENCRYPTION)
    if root is None:
        return set()
    return {_member("", uri).lstrip("/") for uri in root.xpath("//*[local-name()='CipherReference']/@URI")}


def _check_protection(data: bytes, name: str, member: str, encrypted: Container[str]) -> None:
    beginning = data[: 1 << 12]
    is_noise = bool(data) and (b"<" not in beginning or has_controls(beginning)) and not marked_encoding(data)
    if member in encrypted or is_noise:
        raise CorpusError(
            f"{name} is protected: its part {member} is encrypted, as books with copy protection are. Name a copy "
            "without protection."
        )


def _chapter(data: bytes, name: str, member: str) -> Iterator[str]:
    beginning = data[: 1 << 12]
    encoding = declared_encoding(beginning) or "utf-8"
    try:
        text = data.decode(encoding, WEB_ERRORS)
    except UnicodeError as error:
        called = name_of(encoding, beginning)
        raise CorpusError(f"{name} is damaged: its part {member} is not {called} text ({error}).") from None
    return as_html([text])
