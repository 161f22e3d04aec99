"""A suggester whose suggestions are known, and sessions of writing with it."""

from __future__ import annotations

from pathlib import Path

from textgen.editor.session import Session
from textgen.generation.suggestions import Suggester, Suggestion

# === The session ===


class Telling(Suggester):
    """Suggests what it was asked for."""

    def __init__(self) -> None:
        self.calls = 0

    def suggest(
        self, text: str, *, length: int, temperature: float = 0.8, page: int = 0, seed: int = 0
    ) -> list[Suggestion]:
        self.calls += 1
        return [Suggestion(f" {n}: {length} {temperature} {page} {seed}", 1 / n) for n in (1, 2)]


def session_with_unsaved(path: Path, text: str = "") -> Session:
    """A session in a new file, with a text that is not saved yet."""
    session = Session(Telling(), path, length=6, temperature=0.8)
    session.replace(text)
    return session


def session_on_file(path: Path, text: str = "", suggester: Suggester | None = None) -> Session:
    """A session in a file that holds a text, if there is any."""
    if text:
        path.write_text(text, encoding="utf-8")
    return Session(suggester or Telling(), path, length=6, temperature=0.8)
