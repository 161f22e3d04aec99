"""A corpus encoded ahead of training, in a folder that many machines can fill.

    DIR/
      prepared.json            settings of all shards: corpus, documents, vocabulary, held-out fraction
      tokenizer.model          the vocabulary (none for bytes)
      MANIFEST.json            size and SHA-256 of the two
      shard-00003-of-00016/    token ids of a section of the corpus (`textgen.dataset.token_files`), with its own
                               MANIFEST.json

The first three files appear at once. If several programs start the folder at the same time, one of them decides, and
the others use its vocabulary. A shard too is complete or absent, so preparing resumes by making the shards that are
missing or damaged. Each shard holds out some of its own documents (`textgen.dataset.split.hold_out`).
"""

from __future__ import annotations

import json
import math
import shlex
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus, Part
from textgen.corpus.decompression import COMPRESSIONS
from textgen.corpus.records import FORMATS
from textgen.corpus.rich_text import RICH
from textgen.corpus.walk import PREPARED
from textgen.dataset.config import SplitConfig
from textgen.dataset.dask_cluster import make_shards, require_shared
from textgen.dataset.split import hold_out, share_to_hold_out
from textgen.dataset.token_cache import TokenData
from textgen.dataset.token_files import MISSING, SUMMARY, SplitSummary, problem_of, read_object
from textgen.dataset.token_stream import TokenStream
from textgen.dataset.token_writer import encode_parts
from textgen.errors import ConfigError, CorpusError, TextgenError
from textgen.settings import from_dict, refuse_unknown, select, to_dict
from textgen.storage.addresses import is_remote, is_web_address, join_address, refuse_remote, without_secrets
from textgen.storage.files import json_bytes, writing
from textgen.storage.folders import MANIFEST, new_folder, refuse_nameless, sweep
from textgen.storage.remote_folders import fetch_folder, fetch_subfolder, has_file
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import MODEL_FILE, ByteTokenizer, Tokenizer, read_tokenizer
from textgen.tokenizer.vocabulary import add_labels, learn_vocabulary, refuse_vocabulary_settings
from textgen.wording import counted

FORMAT = 2
SHARD_BYTES = 1 << 28  # of text in a shard, unless the number of shards is given
OWN = ["shards", "valid_fraction", "seed"]  # settings besides those of the corpus and the tokenizer
SEED = 0
FILES = (".txt", ".md", *FORMATS, *RICH, *COMPRESSIONS)  # suffixes of files; others may be parts of a folder's name
MAX_SHARDS = 99_999  # their names have five digits

