"""The errors that are the user's to mend.

Each message says what happened, what was expected and what to do, in the words of the library (field
names, not command-line flags). The command line prints it as one line and exits with 1; anything that is
not a `TextgenError` is a bug and keeps its traceback.
"""


class TextgenError(Exception):
    """Base of everything that a user can put right."""


class ConfigError(TextgenError):
    """A setting is unknown, out of range, or contradicts another."""


class CorpusError(TextgenError):
    """The text cannot be read, or there is not enough of it."""


class TokenizerError(TextgenError):
    """The vocabulary cannot be made or loaded, or cannot express a text."""


class TrainingError(TextgenError):
    """Training cannot start or go on."""


class SavedModelError(TextgenError):
    """A saved model is missing, damaged, or does not fit."""


class WorkerLost(TrainingError):
    """Another process of this training is gone; starting all of them again goes on from the last checkpoint."""

    exit_code = 75  # "try again", by the convention of sysexits.h


class Interrupted(TextgenError):
    """A signal ended the run, after everything was saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
