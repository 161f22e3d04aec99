"""Records of models that development versions wrote, read as those of this version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

RENAMED = {  # the present names of entries that older versions wrote into training.json, by section and older name
    "state": "status",
    "corpus.documents": "num_documents",
    "corpus.format": "corpus_format",
    "mix.sources.*.documents": "num_documents",
    "base": "start",
    "start.unknown_bytes": "unknown_byte_fraction",
    "training.full_softmax_share": "full_softmax_fraction",
    "training.interpolate_base": "interpolate_start",
    "base_share": "start_fraction",
    "base_fraction": "start_fraction",
}
RENAMED_VALUES = {"training.decay_target": {"base": "start"}}  # likewise, the present values of entries


def rename_entries(record: dict[str, Any]) -> None:
    """Gives entries that an older version wrote their present names and values.

    Args:
        record: Content of training.json, or sections of it; changed in place.
    """
    for path, new in RENAMED.items():
        *sections, old = path.split(".")
        _rename(record, sections, old, new)
    for path, present in RENAMED_VALUES.items():
        section, name = path.split(".")
        values = record.get(section)
        if isinstance(values, dict) and isinstance(value := values.get(name), str):
            values[name] = present.get(value, value)
    if "from" in record:  # the name alone; the oldest records have no more about the start
        name = record.pop("from")
        record.setdefault("start", {"name": name, "decided_by": "given", "reason": "given"})


def _rename(values: dict[str, Any], sections: Sequence[str], old: str, new: str) -> None:
    """Renames an entry of a section within `values`, if it is there; "*" stands for every section."""
    if not sections:
        if old in values and new not in values:
            values[new] = values.pop(old)
        return
    for name in list(values) if sections[0] == "*" else sections[:1]:
        if isinstance(values.get(name), dict):
            _rename(values[name], sections[1:], old, new)
