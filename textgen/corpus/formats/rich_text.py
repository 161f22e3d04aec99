"""The text in files of word processors, books, web pages and subtitles, in bounded memory.

.docx, .odt, .epub and .html are parsed by lxml, .pdf by pypdf, .rtf by striprtf (the extra `documents`); .srt and .vtt
need no library. What is decompressed from a file has limits: a small file may become very large.
"""

from __future__ import annotations

import codecs
import html
import logging
import posixpath
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from textgen.corpus.config import UTF8
from textgen.corpus.encoding_guess import has_controls, marked_encoding
from textgen.corpus.encodings import WEB_ERRORS, is_plain, is_utf8_name, known_encoding, web_encoding
from textgen.corpus.formats.extras import load
from textgen.corpus.formats.markup import BODY_LEVEL, HEADING, is_mostly_links, office_text, page_text
from textgen.corpus.formats.subtitles import subtitle_lines
from textgen.corpus.process_settings import TemporarySetting, change_level
from textgen.errors import CorpusError
from textgen.wording import counted

PAGES = (".html", ".htm", ".xhtml")
SUBTITLES = (".srt", ".vtt")
ZIPPED = (".docx", ".odt", ".epub")
RICH = (*PAGES, *SUBTITLES, *ZIPPED, ".pdf", ".rtf")
WHOLE = (*ZIPPED, ".pdf")  # formats whose files are read at any offset, so they cannot be compressed

CHUNK_BYTES = 1 << 16
LARGEST_MEMBER = 1 << 28  # maximum size in bytes of a decompressed part of a .docx, .odt or .epub file
LARGEST_CHAPTER = 1 << 25  # maximum size in bytes of a chapter, which is read into memory as a whole
LARGEST_RTF = 1 << 26  # maximum number of characters of an .rtf file, which is read into memory as a whole
LARGEST_PAGE = 1 << 24  # maximum size in bytes of the drawing operations of a page of a .pdf file
STAMP_CHARS = 50  # a page with a picture and less text than that may be a scan
LARGEST_TEXT = 1 << 30  # maximum number of characters in the text of a file
QUIET_PYPDF = TemporarySetting(partial(change_level, logging.getLogger("pypdf")), logging.CRITICAL)
"""Its warnings about damaged files name none."""

