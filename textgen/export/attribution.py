"""What an export says about the rights in a model, and what its author says about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from textgen.errors import ConfigError, SavedModelError
from textgen.settings import check_text

TEXT_BYTES = 1 << 20  # of a licence or a note at most


@dataclass(frozen=True)
class Attribution:
    """Texts of a person, which are kept in an export.

    Attributes:
        licence: Licence of the model.
        note: What its author says about it.

    Raises:
        ConfigError: A text is not valid Unicode, or too long for a card that can be read again.
    """

    licence: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        for name, text in asdict(self).items():
            check_text(name, text)
            if (size := len(text.encode())) > TEXT_BYTES:
                raise ConfigError(f"{name} must be a text of at most {TEXT_BYTES:,} bytes. Received: {size:,} bytes.")

    def to_dict(self) -> dict[str, str]:
        """Returns the texts by name."""
        return asdict(self)


def attribution_of(folder: Path, given: Mapping[str, str]) -> Attribution:
    """Returns the licence of a model and the note about it.

    Args:
        folder: Folder of the model. What is not given is in its card.
        given: What a person has given in place of that, by name.

    Raises:
        ConfigError: A text that was given is not valid Unicode, or too long.
        SavedModelError: The card cannot be read, or a text in it is too long.
    """
    from textgen.saved_model.layout import CARD
    from textgen.saved_model.saving import saved_attribution

    texts = {**saved_attribution(folder), **given}
    for name, text in texts.items():
        if name not in given and len(text.encode()) > TEXT_BYTES:
            raise SavedModelError(
                f"The {name} in {folder / CARD} has more than {TEXT_BYTES:,} bytes, so an export cannot keep it. "
                "Shorten it there, or give a shorter one."
            )
    return Attribution(**texts)


NO_ATTRIBUTION = Attribution()
