"""A corpus encoded ahead of training, in a folder that many machines can fill.

    DIR/
      prepared.json            settings of all shards: corpus, documents, vocabulary, held-out fraction
      tokenizer.model          the vocabulary (none for bytes)
      MANIFEST.json            size and SHA-256 of the two
      shard-00003-of-00016/    token ids of a section of the corpus (`textgen.dataset.token_files`), with its own
                               MANIFEST.json
      repeated.json            held-out documents that occur in the training text of any shard, once all are there

The first three files appear at once. If several programs start the folder at the same time, one of them decides, and
the others use its vocabulary. A shard too is complete or absent, so preparing resumes by making the shards that are
missing or damaged. Each shard holds out some of its own documents (`textgen.dataset.split.hold_out`).
`textgen.dataset.corpus_preparation` writes the folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from textgen.corpus.config import CorpusConfig, recorded_config
from textgen.corpus.corpus import Corpus
from textgen.corpus.formats.decompression import COMPRESSIONS, reading
from textgen.corpus.formats.records import FORMATS
from textgen.corpus.formats.rich_text import RICH
from textgen.corpus.walk import PREPARED, SHARD
from textgen.dataset.config import SplitConfig
from textgen.dataset.repeated_documents import Repeated
from textgen.dataset.token_cache import TokenData
from textgen.dataset.token_files import (
    IDS,
    MAX_JSON,
    REPEATED,
    SPLITS,
    SplitSummary,
    as_repeated,
    problem_of,
    read_description,
    read_object,
)
from textgen.dataset.token_stream import TokenStream
from textgen.dataset.token_writer import repeated_in
from textgen.errors import ConfigError, CorpusError, SavedModelError, TextgenError, Unreadable, UnreadableCorpus
from textgen.schema import check, json_object, of_fields
from textgen.settings import from_dict, refuse_unknown, to_dict
from textgen.storage.addresses import is_remote, is_web_address, join_address
from textgen.storage.cache_layout import SUMMARY
from textgen.storage.files import CannotWrite, json_bytes, write_own_file
from textgen.storage.manifests import MANIFEST, read_manifest
from textgen.storage.remote_files import find_files
from textgen.storage.remote_folders import fetch_folder, fetch_subfolder, has_remote_file
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.model_file import MODEL_BYTES, MODEL_FILE, read_tokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.wording import Say, counted, shell_word, short_repr

FORMAT = 4  # with 3, other text was held out; older folders are read, not completed
OLD_FORMAT = 2  # in which an encoding of utf-8 may have been the default
TEXT = "text"  # name of the `Corpus.section_glance` in the tokens.json of a shard
NUMBER = "shard"  # name of the number of a shard in its tokens.json, which older versions did not note
OWN = ["shards", "valid_fraction", "seed"]  # settings besides those of the corpus and the tokenizer
FILES = (".txt", ".md", *FORMATS, *RICH, *COMPRESSIONS)  # suffixes of files; others may be parts of a folder's name
PROGRAMS = (".asp", ".aspx", ".cgi", ".jsp", ".php", ".shtml")  # suffixes of pages that a web server makes
COMPARED = f"{REPEATED}.json"  # file with the `Repeated` of several shards, and the fingerprint of the corpus
LIMITS = {PREPARED: MAX_JSON, MODEL_FILE: MODEL_BYTES}  # sizes of the files beside the shards, at most
MAX_SHARDS = 99_999  # their names have five digits


@dataclass(frozen=True)
class PreparedSettings:
    """The contents of prepared.json: settings of all shards.

    Attributes:
        paths: Paths of the corpus as they were given, for messages.
        glance: Identifies the corpus; see `Corpus.glance`.
        corpus: Values of `CorpusConfig`, with the document mode.
        tokenizer: Values of `TokenizerConfig`, with the size of the vocabulary.
        fingerprint: Fingerprint of the tokenizer.
        shards: Number of shards.
        valid_fraction: Fraction of each shard that is held out.
        seed: Seed of the choice of what is held out.
        format: Version of the format.
        characters: Approximate size of the text in characters, by which the documents that are cut are chosen. None for
            a single shard, for which the lengths of all documents are known, and in older folders, for which the size
            of the files is taken.
    """

    paths: list[str]
    glance: str
    corpus: dict[str, Any]
    tokenizer: dict[str, Any]
    fingerprint: str
    shards: int
    valid_fraction: float
    seed: int
    format: int = FORMAT
    characters: int | None = None

    @property
    def can_be_completed(self) -> bool:
        """Whether this version holds out the same text as the one that began the folder."""
        return self.format == FORMAT

    def as_object(self) -> dict[str, Any]:
        """What prepared.json holds, and what identifies the folder: without `characters` if that is None."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def digest(self) -> str:
        """A fingerprint of these settings, without the paths: the same for all shards of a corpus."""
        return sha256(json.dumps(replace(self, paths=[]).as_object(), sort_keys=True).encode()).hexdigest()

    def flat(self) -> dict[str, Any]:
        """The settings that a user can give, by name.

        The encoding of an old folder is utf-8 also where none was given, so that both are accepted.
        """
        corpus = to_dict(from_dict(CorpusConfig, self.corpus))
        return {**corpus, **self.tokenizer, **{name: getattr(self, name) for name in OWN}}


