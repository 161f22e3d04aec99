"""What the process does with memory that it frees."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

KEPT = 1 << 30  # bytes that the allocator may keep instead of handing them back to the system
MOST_OF_OLDER = 1 << 25  # bytes: the largest threshold for mmap that older versions of glibc take
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's mallopt
_is_kept = False


def keep_memory() -> bool:
    """Tells glibc to reuse large buffers, and whether it does: for the whole process, from now on.

    Else every step asks the system for fresh pages and waits for them. Where glibc refuses the threshold from which
    buffers are pages of their own, the other settings would only freeze it where it is, at 128 KiB: they are left out.
    """
    global _is_kept
    mallopt: Any = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:  # not glibc
        return False
    _is_kept = bool(mallopt(M_MMAP_THRESHOLD, KEPT) or mallopt(M_MMAP_THRESHOLD, MOST_OF_OLDER))
    if _is_kept:
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_TOP_PAD, KEPT // 16)
    return _is_kept


def keep_memory_still() -> None:
    """The same again, if `keep_memory` was called: some of TensorFlow's functions undo it for the whole process."""
    if _is_kept:
        keep_memory()
