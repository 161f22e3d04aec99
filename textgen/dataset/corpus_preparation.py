"""Encodes a corpus ahead of training: begins a prepared folder, and makes its shards here or on a cluster.

Of several programs that begin a folder at the same time, one decides on the settings, and the others follow it. A shard
is complete or absent, so preparing goes on with the shards that are missing or damaged.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus, Part
from textgen.corpus.walk import PREPARED
from textgen.dataset.config import SplitConfig
from textgen.dataset.dask_cluster import make_shards, require_cluster, require_shared
from textgen.dataset.prepared_corpus import (
    NUMBER,
    OWN,
    TEXT,
    PreparedCorpus,
    PreparedSettings,
    is_prepared,
    of_another_version,
    require_shards,
)
from textgen.dataset.split import fraction_to_hold_out, hold_out
from textgen.dataset.token_cache import TokenData
from textgen.dataset.token_files import MISSING, read_description
from textgen.dataset.token_writer import encode_parts
from textgen.errors import ConfigError, CorpusError, TextgenError
from textgen.settings import from_dict, refuse_unknown, select, to_dict
from textgen.storage.addresses import refuse_remote, without_secrets
from textgen.storage.files import json_bytes, writing
from textgen.storage.folders import check_new_folder, new_folder
from textgen.storage.leftovers import sweep
from textgen.storage.names import names_besides_desktop
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.model_file import MODEL_FILE
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import add_labels, learn_vocabulary, refuse_vocabulary_settings
from textgen.wording import Say, counted, silent

SHARD_BYTES = 1 << 28  # bytes of text in a shard, unless the number of shards is given
COMPARED_SHARDS = 16  # of those that are there, whose text is compared with the corpus, besides neighbours
PIECE = 0.25  # fraction of all held-out text above which a document of a shard is cut rather than held out whole


def prepare_corpus(
    paths: Sequence[str],
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    shard: tuple[int, int] | None = None,
    dask: str | None = None,
    tokenizer: Tokenizer | None = None,
    say: Say = silent,
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
        ConfigError: A setting is unknown or contradicts the folder, or there is no Dask cluster at the address.
        CorpusError: The text cannot be read, or the folder holds something else.
    """
    prepared = _prepare(paths, folder, settings or {}, shard, dask, tokenizer, say)
    if not prepared.missing():
        try:
            prepared.say_repeated(say)
        except CorpusError as error:
            if not shard:
                raise
            say(str(error))  # about shards that are made by others
    return prepared


