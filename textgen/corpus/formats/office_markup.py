"""The text in the XML within .docx and .odt files."""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterable, Iterator, Mapping

from textgen.corpus.formats.extras import load
from textgen.corpus.formats.markup import SPACES, Unread, parsed

OFFICE_UNREAD = (
    "del", "moveFrom", "pPrChange", "rPrChange", "Fallback", "tracked-changes", "annotation", "note", "forms", "rt",
    "ruby-text", "script", "binary-data",
)  # fmt: skip
PICTURE_UNREAD = ("title", "desc")  # what a picture in an .odt file has for those who do not see it
OFFICE_CHARACTERS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "line-break": "\n"}
OFF = ("0", "false", "off")  # values of a property of a .docx file that say that it does not have it
OFFICE_CELLS = ("tc", "table-cell")
OFFICE_ROWS = ("tr", "table-row")
HEADING = re.compile("heading|title", re.IGNORECASE)  # how the names of the styles of headings begin
BODY_LEVEL = "9"  # the outline level of paragraphs that are no headings
MAX_HELD_CHARS = 1 << 16  # maximum number of characters of a paragraph that are held until it ends


class _Lines:
    """The lines of paragraphs, with blank lines where a reader sees a new part of the text.

    A blank line precedes a heading, and surrounds a paragraph with line breaks, unless it follows its heading.

    Attributes:
        pieces: Text that has been found and not yet been taken.
    """

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.is_heading = False  # the paragraph
        self.has_hidden = False  # there is text in the paragraph that a reader does not see
        self._held: list[str] | None = None  # the paragraph, while it may still be found to be hidden
        self._size = 0  # of what is held
        self._is_separated = False  # whether a blank line precedes the paragraph has been decided
        self._has_text = self._has_break = False  # in the paragraph
        self._after = "blank"  # what is before the paragraph: "blank", "heading", "broken" or "plain"

    def begin(self, is_heading: bool) -> None:
        """A paragraph begins."""
        self._release()
        self.is_heading, self._held, self._size = is_heading, [], 0
        self.has_hidden = self._is_separated = False
        self._has_text = self._has_break = False

    def hide(self) -> None:
        """A reader does not see the paragraph. What is held of it is dropped: all of it, unless it is very long."""
        self.has_hidden = True
        if self._held is not None:
            self._held, self._size = [], 0
            self._has_text = self._has_break = self._is_separated = False

    def add(self, text: str) -> None:
        """Adds to the paragraph."""
        self._has_text = self._has_text or bool(text.strip())
        self._has_break = self._has_break or text == "\n"
        if self._held is None:
            self.pieces.append(text)
            return
        self._held.append(text)
        self._size += len(text)
        if self._has_break:
            self._separate()
        if self._size > MAX_HELD_CHARS:
            self._release()

    def end(self) -> None:
        """The paragraph ends. One of which a reader sees nothing is no blank line, either."""
        if self.has_hidden and not self._has_text and self._held is not None:
            self._held = None
            return
        self._release()
        self.pieces.append("\n")
        if not self._has_text:
            self._after = "blank"
        elif self.is_heading:
            self._after = "heading"
        else:
            self._after = "broken" if self._has_break else "plain"
        self.is_heading = False

    def row(self) -> None:
        """A row of a table follows."""
        self._release()
        if self._after == "broken":
            self.pieces.append("\n")
        self._after = "plain"

    def _release(self) -> None:
        if self._held is not None:
            self._separate()
            self.pieces += self._held
            self._held = None

    def _separate(self) -> None:
        """Puts a blank line before what is held if it needs one."""
        if self._held is None or self._is_separated:
            return
        self._is_separated = True
        is_part = self.is_heading or self._after == "broken" or (self._has_break and self._after != "heading")
        if is_part and self._has_text and self._after != "blank":
            self._held.insert(0, "\n")


