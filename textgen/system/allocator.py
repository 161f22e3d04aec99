"""Configures how the memory allocator reuses freed memory."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

KEPT = 1 << 30  # bytes of freed memory that the allocator keeps instead of returning them to the system
MAX_OLDER_THRESHOLD = 1 << 25  # bytes: largest mmap threshold that older versions of glibc accept
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # parameters of glibc's mallopt
_is_kept = False


def keep_memory() -> bool:
    """Configures glibc to reuse large buffers, for the whole process.

    By default every training step waits for the system to provide fresh pages. If glibc rejects the mmap threshold,
    the other parameters are not set, since they would only fix the threshold at its current 128 KiB.

    Returns:
        Whether large buffers are reused. False on systems without glibc.
    """
    global _is_kept
    mallopt: Any = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:  # not glibc
        return False
    _is_kept = bool(mallopt(M_MMAP_THRESHOLD, KEPT) or mallopt(M_MMAP_THRESHOLD, MAX_OLDER_THRESHOLD))
    if _is_kept:
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_TOP_PAD, KEPT // 16)
    return _is_kept


def keep_memory_still() -> None:
    """Repeats `keep_memory` if it took effect before, since some TensorFlow functions reset its settings."""
    if _is_kept:
        keep_memory()
