"""What an export says about the rights in a model, and what its author says about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from textgen.settings import check_text


@dataclass(frozen=True)
class Attribution:
    """Texts of a person, which are kept in an export.

    Attributes:
        licence: Licence of the model.
        note: What its author says about it.

    Raises:
        ConfigError: A text is not valid Unicode.
    """

    licence: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        for name, text in asdict(self).items():
            check_text(name, text)

    def to_dict(self) -> dict[str, str]:
        """Returns the texts by name."""
        return asdict(self)


NO_ATTRIBUTION = Attribution()
