"""A corpus encoded ahead of training, in a folder that many machines can fill.

    DIR/
      prepared.json            what the shards have in common: corpus, documents, vocabulary, held-out share
      tokenizer.model          the vocabulary (none for bytes)
      MANIFEST.json            size and sha256 of the two
      shard-00003-of-00016/    the ids of a stretch of the corpus, as textgen.dataset.token_stream writes them, with a
                               MANIFEST.json of its own

The folder appears with its first three files at once, so that of several programs that begin it together one
decides, and the others take over its vocabulary. A shard too is there whole or not at all: whoever finds one
missing or damaged can make it again, and that is all there is to resuming. A shard holds out some of its own
documents, by the rules of `textgen.dataset.split.hold_out`.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from textgen import storage
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import PREPARED, Corpus, Part
from textgen.dataset.config import SplitConfig
from textgen.dataset.split import hold_out, share_to_hold_out
from textgen.dataset.token_cache import TokenData
from textgen.dataset.token_files import MISSING, SUMMARY, SplitSummary, problem_of, read_object
from textgen.dataset.token_stream import TokenStream
from textgen.dataset.token_writer import encode_parts
from textgen.errors import ConfigError, CorpusError, TextgenError
from textgen.settings import from_dict, select, to_dict
from textgen.storage import MANIFEST, json_bytes, new_folder, writing
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import MODEL_FILE, ByteTokenizer, Tokenizer, read_tokenizer
from textgen.tokenizer.vocabulary import add_labels, learn_vocabulary
from textgen.wording import counted

FORMAT = 2
SHARD_BYTES = 1 << 28  # of text in a shard when nobody says how many shards
OWN = ["shards", "valid_fraction", "seed"]  # settings besides those of the corpus and the tokenizer
SEED = 0
MAX_SHARDS = 99_999  # as many as their names have room for

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """prepared.json: what all shards agree on."""

    paths: list[str]  # as they were given; only for messages
    glance: str  # which corpus: `Corpus.glance`
    corpus: dict[str, Any]  # CorpusConfig, its documents settled
    tokenizer: dict[str, Any]  # TokenizerConfig, its vocab_size settled
    fingerprint: str  # of the tokenizer
    shards: int
    valid_fraction: float
    seed: int
    format: int = FORMAT

    def digest(self) -> str:
        """The same for shards that belong together, wherever the corpus lies."""
        return sha256(json.dumps(asdict(replace(self, paths=[])), sort_keys=True).encode()).hexdigest()

    def flat(self) -> dict[str, Any]:
        """What the user can set, by its name."""
        corpus = to_dict(from_dict(CorpusConfig, self.corpus))
        return {**corpus, **self.tokenizer, **{name: getattr(self, name) for name in OWN}}


class PreparedCorpus:
    """A prepared folder, which training takes for its corpus. Raises `CorpusError` where it is none or damaged.

    `skipped`, `guess_reason`, `config` and `documents_mode` are those of the corpus that it was made from.
    """

    guess_reason: str | None = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = [folder]
        self.skipped: list[Path] = []
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
        """The folder of a shard, from 1 to `settings.shards`."""
        return f"shard-{number:05d}-of-{self.settings.shards:05d}"

    def missing(self) -> list[int]:
        """The numbers of the shards that nobody has made yet."""
        numbers = range(1, self.settings.shards + 1)
        return [number for number in numbers if not (self.folder / self.shard_name(number) / MANIFEST).exists()]

    def problem(self, number: int) -> str:
        """What is wrong with a shard, in a few words: nothing if every byte is as it was written."""
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
        """Raises `ConfigError` for a setting or a vocabulary other than the folder's."""
        for name, value in self.settings.flat().items():
            if settings.get(name) not in (None, value):
                raise ConfigError(
                    f"{self.folder} was prepared with {name} {value!r}, not {settings[name]!r}: leave {name} out, "
                    "or prepare another folder."
                )
        if tokenizer and not tokenizer.is_part_of(self.tokenizer):
            raise ConfigError(
                f"{self.folder} was prepared with another vocabulary ({self.tokenizer.vocab_size:,} pieces, "
                f"{self.tokenizer.tokenizer}) than this one ({tokenizer.vocab_size:,} pieces, {tokenizer.tokenizer}): "
                "prepare another folder with it."
            )

    def encode_shard(self, corpus: Corpus, number: int) -> TokenData:
        """Makes one shard of the corpus, from 1 on, in place of what may be there."""
        settings, name = self.settings, self.shard_name(number)
        storage.sweep(self.folder, f"{name}-")

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
        """All shards, whose bytes are looked at once."""
        numbers = range(1, self.settings.shards + 1)
        problems = {number: problem for number in numbers if (problem := self.problem(number))}
        if problems:
            raise CorpusError(self._incomplete(problems))
        data = self._data([self.shard_name(number) for number in numbers])
        data.require_text()
        return data

    def data(self) -> TokenData:
        """The ids of all shards. Raises `CorpusError` that names those missing or damaged, and what to do."""
        return self._streams

    def stats(self) -> SplitSummary:
        """Counts over both splits."""
        return SplitSummary.total([self.data().train.summary, self.data().valid.summary])

    def fingerprint(self) -> str:
        """The same for the same corpus, prepared alike."""
        return self.settings.digest()

    def _data(self, names: Sequence[str]) -> TokenData:
        return TokenData(TokenStream(self.folder, "train", names), TokenStream(self.folder, "valid", names))

    def _incomplete(self, problems: Mapping[int, str]) -> str:
        told = [
            f"shard {_ranges([number for number in problems if problems[number] == problem])}: {problem}"
            for problem in dict.fromkeys(problems.values())
        ]
        command = shlex.join(["textgen", "corpus", "prepare", *self.settings.paths, "--out", str(self.folder)])
        return (
            f"{self.folder} is not ready, {len(problems)} of {self.settings.shards} shards are missing or damaged: "
            f"{'; '.join(told)}. Make them all with `{command}`, or one by one, as with "
            f"`{command} --shard {next(iter(problems))}/{self.settings.shards}`."
        )


