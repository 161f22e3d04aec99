"""Reads a run from its folder to resume it, and decides which paths in the folder to trust.

training.json holds the settings of a run and the paths of its text. A run resumes only with the same text, vocabulary
and network. Whatever is named again must be the same; a changed text is an error, even if the cache folder holds the
old one.

A folder may come from another machine or user, and its paths could lead anywhere. They are followed only if
training.json was signed here (`textgen.saved_model.ownership`); otherwise the user must name the corpus again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from textgen.corpus.config import CorpusConfig, recorded_config
from textgen.corpus.corpus import Corpus
from textgen.dataset.batches import WINDOWS_FORMAT
from textgen.dataset.prepared_corpus import PreparedCorpus, is_prepared, open_corpus
from textgen.dataset.token_cache import TokenData, encode_and_split
from textgen.errors import ConfigError, CorpusError, RemoteError, SavedModelError, TextgenError, TrainingError
from textgen.model.config import ModelConfig
from textgen.saved_model.layout import FILTER_BYTES, NGRAMS, TRAINING, WORDS, read_training
from textgen.saved_model.ownership import is_signed, sign
from textgen.saved_model.run_status import RUNNING
from textgen.schema import check
from textgen.settings import from_dict, refuse_unknown, to_dict
from textgen.storage.addresses import is_remote
from textgen.storage.file_reading import read_file
from textgen.storage.files import json_bytes
from textgen.storage.manifests import COPY_AGAIN, MANIFEST, manifest_entry, read_manifest, verified
from textgen.storage.remote_cache import keep_copy
from textgen.storage.system_errors import cannot_read
from textgen.system.machine import best_precision
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import load_tokenizer
from textgen.tokenizer.model_file import MODEL_BYTES, MODEL_FILE
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.training.config import BUDGETS, FIXED_ON_RESUME, TrainingConfig
from textgen.training.planning.start_choice import NONE
from textgen.training.planning.validations import plan_patience, plan_validations, validations_in
from textgen.training.run_setup import RunSetup
from textgen.training.unused_settings import refuse_unused
from textgen.wording import Say, silent

MEASURABLE = 60.0  # minimum seconds of training that tell its speed
# Version of the section `corpus` of training.json. Sections of version 1 name none; their encoding is utf-8 where none
# was given.
CORPUS_FORMAT = 2
PATHS_BYTES = 1 << 23  # maximum bytes of paths in training.json; if there are more, the user names them when resuming

RESUMED = {  # schema of the parts of training.json that only resuming reads
    "corpus": {
        "format?": int,
        "config": dict,
        "fingerprint": str,
        "valid": ([str], None),
        "valid_fingerprint?": (str, None),
    },
    "tokens": {"folder": str, "train": int, "valid": int},
    "windows_format?": int,
    "files?": {str: {"size": int, "sha256": str}},
    "start": {"name": (str, None)},
    "progress": {"best_step?": int, "compiling_seconds?": float},
    "is_patience_planned?": bool,
    "are_validations_planned?": bool,
    "start_fraction?": float,
}


@dataclass(frozen=True)
class ResumeSources:
    """What a run was started with, named again when it is resumed. The run remembers whatever is not named.

    Attributes:
        paths: Files of the corpus, where they are now.
        valid: File of the held-out text.
        start: Name of the model that the run fine-tunes.
        tokenizer: The vocabulary.
    """

    paths: Sequence[str | Path] = ()
    valid: str | Path | None = None
    start: str | None = None
    tokenizer: Tokenizer | None = None


def read_run(folder: Path, settings: Mapping[str, Any], sources: ResumeSources, say: Say = silent) -> RunSetup:
    """Reads and checks the run in a folder.

    Args:
        folder: Folder of the run.
        settings: Flat settings to change. Those that are fixed may only be repeated.
        sources: Corpus, held-out text, model to start from and vocabulary, named again.
        say: Called with a line if the text comes from the cache folder, with the reason.

    Returns:
        The run, its record with the status "running" and with the changed settings.

    Raises:
        TextgenError: The folder is damaged, or something differs from when the run began.
    """
    record = read_training(folder)
    try:
        check(record, RESUMED)
        corpus_config = _corpus_config(record["corpus"])
        tokenizer_config = from_dict(TokenizerConfig, record["tokenizer"])
        model_config = from_dict(ModelConfig, record["model"])
        from_dict(TrainingConfig, record["training"])
    except (ValueError, TextgenError) as error:
        problem = str(error).removesuffix(".")
        raise SavedModelError(f"{folder / TRAINING} is damaged: {problem}. {COPY_AGAIN}") from None
    if record.get("windows_format", 1) > WINDOWS_FORMAT:
        raise TrainingError(
            f"A newer version of textgen began the run in {folder} and reads its text in another way: resume it with "
            "that version, or start a new run."
        )
    if not os.path.lexists(folder / MANIFEST):
        record = _without_scores(record)
    _refuse_other(settings, record, sources)
    record |= _still_planned(record, settings)
    training_config = _changed_training(record, settings)
    tokenizer = _read_tokenizer(folder, record, tokenizer_config)
    if sources.tokenizer and not sources.tokenizer.is_part_of(tokenizer):
        raise ConfigError(
            "The vocabulary was fixed when the run began, but this is a different one: it cannot be changed "
            "when resuming."
        )
    record = record | {"training": to_dict(training_config), "status": RUNNING}
    record, data = _read_text(folder, record, tokenizer, sources, say)
    return RunSetup(
        folder=folder,
        record=record,
        model_config=model_config,
        tokenizer_config=tokenizer_config,
        corpus_config=corpus_config,
        training_config=training_config,
        tokenizer=tokenizer,
        data=data,
    )


def _without_scores(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a run without a model: older versions recorded the scores of one that could not be saved."""
    progress = {name: value for name, value in record["progress"].items() if name != "best_step"}
    return {**record, "scores": {}, "progress": progress}


