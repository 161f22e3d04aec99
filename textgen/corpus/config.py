"""Settings that control how files are split into documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from textgen.errors import ConfigError
from textgen.settings import Settings, from_dict, setting
from textgen.wording import short_repr

DOCUMENT_MODES = ("file", "blank-line", "line")
SEPARATOR = "separator:"  # prefix of a documents mode that names the text between documents
NEWLINES = ("normalize", "keep")
SECTION = "Reading text"
UTF8 = "utf-8"
OF_ONE_TEXT = ("encoding", "strict")
"""Settings that are not taken over from the training when another text is read: its files may have another encoding,
and whoever reads it decides anew whether a record without text is an error."""


@dataclass(frozen=True)
class CorpusConfig(Settings):
    """Settings for reading files as documents."""

    documents: str | None = setting(
        None,
        "What one document is: a file, a block between blank lines, a line, or the text between separators such as "
        "`separator:<|endoftext|>`.",
        unset="Guessed if not given.", choices=DOCUMENT_MODES, open_choice=SEPARATOR, escapes=True,
    )  # fmt: skip
    encoding: str | None = setting(
        None, "Encoding of files without a byte-order mark, such as utf-8, cp1252 or gb18030. If not given, UTF-8, or "
        "the encoding that an HTML file declares.",
        section=SECTION, metavar="NAME",
    )  # fmt: skip
    newlines: str = setting(
        "normalize", "Convert \\r\\n and \\r to \\n, or keep them.", choices=NEWLINES, section=SECTION
    )
    text_field: str = setting(
        "text", "Field of .jsonl and .json files that holds the text; `a.b` is the field b within a.",
        section=SECTION, metavar="NAME",
    )  # fmt: skip
    text_column: str = setting("text", "Column of tables that holds the text.", section=SECTION, metavar="NAME")
    delimiter: str | None = setting(
        None, "Delimiter of .csv and .tsv files, one character.",
        unset="Detected if not given.", section=SECTION, metavar="CHAR", escapes=True,
    )  # fmt: skip
    no_header: bool = setting(
        False, "Read tables without a header row; columns are then numbers, from 1 on.", section=SECTION, off="header"
    )
    strict: bool = setting(
        False, "Stop at a record without text, instead of skipping and counting it.", section=SECTION, off="lenient"
    )
    labels: str | None = setting(
        None, "Column or field with the label of each document, or `folder` for the name of its folder.",
        metavar="NAME",
    )  # fmt: skip

    @property
    def text_encoding(self) -> str:
        """Encoding of files that neither have a byte-order mark nor name their encoding."""
        return UTF8 if self.encoding is None else self.encoding

    def as_read(self, mode: str) -> str:
        """Returns a documents mode with the newlines of its separator normalized if those of the text are.

        Args:
            mode: A documents mode.
        """
        is_kept = self.newlines == "keep" or separator_of(mode) is None
        return mode if is_kept else re.sub("\r\n?", "\n", mode)

    def check(self) -> None:
        """Validates the label name and the delimiter.

        Raises:
            ConfigError: `labels` is empty, or `delimiter` is not a single usable character.
        """
        if self.labels == "":
            raise ConfigError("labels must be the name of a column or a field, or folder. Received: ''.")
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise ConfigError(
                "delimiter must be one character, such as ; or a tab, but not a quote or a newline. "
                f"Received: {short_repr(self.delimiter)}."
            )


def recorded_config(values: Mapping[str, Any], *, is_old: bool) -> CorpusConfig:
    """Returns the settings in a record.

    Args:
        values: The settings that `to_dict` returned.
        is_old: Whether a version of textgen wrote them in which the encoding was UTF-8, and not None, if not given.

    Raises:
        ConfigError: A setting is unknown, or a value is not allowed.
    """
    is_default = is_old and values.get("encoding") == UTF8
    return from_dict(CorpusConfig, {**values, "encoding": None} if is_default else values)


def ignoring_labels(reading: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings for reading another text as a training text was read, except for its labels.

    For what does not use the labels of a text: that it has none, or that they cannot be read, is then no error.

    Args:
        reading: Settings that replace those of the training; its `labels` are kept.
    """
    return {"labels": None, **reading}


def separator_of(mode: str | None) -> str | None:
    r"""Returns the text between documents of a documents mode that names one.

    Args:
        mode: A documents mode.

    Returns:
        The separator. None for one of `DOCUMENT_MODES`.

    Example:
        >>> separator_of("separator:<|endoftext|>"), separator_of("line")
        ('<|endoftext|>', None)
    """
    return mode.removeprefix(SEPARATOR) if mode and mode.startswith(SEPARATOR) else None
