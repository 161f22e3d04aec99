"""The text of a web page, as a browser shows it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from textgen.corpus.formats.extras import load
from textgen.corpus.formats.markup import SPACES, Unread, parsed
from textgen.errors import CorpusError

PIECE_BYTES = 1 << 12  # of a page that are parsed between two looks at how many elements are open
DEEP = 256  # number of open elements that pages may have, however many tags they have
MAX_STEPS = 1 << 30  # open elements that the parser may look through in vain: at most about half a minute
END_TAG = re.compile(rb"(</[^<>]*>)")
FIRST_WITH_WHOLE_CHUNKS = (2, 14)  # version of libxml2; earlier ones drop text where a chunk of HTML ends

PARAGRAPHS = {
    "p", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre", "ul", "ol", "dl", "table", "figure", "hr", "section",
    "article", "header", "footer",
}  # fmt: skip
BLOCKS = {
    "address", "aside", "body", "caption", "center", "dd", "details", "div", "dt", "fieldset", "figcaption", "form",
    "li", "legend", "main", "summary", "tbody", "tfoot", "thead", "tr",
}  # fmt: skip
UNREAD = {
    "title", "script", "style", "template", "noscript", "nav", "svg", "math", "iframe", "object", "select", "textarea",
    "button", "rt", "rp",
}  # fmt: skip
"""Elements whose content is no running text: what the browser does not show, menus, fields and buttons of
forms, formulas, drawings, and readings of ruby.

Not "head", which ends too late where its tags are left out: the parser knows no <main> and takes it for a part of it.
"""


class PageText:
    """The text of a web page as a browser shows it: paragraphs between blank lines, other blocks a line each.

    Attributes:
        pieces: Text that has been found and not yet been taken.
        depth: Number of elements that have begun and not ended.
    """

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.depth = 0
        self._unread = Unread()
        self._kept = 0  # elements around the text whose white space is kept
        self._begun = False  # some text has been found
        self._newlines = 0  # that are due before the next text
        self._space = False  # is due before the next text in the same line

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        self.depth += 1
        if self._unread.starts(tag in UNREAD or "hidden" in attributes):
            return
        if tag == "br":
            self._newlines += 1
        self._break(tag)
        self._kept += tag == "pre"
        if tag in ("td", "th"):
            self._space = True

    def end(self, tag: str) -> None:
        """An element ends."""
        self.depth -= 1
        if not self._unread.ends():
            self._kept -= tag == "pre"
            self._break(tag)

    def data(self, text: str) -> None:
        """Text within an element."""
        if self._unread.depth:
            return
        if self._kept:
            self._add(text, "")
            return
        words = SPACES.sub(" ", text)
        if words[:1] == " ":
            self._space = True
        if content := words.strip(" "):
            self._add(content, " " if self._space else "")
            self._space = words[-1] == " "

    def close(self) -> None:
        """The file ends."""
        if self._begun:
            self.pieces.append("\n")

    def _break(self, tag: str) -> None:
        lines = 2 if tag in PARAGRAPHS else 1 if tag in BLOCKS else 0
        self._newlines = max(self._newlines, lines)

    def _add(self, text: str, space: str) -> None:
        if self._begun:
            self.pieces.append("\n" * self._newlines or space)
        self.pieces.append(text)
        self._begun, self._newlines, self._space = True, 0, False


def page_text(chunks: Iterable[str], name: str) -> Iterator[str]:
    """Iterates over the text of a web page.

    Args:
        chunks: Consecutive strings that make up the HTML.
        name: Name of the file, for error messages.

    Yields:
        Consecutive strings that make up the text.

    Raises:
        CorpusError: The file cannot be parsed, or not in time, or lxml is not installed.
    """
    etree, target = load("lxml.etree", name), PageText()
    parser = etree.HTMLParser(target=target, encoding="utf-8", huge_tree=True)  # long texts are no trees here
    is_sound = etree.LIBXML_VERSION >= FIRST_WITH_WHOLE_CHUNKS
    pieces = _pieces(chunks, target, name) if is_sound else ["".join(chunks).encode()]
    yield from parsed(etree, parser, target, pieces, name)


def _pieces(chunks: Iterable[str], target: PageText, name: str) -> Iterator[bytes]:
    """The bytes of a page, as long as its end tags do not make parsing it a matter of hours.

    Elements without ends are common, and the parser knows of some, such as <wbr>, not that they have none. So a number
    of open elements is not refused by itself. Only end tags that end nothing cost time: the parser looks through all
    the open elements for each of them. They are counted where many are open, except the few that lie on a border of
    two pieces.
    """
    steps = 0
    for chunk in chunks:
        data = chunk.encode()
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            for part in END_TAG.split(piece) if target.depth > DEEP else [piece]:
                depth = target.depth
                yield part
                if part.startswith(b"</") and target.depth >= depth:
                    steps += depth
            if steps > MAX_STEPS:
                raise CorpusError(
                    f"{name} is damaged: it has {target.depth:,} elements within each other that do not end, so it "
                    "would take very long to read. Save the page again, or save its text."
                )


def is_mostly_links(page: str, name: str) -> bool:
    """Checks whether at least half of the text of a web page is links, as in a table of contents.

    Args:
        page: The HTML.
        name: Name of the file, for error messages.

    Raises:
        CorpusError: lxml is not installed.
    """
    etree = load("lxml.etree", name)
    try:
        root = etree.fromstring(page.encode(), etree.HTMLParser(encoding="utf-8", huge_tree=True))
    except etree.XMLSyntaxError:
        return False
    if root is None:  # it is empty
        return False
    everything, links = ("".join(root.xpath(path)) for path in ("//body//text()", "//a[@href]//text()"))
    return 0 < len("".join(everything.split())) <= 2 * len("".join(links.split()))