def _still_planned(record: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, bool]:
    """Whether patience and the number of validations were planned and are not given now, for the record."""
    planned = {"is_patience_planned": record.get("is_patience_planned", True) and "patience" not in settings}
    if "num_validations" in settings:
        planned["are_validations_planned"] = False
    return planned  # a record of an older version does not tell of the number of validations


def _changed_training(record: Mapping[str, Any], settings: Mapping[str, Any]) -> TrainingConfig:
    """The training settings of a run with some changed; a new budget replaces all of the old one.

    A budget that is only repeated replaces nothing: the plan may have added another one. None counts as not given: it
    leaves the budget to the plan, which is already made. The precision "auto" was settled when the run began,
    and stays what it was.

    Raises:
        ConfigError: A value is not allowed, or does not fit the checkpoints of the run.
    """
    before = from_dict(TrainingConfig, record["training"])
    training = to_dict(before)
    if training["precision"] == "auto":  # as recorded by a resumption that failed for it
        training["precision"] = best_precision()
    changed = {name: settings[name] for name in training if name in settings}
    changed = {name: value for name, value in changed.items() if value is not None or name not in BUDGETS}
    if changed.get("precision") == "auto":
        del changed["precision"]
    has_planned_patience = training["patience"] == plan_patience(training["num_validations"])
    has_new_budget = any(changed.get(name, training[name]) != training[name] for name in BUDGETS)
    if has_new_budget:
        training |= dict.fromkeys(BUDGETS)
    training |= changed
    if has_new_budget:
        training["num_validations"] = _more_validations(record, from_dict(TrainingConfig, training))
    if record["is_patience_planned"] and has_planned_patience:
        training["patience"] = plan_patience(training["num_validations"])
    after = from_dict(TrainingConfig, training)
    refuse_unused(changed, {**record.get("model", {}), **to_dict(before)})
    if after.num_streams != before.num_streams:  # a checkpoint has a state for each
        raise _fixed("batch_size times gradient_accumulation_steps", before.num_streams)
    if bool(after.momentum) != bool(before.momentum):  # with one, a checkpoint has a velocity for each weight
        raise _fixed("momentum", before.momentum)
    return after


