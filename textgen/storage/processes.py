"""What names this machine and its processes to others that use the same folder."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path


def machine_name() -> str:
    """Names the machine since its start, and the container, within which processes have their numbers."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    return " ".join(parts)


def is_running(process: int) -> bool:
    """Checks whether there is a process of this number on this machine. Call it on POSIX alone.

    Args:
        process: The number.

    Raises:
        OverflowError: No process can have that number.
    """
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True
