"""The text of word processors: .docx and .odt files."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator

from textgen.corpus.formats.markup import BODY_LEVEL, HEADING, office_text
from textgen.corpus.formats.zipped import MAX_CHAPTER_BYTES, chunks, optional_part, parsed_part
from textgen.errors import CorpusError

ODT_PARTS = "META-INF/manifest.xml"
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
    headings = _heading_styles(archive, member) if suffix == ".docx" else set()
    yield from office_text(chunks(archive, member, name), suffix, name, headings)


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


def _heading_styles(archive: zipfile.ZipFile, member: str) -> set[str]:
    """The ids of the styles of headings in a .docx file, whose names are the same in all languages, unlike the ids.

    Without styles that can be read, the text can still be.
    """
    styles = posixpath.join(posixpath.dirname(member), "styles.xml")
    root = optional_part(archive, styles)
    if root is None:
        return set()
    return {
        style.xpath("string(@*[local-name()='styleId'])")
        for style in root.xpath("//*[local-name()='style']")
        if HEADING.match(style.xpath(STYLE_NAME)) or style.xpath(STYLE_LEVEL)
    }
