"""The text of books: .epub files."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from textgen.corpus.encoding_guess import has_controls, marked_encoding
from textgen.corpus.encodings import WEB_ERRORS
from textgen.corpus.formats.findings import Findings
from textgen.corpus.formats.page_markup import is_mostly_links, page_text
from textgen.corpus.formats.web_pages import as_html, declared_encoding, name_of
from textgen.corpus.formats.zipped import MAX_CHAPTER_BYTES, chunks, optional_part, parsed_part
from textgen.corpus.labels import named
from textgen.corpus.left_out import NAMED
from textgen.errors import CorpusError
from textgen.wording import counted

ENCRYPTION = "META-INF/encryption.xml"
CONTENTS = "//*[local-name()='guide']/*[local-name()='reference'][@type='toc']/@href"  # the table, before EPUB 3
PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document")
"""Media types of chapters. Books of before EPUB 3 may have the last two."""
MAX_FALLBACKS = 16  # number of parts that a book may name in each other's place; real ones name one or two
CONTENTS_TYPE = "application/x-dtbncx+xml"  # of the table of contents before EPUB 3, which is no chapter


def book_text(archive: zipfile.ZipFile, name: str, findings: Findings) -> Iterator[str]:
    """Iterates over the text of an .epub file: its chapters in reading order, between blank lines.

    Args:
        archive: The file.
        name: Name of the file in messages.
        findings: Gets messages about parts that are not read.

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
    is_first, passed = True, _Passed()
    for member in _chapters(archive, package, folder, passed):
        data = b"".join(chunks(archive, member, name, MAX_CHAPTER_BYTES))
        _check_protection(data, name, member, encrypted)
        page = "".join(_chapter(data, name, member))
        texts = page_text([page], name)
        if member in contents:
            texts = iter(list(texts))  # first, since it refuses a page that takes too long to parse
            if is_mostly_links(page, name):
                continue
        for text in texts:
            yield text if is_first or text.isspace() else f"\n{text}"
            is_first = True
        is_first = False
    passed.beside = [member for member in passed.beside if member not in contents and _has_text(archive, name, member)]
    passed.tell(findings, name)


@dataclass
class _Passed:
    """Parts of an .epub file in its reading order that are not read.

    Attributes:
        unread: Those that cannot be read, with the reason.
        beside: Those that the book itself puts beside its text.
    """

    unread: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)

    def tell(self, findings: Findings, name: str) -> None:
        """Adds messages about these parts."""
        if self.unread:
            findings.lost.append(
                f"Skipped {counted(len(self.unread), 'part')} of {name} that cannot be read: "
                f"{named(self.unread, NAMED)}. Convert the book to .epub again, or to .docx."
            )
        if self.beside:
            findings.doubtful.append(
                f"Skipped {counted(len(self.beside), 'part')} with text of {name} that the book puts beside its text "
                f'(linear="no"): {named(self.beside, NAMED)}. To learn it, too, unzip the book and name it.'
            )


def _chapters(archive: zipfile.ZipFile, package: Any, folder: str, passed: _Passed) -> Iterator[str]:
    """The parts of an .epub file that hold its chapters, in reading order.

    Notes the other parts in `passed`, except pictures without text, such as covers. A book may name each part once
    only: further times add no text, but could take any time.
    """
    done, pages = set[tuple[str, bool]](), set[tuple[str, bool]]()
    items = {item.get("id"): item for item in package.xpath("//*[local-name()='manifest']/*[local-name()='item']")}
    for entry in package.xpath("//*[local-name()='spine']/*[local-name()='itemref']"):
        name = entry.get("idref")
        is_beside = str(entry.get("linear", "")).strip().lower() == "no"
        use = (_member(folder, items[name].get("href", "")) if name in items else str(name)), is_beside
        if use in done:
            continue
        done.add(use)
        item = _page(items, name)
        if item is None and not _is_picture(archive, items.get(name or ""), folder):
            passed.unread.append(_why_unread(items, name, folder))
        elif item is None or _type(item) == CONTENTS_TYPE or "nav" in str(item.get("properties", "")).split():
            continue
        else:
            page = _member(folder, item.get("href", "")), is_beside
            if page in pages:
                continue
            pages.add(page)
            if is_beside:
                passed.beside.append(page[0])
            else:
                yield page[0]


def _page(items: Mapping[str, Any], name: str | None) -> Any:
    """The page of an entry in the reading order, or what the book gives in its place; None if there is neither."""
    tried = set[str | None]()
    while (item := items.get(name or "")) is not None and name not in tried and len(tried) < MAX_FALLBACKS:
        if _type(item) in (*PAGES, CONTENTS_TYPE):
            return item
        tried.add(name)
        name = item.get("fallback")
    return None


def _type(item: Any) -> str:
    return str(item.get("media-type", "")).strip().lower()


def _is_picture(archive: zipfile.ZipFile, item: Any, folder: str) -> bool:
    """Whether a part of an .epub file is a picture without text. One in SVG that cannot be read may have some."""
    kind = "" if item is None else _type(item)
    if kind != "image/svg+xml":
        return kind.startswith("image/")
    root = optional_part(archive, _member(folder, item.get("href", "")))
    return root is not None and not root.xpath("//*[local-name()='text' or local-name()='foreignObject']")


def _why_unread(items: Mapping[str, Any], name: str | None, folder: str) -> str:
    item = items.get(name or "")
    if item is None:
        return f"{name} (not in the list of its files)"
    return f"{_member(folder, item.get('href', ''))} ({_type(item) or 'without a media type'}, no page)"


def _has_text(archive: zipfile.ZipFile, name: str, member: str) -> bool:
    """Whether a page has text, unlike most covers. One that cannot be read may have some."""
    try:
        data = b"".join(chunks(archive, member, name, MAX_CHAPTER_BYTES))
        return not all(map(str.isspace, page_text(_chapter(data, name, member), name)))
    except (CorpusError, KeyError):
        return True


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
