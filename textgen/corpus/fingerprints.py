"""What tells files and sections of files from others: hashes of all their bytes or of some, sizes, times.

All functions raise `CorpusError` if the file cannot be read.
"""

from __future__ import annotations

import hashlib

from textgen.corpus.formats.decompression import reading
from textgen.corpus.source import Source

GLANCE_BYTES = 1 << 16  # hashed at the beginning, middle and end of a file by `glance`
GLANCE_PLACES, GLANCE_PLACE_BYTES = 16, 1 << 12  # hashed between the borders of a section by `section_glance`


def fingerprint(source: Source) -> list[str]:
    """Returns everything that determines the documents: compression, format, label, and SHA-256 of the file.

    Of rich text, the hash is that of the text, which may change with the library that reads the file.
    """
    path = source.converted()[0] if source.rich else source.fetched()
    with reading(source.name), path.open("rb") as file:
        return [*_kind(source), hashlib.file_digest(file, "sha256").hexdigest()]


def stamp(source: Source) -> tuple[int, ...]:
    """Returns values that change when the file changes: size, modification time in ns, device and inode."""
    with reading(source.name):
        if source.remote:
            return (source.remote.size or 0,)  # nobody writes to the copy
        status = source.path.stat()
    return status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino


def glance(source: Source) -> list[str]:
    """Like `fingerprint`, but hashes only some bytes of the file and includes its size."""
    if source.remote and has_version(source):
        return [*_kind(source), str(source.remote.size), source.remote.shared_version]
    digest = hashlib.sha256()
    with reading(source.name), source.fetched().open("rb") as file:
        size = source.path.stat().st_size
        for place in (0, size // 2, max(0, size - GLANCE_BYTES)):
            file.seek(place)
            digest.update(file.read(GLANCE_BYTES))
    return [*_kind(source), str(size), digest.hexdigest()]


def section_glance(section: Source) -> list[str]:
    """Describes a section by where it begins and ends, and a hash of bytes around both and of some between them."""
    stop, digest = section.start + section.size, hashlib.sha256()
    between = (section.start + section.size * number // GLANCE_PLACES for number in range(GLANCE_PLACES))
    with reading(section.name), section.fetched().open("rb") as file:
        for border in (section.start, stop):
            file.seek(max(0, border - GLANCE_BYTES))
            digest.update(file.read(2 * GLANCE_BYTES))
        for place in between:
            file.seek(place)
            digest.update(file.read(GLANCE_PLACE_BYTES))
    return [str(section.start), str(stop), digest.hexdigest()]


def has_version(source: Source) -> bool:
    """Whether `glance` tells a version of the file elsewhere, which changes with any of its bytes."""
    return source.remote is not None and bool(source.remote.shared_version)


def _kind(source: Source) -> list[str]:
    """Returns everything except the content that determines the documents: compression, format and label."""
    label = source.folder_label
    return [source.compression, source.format or source.rich, *([label] if label else [])]
