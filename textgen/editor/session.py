"""An editing session: a text with its history and suggestions, independent of the terminal."""

from __future__ import annotations

import re
import threading
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from wcwidth import iter_graphemes_reverse

from textgen.corpus.scripts import is_without_spaces
from textgen.editor.draft import Draft
from textgen.editor.text_file import NEWLINE, TextFile
from textgen.errors import TextgenError
from textgen.generation.suggestions import Suggester, Suggestion
from textgen.model.protocols import StepModel
from textgen.storage.files import CannotWrite
from textgen.storage.names import JOINERS

MAX_TEMPERATURE = 2.0  # highest temperature that the keys set
STILL_HERE = "Your text is still here: set that right and press ^S, or quit, which keeps it in another file."
CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters but \n and \t; lone surrogates
BREAKS = "–—…"  # marks that end a word although no white space is beside them
# The combining grapheme joiner, variation selectors and parts of a Korean syllable, which are not seen without their
# base
DEPENDENT = re.compile("[\u034f\u1100-\u11ff\u180b-\u180f\ua960-\ua97f\ud7b0-\ud7ff\ufe00-\ufe0f\U000e0100-\U000e01ef]")


def without_controls(text: str) -> str:
    """Removes control characters except newline and tab, and lone surrogates.

    All other characters stay, also those that Python does not count as printable: a space as wide as an ideograph, a
    space that does not break, the joiners of Persian and of emoji.

    Example:
        >>> without_controls("\\u3000one\\x1b\\ttwo")
        '\\u3000one\\ttwo'
    """
    return CONTROL.sub("", text)


def without_last_character(text: str) -> str:
    """Removes the last character with what belongs to it and is not seen alone, such as an accent or a skin tone.

    A flag, a keycap and emoji that are joined are one character. A vowel sign and a letter of a conjunct are characters
    of their own, as people type them; so is a joiner at the end, which the editor shows.

    Example:
        >>> without_last_character("Hi \U0001f469\u200d\U0001f680")
        'Hi '
        >>> without_last_character("cafe\u0301")
        'caf'
    """
    cluster = next(iter_graphemes_reverse(text), "")
    if cluster.endswith(tuple(JOINERS)):
        return text[:-1]
    if not any(map(_is_typed_alone, cluster[1:])):
        return text[: len(text) - len(cluster)]
    while unicodedata.combining(text[-1]):
        text = text[:-1]
    return text[:-1]


def _is_typed_alone(character: str) -> bool:
    """Whether a character inside of a grapheme cluster is a letter or a vowel sign."""
    is_part = unicodedata.category(character) in ("Lo", "Mc", "Mn") and not unicodedata.combining(character)
    return is_part and not DEPENDENT.match(character)


def without_last_word(text: str) -> str:
    """Removes the last word of a text with the punctuation and the white space after it, or the newlines at the end.

    White space, a dash or an ellipsis ends a word, and so does a change between scripts with spaces between words and
    those without. In the latter a word is all letters up to punctuation.

    Example:
        >>> without_last_word("one two. ")
        'one '
        >>> without_last_word("well-known—don't")
        'well-known—'
        >>> without_last_word("床前明月光，疑是地上霜。")
        '床前明月光，'
    """
    end = len(text)
    while end and text[end - 1].isspace() and text[end - 1] != "\n":
        end -= 1
    if text[:end].endswith("\n"):
        return text[:end].rstrip("\n")
    while end and _is_punctuation(text[end - 1]):
        end -= 1
    unspaced = _is_unspaced_letter(text[_last_base(text, end)]) if end else False
    is_of_word = _is_unspaced_letter if unspaced else _is_of_spaced_word
    while end and is_of_word(text[at := _last_base(text, end)]):
        end = at
    return text[: min(end, len(text) - 1)]  # at least a mark that stands on white space


def _last_base(text: str, end: int) -> int:
    """Index of the last character before `end` that is no accent or other mark on the one before it."""
    at = end - 1
    while at and unicodedata.category(text[at])[0] == "M":
        at -= 1
    return at


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] == "P"


def _is_unspaced_letter(character: str) -> bool:
    """Whether a character is a letter or number of a script without spaces between words."""
    return is_without_spaces(ord(character)) and unicodedata.category(character)[0] in "LN"