def _read_settings(folder: Path) -> Settings:
    """prepared.json. Raises `CorpusError` where its values cannot be settings."""
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
            raise ConfigError("documents and vocab_size must be settled.")
        _require_shards(values["shards"])
        from_dict(SplitConfig, {name: values[name] for name in ("valid_fraction", "seed")})
        json.dumps(values, ensure_ascii=False).encode()
    except (TextgenError, ValueError) as error:
        raise CorpusError(f"{path} is damaged: {str(error).rstrip('.')}. Prepare the corpus again.") from None
    return Settings(**values)


@dataclass(frozen=True)
class _Flat:
    """The types of the settings in prepared.json that are no objects."""

    paths: tuple[str, ...]
    glance: str
    fingerprint: str
    shards: int
    valid_fraction: float
    seed: int
    format: int


def _require_shards(shards: int) -> None:
    if not 1 <= shards <= MAX_SHARDS:
        raise ConfigError(f"shards must be from 1 to {MAX_SHARDS:,}. Received: {shards}.")


def is_prepared(path: str | Path) -> bool:
    """Whether a path is a folder begun by `prepare_corpus`."""
    return (Path(path) / PREPARED).is_file()


def open_corpus(paths: Sequence[str | Path], config: CorpusConfig) -> Corpus | PreparedCorpus:
    """The corpus in these paths, or the prepared one if that is what they name."""
    if any(is_prepared(path) for path in paths):
        if len(paths) > 1:
            raise CorpusError("A prepared folder is a corpus by itself: name it alone.")
        return PreparedCorpus(Path(paths[0]))
    return Corpus(paths, config)


