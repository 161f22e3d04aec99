"""Books of Project Gutenberg: the text without the licence at both ends, its title and author."""

from __future__ import annotations

import re
from dataclasses import dataclass

from textgen.errors import CorpusError

HEAD_CHARS = 20_000  # the text begins within these first characters
MARK = r"\*\*\* ?{} OF (?:THE|THIS) PROJECT GUTENBERG EBOOK\b[^*]{{0,500}}\*\*\*"
START, END = (re.compile(MARK.format(word), re.IGNORECASE) for word in ("START", "END"))
CREDITS = re.compile(r"(?:Produced|Transcribed|Prepared|E-?text prepared|This e-?text was \w+) ", re.I)
CLOSING = re.compile(r"\s*End of (?:the |this )?Project Gutenberg(?:'s|’s| E-?book)? [^\n]*(?:\n[^\n]+)*\s*$", re.I)
NUMBER = re.compile(r"\[E(?:Book|Text) #\s?(\d+)\]", re.IGNORECASE)


@dataclass(frozen=True)
class Book:
    """A book.

    Attributes:
        text: The text alone, with a newline at its end.
        title: Its title; empty if the file does not name it.
        author: Its author; empty if the file does not name one.
    """

    text: str
    title: str
    author: str


def read_book(data: bytes, number: int) -> Book:
    """Reads the file of a book.

    Args:
        data: The file, in UTF-8.
        number: Number of the book, which the file must name.

    Returns:
        The book.

    Raises:
        CorpusError: The file is another one, is incomplete, or is not in UTF-8.
    """
    name = f"The file of book {number} from Project Gutenberg"
    try:
        whole = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{name} is not in UTF-8: {error.reason} at {error.start:,}. Fetch it by hand.") from None
    start = START.search(whole, 0, HEAD_CHARS)
    if start is None:
        raise CorpusError(f"{name} does not begin as its books do. It may be a page with a message: look at the site.")
    head = whole[: start.start()]
    if (named := NUMBER.search(head)) and int(named[1]) != number:
        raise CorpusError(f"{name} holds book {named[1]} instead. Fetch that number, or try again later.")
    ends = list(END.finditer(whole, start.end()))
    if not ends:
        raise CorpusError(f"{name} is incomplete: it has no end. Try again later.")
    text = CLOSING.sub("", whole[start.end() : ends[-1].start()])
    paragraphs = text.strip().split("\n\n")
    while paragraphs and CREDITS.match(paragraphs[0].lstrip()):
        paragraphs = "\n\n".join(paragraphs[1:]).strip().split("\n\n")
    text = "\n\n".join(paragraphs).strip()
    if not text:
        raise CorpusError(f"{name} holds no text. It may be a book of pictures or sounds: choose another one.")
    return Book(f"{text}\n", _field(head, "Title"), _field(head, "Author"))


def _field(head: str, name: str) -> str:
    """A field of the header, whose further lines are indented.

    >>> _field("Title: The War\\n       of the Worlds\\nAuthor: H. G. Wells\\n", "Title")
    'The War of the Worlds'
    """
    match = re.search(rf"^{name}: *(\S.*(?:\n[ \t]+\S.*)*)$", head, re.MULTILINE)
    return " ".join(match[1].split()) if match else ""


def book_in(beginning: str) -> str:
    """Tells which book has its licence in a text.

    Args:
        beginning: The beginning of the text.

    Returns:
        The name of the book for `textgen corpus fetch`, which removes the licence; "" for a text without it.
    """
    if not (start := START.search(beginning)):
        return ""
    number = NUMBER.search(beginning, 0, start.start())
    return f"gutenberg:{number[1] if number else 'NUMBER'}"
