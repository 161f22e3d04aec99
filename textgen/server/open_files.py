"""The operating system's limit of open files, since each connection is one."""

from __future__ import annotations

import contextlib

from textgen.wording import Say, counted

SPARE = 256  # open files wanted besides connections
RESERVED = 128  # of them those that must be left: for models, states, libraries, and connections that are refused
MIN_CONNECTIONS = 8  # minimum number of connections, however few files may be open


def possible_connections(wanted: int, say: Say) -> int:
    """Raises the limit of open files of this process as far as some connections need it and the system allows.

    Args:
        wanted: Maximum number of connections.
        say: Called with a line of text if this many are not possible.

    Returns:
        How many are possible, at most `wanted`.
    """
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return wanted
    needed = wanted + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < needed:  # a negative number is no limit
        with contextlib.suppress(OSError, ValueError):  # macOS has a lower limit than it tells
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard) if hard >= 0 else needed, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = max(MIN_CONNECTIONS, soft - RESERVED)
    if soft < 0 or possible >= wanted:
        return wanted
    say(
        f"The system allows this process {counted(soft, 'open file')}, so the server takes "
        f"{counted(possible, 'connection')} at a time instead of {wanted:,}. Raise the limit (ulimit -n, or "
        "LimitNOFILE of systemd) for more."
    )
    return possible