CHARSET = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?([\w.:-]+)|<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]+)""", re.I
)
SELF_CLOSED = re.compile(r"<([A-Za-z][\w:.-]*)((?:\s[^<>]*)?)/>", re.ASCII)
VOID = {
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
}  # fmt: skip
CDATA, COMMENT = "<![CDATA[", "<!--"  # in XHTML: text in which < and & are no markup, and what is not shown
MARKS = {"": re.compile(r"<!\[CDATA\[|<!--"), CDATA: re.compile(r"\]\]>"), COMMENT: re.compile("-->")}
"""Beginning of a CDATA section or a comment, and the end of each, by what reading is within."""
LONGEST_END = len("]]>")
LONGEST_TAG = 1 << 16  # number of characters of a tag that are held until it ends
RTF_WORDS = re.compile(
    r"(?<=\\'[0-9a-fA-F]{2})(?:([0-9@-\[\]-z|~]|\\[\\{}])|[\r\n]+)|\\\\|\\(?:nest)?cell(?![A-Za-z])|\\fldinst(?=\{)"
)
"""What striprtf reads otherwise than word processors; and an escaped backslash, with which no word begins."""
ROW_END = re.compile("\t+\n")
SOFT_HYPHEN, REPLACEMENT = "\u00ad", "\ufffd"
LOST = "\ufdd0"  # no character: what cannot be decoded, until it is counted, since an author may write `REPLACEMENT`
RTF_ERRORS = "textgen-rtf"
"""How the bytes of an .rtf file are decoded: `LOST` stands for those that cannot be."""
NUMBER = re.compile(r"\d+")
PDF_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, RuntimeError, TypeError,
    ValueError, struct.error, zlib.error,
)  # fmt: skip
"""What pypdf raises for damaged files, besides its own errors."""
ODT_PARTS = "META-INF/manifest.xml"
ENCRYPTION = "META-INF/encryption.xml"
CONTENTS = "//*[local-name()='guide']/*[local-name()='reference'][@type='toc']/@href"  # the table, before EPUB 3
STYLE_NAME = "string(*[local-name()='name']/@*[local-name()='val'])"
STYLE_LEVEL = f"*[local-name()='pPr']/*[local-name()='outlineLvl'][@*[local-name()='val'] != '{BODY_LEVEL}']"


@dataclass
class Findings:
    """Messages about what there is of a file besides its text.

    Attributes:
        lost: What cannot be read, such as scanned pages.
        doubtful: Where more than what was read, or something else, may have been meant, such as pages with no more than
            a stamp.
    """

    lost: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RichFile:
    """A file whose text is not simply its bytes.

    Attributes:
        path: Path of the file.
        name: Name of the file in messages.
        suffix: One of `RICH`.
        encoding: Encoding to read the file in, unless it has a byte-order mark. None for the one that a page names,
            or UTF-8.
        decoded: Returns the decoded text of the file. Arguments are the encoding, what to do with errors as in
            `text_decoder`, and the name of the encoding in messages; only the first is required.
        beginning: The first bytes of the file, once it is decompressed.
        is_utf8: Whether the bytes of the file can hardly be anything but UTF-8.
    """

    path: Path
    name: str
    suffix: str
    encoding: str | None
    decoded: Callable[..., Iterator[str]]
    beginning: Callable[[], bytes]
    is_utf8: Callable[[], bool]

    def texts(self, findings: Findings | None = None) -> Iterator[str]:
        """Iterates over the text of the file.

        Args:
            findings: Gets messages about parts of the file without text.

        Yields:
            Consecutive strings that make up the text.

        Raises:
            CorpusError: The file is damaged, protected or too large, or the library that reads it is missing.
        """
        findings, size, damaged = findings or Findings(), 0, 0
        for text in self._texts(findings):
            text = text.replace(SOFT_HYPHEN, self._shown_hyphen)
            size += len(text)
            damaged += text.count(REPLACEMENT) if self.suffix in WHOLE else 0
            if size > LARGEST_TEXT:
                raise CorpusError(
                    f"{self.name} has more than {LARGEST_TEXT:,} characters of text, the limit. Split it."
                )
            yield text
        if damaged:
            findings.doubtful.append(
                f"Found {counted(damaged, 'character')} in {self.name} that another program could not decode: U+FFFD "
                "stands for each. Save it again from its source, or correct it."
            )

    @property
    def _shown_hyphen(self) -> str:
        """What a reader sees of a soft hyphen: nothing, except in a .pdf file, whose text is what is shown."""
        return "-" if self.suffix == ".pdf" else ""

    def _texts(self, findings: Findings) -> Iterator[str]:
        if self.suffix in PAGES:
            marked = marked_encoding(self.beginning())
            declared = marked or (declared_encoding(self.beginning()) if self.encoding is None else None)
            if declared and (marked or is_utf8_name(declared) or not self.is_utf8()):
                texts = self.decoded(declared, WEB_ERRORS, _name_of(declared, self.beginning()))
            else:
                texts = self.decoded(self.encoding or UTF8)
            return page_text(_as_html(texts) if self.suffix == ".xhtml" else texts, self.name)
        if self.suffix in SUBTITLES:
            encoding = marked_encoding(self.beginning()) or self.encoding or UTF8
            return subtitle_lines(self.decoded(encoding), self.suffix, self.name)
        if self.suffix == ".rtf":
            return self._rtf(findings)
        return self._pdf(findings) if self.suffix == ".pdf" else self._zipped()

    def _zipped(self) -> Iterator[str]:
        with _unzipping(self.name), zipfile.ZipFile(self.path) as archive:
            if self.suffix == ".odt" and _has_password(archive, self.name):
                raise CorpusError(f"{self.name} is protected by a password. Save it without one.")
            if self.suffix == ".epub":
                yield from _book(archive, self.name)
            else:
                member = _main_part(archive, self.name) if self.suffix == ".docx" else "content.xml"
                headings = _heading_styles(archive, member) if self.suffix == ".docx" else set()
                yield from office_text(_chunks(archive, member, self.name), self.suffix, self.name, headings)

    def _rtf(self, findings: Findings) -> Iterator[str]:
        striprtf = load("striprtf.striprtf", self.name)
        beginning = self.beginning()
        if not beginning.lstrip().startswith(b"{\\rtf"):
            raise CorpusError(f"{self.name} is no RTF file: it does not begin with {{\\rtf. Save it again.")
        page = re.search(rb"\\ansicpg(\d{1,5})", beginning)
        encoding = f"cp{int(page[1])}" if page and int(page[1]) else "cp1252"
        encoding = known_encoding("utf-8" if encoding == "cp65001" else encoding) or "cp1252"
        source = RTF_WORDS.sub(_simpler, self._rtf_source(encoding))
        try:
            text = _paired(striprtf.rtf_to_text(source, encoding=encoding, errors=RTF_ERRORS), RTF_ERRORS)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise CorpusError(f"{self.name} is damaged: {error}. Save it again.") from None
        yield ROW_END.sub("\n", text.replace(LOST, REPLACEMENT))
        if lost := text.count(LOST):
            findings.lost.append(
                f"Replaced {counted(lost, 'character')} in {self.name} that cannot be decoded: U+FFFD stands for each. "
                "Save it as .docx instead."
            )

    def _rtf_source(self, declared: str) -> str:
        """The source of an RTF file: ASCII, unless a program wrote characters as they are, in whatever encoding."""
        try:
            encoding = self.encoding or UTF8
            return self._whole(encoding if is_plain(encoding) else declared)
        except CorpusError:
            return self._whole(declared)

    def _whole(self, encoding: str) -> str:
        held, size = [], 0
        for text in self.decoded(encoding):
            held.append(text)
            size += len(text)
            if size > LARGEST_RTF:
                raise CorpusError(f"{self.name} has more than {LARGEST_RTF:,} characters, the limit. Save it as .docx.")
        return "".join(held)

    def _pdf(self, findings: Findings) -> Iterator[str]:
        pypdf = load("pypdf", self.name)
        pictures = _Pictures()
        with QUIET_PYPDF, _reading_pdf(pypdf, self.name), pypdf.PdfReader(self.path) as reader:
            if reader.is_encrypted and not reader.decrypt(""):
                raise CorpusError(f"{self.name} is protected by a password. Save it without one.")
            pages = len(reader.pages)
            for number in range(pages):
                text = _page_text(reader.pages[number], self.name, number + 1)
                pictures.note_page(number + 1, reader.pages[number], text)
                if text:
                    yield f"{text}\n"
        pictures.tell(findings, self.name, pages)


def declared_encoding(beginning: bytes) -> str | None:
    """Finds the encoding that a web page says it is in.

    Args:
        beginning: The first bytes of the page.

    Returns:
        Name of the encoding. None if there is none, or an unknown one.

    Example:
        >>> declared_encoding(b"<html><meta charset=GB2312>")
        'gb18030'
    """
    if marked := marked_encoding(beginning):
        return marked
    if not (label := _label(beginning)):
        return None
    if label.lower().startswith(("utf-16", "utf-32", "ucs")):  # which could not have been read so far
        return "utf-8"
    return web_encoding(label.lower())


def _label(beginning: bytes) -> str:
    """What a page calls its encoding; "" if it does not name one."""
    match = CHARSET.search(beginning)
    return (match[1] or match[2]).decode("ascii", "replace") if match else ""


def _name_of(encoding: str, beginning: bytes) -> str:
    """The name of the encoding of a page in messages, with what the page calls it."""
    label = "" if marked_encoding(beginning) else _label(beginning)
    return encoding if label.lower() in ("", encoding) else f"{label} ({encoding})"


def _paired(text: str, errors: str = "replace") -> str:
    """Joins the halves (surrogates) of characters beyond U+FFFF, and replaces those without the other half."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", errors)