class PreparedCorpus:
    """A prepared folder, used for training in place of a `Corpus`.

    Attributes:
        folder: The folder.
        files: The folder, as the only file of the corpus.
        places: Its absolute path, or the address that it was copied from.
        skipped: Always empty.
        settings: Settings of all shards.
        config: How the corpus was read.
        documents_mode: Document mode of the corpus.
        guess_reason: Always None: the mode is fixed.
        tokenizer: Vocabulary of the shards.
    """

    guess_reason: str | None = None

    def __init__(self, folder: Path, place: str | None = None) -> None:
        """Opens a prepared folder, which may be a copy. Raises `CorpusError` if it is not one, or is damaged."""
        self.folder = folder
        self.files = [folder]
        self.places = [place or str(folder.absolute())]
        self.skipped: list[Path | str] = []
        if problem := problem_of(folder):
            raise CorpusError(
                f"{folder} is not a prepared corpus, or is damaged: {problem}. Remove it, and prepare again."
            )
        self.settings = _read_settings(folder)
        self.config = recorded_config(self.settings.corpus, is_old=self.settings.format == OLD_FORMAT)
        self.documents_mode = str(self.config.documents)
        self.tokenizer = read_tokenizer(folder / MODEL_FILE) if (folder / MODEL_FILE).exists() else ByteTokenizer()
        if self.tokenizer.fingerprint() != self.settings.fingerprint:
            raise CorpusError(
                f"{folder} does not hold the vocabulary that it was prepared with: prepare the corpus again."
            )

    def shard_name(self, number: int) -> str:
        """Name of the folder of a shard, numbered from 1."""
        return f"{SHARD}{number:05d}-of-{self.settings.shards:05d}"

    def missing(self) -> list[int]:
        """Numbers of the shards that have not been made."""
        numbers = range(1, self.settings.shards + 1)
        return [number for number in numbers if not (self.folder / self.shard_name(number) / MANIFEST).exists()]

    def text_of(self, number: int) -> str:
        """The `Corpus.section_glance` of the text that a shard was made of; "" if it is not there or does not say so.

        The shard is not checked: one that is damaged may say nothing.
        """
        try:
            values = read_object(self.folder / self.shard_name(number) / SUMMARY)
        except CorpusError:
            return ""
        return str(values.get(TEXT, "")) if values.get("prepared") == self.settings.digest() else ""

    def copies_of(self, number: int) -> list[int]:
        """Numbers of the other shards whose manifests name the same token ids as that of a shard."""
        known = dict[int, list[str]]()
        for other in range(1, self.settings.shards + 1):
            with suppress(CorpusError):  # of one that is missing or damaged
                known[other] = self._checksums(other)
        return [other for other, sums in known.items() if other != number and sums == known.get(number)]

    def problem(self, number: int) -> str:
        """What is wrong with a shard, in a few words; "" if it is intact. Reads all of its bytes.

        Raises:
            UnreadableCorpus: A file cannot be read, and may be intact.
        """
        folder = self.folder / self.shard_name(number)
        if problem := problem_of(folder):
            return problem
        try:
            values = read_object(folder / SUMMARY)
            if values.get("prepared") != self.settings.digest():
                return "it was made with other settings or another vocabulary"
            if (own := values.get(NUMBER, number)) != number:
                return f"it is shard {short_repr(own)} under another name"
            if len(self.tokens_of([self.shard_name(number)]).train.counts) != self.tokenizer.vocab_size:
                return "it was made with another vocabulary"
        except UnreadableCorpus:
            raise
        except CorpusError as error:
            return str(error).rstrip(".")
        return ""

    def require(self, settings: Mapping[str, Any], tokenizer: Tokenizer | None = None) -> None:
        """Checks flat settings and a vocabulary against those of the folder.

        Raises:
            ConfigError: One of them differs.
        """
        for name, value in self.settings.flat().items():
            if settings.get(name) not in (None, value):
                how = f"without {name}, not with" if value is None else f"with {name} {value!r}, not"
                raise ConfigError(
                    f"{self.folder} was prepared {how} {settings[name]!r}: leave {name} out, or prepare another folder."
                )
        if tokenizer and not tokenizer.is_part_of(self.tokenizer):
            own, other = (f"{counted(each.vocab_size, 'token')}, {each.kind}" for each in (self.tokenizer, tokenizer))
            raise ConfigError(
                f"{self.folder} was prepared with another vocabulary ({own}) than this one ({other}): prepare another "
                "folder with it."
            )

    @cached_property
    def _intact(self) -> list[Path]:
        """The folders of all shards; their bytes are checked once."""
        numbers = range(1, self.settings.shards + 1)
        problems = {number: problem for number in numbers if (problem := self.problem(number))}
        if problems:
            raise CorpusError(self._incomplete(problems))
        return [self.folder / self.shard_name(number) for number in numbers]

    @cached_property
    def _streams(self) -> TokenData:
        data = self.tokens_of([folder.name for folder in self._intact])
        data.require_text()
        return data

    def data(self) -> TokenData:
        """The token ids of all shards.

        Raises:
            CorpusError: Shards are missing or damaged. The message names them, and the command that makes them.
        """
        return self._streams

    @cached_property
    def repeated(self) -> Repeated:
        """The held-out documents of all shards that also occur in the training text of any shard.

        All token ids are read, unless the folder tells. Raises `CorpusError` if shards are missing or damaged.
        """
        if known := self._known_repeated():
            return known
        folders, compared = self._intact, self.fingerprint()  # before they are compared: one may be replaced meanwhile
        with reading(str(self.folder)):
            found = repeated_in(folders, self.tokenizer)
        with suppress(CannotWrite):  # it is found again each time
            write_own_file(self.folder / COMPARED, json_bytes({"prepared": compared, **asdict(found)}))
        return found

    def _known_repeated(self) -> Repeated | None:
        """What a single shard says, or what was found when all were there; None if it is not known."""
        if self.settings.shards == 1:
            return read_description(self.folder / self.shard_name(1)).repeated
        path = self.folder / COMPARED
        try:
            values = read_object(path)
            return as_repeated(values, path) if values.pop("prepared", "") == self.fingerprint() else None
        except CorpusError:
            return None

    def say_repeated(self, say: Say) -> None:
        """Warns if many held-out documents also occur in the training text, and announces the search for them.

        Args:
            say: Called with a line of text for each.

        Raises:
            CorpusError: Shards are missing or damaged.
        """
        found = self._known_repeated()
        if found is None:
            say("Comparing the held-out documents with the training text ...")
            found = self.repeated
        if found.message:
            say(found.message)

    def stats(self) -> SplitSummary:
        """Counts of both splits together."""
        return SplitSummary.total([self.data().train.summary, self.data().valid.summary])

    def fingerprint(self) -> str:
        """The same for the same corpus, prepared with the same settings, unless a shard was made again of other text.

        The manifests of the shards are taken at their word. Raises `CorpusError` if one is missing or damaged.
        """
        tokens = [self._checksums(number) for number in range(1, self.settings.shards + 1)]
        return sha256(json.dumps([self.settings.digest(), tokens]).encode()).hexdigest()

    def is_named(self, fingerprint: str) -> bool:
        """Whether a fingerprint is that of this corpus, or the one that older versions gave it: of its settings."""
        return fingerprint in (self.settings.digest(), self.fingerprint())

    def _checksums(self, number: int) -> list[str]:
        """The checksums of the token ids of a shard."""
        folder = self.folder / self.shard_name(number)
        try:
            entries = read_manifest(folder)["files"]
            return [entries[f"{split}{IDS}.bin"]["sha256"] for split in SPLITS]
        except Unreadable as error:
            raise UnreadableCorpus(str(error)) from None
        except (SavedModelError, KeyError):
            problem = self.problem(number) or f"its {MANIFEST} lacks the token ids"
            raise CorpusError(self._incomplete({number: problem})) from None

    def tokens_of(self, names: Sequence[str]) -> TokenData:
        """The token ids of some shards, by the names of their folders."""
        return TokenData(TokenStream(self.folder, "train", names), TokenStream(self.folder, "valid", names))

    def _incomplete(self, problems: Mapping[int, str]) -> str:
        numbers: dict[str, list[int]] = {}
        for number, problem in problems.items():
            numbers.setdefault(problem, []).append(number)
        told = [f"shard {_ranges(these)}: {problem}" for problem, these in numbers.items()]
        words = ["textgen", "corpus", "prepare", *self.settings.paths, "--out", str(self.folder)]
        command = " ".join(map(shell_word, words))
        advice = (
            f"Make them all with `{command}`, or one by one, as with "
            f"`{command} --shard {next(iter(problems))}/{self.settings.shards}`."
        )
        return (
            f"{self.folder} is not ready, {len(problems)} of {self.settings.shards} shards are missing or damaged: "
            f"{'; '.join(told)}. {advice if self.settings.can_be_completed else of_another_version(self.folder)}"
        )


