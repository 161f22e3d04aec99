"""What a resumed run takes over from its folder, and how far the folder is believed.

The settings of a run and the places of its text are in training.json. A run goes on with the same text, vocabulary and
network, or not at all: what is named again must be the same; what has changed is an error, whatever the cache holds.

A folder can come from somebody else, and paths in it could lead anywhere. They are followed only where training.json
was written here (`textgen.saved_model.ownership`); else the user names the corpus again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.prepared_corpus import PreparedCorpus, open_corpus
from textgen.dataset.token_cache import TokenData, prepare
from textgen.errors import ConfigError, SavedModelError, TextgenError, TrainingError
from textgen.model.config import ModelConfig
from textgen.saved_model.layout import NGRAMS, TRAINING, read_training
from textgen.saved_model.ownership import is_signed, sign
from textgen.schema import check
from textgen.settings import from_dict, shown, to_dict
from textgen.storage import MANIFEST, read_file, read_manifest, sha256, verified
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import MODEL_BYTES, MODEL_FILE, Tokenizer, load_tokenizer
from textgen.training.config import FIXED_ON_RESUME, TrainingConfig

PATHS_BYTES = 1 << 23  # of the paths of a corpus that are written down, at most; those of a larger one are asked for

RESUMED = {  # training.json, as far as resuming alone reads it
    "corpus": {
        "config": dict,
        "fingerprint": str,
        "valid": ([str], None),
        "valid_fingerprint?": (str, None),
    },
    "tokens": {"folder": str, "train": int, "valid": int},
    "files?": {str: {"size": int, "sha256": str}},
    "from": (str, None),
}


@dataclass(frozen=True)
class Named:
    """What the user says again of a run that is resumed; what is not said is taken over from it."""

    paths: Sequence[str | Path] = ()  # of the corpus, wherever it is now
    valid: str | Path | None = None  # file of the held-out text
    start: str | None = None  # model that the run was begun with
    tokenizer: Tokenizer | None = None


@dataclass(frozen=True)
class Resumed:
    """A run as its folder has it, checked, with the settings that it goes on with."""

    record: dict[str, Any]  # training.json
    model_config: ModelConfig
    tokenizer_config: TokenizerConfig
    corpus_config: CorpusConfig
    training_config: TrainingConfig
    tokenizer: Tokenizer
    data: TokenData


def read_run(folder: Path, settings: Mapping[str, Any], given: Named, say: Callable[[str], None]) -> Resumed:
    """The run in `folder`. `settings` are flat; those that are settled may only say what the run has already.

    Raises `TextgenError` where the folder is damaged, or something is not the same as when the run began.
    """
    record = read_training(folder)
    try:
        check(record, RESUMED)
        corpus_config = from_dict(CorpusConfig, record["corpus"]["config"])
    except (ValueError, TextgenError) as error:
        problem = str(error).removesuffix(".")
        raise SavedModelError(f"{folder / TRAINING} is damaged: {problem}. Copy the whole folder again.") from None
    _refuse_other(settings, record, given)
    training = to_dict(from_dict(TrainingConfig, record["training"]))
    changed = {name: value for name, value in settings.items() if name in training}
    if any(name in changed for name in ("epochs", "steps", "minutes")):
        training |= dict.fromkeys(("epochs", "steps", "minutes"))
    training_config = from_dict(TrainingConfig, {**training, **changed})
    model_config = from_dict(ModelConfig, record["model"])
    tokenizer_config = from_dict(TokenizerConfig, record["tokenizer"])
    tokenizer = _read_tokenizer(folder, record, tokenizer_config)
    if given.tokenizer and not given.tokenizer.is_part_of(tokenizer):
        raise ConfigError("The vocabulary was settled when the run began, and this is another: it stays when resuming.")
    record, data = _same_data(folder, record, corpus_config, tokenizer, training_config, given, say)
    return Resumed(record, model_config, tokenizer_config, corpus_config, training_config, tokenizer, data)


def with_origin(record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The record of a new run with what tells later whether its paths and files are those that were written here."""
    corpus = record["corpus"]
    if sum(map(len, corpus["paths"])) > PATHS_BYTES:
        record = record | {"corpus": corpus | {"paths": []}}
    written = [name for name in (MODEL_FILE, NGRAMS) if (folder / name).is_file()]
    files = {name: {"size": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in written}
    return record | {"files": files, "signature": sign(_origin(record))}


def _moved(record: dict[str, Any], corpus: Corpus | PreparedCorpus, valid: Corpus | None) -> dict[str, Any]:
    """The record with the text where the user has just said that it is."""
    places = {"paths": [str(path.absolute()) for path in corpus.files]}
    if valid:
        places["valid"] = [str(path.absolute()) for path in valid.files]
    return record | {"corpus": record["corpus"] | places}


def _origin(record: Mapping[str, Any]) -> list[Any]:
    """What of a record is signed: everything that is opened outside its folder."""
    return [record["corpus"]["paths"], record["corpus"]["valid"], record["tokens"]["folder"]]


def _refuse_other(settings: Mapping[str, Any], record: Mapping[str, Any], given: Named) -> None:
    """Raises `ConfigError` for a setting that is settled and another, or that there is not."""
    known: dict[str, list[Any]] = {"vocab_size": [record["model"]["vocab_size"]]}
    sections = {ModelConfig: record["model"], TokenizerConfig: record["tokenizer"]}
    sections[CorpusConfig] = record["corpus"]["config"]
    for kind, values in sections.items():
        for name, value in to_dict(from_dict(kind, values)).items():
            known.setdefault(name, []).insert(0, value)
    training = to_dict(from_dict(TrainingConfig, record["training"]))
    known |= {name: [training[name]] for name in FIXED_ON_RESUME}
    free = [field.name for field in fields(TrainingConfig) if field.name not in FIXED_ON_RESUME]
    for name, value in settings.items():
        if name in free:
            continue
        if name not in known:
            raise ConfigError(f"There is no setting {shown(name)}. There are: {', '.join([*known, *free])}.")
        if value not in known[name]:
            raise _settled(name, next((value for value in known[name] if value is not None), None))
    has_file = record["corpus"]["valid"] is not None
    if has_file and "valid_fraction" in settings:
        raise _settled("the held-out text", "a file")
    if given.valid is not None and not has_file:
        raise _settled("the held-out text", f"a share of the corpus ({training['valid_fraction']})")
    if given.start is not None and Path(given.start).name != record["from"]:
        raise _settled("the model to start from", record["from"] or "none")


def _settled(what: str, value: object) -> ConfigError:
    return ConfigError(f"{what} was settled when the run began, as {value}: it stays when resuming.")


def _read_tokenizer(folder: Path, record: Mapping[str, Any], config: TokenizerConfig) -> Tokenizer:
    """The vocabulary of the run, which is what it was: damage would come into the next manifest as if it were right."""
    entries = read_manifest(folder)["files"] if os.path.lexists(folder / MANIFEST) else record.get("files", {})
    if not os.path.lexists(folder / MANIFEST) and NGRAMS in entries:
        verified(folder, NGRAMS, entries[NGRAMS])
    if MODEL_FILE in entries:
        path = verified(folder, MODEL_FILE, entries[MODEL_FILE])
        try:
            return load_tokenizer(read_file(path, MODEL_BYTES))
        except OSError as error:
            raise SavedModelError(f"Cannot read {path}: {error.strerror}. Copy the whole folder again.") from None
    if config.tokenizer == "byte" and not os.path.lexists(folder / MODEL_FILE):
        return load_tokenizer(b"")
    raise SavedModelError(f"{folder} has no {MODEL_FILE} that belongs to it. Copy the whole folder again.")


def _same_data(
    folder: Path,
    record: dict[str, Any],
    config: CorpusConfig,
    tokenizer: Tokenizer,
    training: TrainingConfig,
    given: Named,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], TokenData]:
    """The tokens that the run was started with: of the same corpus, or, where that is gone, from the cache.

    With the record that says where the corpus is now.
    """
    paths, files = _paths(folder, record, given)
    if not given.paths and (gone := next((path for path in paths + files if not os.path.lexists(path)), None)):
        if cached := TokenData.cached(Path(record["tokens"]["folder"])):
            say(f"{gone} is not there any more: going on with the text as it was, which the cache holds.")
            return record, cached
        raise TrainingError(
            f"{gone} is not there any more, and the cache does not hold its text. Name the corpus where it is now."
        )
    corpus, valid = open_corpus(paths, config), Corpus(files, config) if files else None
    _refuse_changed(record["corpus"], corpus, valid)
    if isinstance(corpus, PreparedCorpus):
        data = corpus.data()
    else:
        data = prepare(corpus, tokenizer, valid or training.valid_fraction, seed=training.seed)
        _refuse_other_tokens(record["tokens"], data)
    record = _moved(record, corpus, valid) | {"tokens": record["tokens"] | {"folder": str(data.train.folder)}}
    return record | {"signature": sign(_origin(record))}, data


