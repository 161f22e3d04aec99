"""The text of word processors: .docx and .odt files."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from typing import Any

from textgen.corpus.formats.office_markup import BODY_LEVEL, HEADING, OFF, office_text
from textgen.corpus.formats.zipped import MAX_CHAPTER_BYTES, chunks, optional_part, parsed_part
from textgen.errors import CorpusError

ODT_PARTS = "META-INF/manifest.xml"
STYLE_ID = "string(@*[local-name()='styleId'])"
STYLE_BASE = "string(*[local-name()='basedOn']/@*[local-name()='val'])"
STYLE_VANISH = "*[local-name()='rPr']/*[local-name()='vanish']"
HIDING = {
    ".docx": (STYLE_ID, STYLE_BASE, STYLE_VANISH, "string(@*[local-name()='val'])"),
    ".odt": (
        "string(@*[local-name()='name'])",
        "string(@*[local-name()='parent-style-name'])",
        "*[local-name()='text-properties'][@*[local-name()='display']]",
        "string(@*[local-name()='display'])",
    ),
}
"""XPath of the name of a style, of the style that it is based on, of what hides or shows text, and of its value."""
NAMED_STYLES = "//*[local-name()='style'][not(parent::*[local-name()='automatic-styles'])]"
"""The others in a part with styles are those of headers and footers; the text may have its own with their names."""
STYLE_NAME = "string(*[local-name()='name']/@*[local-name()='val'])"
STYLE_LEVEL = f"*[local-name()='pPr']/*[local-name()='outlineLvl'][@*[local-name()='val'] != '{BODY_LEVEL}']"


def document_text(archive: zipfile.ZipFile, suffix: str, name: str) -> Iterator[str]:
    """Iterates over the text of a .docx or .odt file.

    Args:
        archive: The file.
        suffix: ".docx" or ".odt".
        name: Name of the file in messages.

    Yields:
        Consecutive strings that make up the text.

    Raises:
        CorpusError: The file is damaged, protected or too large, or lxml is missing.
    """
    if suffix == ".odt" and _has_password(archive, name):
        raise CorpusError(f"{name} is protected by a password. Save it without one.")
    member = _main_part(archive, name) if suffix == ".docx" else "content.xml"
    styles = optional_part(archive, posixpath.join(posixpath.dirname(member), "styles.xml"))
    headings, hidden = set[str](), set[str]()  # without styles that can be read, the text can still be
    if styles is not None and suffix == ".docx":
        headings = _heading_styles(styles)
    if styles is not None:
        hidden = _hidden_styles(styles, suffix)
    yield from office_text(chunks(archive, member, name), suffix, name, headings, hidden)


def _has_password(archive: zipfile.ZipFile, name: str) -> bool:
    """Whether an .odt file is encrypted, which only its list of parts says."""
    is_listed = ODT_PARTS in archive.namelist()
    return is_listed and b":encryption-data" in b"".join(chunks(archive, ODT_PARTS, name, MAX_CHAPTER_BYTES))


def _main_part(archive: zipfile.ZipFile, name: str) -> str:
    """The part of a .docx file that holds its text."""
    for relation in parsed_part(archive, "_rels/.rels", name):
        if str(relation.get("Type", "")).endswith("/officeDocument"):
            return str(relation.get("Target", "")).lstrip("/")
    return "word/document.xml"


def _heading_styles(styles: Any) -> set[str]:
    """The ids of the styles of headings in a .docx file, whose names are the same in all languages, unlike the ids."""
    return {
        style.xpath(STYLE_ID)
        for style in styles.xpath("//*[local-name()='style']")
        if HEADING.match(style.xpath(STYLE_NAME)) or style.xpath(STYLE_LEVEL)
    }


def _hidden_styles(styles: Any, suffix: str) -> set[str]:
    """The names of the styles of hidden text: those that say so, or that are based on such a style."""
    own, bases = dict[str, bool](), dict[str, str]()
    name_of, base_of, marks, value = HIDING[suffix]
    for style in styles.xpath(NAMED_STYLES):
        name = style.xpath(name_of)
        bases[name] = style.xpath(base_of)
        for mark in style.xpath(marks):
            own[name] = mark.xpath(value) not in OFF if suffix == ".docx" else mark.xpath(value) == "none"
    found = dict[str, bool]()  # so that no chain is followed twice
    for name in bases:
        passed, base = dict[str, None](), name
        while base in bases and base not in own and base not in found and base not in passed:
            passed[base] = None
            base = bases[base]
        is_hidden = found.get(base, own.get(base, False))
        found.update(dict.fromkeys((*passed, name), is_hidden))
    return {name for name in bases if found[name]}