def of_another_version(folder: Path) -> str:
    """A sentence about a folder of which this version makes no shards."""
    return f"{folder} was prepared by another version of textgen, which holds out other text: prepare another folder."


def _read_settings(folder: Path) -> PreparedSettings:
    """Reads prepared.json. Raises `CorpusError` if it is damaged."""
    path = folder / PREPARED
    values = read_object(path)
    if values.get("format") not in range(OLD_FORMAT, FORMAT + 1):
        raise CorpusError(f"{folder} was prepared by another version of textgen: prepare the corpus again.")
    try:
        check(values, of_fields(PreparedSettings, paths=[str], corpus=dict, tokenizer=dict))
        refuse_unknown(values, [field.name for field in fields(PreparedSettings)])
        corpus, tokenizer = from_dict(CorpusConfig, values["corpus"]), from_dict(TokenizerConfig, values["tokenizer"])
        if corpus.documents is None or tokenizer.vocab_size is None:
            raise ConfigError("documents and vocab_size must be set.")
        require_shards(values["shards"])
        from_dict(SplitConfig, {name: values[name] for name in ("valid_fraction", "seed")})
        rest = {name: value for name, value in values.items() if name != "paths"}  # these need not be text
        json.dumps(rest, ensure_ascii=False).encode()
    except (TextgenError, ValueError) as error:
        raise CorpusError(f"{path} is damaged: {str(error).rstrip('.')}. Prepare the corpus again.") from None
    return PreparedSettings(**values)


