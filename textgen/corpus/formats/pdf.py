"""The text of .pdf files, and which of their pages are pictures of text."""

from __future__ import annotations

import logging
import re
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from textgen.corpus.encodings import paired
from textgen.corpus.formats.extras import load
from textgen.corpus.formats.findings import Findings
from textgen.errors import CorpusError
from textgen.system.process_settings import TemporarySetting
from textgen.wording import counted

MAX_PAGE_BYTES = 1 << 24  # maximum size in bytes of the drawing operations of a page of a .pdf file
STAMP_CHARS = 50  # a page with a picture and less text than that may be a scan
PYPDF_LOGGER = logging.getLogger("pypdf")
DROPPED = re.compile(
    r"Impossible to decode XForm|Exceeded .* invocations|Page contents are not"
    r"|Error -3 while decompressing.*(?:invalid|header)"
)
"""How warnings of pypdf begin after which it goes on without a part of a page, which may have text."""
NUMBER = re.compile(r"\d+")
PDF_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, RuntimeError, TypeError,
    ValueError, struct.error, zlib.error,
)  # fmt: skip
"""What pypdf raises for damaged files, besides its own errors."""


Logging: TypeAlias = tuple[int, bool, list[logging.Handler]]


class _Warnings(logging.Handler):
    """Hears of parts of pages that pypdf drops. Its warnings name no file, so nobody else gets them."""

    def __init__(self) -> None:
        super().__init__()
        self._heard = threading.local()  # other threads may read other files

    def emit(self, record: logging.LogRecord) -> None:
        """Takes a warning."""
        if DROPPED.match(str(record.msg)):
            self._heard.any = True

    def begin(self) -> None:
        """The reading of a page begins in this thread."""
        self._heard.any = False

    def has_heard(self) -> bool:
        """Whether a part of the page has been dropped."""
        return bool(self._heard.any)


def _log(how: Logging) -> Logging:
    """Sets the level of pypdf, whether others get its warnings, and who does here. Returns what was before."""
    before = PYPDF_LOGGER.level, PYPDF_LOGGER.propagate, PYPDF_LOGGER.handlers
    PYPDF_LOGGER.setLevel(how[0])
    PYPDF_LOGGER.propagate, PYPDF_LOGGER.handlers = how[1:]
    return before


WARNINGS = _Warnings()
QUIET_PYPDF = TemporarySetting[Logging](_log, (logging.WARNING, False, [WARNINGS]))


def pdf_text(path: Path, name: str, findings: Findings) -> Iterator[str]:
    """Iterates over the text of a .pdf file.

    Args:
        path: Path of the file.
        name: Name of the file in messages.
        findings: Gets messages about pages without text, and about parts that cannot be decoded.

    Yields:
        The text of a page, with a newline at its end.

    Raises:
        CorpusError: The file is damaged or protected, or pypdf is missing.
    """
    pypdf = load("pypdf", name)
    pictures, damaged = _Pictures(), list[int]()
    with QUIET_PYPDF, _reading_pdf(pypdf, name), pypdf.PdfReader(path) as reader:
        if reader.is_encrypted and not reader.decrypt(""):
            raise CorpusError(f"{name} is protected by a password. Save it without one.")
        _check_tree(reader, name)
        pages = len(reader.pages)
        known = dict[tuple[Any, int], tuple[str, set[str], bool]]()  # pages that the file names more than once
        uses = Counter(map(_identity, reader.pages))
        for number, page in enumerate(reader.pages, 1):
            identity = _identity(page)
            text, kinds, is_damaged = known.get(identity) or _read(page, name, number)
            if uses[identity] > 1:
                known[identity] = text, kinds, is_damaged
            damaged += [number] * is_damaged
            if not is_damaged:
                pictures.note_page(number, kinds, text)
            if text:
                yield f"{text}\n"
    pictures.tell(findings, name, pages)
    if damaged:
        findings.lost.append(
            f"Skipped parts of {counted(len(damaged), 'page')} of the {pages:,} in {name} that cannot be decoded, the "
            f"first is page {damaged[0]:,}: text in them is missing. Save the file again, or print it to a new one."
        )


def _read(page: Any, name: str, number: int) -> tuple[str, set[str], bool]:
    """The text of a page, the kinds of its pictures, and whether parts of it cannot be decoded."""
    WARNINGS.begin()
    text = _page_text(page, name, number)
    return text, _kinds_of_pictures(page), WARNINGS.has_heard()


def _check_tree(reader: Any, name: str) -> None:
    """Refuses a file whose parts of the list of pages are in several others: a few may make any number of pages."""
    passed, parts = dict[Any, Any](), [reader.root_object.get("/Pages")]
    while parts:
        place: Any = parts.pop()
        part = None if place is None else place.get_object()
        if not isinstance(part, dict) or part.get("/Type", "/Pages" if "/Kids" in part else "/Page") != "/Pages":
            continue
        key = getattr(place, "idnum", None) or id(part)
        if key in passed:
            raise CorpusError(f"{name} is damaged: its list of pages names a part of itself twice. Save it again.")
        passed[key] = part  # so that no other object gets its id
        inner = part.get("/Kids")
        inner = None if inner is None else inner.get_object()
        parts += inner if isinstance(inner, list) else []


def _identity(page: Any) -> tuple[Any, int]:
    """What is the same for all uses of a page. Where it has no resources of its own, it may inherit several."""
    reference = page.indirect_reference
    return (id(page), 0) if reference is None else ((reference.idnum, reference.generation), id(page.get("/Resources")))


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
    if size > MAX_PAGE_BYTES:
        raise CorpusError(f"{name}: page {number:,} is too large: {size:,} bytes, the limit is {MAX_PAGE_BYTES:,}.")
    text = paired(str(page.extract_text()))  # fonts may name halves of characters
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


class _Pictures:
    """Finds pages that seem to be pictures of text: those without text of their own, or with no more than a stamp."""

    def __init__(self) -> None:
        self._scanned: list[int] = []
        self._stamped: set[int] = set()
        self._first: dict[int, int] = {}  # hash of the text beside a picture, without numbers -> its first page

    def note_page(self, number: int, kinds: set[str], text: str) -> None:
        """Notes what a page has. The kinds of its pictures are those of `_kinds_of_pictures`."""
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
