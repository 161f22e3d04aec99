"""A file of events, which TensorBoard reads. Writing it loads no TensorFlow."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from textgen.storage.files import writing
from textgen.storage.locks import require_held


class EventFile:
    """A file of TensorBoard events. TensorBoard reads it after older files of the folder.

    Args:
        folder: Folder of the file; created if necessary, in one that exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with writing(folder):
            require_held(folder)
            folder.mkdir(exist_ok=True)
            path = folder / f"events.out.tfevents.{time.time():.6f}.{os.getpid()}"
            self._records = RecordWriter(path.open("xb"))
        self.write(0, file_version="brain.Event:2")

    def write(self, step: int, **content: Any) -> None:
        """Writes an event.

        Args:
            step: Step of the event.
            **content: One field of TensorBoard's `Event`.
        """
        with writing(self._folder):
            self._records.write(Event(wall_time=time.time(), step=step, **content).SerializeToString())

    def flush(self) -> None:
        """Writes buffered events to disk."""
        with writing(self._folder):
            self._records.flush()

    def close(self) -> None:
        """Writes buffered events and closes the file."""
        with writing(self._folder):
            self._records.close()