def _is_of_spaced_word(character: str) -> bool:
    """Whether a character can be inside a word of a script with spaces, such as don't or 3.14."""
    is_wide_mark = _is_punctuation(character) and unicodedata.east_asian_width(character) in "FW"
    return not (character.isspace() or character in BREAKS or is_wide_mark or _is_unspaced_letter(character))


class Cancelled(Exception):
    """Raised to stop the computation of suggestions that are no longer needed."""


class CancellableModel:
    """Wraps a model so that another thread can stop a computation between two steps.

    Attributes:
        exact: As of the model.
    """

    def __init__(self, model: StepModel, cancelled: threading.Event) -> None:
        """Wraps a model.

        Args:
            model: The model.
            cancelled: While this is set, every step raises `Cancelled`.
        """
        self.exact = model.exact
        self._model = model
        self._cancelled = cancelled

    def initial_state(self, batch_size: int) -> Any:
        """Returns the state of `batch_size` texts before their first token."""
        return self._model.initial_state(batch_size)

    def read(self, inputs: np.ndarray, state: Any) -> Any:
        """Reads tokens.

        Args:
            inputs: Token ids, int32 [B, T].
            state: State before the tokens.

        Returns:
            The state after the tokens.

        Raises:
            Cancelled: The event is set.
        """
        self._check()
        return self._model.read(inputs, state)

    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Reads one token of each text.

        Args:
            ids: Token ids, int32 [B].
            state: State before the tokens.

        Returns:
            The logits of the next tokens [B, V] and the state after the tokens.

        Raises:
            Cancelled: The event is set.
        """
        self._check()
        return self._model.step(ids, state)

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled


class SuggestionRequest(NamedTuple):
    """The values that determine suggestions.

    Attributes:
        text: The text to continue.
        temperature: Sampling temperature.
        page: Page of the suggestions, from 0.
        seed: Seed of the samples.
    """

    text: str
    temperature: float
    page: int
    seed: int


class Session:
    """A draft of a file, with suggestions for its continuation.

    Call all methods from one thread, except `compute`, which may run in another.

    Attributes:
        draft: The text and its history.
        temperature: Sampling temperature of the suggestions.
        page: Page of the suggestions; page 0 has the likeliest ones.
        message: Message of the last action for the user; empty if there is none.
    """

    def __init__(
        self,
        suggester: Suggester,
        path: Path,
        *,
        length: int,
        temperature: float,
        cancelled: threading.Event | None = None,
    ) -> None:
        """Opens a file, or starts with an empty text if it does not exist.

        Args:
            suggester: Computes the suggestions.
            path: The file of the text, which may not exist yet.
            length: Maximum length of a suggestion, in tokens.
            temperature: Sampling temperature after the first token of a suggestion.
            cancelled: The event of the suggester's `CancellableModel`, if it has one.

        Raises:
            TextgenError: The file cannot be read.
        """
        self._file = TextFile(path)
        self.draft = Draft(self._file.read())
        self.temperature = temperature
        self.page = 0
        self.message = ""
        self._suggester = suggester
        self._length = length  # maximum tokens per suggestion
        self._seed = 0
        self._saved: str | None = self.draft.text  # what the file has; None if that is not known
        self._has_written = False
        # The newest suggestions, after the request for them
        self._known: tuple[SuggestionRequest | None, list[Suggestion]] = (None, [])
        self._cancelled = cancelled or threading.Event()

    @property
    def path(self) -> Path:
        """File of the text."""
        return self._file.path

    @property
    def unsaved(self) -> bool:
        """Whether the text differs from the file."""
        return self.draft.text != self._saved

    @property
    def request(self) -> SuggestionRequest:
        """The request for suggestions for the current text."""
        return SuggestionRequest(self.draft.text, self.temperature, self.page, self._seed)

    def known(self) -> list[Suggestion] | None:
        """Returns the suggestions for the current text; None if they have not been computed."""
        request, found = self._known
        return found if request == self.request else None

    def suggestions(self) -> list[Suggestion]:
        """Returns the suggestions for the current text, computing them if necessary."""
        known = self.known()
        return self.compute(self.start()) if known is None else known

    def start(self) -> SuggestionRequest:
        """Resets `cancel` and returns the request to compute next."""
        self._cancelled.clear()
        return self.request

    def compute(self, request: SuggestionRequest) -> list[Suggestion]:
        """Computes suggestions. Any thread may call this, for one request at a time.

        Args:
            request: The request, from `start`.

        Returns:
            The suggestions.

        Raises:
            Cancelled: `cancel` was called.
        """
        text, temperature, page, seed = request
        found = self._suggester.suggest(text, length=self._length, temperature=temperature, page=page, seed=seed)
        self._known = request, found
        return found

    def cancel(self) -> None:
        """Stops `compute` in another thread at its next step."""
        self._cancelled.set()

    def type(self, character: str) -> None:
        """Appends a character."""
        self.draft.type(character)
        self._begin()

    def replace(self, text: str) -> None:
        """Replaces the text."""
        self.draft.replace(text)
        self._begin()

    def paste(self, text: str) -> None:
        """Appends a text, with line endings converted to \\n and control characters removed."""
        self.replace(self.draft.text + without_controls(NEWLINE.sub("\n", text)))

    def take(self, number: int) -> None:
        """Appends a suggestion to the text.

        Args:
            number: Number of the suggestion, from 1.
        """
        suggestions = self.suggestions()
        if number <= len(suggestions):
            self.replace(self.draft.text + suggestions[number - 1].text)
        else:
            self.message = f"There is no suggestion {number}. For a digit press ^V before it."

    def delete_character(self) -> None:
        """Deletes the last character with its accents and what else belongs to it."""
        self.replace(without_last_character(self.draft.text))

    def delete_word(self) -> None:
        """Deletes the last word with the punctuation after it, or the newlines at the end."""
        self.replace(without_last_word(self.draft.text))

    def undo(self) -> None:
        """Undoes the last change."""
        if not self.draft.undo():
            self.message = "There is nothing to undo."
        self._begin()

    def redo(self) -> None:
        """Redoes the last undone change."""
        if not self.draft.redo():
            self.message = "There is nothing to redo."
        self._begin()

    def redraw(self) -> None:
        """Requests new samples of the suggestions, with the same first tokens."""
        self._seed += 1

    def turn(self, pages: int) -> None:
        """Moves `pages` forward or, if negative, back; later pages begin with less likely tokens."""
        self.page = max(0, self.page + pages)

    def warm(self, step: float) -> None:
        """Adds `step` to the temperature and limits it to [0, `MAX_TEMPERATURE`], or to where it is if higher."""
        self.temperature = min(max(MAX_TEMPERATURE, self.temperature), max(0.0, round(self.temperature + step, 1)))

    def save(self, *, is_leaving: bool = False) -> None:
        """Writes the text to the file if it has changed, and sets `message` to the result.

        What has been saved is written again if another program has removed the file or changed it. If it has changed
        the file, the text is saved in a new file, which becomes `path`.

        Args:
            is_leaving: Whether the user leaves, so that no key can be pressed any more.
        """
        changed = None
        is_intact = self._file.is_intact(self.draft.text)
        if self._has_written and not is_intact:
            self._saved = None
        if self.unsaved:
            try:
                changed = self._file.write(self.draft.text)
            except TextgenError as error:
                self.message = _failure(error, is_leaving=is_leaving)
                return
            self._saved, self._has_written, is_intact = self.draft.text, True, True
        if changed:
            # In a small screen the end of a message is left out.
            self.message = f"Saved in {self.path}, as another program has changed {changed}."
        else:
            self.message = f"Saved in {self.path}." if is_intact else "Nothing was written."

    def save_by_itself(self) -> None:
        """Saves the text like `save` if it has changed. Tells only what differs from a text saved in `path`."""
        message, path = self.message, self.path
        if self.unsaved:
            self.save()
            if self._saved == self.draft.text and self.path == path:
                self.message = message

    def _begin(self) -> None:
        """Returns to the first page of suggestions after a change of the text."""
        self.page = self._seed = 0


def _failure(error: TextgenError, *, is_leaving: bool) -> str:
    """What to say of a text that cannot be saved. The file cannot be chosen any more, so that is not advised."""
    if not isinstance(error, CannotWrite):
        return str(error)
    said = f"Cannot write {error.path}: {error.reason}."
    if error.is_incomplete:
        said += " What it holds may be incomplete now."
    return said if is_leaving else f"{said} {STILL_HERE}"