def _as_lost(error: UnicodeError) -> tuple[str, int]:
    """Handles the errors of decoders by the rules of `RTF_ERRORS`."""
    if isinstance(error, UnicodeDecodeError):
        return LOST, error.end
    raise error


codecs.register_error(RTF_ERRORS, _as_lost)


def _simpler(found: re.Match[str]) -> str:
    """What striprtf should read in place of a match of `RTF_WORDS`.

    A character after an escaped byte may be the second byte of one character with it, so it is escaped, too. The end of
    a cell is a tab. With a space before it, the address of a link is not found.
    """
    if found[1]:
        return f"\\'{ord(found[1][-1]):02x}"
    if found[0] == "\\\\":
        return found[0]
    return "\\fldinst " if found[0] == "\\fldinst" else "\\tab" if found[0].startswith("\\") else ""


# === Zipped files ===


@contextmanager
def _unzipping(name: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, LookupError, RuntimeError, ValueError) as error:
        why = str(error).strip("'\"").rstrip(".") or "it ends too early"
        raise CorpusError(f"{name} is damaged, or protected by a password: {why}. Save it again.") from None


def _chunks(archive: zipfile.ZipFile, member: str, name: str, limit: int | None = None) -> Iterator[bytes]:
    """The decompressed bytes of a part, which cannot be more than the archive says."""
    limit = LARGEST_MEMBER if limit is None else limit
    size = archive.getinfo(member).file_size
    if size > limit:
        raise CorpusError(f"{name}: its part {member} has {size:,} bytes, more than the limit of {limit:,}. Split it.")
    with archive.open(member) as part:
        while chunk := part.read(CHUNK_BYTES):
            yield chunk


