"""Recognizes archives and other formats by their first bytes, for messages that say how the texts in them are read."""

from __future__ import annotations

import re
from pathlib import PurePath

from textgen.corpus.formats.decompression import COMPRESSIONS

ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # first bytes of a .zip file, and of many formats of office programs
OTHERS = (b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c")  # first bytes of .rar and .7z files
TAR_MARK, TAR_MARK_PLACE = b"ustar", 257  # bytes in the header of a .tar file, and their offset
TAR_COMPRESSIONS = ("", ".gz", ".bz2", ".xz")  # compressions of .tar files whose members can be read
FORMATS = [
    (re.compile(start, re.DOTALL), what, suffix)
    for start, what, suffix in (
        (rb"%PDF-\d\.\d[ \t]*[\r\n%]", "a PDF file", ".pdf"),
        (rb"PK\x03\x04.*?word/document\.xml", "a Word file", ".docx"),
        (rb"PK\x03\x04.{26}mimetypeapplication/vnd\.oasis\.opendocument\.text", "an OpenDocument text", ".odt"),
        (rb"PK\x03\x04.{26}mimetypeapplication/epub\+zip", "an e-book", ".epub"),
        (rb"PAR1\x15", "a Parquet table", ".parquet"),
        (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a Word file of before 2007, or another Office file", ""),
        (rb"\x1f\x8b\x08", "compressed with gzip", ".gz"),
        (rb"BZh[1-9]1AY&SY", "compressed with bzip2", ".bz2"),
        (rb"\xfd7zXZ\x00", "compressed with xz", ".xz"),
        (rb"\x28\xb5\x2f\xfd", "compressed with zstd", ".zst"),
    )
]
"""How files begin, what they are then, and the suffix by which their texts are read; "" if they are not read."""


OTHER_NAMES = {".rtf": "an RTF document", ".doc": "a Word file", ".zip": "a ZIP archive"}
"""Suffixes of other files that are no plain text, and what they are."""


def format_of(start: bytes) -> tuple[str, str]:
    """Recognizes a format that is no text, whatever the name of the file.

    Args:
        start: Beginning of the file.

    Returns:
        What the file is, and the suffix by which its text is read, which is "" if it is not read; "" twice if the
        format is unknown.

    Example:
        >>> format_of(b"%PDF-1.7\\n")
        ('a PDF file', '.pdf')
    """
    return next(((what, suffix) for pattern, what, suffix in FORMATS if pattern.match(start)), ("", ""))


def format_of_name(name: str) -> str:
    """Tells which format that is no plain text a new file would have by its name.

    Web pages and subtitles are plain text with markup, and tables and JSON lines are plain text, too.

    Args:
        name: The name of the file.

    Returns:
        What the file would be; "" if plain text may be written to it.

    Example:
        >>> format_of_name("chapter.docx"), format_of_name("chapter.txt.gz"), format_of_name("chapter.txt")
        ('a Word file', 'compressed with gzip', '')
    """
    of_suffix = {suffix: what for _, what, suffix in FORMATS if suffix} | OTHER_NAMES
    return of_suffix.get(PurePath(name).suffix.lower(), "")


def about_format(start: bytes, compression: str, is_elsewhere: bool = False) -> str:
    """Says that a file is in another format than its name tells, and what to do.

    Args:
        start: Beginning of the file, decompressed.
        compression: Suffix of its compression, or "".
        is_elsewhere: Whether the user cannot rename the file: it is standard input, or on another machine.

    Returns:
        The rest of a sentence about the file, without a full stop; "" if the format is unknown.

    Example:
        >>> about_format(b"%PDF-1.7\\n", "")
        'is a PDF file: rename it to .pdf'
    """
    what, suffix = format_of(start)
    if not what:
        return ""
    if not suffix:
        return f"is {what}: save it as .docx or as text"
    if suffix in COMPRESSIONS:
        return f"is {what}: decompress it" + ("" if compression or is_elsewhere else f", or add {suffix} to its name")
    how = f"save it as {suffix}, and name that file" if is_elsewhere else f"rename it to {suffix}"
    return f"is {what}: {'decompress it, and ' if compression else ''}{how}"


def about_archive(start: bytes, name: str, compression: str, is_copy: bool = False) -> str:
    """Says that a file is an archive, and what to do.

    Args:
        start: Beginning of the file, decompressed.
        name: Path or address of the file.
        compression: Suffix of its compression, or "".
        is_copy: Whether `name` is not a path or an address, such as that of standard input.

    Returns:
        The rest of a sentence about the file, without a full stop; "" if it is no archive.

    Example:
        >>> about_archive(b"PK\\x03\\x04", "poems.zip", "")
        "is an archive: name 'zip://::poems.zip' to read the texts in it, or unpack it"
    """
    protocol = ""
    if start.startswith(ZIP):
        if PurePath(name).suffix.lower() != ".zip" and not compression:
            return "looks like a binary file: it is a zip archive, as files of some programs are. Save it as text there"
        protocol = "" if compression else "zip"
    elif b"\0" in start[:TAR_MARK_PLACE] and start[TAR_MARK_PLACE:].startswith(TAR_MARK):
        protocol = "tar" if compression in TAR_COMPRESSIONS else ""
    elif not start.startswith(OTHERS):
        return ""
    if not protocol or is_copy:
        return "is an archive: unpack it"
    return f"is an archive: name {f'{protocol}://::{name}'!r} to read the texts in it, or unpack it"