def _more_validations(record: Mapping[str, Any], training: TrainingConfig) -> int:
    """The number of validations for a new budget: more for a longer one, if the plan has chosen their number.

    A record of an older version does not tell, but a number that is the planned one for its minutes was chosen.
    """
    number, is_planned = training.num_validations, record.get("are_validations_planned")
    if is_planned:
        return max(number, plan_validations(training, *_length(record["progress"], training)))
    before, after = record["training"]["minutes"], training.minutes
    if is_planned is None and before is not None and after is not None and number == validations_in(60 * before):
        return max(number, validations_in(60 * after))
    return number


def _length(progress: Mapping[str, Any], training: TrainingConfig) -> tuple[float, float]:
    """Seconds of a run and its passes over the text, judged by its progress so far; 0 for what that does not tell.

    Without a limit of minutes, the seconds are those at the speed so far, compiling left out, if it has been measured.
    """
    step, passes, seconds = (progress[name] for name in ("step", "epochs", "seconds"))
    measured = seconds - progress.get("compiling_seconds", 0.0)  # which older versions did not record
    if not (step and passes and seconds):
        return 60 * (training.minutes or 0.0), training.epochs or 0.0
    limits = (training.steps, step), (training.epochs, passes), (training.minutes, seconds / 60)
    length = min(limit / done for limit, done in limits if limit is not None)  # relative to what is done
    if training.minutes is None:
        seconds = measured if measured >= MEASURABLE else 0.0
    return length * seconds, length * passes


def with_origin(record: dict[str, Any], folder: Path, vocabulary: bytes) -> dict[str, Any]:
    """Adds to the record of a new run the checksums of its files, and a signature of its paths.

    Args:
        record: Contents of training.json.
        folder: Folder of the run, in which the n-gram index and the words have been written.
        vocabulary: What will be written as its vocabulary; empty for bytes, which need none.

    Returns:
        The record with these.
    """
    corpus = record["corpus"]
    record = record | {"corpus": corpus | _places(corpus["paths"], corpus["valid"])}
    written = [name for name in (NGRAMS, WORDS) if (folder / name).is_file()]
    files = {name: manifest_entry(folder / name) for name in written}
    if vocabulary:
        files[MODEL_FILE] = manifest_entry(vocabulary)
    return record | {"files": files, "signature": sign(_origin(record))}


def _places(paths: Sequence[str], valid: Sequence[str] | None) -> dict[str, Any]:
    """The paths of a corpus and of its held-out text as they are recorded: none if they are too many to record."""
    fit = len(json_bytes([paths, valid])) <= PATHS_BYTES
    return {"paths": paths if fit else [], "valid": valid if fit or valid is None else []}


def _origin(record: Mapping[str, Any]) -> list[Any]:
    """The signed part of a record: all paths outside its folder."""
    return [record["corpus"]["paths"], record["corpus"]["valid"], record["tokens"]["folder"]]


def _refuse_other(settings: Mapping[str, Any], record: Mapping[str, Any], sources: ResumeSources) -> None:
    """Raises `ConfigError` for an unknown setting and for a changed value of a fixed one."""
    known: dict[str, list[Any]] = {"vocab_size": [record["model"]["vocab_size"]]}
    sections = {ModelConfig: record["model"], TokenizerConfig: record["tokenizer"]}
    sections[CorpusConfig] = record["corpus"]["config"]
    for kind, values in sections.items():
        for name, value in to_dict(from_dict(kind, values)).items():
            known.setdefault(name, []).insert(0, value)
    training = to_dict(from_dict(TrainingConfig, record["training"]))
    known |= {name: [training[name]] for name in FIXED_ON_RESUME}
    free = [field.name for field in fields(TrainingConfig) if field.name not in FIXED_ON_RESUME]
    refuse_unknown(settings, [*known, *free])
    for name, value in settings.items():
        if name in free:
            continue
        repeated = tuple(value) if isinstance(value, list) else value
        if repeated is not None and repeated not in known[name]:  # None leaves the choice to the plan, which was made
            raise _fixed(name, next((value for value in known[name] if value is not None), None))
    has_file = record["corpus"]["valid"] is not None
    if has_file and "valid_fraction" in settings:
        raise _fixed("the held-out text", "a file")
    if sources.valid is not None and not has_file:
        raise _fixed("the held-out text", f"a fraction of the corpus ({training['valid_fraction']})")
    start = record["start"]["name"] or NONE
    if sources.start is not None and Path(sources.start).name != start:
        raise _fixed("the model to start from", start)