def _xml(archive: zipfile.ZipFile, member: str, name: str) -> Any:
    etree = load("lxml.etree", name)
    data = b"".join(_chunks(archive, member, name, LARGEST_CHAPTER))
    try:
        return etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as error:
        raise CorpusError(f"{name} is damaged: its part {member} ({error}). Save it again.") from None


def _extra(archive: zipfile.ZipFile, member: str) -> Any:
    """The root of a part that the text can do without; None if there is none, or none that can be read."""
    if member not in archive.namelist():
        return None
    try:
        with _unzipping(member):
            return _xml(archive, member, member)
    except CorpusError:
        return None


def _has_password(archive: zipfile.ZipFile, name: str) -> bool:
    """Whether an .odt file is encrypted, which only its list of parts says."""
    is_listed = ODT_PARTS in archive.namelist()
    return is_listed and b":encryption-data" in b"".join(_chunks(archive, ODT_PARTS, name, LARGEST_CHAPTER))


def _main_part(archive: zipfile.ZipFile, name: str) -> str:
    """The part of a .docx file that holds its text."""
    for relation in _xml(archive, "_rels/.rels", name):
        if str(relation.get("Type", "")).endswith("/officeDocument"):
            return str(relation.get("Target", "")).lstrip("/")
    return "word/document.xml"


def _heading_styles(archive: zipfile.ZipFile, member: str) -> set[str]:
    """The ids of the styles of headings in a .docx file, whose names are the same in all languages, unlike the ids.

    Without styles that can be read, the text can still be.
    """
    styles = posixpath.join(posixpath.dirname(member), "styles.xml")
    root = _extra(archive, styles)
    if root is None:
        return set()
    return {
        style.xpath("string(@*[local-name()='styleId'])")
        for style in root.xpath("//*[local-name()='style']")
        if HEADING.match(style.xpath(STYLE_NAME)) or style.xpath(STYLE_LEVEL)
    }


