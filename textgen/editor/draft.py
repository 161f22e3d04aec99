"""A text with a history for undo and redo."""

from __future__ import annotations

from typing import NamedTuple


class Change(NamedTuple):
    """A change of a text at one place.

    Attributes:
        start: Number of characters before it.
        removed: What was there before.
        added: What is there after.
    """

    start: int
    removed: str
    added: str

    @classmethod
    def between(cls, before: str, after: str) -> Change:
        """Finds the change that makes one text of another."""
        start = _common_prefix(before, after)
        removed, added = before[start:], after[start:]
        end = _common_prefix(removed[::-1], added[::-1])
        return cls(start, removed[: len(removed) - end], added[: len(added) - end])

    def inverse(self) -> Change:
        """Returns the change that undoes this one."""
        return Change(self.start, self.added, self.removed)

    def apply(self, text: str) -> str:
        """Returns a text with this change."""
        return text[: self.start] + self.added + text[self.start + len(self.removed) :]


def _common_prefix(one: str, other: str) -> int:
    """Number of equal characters at the beginning of two texts; compares slices, which is fast for long texts."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


class Draft:
    """A text with a history for undo and redo, which stores what changed.

    Args:
        text: The text at the beginning.

    Attributes:
        text: The text.

    Example:
        >>> draft = Draft("The")
        >>> draft.type(" ")
        >>> draft.undo(), draft.text, draft.undo()
        (True, 'The', False)
    """

    def __init__(self, text: str = "") -> None:
        self.text = text
        self._past: list[Change] = []
        self._future: list[Change] = []
        self._typing = False

    def type(self, character: str) -> None:
        """Appends a character. The characters of a word are undone together."""
        if self._typing and not character.isspace():
            start, _, added = self._past.pop()
            self._past.append(Change(start, "", added + character))
        else:
            self._step(Change(len(self.text), "", character))
        self.text += character
        self._typing = True

    def replace(self, text: str) -> None:
        """Replaces the text as a single change."""
        if text != self.text:
            self._step(Change.between(self.text, text))
            self.text = text

    def undo(self) -> bool:
        """Undoes the last change and returns True, or returns False if there is none."""
        return self._travel(self._past, self._future)

    def redo(self) -> bool:
        """Redoes the last undone change and returns True, or returns False if there is none."""
        return self._travel(self._future, self._past)

    def _step(self, change: Change) -> None:
        self._past.append(change)
        self._future.clear()
        self._typing = False

    def _travel(self, source: list[Change], target: list[Change]) -> bool:
        if source:
            back = source.pop().inverse()
            self.text = back.apply(self.text)
            target.append(back)
            self._typing = False
            return True
        return False