def require_shards(shards: object) -> None:
    """Checks a number of shards. Raises `ConfigError`."""
    if isinstance(shards, bool) or not isinstance(shards, int) or not 1 <= shards <= MAX_SHARDS:
        raise ConfigError(f"shards must be a whole number from 1 to {MAX_SHARDS:,}. Received: {short_repr(shards)}.")


def is_prepared(path: str | Path) -> bool:
    """Whether a path or an address is a folder that `prepare_corpus` has started."""
    if isinstance(path, str) and is_remote(path):
        return (
            not _is_file(path) and has_remote_file(path, PREPARED) and (not is_web_address(path) or _has_settings(path))
        )
    return path != "" and (Path(path) / PREPARED).is_file()


def _is_file(address: str) -> bool:
    """Whether an address is one of files, as it looks: so that nothing is asked of the other side for most of them."""
    suffix = PurePosixPath(address.split("::")[0]).suffix.lower()
    return "*" in address or "?" in address or suffix in FILES or (is_web_address(address) and suffix in PROGRAMS)


def _has_settings(address: str) -> bool:
    """Whether a web server has a prepared.json in a folder: some answer any request with a page."""
    (file,) = find_files(join_address(address, PREPARED))
    try:
        return json_object(file.head(MAX_JSON)).keys() >= {"corpus", "tokenizer", "shards", "format"}
    except ValueError:
        return False


def _fetched(address: str) -> PreparedCorpus:
    """Copies a prepared folder with all of its shards into the cache folder."""
    prepared = PreparedCorpus(fetch_folder(address, LIMITS, needed=(PREPARED,)), address)
    for number in range(1, prepared.settings.shards + 1):
        name = prepared.shard_name(number)
        fetch_subfolder(join_address(address, name), prepared.folder / name)
    return prepared


def open_corpus(paths: Sequence[str | Path], config: CorpusConfig, *, is_alone: bool = True) -> Corpus | PreparedCorpus:
    """Opens a corpus, prepared or not.

    Args:
        paths: Files, folders and globs; or a single prepared folder.
        config: How the text is read, if it is not prepared.
        is_alone: As of `Corpus`.

    Returns:
        The corpus.

    Raises:
        CorpusError: The text cannot be read, or a prepared folder is not named alone.
    """
    if any(is_prepared(path) for path in paths):
        if len(paths) > 1:
            raise CorpusError("A prepared folder cannot be combined with other paths: name it alone.")
        return _fetched(str(paths[0])) if is_remote(paths[0]) else PreparedCorpus(Path(paths[0]))
    return Corpus(paths, config, is_alone=is_alone)


def _ranges(numbers: Sequence[int]) -> str:
    """Formats rising whole numbers as ranges.

    >>> _ranges([1, 3, 4, 5, 9])
    '1, 3-5, 9'
    """
    there = set(numbers)
    starts = [n for n in numbers if n - 1 not in there]
    ends = [n for n in numbers if n + 1 not in there]
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
