"""Exceptions for errors that the user can fix.

Each message says what happened, what was expected and what to do. Messages use the names of fields, not of
command-line options. The command line prints the message on one line and exits with status 1 or the error's
`exit_code`. Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

ENDING_SIGNALS = {"SIGHUP": "The terminal was closed.", "SIGTERM": "Terminated."}  # Windows has no SIGHUP


class TextgenError(Exception):
    """Base class of all errors that the user can fix.

    They can be pickled, whatever the arguments of a subclass, so that they arrive from other processes and machines.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args), self.__dict__ or None


def _restored(kind: type[TextgenError], args: tuple[Any, ...]) -> TextgenError:
    """Makes an error from its message, without the arguments that the message was made of."""
    return kind.__new__(kind, *args)


class ConfigError(TextgenError):
    """Raised when a setting is unknown, out of range, or contradicts another setting."""


class CorpusError(TextgenError):
    """Raised when text cannot be read, or there is not enough of it."""


class UnreadableCorpus(CorpusError):
    """Raised when a file of text or of token ids cannot be read, and may be intact: a later try may succeed."""


class RemoteError(TextgenError):
    """Raised when a file elsewhere cannot be read, or cannot be written because it is elsewhere."""


class TokenizerError(TextgenError):
    """Raised when a vocabulary cannot be created or loaded, or cannot represent a text."""


class TrainingError(TextgenError):
    """Raised when training cannot start or continue."""


class SavedModelError(TextgenError):
    """Raised when a saved model is missing, damaged or incompatible."""


class ModelChanged(SavedModelError):
    """Raised when a file of a loaded model is no longer the one that was loaded: load the model again."""


class Unreadable(SavedModelError):
    """Raised when a file of a saved model cannot be read, and may be intact: a later try may succeed.

    Attributes:
        path: Path of the file or folder.
        reason: Reason of the system, such as "Input/output error".
        advice: What the user can do, in one sentence.

    Args:
        path: Path of the file or folder.
        reason: Reason of the system.
        advice: What the user can do, in one sentence.
    """

    def __init__(self, path: Path, reason: str, advice: str) -> None:
        super().__init__(f"Cannot read {path}: {reason}. {advice}")
        self.path, self.reason, self.advice = path, reason, advice


class WorkerLost(TrainingError):
    """Raised when another process of a distributed training run has ended.

    Restart all processes to continue from the last checkpoint.
    """

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again


class Interrupted(TextgenError):
    """Raised when a signal has ended the run. The newest state is saved, except during a trial of two starts.

    Attributes:
        said: What has happened, without the advice to resume the run.
        signal_number: Number of the signal.
        exit_code: 128 plus this number, as in a shell.
        folder: Folder of the run if it can be resumed.

    Args:
        said: What has happened, for the user.
        signal_number: Number of the signal.
        folder: Folder of the run if it can be resumed; the message then ends with the advice to do so.
    """

    def __init__(self, said: str, signal_number: int, *, folder: Path | None = None) -> None:
        super().__init__(f"{said} Use resume to go on." if folder else said)
        self.said = said
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number
        self.folder = folder