def prepare_corpus(
    paths: Sequence[str],
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    shard: tuple[int, int] | None = None,
    tokenizer: Tokenizer | None = None,
    say: Say = lambda line: None,
) -> PreparedCorpus:
    """Encodes the corpus in `paths` into `folder`: all shards that are not there yet, or one of them.

    `settings` are flat: those of `CorpusConfig` and `TokenizerConfig`, shards, valid_fraction and seed; `shard`
    is (number, shards), from 1 on. Those not given are the folder's, if it was begun, else chosen from the corpus.
    What is there already is checked, and kept. Raises `ConfigError` for what contradicts the folder.
    """
    given = {name: value for name, value in (settings or {}).items() if value is not None}
    known = [field.name for kind in (CorpusConfig, TokenizerConfig) for field in fields(kind)] + OWN
    if unknown := [name for name in given if name not in known]:
        raise ConfigError(f"There is no setting {unknown[0]!r}. There are: {', '.join(known)}.")
    shards = given.get("shards", 1)
    if isinstance(shards, bool) or not isinstance(shards, int) or shards < 1:
        raise ConfigError(f"shards must be a whole number, 1 or more. Received: {shards!r}.")
    if shard:
        if not 1 <= shard[0] <= shard[1]:
            raise ConfigError(f"There is no shard {shard[0]} of {shard[1]}: shards are numbered from 1 on.")
        given["shards"] = shard[1]
    if "shards" in given:
        _require_shards(given["shards"])
    is_begun = is_prepared(folder)
    config = PreparedCorpus(folder).config if is_begun else from_dict(CorpusConfig, select(CorpusConfig, given))
    corpus = Corpus(paths, config)
    corpus.say_skipped(say)
    if not is_begun:
        _begin(corpus, paths, folder, given, tokenizer, say)
    prepared = PreparedCorpus(folder)
    prepared.require(given, tokenizer)
    if corpus.glance() != prepared.settings.glance:
        raise ConfigError(
            f"{folder} was begun with another corpus ({', '.join(prepared.settings.paths)}), or it has changed "
            "since: prepare another folder."
        )
    shards = prepared.settings.shards
    for number in [shard[0]] if shard else range(1, shards + 1):
        problem = prepared.problem(number)
        if not problem:
            say(f"Shard {number} of {shards} is there already.")
            continue
        if problem != MISSING:
            say(f"Shard {number} of {shards} is made again: {problem}.")
        data = prepared.encode_shard(corpus, number)
        corpus.say_left_out(say)
        documents = data.train.summary.documents + data.valid.summary.documents
        tokens = len(data.train) + len(data.valid)
        say(f"Shard {number} of {shards}: {counted(documents, 'document')}, {counted(tokens, 'token')}.")
    return prepared


def _begin(
    corpus: Corpus,
    paths: Sequence[str],
    folder: Path,
    given: Mapping[str, Any],
    tokenizer: Tokenizer | None,
    say: Say,
) -> None:
    """Settles what all shards have in common, unless another program has done so meanwhile."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CorpusError(f"{folder} exists and is not a prepared corpus: choose another name, or remove it.")
    config = from_dict(TokenizerConfig, select(TokenizerConfig, given))
    if tokenizer is None:
        if config.tokenizer != "byte":
            say(f"Learning a vocabulary ({config.tokenizer}) ...")
        tokenizer = learn_vocabulary(corpus, config)
        say(f"Vocabulary: {counted(tokenizer.vocab_size, 'piece')}.")
    elif {"tokenizer", "vocab_size", "sample_bytes"} & given.keys():
        raise ConfigError("The tokenizer is taken over: leave out tokenizer, vocab_size and sample_bytes.")
    else:
        tokenizer = add_labels(tokenizer, corpus)
    settings = Settings(
        paths=[str(path) for path in paths],
        glance=corpus.glance(),
        corpus=to_dict(replace(corpus.config, documents=corpus.documents_mode)),
        tokenizer=to_dict(replace(config, tokenizer=tokenizer.tokenizer, vocab_size=tokenizer.first_label)),
        fingerprint=tokenizer.fingerprint(),
        shards=given.get("shards", max(1, math.ceil(corpus.size / SHARD_BYTES))),
        valid_fraction=given.get("valid_fraction", share_to_hold_out(corpus.size)),
        seed=given.get("seed", SEED),
    )
    from_dict(SplitConfig, {"valid_fraction": settings.valid_fraction, "seed": settings.seed})  # are they in range?
    try:
        with new_folder(folder, replace=False) as temporary, writing(folder):
            (temporary / PREPARED).write_bytes(json_bytes(asdict(settings)))
            if tokenizer.serialized:
                (temporary / MODEL_FILE).write_bytes(tokenizer.serialized)
    except TextgenError:
        if not is_prepared(folder):
            raise
        say(f"{folder} was begun by another program meanwhile: its vocabulary is taken over.")


def _ranges(numbers: Sequence[int]) -> str:
    """Whole numbers in rising order, for people.

    >>> _ranges([1, 3, 4, 5, 9])
    '1, 3-5, 9'
    """
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
