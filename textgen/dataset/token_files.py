"""The files of an encoded corpus: their names, their description, and checks of their contents.

    FOLDER/
      tokens.json             dtype, end-of-document id, first label id, a `SplitSummary` of each split, and `Repeated`
      SPLIT.bin               token ids, uint16 or uint32
      SPLIT-documents.bin     position after each end-of-document token, int64
      SPLIT-openings.bin      (position, label id or -1) of each place where reading may begin, int64 [n, 2]
      SPLIT-counts.bin        how often each token is a target, int64 [V]
      MANIFEST.json           size and SHA-256 of each file

SPLIT is `train` or `valid`. `textgen.dataset.token_writer` writes these files, and `textgen.dataset.token_stream`
reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from textgen.corpus.formats.decompression import reading
from textgen.corpus.scripts import has_words
from textgen.dataset.repeated_documents import Repeated
from textgen.errors import CorpusError, TextgenError, Unreadable, UnreadableCorpus
from textgen.schema import json_object
from textgen.storage.cache_layout import SUMMARY
from textgen.storage.file_reading import sha256
from textgen.storage.manifests import MANIFEST, read_manifest

REPEATED = "repeated"  # name of the `Repeated` in tokens.json
SPLITS = ("train", "valid")
IDS, ENDS, OPENINGS, COUNTS = "", "-documents", "-openings", "-counts"  # suffixes of the files of a split
OPENING_TOKENS = 1 << 10  # length in tokens of a stretch without the start of a document that gets an opening
SPACING = 128  # minimum number of tokens between two possible openings
MAX_JSON = 1 << 26  # maximum size of a JSON file in bytes
MISSING = "missing"  # what `problem_of` returns for a folder that does not exist


@dataclass(frozen=True, kw_only=True)
class SplitSummary:
    """Counts of one split.

    Attributes:
        tokens: Token ids, end-of-document tokens and labels included.
        documents: Documents that end in this split.
        ends: End-of-document tokens: one for each document, and one for the part of a document that continues in the
            other split.
        characters: Characters of text.
        bytes: Bytes of text in UTF-8.
        words: Runs of non-space characters, plus `ends`, as word-level benchmarks count; see `has_words`.
        unknown_words: Words that a word vocabulary lacks.
        spelling: Cost of spelling the unknown words, in millionths of a nat; see `textgen.tokenizer.spelling`.
        lost_bytes: Bytes of white space that no token stands for.
        without_words: Characters in scripts without spaces, estimated; 0 in files of versions that did not count them.
    """

    tokens: int
    documents: int
    ends: int
    characters: int
    bytes: int
    words: int
    unknown_words: int = 0
    spelling: int = 0
    lost_bytes: int = 0
    without_words: int = 0

    @property
    def has_words(self) -> bool:
        """Whether there are spaces between the words; see `textgen.corpus.scripts`."""
        return has_words(self.without_words, self.characters)

    @classmethod
    def total(cls, summaries: Iterable[SplitSummary]) -> SplitSummary:
        """Adds up the counts of several splits or shards.

        Example:
            >>> one = SplitSummary(tokens=3, documents=1, ends=1, characters=9, bytes=9, words=2)
            >>> SplitSummary.total([one, one]).tokens
            6
        """
        totals = Counter[str]()
        for summary in summaries:
            totals.update(asdict(summary))
        return cls.of(totals)

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> SplitSummary:
        """Makes one from counts by name; those that are missing are 0."""
        return cls(**{field.name: counts.get(field.name, 0) for field in fields(cls)})


@dataclass(frozen=True)
class Description:
    """The contents of tokens.json.

    Attributes:
        dtype: Type of the token ids, "uint16" or "uint32".
        eos: Id of the end-of-document token.
        first_label: First id that is a label; None if the vocabulary has no labels.
        splits: Counts of each split, by name.
        repeated: Held-out documents that occur in the training text, too; 0 in files of versions that did not count.
    """

    dtype: str
    eos: int
    first_label: int | None
    splits: Mapping[str, SplitSummary]
    repeated: Repeated


def read_description(folder: Path) -> Description:
    """Reads and checks the tokens.json of a folder.

    Raises:
        CorpusError: It is missing, damaged, or its values contradict each other.
    """
    path = folder / SUMMARY
    values = read_object(path)
    names = sorted(field.name for field in fields(SplitSummary))
    splits = dict[str, SplitSummary]()
    for split in SPLITS:
        counts = values.get(split)
        if isinstance(counts, dict):
            counts = {"without_words": 0, **counts}
        if not isinstance(counts, dict) or sorted(counts) != names or not all(map(_is_count, counts.values())):
            raise damaged(path, f"{split} must hold the counts {', '.join(names)}")
        splits[split] = SplitSummary(**counts)
    first_label = values.get("first_label")
    if values.get("dtype") not in ("uint16", "uint32"):
        raise damaged(path, "dtype must be uint16 or uint32")
    if not _is_count(values.get("eos")) or not (first_label is None or _is_count(first_label)):
        raise damaged(path, "eos and first_label must be token ids")
    return Description(values["dtype"], values["eos"], first_label, splits, as_repeated(values.get(REPEATED, {}), path))


def as_repeated(counts: object, path: Path) -> Repeated:
    """Checks the counts of repeated documents in a file.

    Args:
        counts: The decoded JSON; those that it lacks are 0.
        path: Path of the file, for the message.

    Returns:
        The counts.

    Raises:
        CorpusError: They are no counts, or contradict each other.
    """
    known = [field.name for field in fields(Repeated)]
    if not isinstance(counts, dict) or not set(counts) <= set(known) or not all(map(_is_count, counts.values())):
        raise damaged(path, f"{REPEATED} must hold the counts {', '.join(known)}")
    repeated = Repeated(**counts)
    if repeated.found > repeated.held_out or repeated.found_bytes > repeated.held_out_bytes:
        raise damaged(path, f"{REPEATED} counts more documents that are found than are held out")
    return repeated


def read_object(path: Path) -> dict[str, Any]:
    """Reads a small file that holds a JSON object.

    Raises:
        CorpusError: The file cannot be read, is too large, or holds anything else.
    """
    if (size := size_of(path)) > MAX_JSON:
        raise damaged(path, f"it has {size:,} bytes, {MAX_JSON:,} at most are expected")
    try:
        with reading(str(path)):
            return json_object(path.read_bytes())
    except ValueError as error:
        raise damaged(path, str(error)) from None


def size_of(path: Path) -> int:
    """The size of a file in bytes. Raises `CorpusError` if it cannot be read."""
    with reading(str(path)):
        return path.stat().st_size


def damaged(path: Path, why: str) -> CorpusError:
    """The error for a damaged file, to be raised."""
    return CorpusError(f"{path} is damaged: {why}. Prepare the corpus again.")


def problem_of(folder: Path) -> str:
    """Compares every file of a folder with its manifest.

    Returns:
        The first difference in a few words, `MISSING` if there is no manifest, or "" if all files are intact.

    Raises:
        UnreadableCorpus: A file cannot be read, and may be intact.
    """
    try:
        if not _is_there(folder / MANIFEST):
            return MISSING
        for name, entry in read_manifest(folder)["files"].items():
            path = folder / Path(name).name
            if not _is_there(path):
                return f"{name} is missing"
            if (size := size_of(path)) != entry["size"]:
                return f"{name} has {size:,} bytes instead of {entry['size']:,}"
            with reading(str(path)):
                if sha256(path) != entry["sha256"]:
                    return f"{name} was altered"
    except UnreadableCorpus:
        raise
    except Unreadable as error:
        raise UnreadableCorpus(str(error)) from None
    except TextgenError as error:
        return str(error).rstrip(".")
    return ""


def _is_there(path: Path) -> bool:
    """Whether there is a file. Unlike `Path.exists` it raises `UnreadableCorpus` for an error of the disk."""
    with reading(str(path)), suppress(FileNotFoundError, NotADirectoryError):
        return bool(path.stat())
    return False


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 60