class OfficeText:
    """The text of the XML in a .docx or .odt file: a paragraph a line, the cells of a row of a table between tabs.

    Deleted and hidden text, comments, notes, readings of ruby and descriptions of pictures are not read.

    Args:
        suffix: ".docx" or ".odt".
        headings: The ids of the styles of headings in a .docx file, besides those that begin like `HEADING`.
        hidden: The ids of the styles of hidden text, or their names in an .odt file.

    Attributes:
        pieces: Text that has been found and not yet been taken.
    """

    def __init__(self, suffix: str, headings: Container[str] = (), hidden: Collection[str] = ()) -> None:
        self._is_docx = suffix == ".docx"
        self._headings = headings
        self._hidden = set(hidden)
        self._style = ""  # of the paragraph in a .docx file, or that an .odt file defines
        self._runs: list[bool] = []  # whether each of the runs around is hidden
        self._is_of_paragraph = False  # the property that begins
        self._holders = ("t",) if self._is_docx else ("p", "h")  # of text
        self._unread = Unread()
        self._lines = _Lines()
        self.pieces = self._lines.pieces
        self._texts = self._cells = 0  # elements around that hold text, and cells
        self._hidden_at = 0  # `_texts` in a paragraph of an .odt file of which the rest is hidden, or 0
        self._between = ""  # what is due before the next text in a table

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        space, _, name = tag.rpartition("}")
        is_of_picture = name in PICTURE_UNREAD and ":svg-" in space  # text:title is a field that is shown
        is_hidden = not self._is_docx and self._is_hidden(space, name, attributes)
        if is_hidden and not self._unread.depth:
            self._lines.has_hidden = True
            if name == "hidden-paragraph":
                self._hide_paragraph()
        if self._unread.starts(name in OFFICE_UNREAD or is_of_picture or is_hidden or self._hidden_at > 0):
            return
        if name in ("p", "h") and not self._cells:
            self._lines.begin(name == "h" or self._is_title(attributes.get(f"{space}}}style-name", "")))
        if name in self._holders:
            self._texts += 1
        elif name in OFFICE_CELLS:
            self._cells += 1
        elif name in OFFICE_ROWS and not self._cells:
            self._lines.row()
        elif name in OFFICE_CHARACTERS and not (name == "tab" and self._is_tab_stop(attributes)):
            self._add(OFFICE_CHARACTERS[name])
        elif name == "s" and not self._is_docx:
            count = attributes.get(f"{space}}}c", "1")
            self._add(" " * min(int(count), 1000) if count.isdecimal() else " ")
        elif self._is_docx:
            self._note_property(name, attributes.get(f"{space}}}val", ""))

    def end(self, tag: str) -> None:
        """An element ends."""
        name = tag.rpartition("}")[2]
        if self._unread.ends():
            return
        if name in self._holders:
            self._texts -= 1
        if name == "r" and self._runs:
            self._runs.pop()
        elif name == "pPr":
            self._is_of_paragraph = False
        if is_hidden := self._texts < self._hidden_at:
            self._hidden_at = 0
        if name in ("p", "h"):
            if self._cells:
                self._between = self._between if is_hidden else "\n"
            else:
                self._lines.end()
        elif name in OFFICE_CELLS:
            self._cells -= 1
            self._between = "\t"
        elif name in OFFICE_ROWS:
            self.pieces.append("\n")
            self._between = ""

    def data(self, text: str) -> None:
        """Text within an element."""
        if self._texts and not self._unread.depth and not self._hidden_at:
            self._add(text if self._is_docx else SPACES.sub(" ", text))

    def close(self) -> None:
        """The file ends."""

    def _is_tab_stop(self, attributes: Mapping[str, str]) -> bool:
        """Whether an element `tab` is a position of the ruler, which a style defines, and no character."""
        return self._is_docx and any(name.endswith("}pos") for name in attributes)

    def _is_title(self, style: str) -> bool:
        return HEADING.match(style) is not None or style in self._headings

    def _note_property(self, name: str, value: str) -> None:
        """An element of a .docx file begins: perhaps a run, or what a paragraph or a run is like."""
        if name == "p":
            self._style = ""
        elif name == "r":
            self._runs.append(self._style in self._hidden)
        elif name == "rStyle" and self._runs and value in self._hidden:
            self._runs[-1] = True
        elif name == "pPr":
            self._is_of_paragraph = True
        elif name == "vanish" and self._runs and not self._is_of_paragraph:  # whose end is hidden otherwise
            self._runs[-1] = value not in OFF
        elif name == "pStyle":
            self._style = value
            if self._is_title(value) and not self._cells:
                self._lines.is_heading = True
        elif name == "outlineLvl" and not self._cells:
            self._lines.is_heading = value != BODY_LEVEL

    def _is_hidden(self, space: str, name: str, attributes: Mapping[str, str]) -> bool:
        """Whether an element of an .odt file is hidden. Notes the styles of hidden text, which come before the text."""
        if name in ("p", "h", "span"):
            return attributes.get(f"{space}}}style-name", "") in self._hidden
        if name.endswith("style"):
            self._style = attributes.get(f"{space}}}name", "")
            if attributes.get(f"{space}}}parent-style-name", "") in self._hidden:
                self._hidden.add(self._style)
        shown = next((value for key, value in attributes.items() if key.endswith("}display")), "")
        if name == "text-properties" and shown and self._style:
            change = self._hidden.add if shown == "none" else self._hidden.discard
            change(self._style)
        is_section = name == "section" and shown == "none"
        return is_section or (name.startswith("hidden-") and attributes.get(f"{space}}}is-hidden") == "true")

    def _hide_paragraph(self) -> None:
        """Hides the paragraph around. In a table only its rest, where the field that hides it mostly begins it."""
        self._hidden_at = self._texts
        if not self._cells:
            self._lines.hide()

    def _add(self, text: str) -> None:
        if self._runs and self._runs[-1]:
            self._lines.has_hidden = True
        elif self._cells:
            self.pieces += [self._between, text]
            self._between = ""
        else:
            self._lines.add(text)


def office_text(
    chunks: Iterable[bytes], suffix: str, name: str, headings: Container[str] = (), hidden: Collection[str] = ()
) -> Iterator[str]:
    """Iterates over the text of the XML in a .docx or .odt file.

    Args:
        chunks: Consecutive bytes that make up the XML.
        suffix: ".docx" or ".odt".
        name: Name of the file, for error messages.
        headings: As of `OfficeText`.
        hidden: As of `OfficeText`.

    Yields:
        Consecutive strings that make up the text.

    Raises:
        CorpusError: The file cannot be parsed, or lxml is not installed.
    """
    etree, target = load("lxml.etree", name), OfficeText(suffix, headings, hidden)
    parser = etree.XMLParser(target=target, resolve_entities=False, no_network=True)
    yield from parsed(etree, parser, target, chunks, name)
