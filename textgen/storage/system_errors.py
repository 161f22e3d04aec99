"""What the user can do about errors of the system, such as a missing permission or a disk that fails."""

from __future__ import annotations

import errno
from enum import Enum
from pathlib import Path

from textgen.errors import SavedModelError, Unreadable

OPEN_FILES_ADVICE = "Close other programs, or allow more open files with `ulimit -n`."
OPEN_FILES_ERRORS = (errno.EMFILE, errno.ENFILE)  # too many open files in the process, or in the system
FULL_ERRORS = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
DISK_ERRORS = (errno.EIO, getattr(errno, "ESTALE", errno.EIO), errno.ETIMEDOUT)
DISK_ADVICE = "Try again; if it fails again, check the disk or the connection to it."
PERMISSION_ADVICE = "Change the permissions, or ask the owner to."
ADVICE = {
    errno.EACCES: PERMISSION_ADVICE,
    errno.EPERM: PERMISSION_ADVICE,
    errno.EROFS: "Choose a place on a disk that is not read-only.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ELOOP: "Choose a path without links that lead to themselves.",
    errno.ENOTDIR: "Choose a path in which each part but the last is a folder.",
    errno.EISDIR: "Name a file.",
    errno.EBUSY: "Close the program that uses it, and try again.",
    **dict.fromkeys(FULL_ERRORS, "Free some space, and try again."),
    **dict.fromkeys(OPEN_FILES_ERRORS, OPEN_FILES_ADVICE),
    **dict.fromkeys(DISK_ERRORS, DISK_ADVICE),
}
DAMAGE_ERRORS = (  # of what lies at a path, which trying again does not change
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EFBIG, errno.ENAMETOOLONG, errno.ELOOP, errno.EMLINK,
)  # fmt: skip


class Obstacle(Enum):
    """What keeps a file from being written."""

    FULL = "the disk is full"
    DISK = "the disk or the connection to it fails"
    OPEN_FILES = "too many files are open"
    PLACE = "the place, such as one without permission"

    @classmethod
    def of(cls, error: OSError) -> Obstacle:
        """The obstacle that an error of the system tells of."""
        kinds = {FULL_ERRORS: cls.FULL, DISK_ERRORS: cls.DISK, OPEN_FILES_ERRORS: cls.OPEN_FILES}
        return next((kind for errors, kind in kinds.items() if error.errno in errors), cls.PLACE)


def reason_of(error: OSError) -> str:
    """Returns what the system says about an error, without a full stop."""
    return error.strerror or str(error)


def explained(error: OSError) -> str:
    """Returns what the system says about an error, and what the user can do.

    Example:
        >>> explained(OSError(errno.ENAMETOOLONG, "File name too long"))
        'File name too long. Choose a shorter name.'
    """
    return f"{reason_of(error)}. {ADVICE.get(error.errno or 0, 'Check the path, and try again.')}"


def cannot_read(path: Path, error: OSError, advice: str = "") -> SavedModelError:
    """Makes the error for a file of a saved model that cannot be read.

    Args:
        path: Path of the file.
        error: What the system said.
        advice: What the user can do if the file itself is at fault, in one sentence; by default that for the error.

    Returns:
        `Unreadable` if the file may be intact, as when a disk fails for a moment or there is no permission. Else
        `SavedModelError`, as for a folder or a link in the place of the file.
    """
    said = ADVICE.get(error.errno or 0, DISK_ADVICE)
    if error.errno not in DAMAGE_ERRORS:
        return Unreadable(path, reason_of(error), said)
    return SavedModelError(f"Cannot read {path}: {reason_of(error)}. {advice or said}")
