"""Web pages: the encoding that they name, and XHTML as HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator

from textgen.corpus.encoding_guess import marked_encoding
from textgen.corpus.encodings import web_encoding

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
MAX_END_CHARS = len("]]>")  # of what ends a section or a comment
MAX_TAG_CHARS = 1 << 16  # number of characters of a tag that are held until it ends


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


def name_of(encoding: str, beginning: bytes) -> str:
    """Returns the name of the encoding of a page for messages, with what the page calls it."""
    label = "" if marked_encoding(beginning) else _label(beginning)
    return encoding if label.lower() in ("", encoding) else f"{label} ({encoding})"


def as_html(texts: Iterable[str]) -> Iterator[str]:
    """Turns XHTML into HTML, in which only a few elements may end with /> and there are no CDATA sections."""
    held, inside = "", ""  # what may be the beginning of something longer; CDATA or COMMENT within one
    for text in texts:
        held, at = held + text, 0
        while mark := MARKS[inside].search(held, at):
            yield _part_as_html(held[at : mark.start()], inside)
            if COMMENT in (inside, mark[0]):
                yield mark[0]
            at, inside = mark.end(), "" if inside else mark[0]
        if inside:
            end = max(at, len(held) + 1 - MAX_END_CHARS)
        else:
            end = held.rfind("<", max(at, len(held) - MAX_TAG_CHARS))
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
