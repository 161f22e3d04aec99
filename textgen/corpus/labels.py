"""Reads and validates labels of documents, and selects the labels that get a token in the vocabulary.

`CorpusConfig.labels` is the name of a table column or of a field of JSON lines. If it is "folder", the label of a
document is the name of the folder that contains its file. Runs of whitespace in a label become one space, and an empty
label means no label.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from textgen.arguments import check_is_text
from textgen.errors import ConfigError, CorpusError
from textgen.settings import check_text
from textgen.wording import counted, one_line, short_repr, shortened

FOLDER = "folder"  # value of `CorpusConfig.labels`: use folder names as labels
MAX_LABEL_CHARS = 200  # maximum length of a label, in characters
MAX_PATH_CHARS = 4096  # maximum length of a path on most systems, in characters: paths are listed whole, too
MIN_DOCUMENTS = 5  # minimum number of documents for a label, or 1% of all if that is less
MAX_LABELS = 1000  # maximum number of labels with a token
NAMED = 20  # maximum number of labels listed in a message or on a model card


def as_label(text: str, place: str) -> str | None:
    """Normalizes the text of a column or the name of a folder to a label.

    Args:
        text: Text of the column, or name of the folder.
        place: File and line, for error messages.

    Returns:
        The label. None if the text is blank.

    Raises:
        CorpusError: The label is longer than `MAX_LABEL_CHARS` characters, or has the character U+0000.
    """
    label = " ".join(text.split())
    if len(label) > MAX_LABEL_CHARS:
        raise CorpusError(
            f"{place}: a label of {counted(len(label), 'character')}, at most {MAX_LABEL_CHARS} are allowed. "
            "Set labels to a column or field with names."
        )
    if "\0" in label:
        raise CorpusError(
            f"{place}: the label {label!r} has the character U+0000, which a vocabulary cannot hold. Remove it."
        )
    return label or None


def json_label(value: Any, field: str, place: str) -> str | None:
    """Reads the label of a record of a .jsonl, .json or .parquet file.

    Args:
        value: The value of the field with the label.
        field: Name of the field with the label.
        place: File and line, for error messages.

    Returns:
        The label. None if the value is null or blank.

    Raises:
        CorpusError: The value is not a string or a number, has an unpaired surrogate or U+0000, or is too long.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise CorpusError(
            f"{place}: field {field!r} does not contain a label. Set labels to a field with strings or numbers."
        )
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise CorpusError(
            f"{place}: field {field!r} contains half of a character (a lone surrogate). Write both halves."
        ) from None
    return as_label(str(value), place)


def check_label(name: str, label: object) -> None:
    """Checks a label that a caller of the library gives: that it is one which a corpus can have.

    Args:
        name: Name of the argument, for the message.
        label: The label. Unlike those of a corpus, it is taken with the white space in it.

    Raises:
        ConfigError: It is no text, is blank, has an unpaired surrogate or U+0000, or is too long.
    """
    check_is_text(name, label)
    text = str(label)
    if not text.strip():
        raise ConfigError(f"{name} is {short_repr(text)}, and a blank label means no label: leave it out.")
    if len(text) > MAX_LABEL_CHARS:
        raise ConfigError(f"{name} has {counted(len(text), 'character')}, at most {MAX_LABEL_CHARS} are allowed.")
    if "\0" in text:
        raise ConfigError(f"{name} {text!r} has the character U+0000, which a vocabulary cannot hold. Remove it.")
    check_text(name, text)


def least_documents(counts: Mapping[str, int]) -> int:
    """Returns the minimum number of documents of a label that is learned.

    Args:
        counts: Number of documents by label.
    """
    return min(MIN_DOCUMENTS, -(-sum(counts.values()) // 100))


def worth_learning(counts: Mapping[str, int], known: Collection[str] = ()) -> list[str]:
    """Selects the labels that get a token in the vocabulary.

    Rare labels are excluded: a model would only memorize their few documents, and each token makes it slower.

    Args:
        counts: Number of documents by label.
        known: Labels that have a token already, and so are not excluded.

    Returns:
        At most `MAX_LABELS` labels, most frequent first.

    Example:
        >>> worth_learning({"Poe": 700, "Shelley": 290, "Stoker": 4})
        ['Poe', 'Shelley']
    """
    least = least_documents(counts)
    common = [label for label, count in counts.items() if count >= least or label in known]
    return sorted(common, key=lambda label: (-counts[label], label))[:MAX_LABELS]


def unknown_label(label: str, labels: Sequence[str]) -> str:
    """Formats the error message for an unknown label.

    Args:
        label: The unknown label.
        labels: Labels of the model.

    Returns:
        The message, which lists the labels of the model, most similar first.
    """
    shown = shortened(label, MAX_LABEL_CHARS)
    if not labels:
        return f"The model was trained without labels, so it knows none such as {shown!r}: leave label out."
    matcher = SequenceMatcher(None, b=label[:MAX_LABEL_CHARS].lower())  # keeps what it finds out about b

    def likeness(other: str, measure: Callable[[], float]) -> float:
        matcher.set_seq1(other.lower())
        return -measure()

    order = sorted(labels, key=lambda other: likeness(other, matcher.quick_ratio))  # the exact ratio takes long
    likest = sorted(order[:NAMED], key=lambda other: likeness(other, matcher.ratio))
    return f"There is no label {shown!r}. There are: {named([*likest, *order[NAMED:]])}."


def named(labels: Sequence[str], most: int = NAMED) -> str:
    """Formats a list of labels, abbreviated if it is long.

    Args:
        labels: Labels to list.
        most: Maximum number of labels to list by name.

    Returns:
        The first `most` labels, each in one line, with quotes around those that hold a comma, and the number of
        further ones.

    Example:
        >>> named(["Poe", "Shelley", "Stoker"], 2)
        'Poe, Shelley and 1 more'
        >>> named(["Poe, Edgar", "Stoker"])
        '"Poe, Edgar", Stoker'
    """
    more = f" and {len(labels) - most:,} more" if len(labels) > most else ""
    shown = [one_line(label, MAX_PATH_CHARS) for label in labels[:most]]
    return ", ".join(f'"{label}"' if ", " in label else label for label in shown) + more