def _book(archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    """The chapters of an .epub file in reading order, between blank lines."""
    roots = _xml(archive, "META-INF/container.xml", name).xpath("//*[local-name()='rootfile']/@full-path")
    if not roots:
        raise CorpusError(f"{name} is damaged: it does not say where its contents are. Save it again.")
    package, folder = _xml(archive, str(roots[0]), name), posixpath.dirname(str(roots[0]))
    encrypted = _encrypted(archive)
    contents = {_member(folder, href) for href in package.xpath(CONTENTS)}
    is_first = True
    for member in _chapters(package, folder):
        data = b"".join(_chunks(archive, member, name, LARGEST_CHAPTER))
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
    root = _extra(archive, ENCRYPTION)
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
        called = _name_of(encoding, beginning)
        raise CorpusError(f"{name} is damaged: its part {member} is not {called} text ({error}).") from None
    return _as_html([text])


def _as_html(texts: Iterable[str]) -> Iterator[str]:
    """XHTML as HTML, in which only a few elements may end with /> and there are no CDATA sections."""
    held, inside = "", ""  # what may be the beginning of something longer; CDATA or COMMENT within one
    for text in texts:
        held, at = held + text, 0
        while mark := MARKS[inside].search(held, at):
            yield _part_as_html(held[at : mark.start()], inside)
            if COMMENT in (inside, mark[0]):
                yield mark[0]
            at, inside = mark.end(), "" if inside else mark[0]
        if inside:
            end = max(at, len(held) + 1 - LONGEST_END)
        else:
            end = held.rfind("<", max(at, len(held) - LONGEST_TAG))
            end = len(held) if end < 0 or ">" in held[end:] else end
        yield _part_as_html(held[at:end], inside)
        held = held[end:]
    yield _part_as_html(held, inside)


def _part_as_html(text: str, inside: str) -> str:
    if inside == COMMENT:
        return text
    return html.escape(text) if inside == CDATA else SELF_CLOSED.sub(_with_end, text)


def _with_end(tag: re.Match[str]) -> str:
    """An element without content, with the tag at its end that HTML needs."""
    return tag[0] if tag[1].lower() in VOID else f"<{tag[1]}{tag[2]}></{tag[1]}>"


# === PDF ===


@contextmanager
def _reading_pdf(pypdf: Any, name: str) -> Iterator[None]:
    try:
        yield
    except pypdf.errors.DependencyError:
        raise CorpusError(f"{name} is encrypted. Save it without a password, or pip install cryptography.") from None
    except (pypdf.errors.PyPdfError, *PDF_ERRORS) as error:
        why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise CorpusError(f"{name} is damaged, or no PDF file: {why}. Save or download it again.") from None


def _page_text(page: Any, name: str, number: int) -> str:
    contents = page.get_contents()
    size = 0 if contents is None else len(contents.get_data())
    if size > LARGEST_PAGE:
        raise CorpusError(f"{name}: page {number:,} is too large: {size:,} bytes, the limit is {LARGEST_PAGE:,}.")
    text = _paired(str(page.extract_text()))  # fonts may name halves of characters
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


class _Pictures:
    """Finds pages that seem to be pictures of text: those without text of their own, or with no more than a stamp."""

    def __init__(self) -> None:
        self._scanned: list[int] = []
        self._stamped: set[int] = set()
        self._first: dict[int, int] = {}  # hash of the text beside a picture, without numbers -> its first page

    def note_page(self, number: int, page: Any, text: str) -> None:
        """Notes what a page has."""
        kinds = _kinds_of_pictures(page)
        if not text and kinds:
            self._scanned.append(number)
        elif text and "/Image" in kinds:
            first = self._first.setdefault(hash(NUMBER.sub("", text)), number)
            if first != number:
                self._stamped |= {first, number}
            elif len(text) < STAMP_CHARS:
                self._stamped.add(number)

    def tell(self, findings: Findings, name: str, pages: int) -> None:
        """Adds messages about these pages, of which the file has `pages` in all."""
        if self._scanned:
            count, first = counted(len(self._scanned), "page"), self._scanned[0]
            findings.lost.append(
                f"Skipped {count} without text of the {pages:,} in {name}, the first is page {first:,}: pictures of "
                "text, as a scan has. Recognize their text first, as with ocrmypdf."
            )
        if self._stamped:
            count, first = counted(len(self._stamped), "page"), min(self._stamped)
            findings.doubtful.append(
                f"Found no more than a stamp or a caption beside a picture on {count} of the {pages:,} in {name}, the "
                f"first is page {first:,}. If these are scans, recognize their text first, as with ocrmypdf."
            )


def _kinds_of_pictures(page: Any) -> set[str]:
    """What a page shows besides text: "/Image" for pictures, "/Form" for drawings, in which there may be pictures."""
    resources = page.get("/Resources")
    objects: Any = resources.get_object().get("/XObject") if resources is not None else None
    if not objects:
        return set()
    kinds = {part.get_object().get("/Subtype") for part in objects.get_object().values()}
    return {kind for kind in ("/Image", "/Form") if kind in kinds}
