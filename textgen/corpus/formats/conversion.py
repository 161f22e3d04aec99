"""Converts files that are not plain text, each once, into a temporary folder."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

from textgen.corpus.formats.findings import Findings
from textgen.corpus.formats.rich_text import RichFile
from textgen.storage.files import TMPDIR_ADVICE, write_chunks
from textgen.storage.temporary import new_temporary_folder, remove_temporary_folder


class Conversions:
    """The texts of files, as files in UTF-8. They are removed by `close`, and when the object is no longer used."""

    def __init__(self) -> None:
        self._converted: dict[Path, tuple[Path, Findings]] = {}
        self._folder: Path | None = None
        self._lock = threading.Lock()
        self._remove: weakref.finalize | None = None

    def converted(self, file: RichFile) -> tuple[Path, Findings]:
        """Converts a file, unless that has been done.

        Args:
            file: The file.

        Returns:
            Path of the text, and messages about parts of the file without text.

        Raises:
            CorpusError: The file cannot be read.
            CannotWrite: The temporary folder is full, or there is none.
        """
        with self._lock:
            if file.path not in self._converted:
                self._converted[file.path] = self._convert(file)
            return self._converted[file.path]

    def close(self) -> None:
        """Removes the texts."""
        if self._remove:
            self._remove()
        self._converted, self._folder = {}, None

    def _convert(self, file: RichFile) -> tuple[Path, Findings]:
        path, findings = self._new_path(), Findings()
        chunks = (text.encode("utf-8", "replace") for text in file.texts(findings))
        write_chunks(path, chunks, advice=TMPDIR_ADVICE)
        return path, findings

    def _new_path(self) -> Path:
        if self._folder is None:
            self._folder = new_temporary_folder()
            self._remove = weakref.finalize(self, remove_temporary_folder, self._folder)
        return self._folder / f"{len(self._converted)}.txt"