def _prepare(
    paths: Sequence[str],
    folder: Path,
    settings: Mapping[str, Any],
    shard: tuple[int, int] | None,
    dask: str | None,
    tokenizer: Tokenizer | None,
    say: Say,
) -> PreparedCorpus:
    """Does what `prepare_corpus` does, without comparing the shards."""
    refuse_remote(str(folder), "a prepared corpus")
    given = _checked_settings(settings, paths, shard, dask)
    is_begun = is_prepared(folder)
    config = PreparedCorpus(folder).config if is_begun else from_dict(CorpusConfig, select(CorpusConfig, given))
    if dask and not is_begun:
        require_cluster(dask)  # before the text is read and a vocabulary learned, which takes long
    corpus = Corpus(paths, config, without=folder)
    corpus.say_findings(say)
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
    numbers = range(1, prepared.settings.shards + 1)
    absent = prepared.missing()
    damaged = set(missing).difference(absent)  # they are replaced, whatever text they were made of
    made = sorted({*numbers}.difference(absent, damaged))
    _require_same_text(prepared, corpus, made[:: -(-len(made) // COMPARED_SHARDS) or 1])
    if dask and missing:
        where, count = str(folder.absolute()), prepared.settings.shards
        make_shards(dask, make_on_worker, [(corpus.places, where, number, count) for number in missing], say)
    for number in () if dask else missing:
        near = {number - 1, number, number + 1}  # which another process may have made meanwhile
        _require_same_text(prepared, corpus, near.intersection(numbers).difference(damaged))
        if number in absent and not prepared.problem(number):
            say(_exists(number, prepared))
            continue
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
    _prepare(paths, Path(folder), {}, (number, count), None, None, lines.append)
    return lines


def _checked_settings(
    settings: Mapping[str, Any], paths: Sequence[str], shard: tuple[int, int] | None, dask: str | None
) -> dict[str, Any]:
    """The settings that are given, checked, with the number of shards that `shard` names."""
    given = {name: value for name, value in settings.items() if value is not None}
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
        require_shards(given["shards"])
    return given


def _unmade(prepared: PreparedCorpus, numbers: Iterable[int], say: Say) -> list[int]:
    """Numbers of the shards that are missing or damaged.

    Raises:
        CorpusError: There are some, but this version holds out other text than that of the folder.
    """
    shards, found = prepared.settings.shards, list[int]()
    for number in numbers:
        problem = prepared.problem(number)
        if not problem:
            say(_exists(number, prepared))
            continue
        if not prepared.settings.can_be_completed:
            raise CorpusError(of_another_version(prepared.folder))
        if problem != MISSING:
            say(f"Shard {number} of {shards} is prepared again: {problem}.")
        found.append(number)
    return found


def _exists(number: int, prepared: PreparedCorpus) -> str:
    return f"Shard {number} of {prepared.settings.shards} already exists."


def _require_same_text(prepared: PreparedCorpus, corpus: Corpus, numbers: Iterable[int]) -> None:
    """Checks that shards that are there were made of the text as it is now, which `Corpus.glance` does not ensure.

    Raises:
        ConfigError: One was not.
    """
    for number in sorted(numbers):
        text = prepared.text_of(number)
        if text and text != corpus.section_glance(number - 1, prepared.settings.shards):
            name = prepared.shard_name(number)
            if copies := prepared.copies_of(number):  # of an older version, whose shards do not tell their numbers
                raise ConfigError(
                    f"Shard {number} of {prepared.folder} is a copy of shard {copies[0]}: remove {name} there, so that "
                    "it is made again."
                )
            raise ConfigError(
                f"The corpus has changed since shard {number} of {prepared.folder} was made: text that has moved would "
                f"be missing, or there twice. Prepare another folder, or remove {name} there, so that it "
                "is made again."
            )


def _make(prepared: PreparedCorpus, corpus: Corpus, number: int, say: Say) -> None:
    data = _encode_shard(prepared, corpus, number)
    corpus.say_left_out(say)
    documents = data.train.summary.documents + data.valid.summary.documents
    tokens = len(data.train) + len(data.valid)
    say(f"Shard {number} of {prepared.settings.shards}: {counted(documents, 'document')}, {counted(tokens, 'token')}.")
    message = read_description(prepared.folder / prepared.shard_name(number)).repeated.message
    if message and prepared.settings.shards > 1:  # before the others are made, which may take long
        say(f"Shard {number}: {message}")


def _encode_shard(prepared: PreparedCorpus, corpus: Corpus, number: int) -> TokenData:
    """Makes one shard of the corpus, numbered from 1.

    A shard that is already there is replaced, unless it is intact: then another process has just made it, and may have
    it in use.
    """
    settings, name = prepared.settings, prepared.shard_name(number)
    sweep(prepared.folder, f"{name}-")

    def parts() -> Iterator[tuple[str, Part]]:
        def read() -> Iterator[Part]:
            return corpus.section(number - 1, settings.shards)

        labels = frozenset(prepared.tokenizer.labels)
        fraction, seed, is_whole = settings.valid_fraction, f"{settings.seed}/{number}", settings.shards == 1
        characters = settings.characters or corpus.file_size  # of all shards, which are not read for this one
        limit = None if is_whole else PIECE * fraction * characters
        yield from hold_out(read, fraction, seed, labels, limit=limit, may_be_none=number > 1)
        corpus.require_unchanged()

    text = corpus.section_glance(number - 1, settings.shards)
    facts: dict[str, str | int] = {"prepared": settings.digest(), NUMBER: number, TEXT: text}
    folder, is_there = prepared.folder / name, lambda: not prepared.problem(number)
    encode_parts(parts(), prepared.tokenizer, folder, facts=facts, unless=is_there)
    return prepared.tokens_of([name])


def _begin(
    corpus: Corpus,
    paths: Sequence[str],
    folder: Path,
    given: Mapping[str, Any],
    tokenizer: Tokenizer | None,
    say: Say,
) -> None:
    """Writes the settings of all shards, unless another program has done so meanwhile."""
    if folder.exists() and (not folder.is_dir() or names_besides_desktop(folder)):
        if is_prepared(folder):  # by now
            say(_begun_elsewhere(folder))
            return
        if any(file.resolve().is_relative_to(folder.resolve()) for file in corpus.files):
            raise CorpusError(f"{folder} holds the text itself: name another folder to write.")
        raise CorpusError(f"{folder} exists and is not a prepared corpus: choose another name, or remove it.")
    place = Path(os.path.realpath(folder)) if folder.is_symlink() else folder  # a link itself cannot be replaced
    check_new_folder(place)
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
    settings = _prepared_settings(corpus, paths, given, config, tokenizer)
    try:
        with new_folder(place, replace=False) as temporary, writing(folder):
            (temporary / PREPARED).write_bytes(json_bytes(settings.as_object()))
            if tokenizer.serialized:
                (temporary / MODEL_FILE).write_bytes(tokenizer.serialized)
    except TextgenError:
        if not is_prepared(folder):
            raise
        say(_begun_elsewhere(folder))


def _prepared_settings(
    corpus: Corpus, paths: Sequence[str], given: Mapping[str, Any], config: TokenizerConfig, tokenizer: Tokenizer
) -> PreparedSettings:
    """The settings of all shards: those given, and the others chosen from the corpus.

    The size of the text is estimated only if need be, since that takes the conversion of all rich text.
    """
    shards, fraction = given.get("shards"), given.get("valid_fraction")
    shards = max(1, math.ceil(corpus.size / SHARD_BYTES)) if shards is None else shards
    settings = PreparedSettings(
        paths=[without_secrets(str(path)) for path in paths],
        glance=corpus.glance(),
        corpus=to_dict(replace(corpus.config, documents=corpus.documents_mode)),
        tokenizer=to_dict(replace(config, tokenizer=tokenizer.kind, vocab_size=tokenizer.first_label)),
        fingerprint=tokenizer.fingerprint(),
        shards=shards,
        valid_fraction=fraction_to_hold_out(corpus.size) if fraction is None else fraction,
        seed=given.get("seed", SplitConfig.seed),
        characters=max(1, corpus.characters) if shards > 1 else None,
    )
    from_dict(SplitConfig, {"valid_fraction": settings.valid_fraction, "seed": settings.seed})  # checks the bounds
    return settings


def _begun_elsewhere(folder: Path) -> str:
    return f"{folder} was started by another process: its vocabulary is used."