Say = Callable[[str], None]


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

    def digest(self) -> str:
        """A fingerprint of these settings, without the paths: the same for all shards of a corpus."""
        return sha256(json.dumps(asdict(replace(self, paths=[])), sort_keys=True).encode()).hexdigest()

    def flat(self) -> dict[str, Any]:
        """The settings that a user can give, by name."""
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
        self.config = from_dict(CorpusConfig, self.settings.corpus)
        self.documents_mode = str(self.config.documents)
        self.tokenizer = read_tokenizer(folder / MODEL_FILE) if (folder / MODEL_FILE).exists() else ByteTokenizer()
        if self.tokenizer.fingerprint() != self.settings.fingerprint:
            raise CorpusError(
                f"{folder} does not hold the vocabulary that it was prepared with: prepare the corpus again."
            )

    def shard_name(self, number: int) -> str:
        """Name of the folder of a shard, numbered from 1."""
        return f"shard-{number:05d}-of-{self.settings.shards:05d}"

    def missing(self) -> list[int]:
        """Numbers of the shards that have not been made."""
        numbers = range(1, self.settings.shards + 1)
        return [number for number in numbers if not (self.folder / self.shard_name(number) / MANIFEST).exists()]

    def problem(self, number: int) -> str:
        """What is wrong with a shard, in a few words; "" if it is intact. Reads all of its bytes."""
        folder = self.folder / self.shard_name(number)
        if problem := problem_of(folder):
            return problem
        try:
            if read_object(folder / SUMMARY).get("prepared") != self.settings.digest():
                return "it was made with other settings or another vocabulary"
            if len(self._data([self.shard_name(number)]).train.counts) != self.tokenizer.vocab_size:
                return "it was made with another vocabulary"
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
                raise ConfigError(
                    f"{self.folder} was prepared with {name} {value!r}, not {settings[name]!r}: leave {name} out, "
                    "or prepare another folder."
                )
        if tokenizer and not tokenizer.is_part_of(self.tokenizer):
            own, other = (
                f"{counted(each.vocab_size, 'token')}, {each.tokenizer}" for each in (self.tokenizer, tokenizer)
            )
            raise ConfigError(
                f"{self.folder} was prepared with another vocabulary ({own}) than this one ({other}): prepare another "
                "folder with it."
            )

    def encode_shard(self, corpus: Corpus, number: int) -> TokenData:
        """Makes one shard of the corpus, numbered from 1. A shard that is already there is replaced."""
        settings, name = self.settings, self.shard_name(number)
        sweep(self.folder, f"{name}-")

        def parts() -> Iterator[tuple[str, Part]]:
            def read() -> Iterator[Part]:
                return corpus.section(number - 1, settings.shards)

            labels = frozenset(self.tokenizer.labels)
            yield from hold_out(read, settings.valid_fraction, f"{settings.seed}/{number}", labels)
            corpus.require_unchanged()

        encode_parts(parts(), self.tokenizer, self.folder / name, facts={"prepared": settings.digest()})
        return self._data([name])

    @cached_property
    def _streams(self) -> TokenData:
        """All shards; their bytes are checked once."""
        numbers = range(1, self.settings.shards + 1)
        problems = {number: problem for number in numbers if (problem := self.problem(number))}
        if problems:
            raise CorpusError(self._incomplete(problems))
        data = self._data([self.shard_name(number) for number in numbers])
        data.require_text()
        return data

    def data(self) -> TokenData:
        """The token ids of all shards.

        Raises:
            CorpusError: Shards are missing or damaged. The message names them, and the command that makes them.
        """
        return self._streams

    def stats(self) -> SplitSummary:
        """Counts of both splits together."""
        return SplitSummary.total([self.data().train.summary, self.data().valid.summary])

    def fingerprint(self) -> str:
        """The same for the same corpus, prepared with the same settings."""
        return self.settings.digest()

    def _data(self, names: Sequence[str]) -> TokenData:
        return TokenData(TokenStream(self.folder, "train", names), TokenStream(self.folder, "valid", names))

    def _incomplete(self, problems: Mapping[int, str]) -> str:
        numbers: dict[str, list[int]] = {}
        for number, problem in problems.items():
            numbers.setdefault(problem, []).append(number)
        told = [f"shard {_ranges(these)}: {problem}" for problem, these in numbers.items()]
        command = shlex.join(["textgen", "corpus", "prepare", *self.settings.paths, "--out", str(self.folder)])
        return (
            f"{self.folder} is not ready, {len(problems)} of {self.settings.shards} shards are missing or damaged: "
            f"{'; '.join(told)}. Make them all with `{command}`, or one by one, as with "
            f"`{command} --shard {next(iter(problems))}/{self.settings.shards}`."
        )


def _read_settings(folder: Path) -> PreparedSettings:
    """Reads prepared.json. Raises `CorpusError` if it is damaged."""
    path = folder / PREPARED
    values = read_object(path)
    if values.get("format") != FORMAT:
        raise CorpusError(f"{folder} was prepared by another version of textgen: prepare the corpus again.")
    try:
        paths, corpus, tokenizer = (values.get(name) for name in ("paths", "corpus", "tokenizer"))
        if not isinstance(paths, list) or not isinstance(corpus, dict) or not isinstance(tokenizer, dict):
            raise ConfigError("paths must be a list, corpus and tokenizer must be objects.")
        flat = {name: value for name, value in values.items() if name not in ("paths", "corpus", "tokenizer")}
        from_dict(_Flat, {**flat, "paths": paths})
        if (
            from_dict(CorpusConfig, corpus).documents is None
            or from_dict(TokenizerConfig, tokenizer).vocab_size is None
        ):
            raise ConfigError("documents and vocab_size must be set.")
        _require_shards(values["shards"])
        from_dict(SplitConfig, {name: values[name] for name in ("valid_fraction", "seed")})
        rest = {name: value for name, value in values.items() if name != "paths"}  # these need not be text
        json.dumps(rest, ensure_ascii=False).encode()
    except (TextgenError, ValueError) as error:
        raise CorpusError(f"{path} is damaged: {str(error).rstrip('.')}. Prepare the corpus again.") from None
    return PreparedSettings(**values)


@dataclass(frozen=True)
class _Flat:
    """Types of the values in prepared.json that are no objects."""

    paths: tuple[str, ...]
    glance: str
    fingerprint: str
    shards: int
    valid_fraction: float
    seed: int
    format: int


def _require_shards(shards: object) -> None:
    if isinstance(shards, bool) or not isinstance(shards, int) or not 1 <= shards <= MAX_SHARDS:
        raise ConfigError(f"shards must be a whole number from 1 to {MAX_SHARDS:,}. Received: {shards!r}.")


