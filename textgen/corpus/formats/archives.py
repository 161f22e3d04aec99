"""Recognizes archives among files, for messages that say how the texts in them are read."""

from __future__ import annotations

from pathlib import PurePath

ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # first bytes of a .zip file, and of many formats of office programs
OTHERS = (b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c")  # first bytes of .rar and .7z files
TAR_MARK, TAR_MARK_PLACE = b"ustar", 257  # bytes in the header of a .tar file, and their offset
TAR_COMPRESSIONS = ("", ".gz", ".bz2", ".xz")  # compressions of .tar files whose members can be read


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
    elif start[TAR_MARK_PLACE:].startswith(TAR_MARK):
        protocol = "tar" if compression in TAR_COMPRESSIONS else ""
    elif not start.startswith(OTHERS):
        return ""
    if not protocol or is_copy:
        return "is an archive: unpack it"
    return f"is an archive: name {f'{protocol}://::{name}'!r} to read the texts in it, or unpack it"