def _fixed(what: str, value: object) -> ConfigError:
    named = ", ".join(value) or "none" if isinstance(value, tuple) else value
    how = "was not set when the run began" if value is None else f"was fixed when the run began, as {named}"
    return ConfigError(f"{what} {how}: it cannot be changed when resuming. Leave it out, or start a new run.")


def _read_tokenizer(folder: Path, record: Mapping[str, Any], config: TokenizerConfig) -> Tokenizer:
    """The vocabulary of a run, checked: a damaged one would get a valid checksum in the next manifest."""
    entries = read_manifest(folder)["files"] if os.path.lexists(folder / MANIFEST) else record.get("files", {})
    for name in (NGRAMS, WORDS):
        if not os.path.lexists(folder / MANIFEST) and name in entries:
            verified(folder, name, entries[name], FILTER_BYTES)
    if MODEL_FILE in entries:
        path = verified(folder, MODEL_FILE, entries[MODEL_FILE], MODEL_BYTES)
        try:
            return load_tokenizer(read_file(path, MODEL_BYTES))
        except OSError as error:
            raise cannot_read(path, error, COPY_AGAIN) from None
    if config.tokenizer == "byte" and not os.path.lexists(folder / MODEL_FILE):
        return load_tokenizer(b"")
    raise SavedModelError(f"{folder} does not contain the {MODEL_FILE} of its run. {COPY_AGAIN}")


@dataclass(frozen=True)
class _Text:
    """The corpus of a run, and its held-out text if that is a file of its own."""

    corpus: Corpus | PreparedCorpus
    valid: Corpus | None


def _read_text(
    folder: Path, record: dict[str, Any], tokenizer: Tokenizer, sources: ResumeSources, say: Say
) -> tuple[dict[str, Any], TokenData]:
    """Returns record and tokens. Reads the text; if it is unreachable, uses the cache folder."""
    paths, files = _paths(folder, record, sources)
    gone = [path for path in paths + files if not (is_remote(path) or os.path.lexists(path))]
    why = f"{gone[0]} no longer exists." if gone else ""
    if sources.paths or not gone:
        try:
            return _read_again(record, paths, files, tokenizer)
        except RemoteError as error:
            if sources.paths:
                raise
            why = str(error)
    _refuse_changed_rest(record["corpus"], paths, files, sources)
    if cached := _cached_data(Path(record["tokens"]["folder"]), record["corpus"]["fingerprint"]):
        say(f"{why} Training continues with its text from the cache folder.")
        return record, cached
    raise TrainingError(f"{why} Its text is not in the cache folder: name the corpus at its new place.")


def _read_again(
    record: dict[str, Any], paths: Sequence[str], files: Sequence[str], tokenizer: Tokenizer
) -> tuple[dict[str, Any], TokenData]:
    """Opens the text and compares it with that of the run. Returns the record with its places, and its tokens."""
    config = _corpus_config(record["corpus"])
    corpus = open_corpus(paths, config, is_alone=not files)
    text = _Text(corpus, Corpus(files, config, is_alone=False) if files else None)
    _refuse_changed(record["corpus"], text.corpus, text.valid)
    data = _encode_again(text, tokenizer, from_dict(TrainingConfig, record["training"]), record["tokens"])
    return _with_places(record, text, data), data


def _corpus_config(recorded: Mapping[str, Any]) -> CorpusConfig:
    """How the corpus is read, by its section of a record."""
    return recorded_config(recorded["config"], is_old="corpus_format" not in recorded)


def _cached_data(folder: Path, fingerprint: str) -> TokenData | None:
    """The tokens of a text in the cache folder, or of the copy of a prepared folder; None if they are not there.

    The copy of a prepared folder may have changed since the run began: it must have the fingerprint of the text.
    """
    if not is_prepared(folder):
        return TokenData.cached(folder)
    keep_copy(folder)
    with suppress(CorpusError):
        prepared = PreparedCorpus(folder)
        return prepared.data() if prepared.is_named(fingerprint) else None
    return None