def is_prepared(path: str | Path) -> bool:
    """Whether a path or an address is a folder that `prepare_corpus` has started."""
    if isinstance(path, str) and is_remote(path):
        return not _is_file(path) and has_file(path, PREPARED)
    return path != "" and (Path(path) / PREPARED).is_file()


def _is_file(address: str) -> bool:
    """Whether an address is one of files, as it looks: so that nothing is asked of the other side for most of them."""
    suffix = PurePosixPath(address.split("::")[0]).suffix.lower()
    if is_web_address(address) and suffix:  # a server may have an answer to everything below a page
        return True
    return "*" in address or "?" in address or suffix in FILES


def _fetched(address: str) -> PreparedCorpus:
    """Copies a prepared folder with all of its shards into the cache folder."""
    prepared = PreparedCorpus(fetch_folder(address), address)
    for number in range(1, prepared.settings.shards + 1):
        name = prepared.shard_name(number)
        fetch_subfolder(join_address(address, name), prepared.folder / name)
    return prepared


def open_corpus(paths: Sequence[str | Path], config: CorpusConfig) -> Corpus | PreparedCorpus:
    """Opens a corpus, prepared or not.

    Args:
        paths: Files, folders and globs; or a single prepared folder.
        config: How the text is read, if it is not prepared.

    Raises:
        CorpusError: The text cannot be read, or a prepared folder is not named alone.
    """
    if any(is_prepared(path) for path in paths):
        if len(paths) > 1:
            raise CorpusError("A prepared folder cannot be combined with other paths: name it alone.")
        return _fetched(str(paths[0])) if is_remote(paths[0]) else PreparedCorpus(Path(paths[0]))
    return Corpus(paths, config)


def prepare_corpus(
    paths: Sequence[str],
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    shard: tuple[int, int] | None = None,
    dask: str | None = None,
    tokenizer: Tokenizer | None = None,
    say: Say = lambda line: None,
) -> PreparedCorpus:
    """Encodes a corpus into a folder. Shards that are there already are checked and kept.

    Args:
        paths: Files, folders and globs. The folder itself is passed over where they lead to it.
        folder: Folder to create or to continue.
        settings: Flat settings of `CorpusConfig` and `TokenizerConfig`, and `shards`, `valid_fraction` and `seed`.
            Those not given are the folder's or, in a new folder, chosen from the corpus.
        shard: (number, number of shards) to make only one, numbered from 1.
        dask: Address of the scheduler of a Dask cluster whose workers make the shards.
        tokenizer: Vocabulary; trained on the corpus if None.
        say: Called with a line of text for each stage.

    Returns:
        The prepared corpus.

    Raises:
        ConfigError: A setting is unknown or contradicts the folder.
        CorpusError: The text cannot be read, or the folder holds something else.
    """
    refuse_remote(str(folder), "a prepared corpus")
    given = {name: value for name, value in (settings or {}).items() if value is not None}
    known = [field.name for kind in (CorpusConfig, TokenizerConfig) for field in fields(kind)] + OWN
    refuse_unknown(given, known)
    if shard:
        if not 1 <= shard[0] <= shard[1]:
            raise ConfigError(f"There is no shard {shard[0]} of {shard[1]}: shards are numbered from 1 on.")
        if given.get("shards", shard[1]) != shard[1]:
            raise ConfigError(f"Two numbers of shards are given, {given['shards']} and {shard[1]}: leave shards out.")
        given["shards"] = shard[1]
    if dask:
        if shard:
            raise ConfigError("dask must make all shards: leave shard out, or make one shard without a cluster.")
        require_shared(paths)
    if "shards" in given:
        _require_shards(given["shards"])
    is_begun = is_prepared(folder)
    config = PreparedCorpus(folder).config if is_begun else from_dict(CorpusConfig, select(CorpusConfig, given))
    corpus = Corpus(paths, config, without=folder)
    corpus.say_skipped(say)
    if not is_begun:
        _begin(corpus, paths, folder, given, tokenizer, say)
    prepared = PreparedCorpus(folder)
    prepared.require(given, tokenizer)
    if corpus.glance() != prepared.settings.glance:
        raise ConfigError(
            f"{folder} was started with another corpus ({', '.join(prepared.settings.paths)}), or the corpus has "
            "changed since: prepare another folder."
        )
    missing = _unmade(prepared, [shard[0]] if shard else range(1, prepared.settings.shards + 1), say)
    if dask and missing:
        where, count = str(folder.absolute()), prepared.settings.shards
        make_shards(dask, make_on_worker, [(corpus.places, where, number, count) for number in missing], say)
    for number in () if dask else missing:
        _make(prepared, corpus, number, say)
    return prepared


