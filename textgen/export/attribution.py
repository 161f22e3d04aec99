"""What an export says about the rights in a model, and what its author says about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from textgen.errors import ConfigError
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


NO_ATTRIBUTION = Attribution()
