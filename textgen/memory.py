"""What the process does with memory that it frees."""

from __future__ import annotations

import ctypes
import sys

KEPT = 1 << 30  # bytes that the allocator may keep instead of handing them back to the system
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's mallopt


def keep_memory() -> None:
    """Tells glibc to reuse large buffers: else every step asks the system for fresh pages and waits for them."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD):
            mallopt(parameter, KEPT if parameter != M_TOP_PAD else KEPT // 16)