def _encode_again(text: _Text, tokenizer: Tokenizer, config: TrainingConfig, recorded: Mapping[str, Any]) -> TokenData:
    """The encoded text. Raises `TrainingError` if the same text makes other tokens than when the run began."""
    if isinstance(text.corpus, PreparedCorpus):
        return text.corpus.data()
    data = encode_and_split(text.corpus, tokenizer, text.valid or config)
    if (len(data.train), len(data.valid)) != (recorded["train"], recorded["valid"]):
        raise TrainingError(
            "This version of textgen encodes or splits the corpus differently from the version that started the run: "
            "train again instead of resuming."
        )
    return data


def _with_places(record: dict[str, Any], text: _Text, data: TokenData) -> dict[str, Any]:
    """The record with the paths where the text was found, signed."""
    places = _places(text.corpus.places, text.valid.places if text.valid else None)
    tokens = record["tokens"] | {"folder": str(data.train.folder)}
    record = record | {"corpus": record["corpus"] | places, "tokens": tokens}
    return record | {"signature": sign(_origin(record))}


def _refuse_changed_rest(
    recorded: Mapping[str, Any], paths: Sequence[str], files: Sequence[str], sources: ResumeSources
) -> None:
    """Raises `TrainingError` if one of the two texts is gone and the other one differs from when the run began."""
    config = _corpus_config(recorded)
    corpus = open_corpus(paths, config, is_alone=not files) if _are_there(paths) else None
    is_read = sources.valid is not None or _are_there(files)  # one that is named must be there
    _refuse_changed(recorded, corpus, Corpus(files, config, is_alone=False) if is_read else None)


def _are_there(places: Sequence[str]) -> bool:
    """Whether there are files and all of them are on this machine."""
    return bool(places) and not any(is_remote(place) or not os.path.lexists(place) for place in places)


def _refuse_changed(recorded: Mapping[str, Any], corpus: Corpus | PreparedCorpus | None, valid: Corpus | None) -> None:
    """Raises `TrainingError` if a given text differs from the one with which the run began."""
    texts = {"corpus": (corpus, recorded["fingerprint"]), "held-out text": (valid, recorded.get("valid_fingerprint"))}
    for what, (text, then) in texts.items():
        if text is not None and then is not None and not _is_named(text, then):
            raise TrainingError(
                f"The {what} has changed since the run was started, so the run cannot be resumed. Name a copy of it as "
                "it was, or train on the new text under another name; that can start from this model."
            )


def _is_named(text: Corpus | PreparedCorpus, fingerprint: str) -> bool:
    """Whether a fingerprint is that of a text."""
    return text.is_named(fingerprint) if isinstance(text, PreparedCorpus) else text.fingerprint() == fingerprint


def must_name_corpus(folder: Path) -> bool:
    """Whether the corpus of a run must be named again to resume it.

    Args:
        folder: Folder of the run.
    """
    try:
        record = read_training(folder)
        check(record, RESUMED)
    except (SavedModelError, ValueError):  # resuming tells what is damaged
        return False
    return bool(_why_not_followed(folder, record))


def _why_not_followed(folder: Path, record: Mapping[str, Any]) -> str:
    """Why the recorded paths are of no use; "" if they are."""
    if not is_signed(_origin(record), record.get("signature")):
        return f"The paths in {folder / TRAINING} were not written by you on this machine, so they are not used"
    if not record["corpus"]["paths"]:
        return f"The corpus has too many paths for {folder / TRAINING} to hold them"
    return ""


def _paths(folder: Path, record: Mapping[str, Any], sources: ResumeSources) -> tuple[list[str], list[str]]:
    """Paths of corpus and held-out text: those named again, or those of a record that was signed here."""
    recorded = record["corpus"]
    has_file, why = recorded["valid"] is not None, _why_not_followed(folder, record)
    if why and not (sources.paths and (sources.valid is not None or not has_file)):
        what = "the corpus and the file of the held-out text" if has_file else "the corpus"
        raise TrainingError(f"{why}. To resume the run, name {what} again.")
    valid = [str(sources.valid)] if sources.valid is not None else recorded["valid"] or []
    return list(map(str, sources.paths)) or recorded["paths"], valid