def make_on_worker(paths: list[str], folder: str, number: int, count: int) -> list[str]:
    """Makes one shard on a machine of a cluster.

    Args:
        paths: Paths of the corpus.
        folder: The prepared folder, which has been started.
        number: Number of the shard, from 1.
        count: Number of all shards.

    Returns:
        What there is to say.

    Raises:
        CorpusError: The folder is not there, or the shard cannot be made.
    """
    if not is_prepared(folder):
        raise CorpusError(
            f"{socket.gethostname()} does not see {folder}. Choose a folder that all machines of the cluster share."
        )
    lines = list[str]()
    prepare_corpus(paths, Path(folder), shard=(number, count), say=lines.append)
    return lines


def _unmade(prepared: PreparedCorpus, numbers: Iterable[int], say: Say) -> list[int]:
    """Numbers of the shards that are missing or damaged."""
    shards, found = prepared.settings.shards, list[int]()
    for number in numbers:
        problem = prepared.problem(number)
        if not problem:
            say(f"Shard {number} of {shards} already exists.")
            continue
        if problem != MISSING:
            say(f"Shard {number} of {shards} is prepared again: {problem}.")
        found.append(number)
    return found


def _make(prepared: PreparedCorpus, corpus: Corpus, number: int, say: Say) -> None:
    data = prepared.encode_shard(corpus, number)
    corpus.say_left_out(say)
    documents = data.train.summary.documents + data.valid.summary.documents
    tokens = len(data.train) + len(data.valid)
    say(f"Shard {number} of {prepared.settings.shards}: {counted(documents, 'document')}, {counted(tokens, 'token')}.")


def _begin(
    corpus: Corpus,
    paths: Sequence[str],
    folder: Path,
    given: Mapping[str, Any],
    tokenizer: Tokenizer | None,
    say: Say,
) -> None:
    """Writes the settings of all shards, unless another program has done so meanwhile."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if is_prepared(folder):  # by now
            say(f"{folder} was started by another process: its vocabulary is used.")
            return
        if any(file.resolve().is_relative_to(folder.resolve()) for file in corpus.files):
            raise CorpusError(f"{folder} holds the text itself: name another folder to write.")
        raise CorpusError(f"{folder} exists and is not a prepared corpus: choose another name, or remove it.")
    refuse_nameless(folder)
    corpus.require_text()
    config = from_dict(TokenizerConfig, select(TokenizerConfig, given))
    if tokenizer is None:
        if config.tokenizer != "byte":
            say(f"Learning a vocabulary ({config.tokenizer}) ...")
        tokenizer = learn_vocabulary(corpus, config)
        say(f"Vocabulary: {counted(tokenizer.vocab_size, 'token')}.")
    else:
        refuse_vocabulary_settings(given)
        tokenizer = add_labels(tokenizer, corpus)
    settings = PreparedSettings(
        paths=[without_secrets(str(path)) for path in paths],
        glance=corpus.glance(),
        corpus=to_dict(replace(corpus.config, documents=corpus.documents_mode)),
        tokenizer=to_dict(replace(config, tokenizer=tokenizer.tokenizer, vocab_size=tokenizer.first_label)),
        fingerprint=tokenizer.fingerprint(),
        shards=given.get("shards", max(1, math.ceil(corpus.size / SHARD_BYTES))),
        valid_fraction=given.get("valid_fraction", share_to_hold_out(corpus.size)),
        seed=given.get("seed", SEED),
    )
    from_dict(SplitConfig, {"valid_fraction": settings.valid_fraction, "seed": settings.seed})  # checks the bounds
    try:
        with new_folder(folder, replace=False) as temporary, writing(folder):
            (temporary / PREPARED).write_bytes(json_bytes(asdict(settings)))
            if tokenizer.serialized:
                (temporary / MODEL_FILE).write_bytes(tokenizer.serialized)
    except TextgenError:
        if not is_prepared(folder):
            raise
        say(f"{folder} was started by another process in the meantime: its vocabulary is used.")


def _ranges(numbers: Sequence[int]) -> str:
    """Formats rising whole numbers as ranges.

    >>> _ranges([1, 3, 4, 5, 9])
    '1, 3-5, 9'
    """
    there = set(numbers)
    starts = [n for n in numbers if n - 1 not in there]
    ends = [n for n in numbers if n + 1 not in there]
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
