"""What there is of a file besides its text, for messages."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Findings:
    """Messages about what there is of a file besides its text.

    Attributes:
        lost: What cannot be read, such as scanned pages.
        doubtful: Where more than what was read, or something else, may have been meant, such as pages with no more than
            a stamp.
    """

    lost: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)
