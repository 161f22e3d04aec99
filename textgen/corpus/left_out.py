"""Parts of a corpus without text, counted for messages, and pages that are not in the encoding that they name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from textgen.corpus.labels import named
from textgen.errors import CorpusError
from textgen.wording import counted

NAMED = 3  # maximum number of files that a message names


@dataclass
class LeftOut:
    """Counts records without text.

    Attributes:
        counts: Number of records without text by file name.
        first: Place of the first record without text by file name, such as "line 3".
        notes: Messages about other parts without text, such as scanned pages, and lost characters, by file name.
        misnamed: Names of the pages that were read as UTF-8, though they name another encoding.
    """

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    misnamed: dict[str, None] = field(default_factory=dict)

    def add(self, name: str, place: str) -> None:
        """Counts a record without text.

        Args:
            name: Name of the file.
            place: Place of the record in the file, such as "line 3".
        """
        self.counts[name] = self.counts.get(name, 0) + 1
        self.first.setdefault(name, place)

    def merge(self, section: LeftOut, name: str) -> None:
        """Adds the counts of a section of a file.

        Args:
            section: Counts of the section, whose name begins with that of the file.
            name: Name of the file.
        """
        for part, count in section.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
            self.first.setdefault(name, section.first[part] + part.removeprefix(name))
        self.notes |= section.notes
        self.misnamed |= section.misnamed

    def lines(self) -> Iterator[str]:
        """Iterates over messages about what was skipped, one line per file, and one about misnamed encodings."""
        for name, count in self.counts.items():
            yield f"Skipped {counted(count, 'record')} without text in {name}, the first in {self.first[name]}."
        yield from self.notes.values()
        if self.misnamed:
            pages = counted(len(self.misnamed), "page")
            yield (
                f"Read {pages} as UTF-8 despite another encoding named there, since the bytes are valid UTF-8: "
                f"{named([*self.misnamed], NAMED)}."
            )


def no_text(names: Sequence[str], left_out: LeftOut) -> CorpusError:
    """The error for files of which none contains text, to be raised."""
    listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    why = " ".join([*left_out.notes.values(), "Name files that contain text."])
    what = "it is empty or has" if len(names) == 1 else "they are empty or have"
    return CorpusError(f"No text in {listed}: {what} only white space. {why}")
