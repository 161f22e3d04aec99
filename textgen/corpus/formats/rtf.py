"""The text of .rtf files."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator

from textgen.corpus.config import UTF8
from textgen.corpus.encodings import REPLACEMENT, is_plain, known_encoding, paired
from textgen.corpus.formats.extras import load
from textgen.corpus.formats.findings import Findings
from textgen.errors import CorpusError
from textgen.wording import counted

MAX_RTF_CHARS = 1 << 26  # maximum number of characters of an .rtf file, which is read into memory as a whole
RTF_WORDS = re.compile(
    r"(?<=\\'[0-9a-fA-F]{2})(?:([0-9@-\[\]-z|~]|\\[\\{}])|[\r\n]+)|(\\\\(?=f|pict)|\\(?i:fldinst)(?=\{))|\\\\"
    r"|(\\f\d{1,10}|\\pict)(\d*)|(\\fcharset\d{1,10})|\\(?:nest)?cell(?![A-Za-z])"
)
"""What striprtf reads otherwise than word processors, or in a time that grows with the square of what there is, or
faster; and an escaped backslash, with which no word begins."""
NAMED_FONT = r"{\*\x;}"  # what ends a font for striprtf, and is not shown
TOKENS = re.compile(
    r"\\bin(\d{1,10}) ?|\\([A-Za-z]{1,32})(-?\d{1,10})? ?|\\'[0-9a-fA-F]{2}|\\[\s\S]|([{}])|[^\\{}]+|\\"
)
HIDING = ("v", "deleted", "mvf")  # words that begin hidden, deleted and moved text, until they come with a 0
HIDDEN = re.compile(rf"\\(?:{'|'.join(HIDING)})(?![A-Za-z])")
PRINTING = (
    "par", "line", "sect", "page", "tab", "u", "emdash", "endash", "emspace", "enspace", "qmspace", "bullet", "lquote",
    "rquote", "ldblquote", "rdblquote",
)  # fmt: skip
"""Words that stand for text. Not the ends of cells and rows, which are there even if their text is hidden."""
ROW_END = re.compile("\t+\n")
LOST = "\ufdd0"  # no character: what cannot be decoded, until it is counted, since an author may write `REPLACEMENT`
RTF_ERRORS = "textgen-rtf"
"""How the bytes of an .rtf file are decoded: `LOST` stands for those that cannot be."""


def rtf_text(
    name: str, beginning: bytes, given: str | None, decoded: Callable[[str], Iterator[str]], findings: Findings
) -> Iterator[str]:
    """Iterates over the text of an .rtf file.

    Args:
        name: Name of the file in messages.
        beginning: The first bytes of the file.
        given: Encoding that the user has named for characters that are not written in ASCII, or None.
        decoded: Returns the file in an encoding, as text.
        findings: Gets messages about what cannot be decoded.

    Yields:
        The text, in one string.

    Raises:
        CorpusError: The file is damaged or too large, or striprtf is missing.
    """
    striprtf = load("striprtf.striprtf", name)
    if not beginning.lstrip().startswith(b"{\\rtf"):
        raise CorpusError(f"{name} is no RTF file: it does not begin with {{\\rtf. Save it again.")
    page = re.search(rb"\\ansicpg(\d{1,5})", beginning)
    encoding = f"cp{int(page[1])}" if page and int(page[1]) else "cp1252"
    encoding = known_encoding("utf-8" if encoding == "cp65001" else encoding) or "cp1252"
    source = RTF_WORDS.sub(_simpler, _shown(_source(name, given, encoding, decoded)))
    try:
        text = paired(striprtf.rtf_to_text(source, encoding=encoding, errors=RTF_ERRORS), RTF_ERRORS)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise CorpusError(f"{name} is damaged: {error}. Save it again.") from None
    yield ROW_END.sub("\n", text.replace(LOST, REPLACEMENT))
    if lost := text.count(LOST):
        findings.lost.append(
            f"Replaced {counted(lost, 'character')} in {name} that cannot be decoded: U+FFFD stands for each. "
            "Save it as .docx instead."
        )


def _source(name: str, given: str | None, declared: str, decoded: Callable[[str], Iterator[str]]) -> str:
    """The source of an RTF file: ASCII, unless a program wrote characters as they are, in whatever encoding."""
    try:
        encoding = given or UTF8
        return _whole(name, decoded(encoding if is_plain(encoding) else declared))
    except CorpusError:
        return _whole(name, decoded(declared))


def _whole(name: str, texts: Iterable[str]) -> str:
    held, size = [], 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size > MAX_RTF_CHARS:
            raise CorpusError(f"{name} has more than {MAX_RTF_CHARS:,} characters, the limit. Save it as .docx.")
    return "".join(held)


def _shown(source: str) -> str:
    """The source of an RTF file without the text that a reader does not see: hidden, deleted and moved text.

    What else there is in such a stretch stays, since it may say how the text after it is to be read.
    """
    if not HIDDEN.search(source):
        return source
    kept, outer, hiding = list[str](), list[frozenset[str]](), frozenset[str]()
    place = 0
    while found := TOKENS.match(source, place):
        place = found.end()
        size, word, number, brace = found.groups()
        if size:  # so many bytes of a picture follow, which may look like anything
            start, place = found.start(), place + int(size)
            kept.append(source[start:place])
            continue
        if brace == "{":
            outer.append(hiding)
        elif brace:
            hiding = outer.pop() if outer else frozenset()
        elif word == "plain":
            hiding = frozenset()
        elif word in HIDING:
            hiding = hiding - {word} if number and int(number) == 0 else hiding | {word}
        if not hiding or brace or found[0] == "\\*" or (word and word not in PRINTING):
            kept.append(found[0])
    return "".join(kept)


def _as_lost(error: UnicodeError) -> tuple[str, int]:
    """Handles the errors of decoders by the rules of `RTF_ERRORS`."""
    if isinstance(error, UnicodeDecodeError):
        return LOST, error.end
    raise error


codecs.register_error(RTF_ERRORS, _as_lost)


def _simpler(found: re.Match[str]) -> str:
    """What striprtf should read in place of a match of `RTF_WORDS`.

    A character after an escaped byte may be the second byte of one character with it, so it is escaped, too. The end of
    a cell is a tab.

    striprtf searches for links and for the character sets of fonts with patterns that may begin anywhere, and look from
    there to the end of the line or the file. A newline, which means nothing in RTF, ends such a search: the address of
    a link is not found, and a font not beyond the next one. A set of characters is taken without the name after it.
    Pictures get a newline, too, since words may be put together where striprtf removes one.
    """
    if found[1]:
        return f"\\'{ord(found[1][-1]):02x}"
    if found[2]:
        return f"{found[2]}\n"
    if found[3]:
        return f"\n{found[3]}\n{found[4]}" if found[4] else f"\n{found[3]}"
    if found[5]:
        return found[5] + NAMED_FONT
    if found[0] == "\\\\":
        return found[0]
    return "\\tab" if found[0].startswith("\\") else ""
