"""What TensorBoard reads in a folder of event files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray


def read(folder: Path) -> EventAccumulator:
    """All that TensorBoard would show of a folder."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return events


def series(events: EventAccumulator, tag: str) -> list[tuple[int, Any]]:
    """The steps of a tag, and what it was at each."""
    return [(event.step, make_ndarray(event.tensor_proto)[()]) for event in events.Tensors(tag)]


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar that does not tell of the machine."""
    events = read(folder)
    tags = events.PluginTagToContent("scalars")
    return {tag: series(events, tag) for tag in sorted(tags) if tag.split("/")[0] not in ("speed", "memory")}
