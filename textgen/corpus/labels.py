"""Labels of documents: where they stand, how they are written, and which of them a vocabulary has pieces for.

`CorpusConfig.labels` names a column of tables or a field of JSON lines, or is `folder`: then the name of the folder
that holds a file is the label of its documents. A label is a name, not a text: white space in it counts as one space,
and an empty one is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from textgen.errors import CorpusError
from textgen.wording import counted

FOLDER = "folder"  # instead of a column or field
LONGEST = 200  # characters
LEAST_DOCUMENTS = 5  # that a label should have, or a hundredth of all documents, if that is less
MOST_LABELS = 1000  # with pieces of their own
NAMED = 20  # at most, in a message or on a card


def as_label(text: str, place: str) -> str | None:
    """The label that a column or folder holds. Raises `CorpusError`, naming the `place`, for what cannot be one."""
    label = " ".join(text.split())
    if len(label) > LONGEST:
        raise CorpusError(
            f"{place}: a label of {counted(len(label), 'character')}, at most {LONGEST} are allowed. "
            "Set labels to a column or field with names."
        )
    return label or None


def json_label(record: Any, field: str, place: str) -> str | None:
    """The label of a record of a .jsonl file; one without that field has none."""
    value = record.get(field) if isinstance(record, dict) else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise CorpusError(f"{place}: field {field!r} holds no label. Set labels to one that is a string or a number.")
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise CorpusError(f"{place}: field {field!r} has half a character in it. Write the other half too.") from None
    return as_label(str(value), place)


def worth_learning(counts: Mapping[str, int]) -> list[str]:
    """The labels that get a piece, the commonest first; `counts` says how many documents have each.

    Of a label in very few documents a model learns nothing but these documents, and each piece makes it slower.

    >>> worth_learning({"Poe": 700, "Shelley": 290, "Stoker": 4})
    ['Poe', 'Shelley']
    """
    least = min(LEAST_DOCUMENTS, -(-sum(counts.values()) // 100))
    common = [label for label, count in counts.items() if count >= least]
    return sorted(common, key=lambda label: (-counts[label], label))[:MOST_LABELS]


def unknown_label(label: str, labels: Sequence[str]) -> str:
    """The message about a label that a model does not know, with those that it knows, the likest first."""
    if not labels:
        return f"The model was trained without labels, so it knows none such as {label!r}: leave label out."
    likest = sorted(labels, key=lambda other: -SequenceMatcher(None, label.lower(), other.lower()).ratio())
    return f"There is no label {label!r}. There are: {named(likest)}."


def named(labels: Sequence[str], most: int = NAMED) -> str:
    """The first of them, and how many more there are.

    >>> named(["Poe", "Shelley", "Stoker"], 2)
    'Poe, Shelley and 1 more'
    """
    more = f" and {len(labels) - most:,} more" if len(labels) > most else ""
    return ", ".join(labels[:most]) + more
