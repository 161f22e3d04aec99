"""A suggester whose suggestions are known."""

from __future__ import annotations

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