def _refuse_other_tokens(recorded: Mapping[str, Any], data: TokenData) -> None:
    """Raises `TrainingError` where the same text makes other tokens than when the run began."""
    if (len(data.train), len(data.valid)) != (recorded["train"], recorded["valid"]):
        raise TrainingError(
            "This version of textgen encodes or splits the corpus in another way than the one that started the run: "
            "train again instead of resuming."
        )


def _refuse_changed(recorded: Mapping[str, Any], corpus: Corpus | PreparedCorpus, valid: Corpus | None) -> None:
    """Raises `TrainingError` where a text is another than when the run began."""
    fingerprints = {"corpus": (corpus.fingerprint(), recorded["fingerprint"])}
    if valid:
        fingerprints["held-out text"] = valid.fingerprint(), recorded.get("valid_fingerprint")
    for what, (now, then) in fingerprints.items():
        if then is not None and now != then:
            raise TrainingError(
                f"The {what} has changed since the run was started, so the run cannot be resumed. Name a copy of it as "
                "it was, or train on the new text under another name; that can start from this model."
            )


def _paths(folder: Path, record: Mapping[str, Any], given: Named) -> tuple[list[str], list[str]]:
    """Where the corpus and the held-out text are: as the user says, or as a record that was written here says."""
    recorded = record["corpus"]
    has_file, why = recorded["valid"] is not None, ""
    if not is_signed(_origin(record), record.get("signature")):
        why = f"The paths in {folder / TRAINING} were not written here by you, so they are not followed"
    elif not recorded["paths"]:
        why = f"The corpus has too many paths for {folder / TRAINING} to hold them"
    if why and not (given.paths and (given.valid is not None or not has_file)):
        what = "the corpus and the file of the held-out text" if has_file else "the corpus"
        raise TrainingError(f"{why}. To resume the run, name {what} again.")
    valid = [str(given.valid)] if given.valid is not None else recorded["valid"] or []
    return list(map(str, given.paths)) or recorded["paths"], valid
