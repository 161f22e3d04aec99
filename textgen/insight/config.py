"""Settings of an inspection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textgen.settings import Settings, check_text, setting

MAX_TOKENS = 5000  # maximum number of tokens that are read of a given text
OWN_TOKENS = 1500  # of the text that a model writes itself where none is given


@dataclass(frozen=True)
class InspectConfig(Settings):
    """What is looked at, and how much of the text is used.

    Example:
        >>> InspectConfig(track=("speaker=^[A-Z]+:",)).read_tokens
        5000
    """

    max_tokens: int | None = setting(
        None,
        "Maximum number of tokens of the text to use [default: 5000, or 1500 that the model writes itself].",
        low=64,
        high=20_000,
    )
    track: Sequence[str] = setting(
        (), "Look for cells that follow the matches of this regular expression.", metavar="NAME=REGEX"
    )
    cell: Sequence[str] = setting((), "Show the gates of this cell, such as L1/89.", metavar="CELL")
    seed: int = setting(0, "Seed of the random numbers of an inspection.", low=0, high=(1 << 31) - 1)

    @property
    def read_tokens(self) -> int:
        """Tokens of a given text to use, at most."""
        return self.max_tokens or MAX_TOKENS

    @property
    def own_tokens(self) -> int:
        """Tokens that the model writes where no text is given."""
        return self.max_tokens or OWN_TOKENS

    def check(self) -> None:
        """Checks that texts are valid Unicode."""
        check_text("track", *self.track)
        check_text("cell", *self.cell)
