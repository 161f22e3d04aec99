"""Settings of an inspection."""

from __future__ import annotations

from dataclasses import dataclass

from textgen.settings import Settings, check_text, setting


@dataclass(frozen=True)
class InspectConfig(Settings):
    """What is looked at, and how much of the text is used.

    Example:
        >>> InspectConfig(track=("speaker=^[A-Z]+:",)).max_tokens
        5000
    """

    max_tokens: int = setting(5000, "Tokens of the text to use, at most.", low=64, high=20_000)
    track: tuple[str, ...] = setting(
        (), "Look for cells that follow the matches of a regular expression.", metavar="NAME=REGEX"
    )
    cell: tuple[str, ...] = setting((), "Show the gates of this cell, such as L1/89.", metavar="CELL")
    seed: int = setting(0, "Seed of the random numbers.", low=0, high=(1 << 31) - 1)

    def check(self) -> None:
        """Checks that texts are valid Unicode."""
        check_text("track", *self.track)
        check_text("cell", *self.cell)
