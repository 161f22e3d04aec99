"""Makes a base model: the mix of its texts, the training, the scores by source, the model card.

    python scripts/train_base.py english --data FOLDER
    python scripts/train_base.py chinese --data FOLDER --leave-out tang_poems.txt

FOLDER holds the texts that `RECIPES` in base_mix.py names. The mix and the training are kept in the folder of --work;
run the same command again to go on after an interruption; other --minutes need another folder, or that the rounds with
other ones are removed. The training is done in rounds of --minutes each: a round starts from the weights that the one
before it ended with, draws the windows of the text anew, and lowers the learning rate again. The model goes to
saved_models/bases/NAME. To make a base of a model that was trained otherwise on such a mix (name the model of each
round, if there was more than one; a base stands for all of its rounds):

    python scripts/train_base.py english --data FOLDER --finish saved_models/mine
    python scripts/train_base.py english --data FOLDER --finish saved_models/bases/english saved_models/english-3
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import tempfile
import textwrap
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from base_mix import RECIPES, Document, Part, read_mix, script, write_mix
from benchmarking import positive_number, run_script

import textgen
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.word_filter import word_filter
from textgen.dataset.words import count_words
from textgen.errors import SavedModelError, TrainingError
from textgen.saved_model.compression import compressed_copy
from textgen.saved_model.folder_contents import has_steps
from textgen.saved_model.layout import CARD, INT8, TRAINING, read_training
from textgen.saved_model.loading import load_model
from textgen.saved_model.model_card import model_card
from textgen.saved_model.run_status import is_finished
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_words, write_training
from textgen.storage.files import write_own_file, writing
from textgen.storage.folders import replace_folder
from textgen.system.runtime import configure_process, load_tensorflow
from textgen.wording import counted, percent

BASES = Path(__file__).resolve().parents[1] / "saved_models" / "bases"
SETTINGS: dict[str, Any] = {
    "tokenizer": "unigram", "num_layers": 2, "hidden_units": 512, "batch_size": 64, "sequence_length": 64,
    "optimizer": "adamw", "learning_rate": 3e-3, "schedule": "cosine", "weight_decay": 0.02, "dropout": 0.1,
    "embedding_dropout": 0.0, "random_bptt": 0.05, "num_validations": 12,
}  # fmt: skip
BASE_WORDS = 30_000  # number of words in the filter of a base; among rarer ones are misprints and spoken forms
MINUTES = (45.0, 60.0, 90.0)  # duration of each round
LATER_LEARNING_RATE = 2e-3  # for the rounds after the first; higher ones undo more than a round gains
SAMPLED_SOFTMAX = 1024  # tokens of the sampled softmax, from the third round on
VOCABULARY_AND_SHAPE = ("tokenizer", "vocab_size", "character_coverage", "num_layers", "hidden_units", "embedding_dim")
OWN_SETTINGS: dict[str, dict[str, Any]] = {
    "english": {"embedding_dim": 512, "vocab_size": 8000},
    # Both scripts together have 12,757 characters; the 7,302 most frequent make up 99.7 % of the text.
    "chinese": {"embedding_dim": 384, "vocab_size": 10_000, "character_coverage": 0.997},
}
BAD_AT = {
    "english": (
        "Its English is that of books printed before about 1930: their words, spellings and subjects. It has read no "
        "news, no letters or chats of today, no plays, no facts to rely on, no other language and no source code; it "
        "spells what it does not know byte by byte. A story drifts after a few sentences. What it tells of people is "
        "what was thought of them then."
    ),
    "chinese": (
        "Its Chinese is classical, and the vernacular of novels before 1912: nothing modern, no names or things of "
        "today, no Western languages, which it spells byte by byte. Verse (shi) is in traditional characters and the "
        "rest in simplified ones, so it has hardly seen verse in simplified or prose in traditional characters. Its "
        "poems keep form and imagery better than sense, and rhyme and tones are not always right. Some quotation marks "
        "in the novels were set wrongly."
    ),
}


@dataclass(frozen=True)
class Recipe:
    """A base to be made.

    Attributes:
        name: Its name.
        parts: The texts of its mix.
        settings: How it is trained.
        bad_at: What a user should not expect of it, for the model card.
        minutes: Of each round of the training; None where `settings` say how long it is.
    """

    name: str
    parts: Sequence[Part]
    settings: Mapping[str, Any]
    bad_at: str
    minutes: Sequence[float | None] = (None,)


def recipe_of(name: str) -> Recipe:
    """Returns the recipe of a base that ships with the program."""
    return Recipe(name, RECIPES[name], {**SETTINGS, **OWN_SETTINGS[name]}, BAD_AT[name], MINUTES)


def train(recipe: Recipe, data: Path, work: Path, left_out: Sequence[Path] = (), seed: int = 0) -> list[ModelFolder]:
    """Makes the mix and trains on it. What is there already of both is gone on with.

    Args:
        recipe: The base.
        data: Folder of the texts.
        work: Folder of the mix and of the training.
        left_out: Files of texts that are not trained on.
        seed: Seed of the mix and of the first round; each later round has the next one.

    Returns:
        The model of each round. The last one is the base.

    Raises:
        TextgenError: The texts or the folder cannot be used, a round that is there was trained otherwise, or the
            training was interrupted.
    """
    files = write_mix(recipe.name, recipe.parts, data, work, left_out, seed)
    rounds = _planned_rounds(recipe, work, seed)
    _check_rounds(rounds)
    models: list[ModelFolder] = []
    for folder, settings in rounds.items():
        models.append(_round(folder, files, settings, models[-1] if models else None))
    return models


def _planned_rounds(recipe: Recipe, work: Path, seed: int) -> dict[Path, dict[str, Any]]:
    """The folder of each round and its settings."""
    rounds = {}
    for number, minutes in enumerate(recipe.minutes):
        settings = dict(recipe.settings)
        if number:
            settings = {key: value for key, value in settings.items() if key not in VOCABULARY_AND_SHAPE}
            settings["learning_rate"] = LATER_LEARNING_RATE
        if number > 1:
            settings["sampled_softmax"] = SAMPLED_SOFTMAX
        settings |= {"seed": seed + number, **({} if minutes is None else {"minutes": minutes})}
        rounds[work / (f"{recipe.name}-{number + 1}" if number else recipe.name)] = settings
    return rounds


def _check_rounds(rounds: Mapping[Path, Mapping[str, Any]]) -> None:
    """Raises `TrainingError` if a round that is there is not the one that is planned."""
    unfinished: Path | None = None
    for folder, settings in rounds.items():
        is_done = _is_done(folder)
        if is_done or has_steps(folder):
            if unfinished is not None:
                raise TrainingError(
                    f"{folder} was not trained from {unfinished}, which is not finished: remove {folder} and the "
                    "rounds after it."
                )
            recorded = read_training(folder)["training"]
            for name, value in settings.items():
                if recorded.get(name, value) != value:
                    raise TrainingError(
                        f"{folder} was trained with {name} {recorded[name]}, not {value}: ask for what it was trained "
                        "with, remove it and the rounds after it, or train in another folder."
                    )
        if not is_done and unfinished is None:
            unfinished = folder


def _is_done(folder: Path) -> bool:
    return (folder / TRAINING).exists() and is_finished(read_training(folder))


def _round(
    folder: Path, files: tuple[Path, Path], settings: Mapping[str, Any], before: ModelFolder | None
) -> ModelFolder:
    """Trains one round, from the weights of the one before; goes on with it, or takes it if it is finished."""
    if _is_done(folder):
        return load_model(str(folder.absolute()))
    if has_steps(folder):
        return textgen.train(resume=folder.absolute(), progress=True).model
    start = "none" if before is None else str(before.folder)  # never a base that is installed
    return textgen.train(
        files[0],
        valid_file=files[1],
        name=folder.name,
        models_dir=folder.parent,
        start=start,
        progress=True,
        **settings,
    ).model


def scores_by_source(model: ModelFolder, documents: Sequence[Document]) -> dict[str, float]:
    """Scores held-out documents.

    Args:
        model: The model.
        documents: The documents, with their sources.

    Returns:
        Bits a byte by source, and of all of them as "all".

    Raises:
        TextgenError: The model cannot be read.
    """
    load_tensorflow()
    from textgen.dataset.token_cache import encode_corpus
    from textgen.evaluation.evaluator import Evaluator

    by_source = defaultdict[str, list[str]](list)
    for document in documents:
        by_source[document.source].append(document.text)
    by_source["all"] = [document.text for document in documents]
    evaluator, scores = Evaluator(model.network(model.main_direction)), dict[str, float]()
    with tempfile.TemporaryDirectory() as folder:
        for number, (source, texts) in enumerate(by_source.items()):
            path = Path(folder, f"{number}.jsonl")
            path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
            stream = encode_corpus(Corpus([path], CorpusConfig()), model.tokenizer, Path(folder, f"tokens-{number}"))
            scores[source] = evaluator.scores(stream).bits_per_byte
    return scores


def finish(
    recipe: Recipe,
    rounds: Sequence[ModelFolder],
    mix: tuple[Sequence[Document], Sequence[Document]],
    out: Path,
    command: str,
) -> ModelFolder:
    """Makes a base of a trained model: compressed, scored, with its card, in its place.

    The index of the training text is left out, since it would be larger than the model, and so are checkpoints.

    Args:
        recipe: The base.
        rounds: The trained model of each round; the last one becomes the base.
        mix: The documents it was trained on and the held-out ones.
        out: Folder of the base. What is there is replaced in the end, and stays if something fails.
        command: The command that makes it again, for the card.

    Returns:
        The base.

    Raises:
        TextgenError: The model cannot be read, or the folder cannot be written.
    """
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".tmp-base-", dir=out.parent))
    try:
        made = temporary / out.name
        compressed_copy(rounds[-1], made, INT8, with_index=False)
        base = load_model(str(made.absolute()))
        _note_words(base, mix[0])
        about = _about(recipe, mix, scores_by_source(base, mix[1])) | {"command": command, "rounds": _progress(rounds)}
        record = {key: value for key, value in base.training.items() if key != "start"} | {"mix": about}
        write_training(made, record)
        write_own_file(made / CARD, base_card(recipe, load_model(str(made.absolute())).record).encode())
        with writing(out):
            replace_folder(made, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return load_model(str(out.absolute()))


def _progress(models: Sequence[ModelFolder]) -> list[dict[str, Any]]:
    """How long each round was, in steps, epochs and seconds, and the fingerprint of its text; a base has several."""
    rounds = []
    for model in models:
        progress = model.training.get("progress", {})
        text = {"text": model.training.get("corpus", {}).get("fingerprint")}
        own = {name: progress.get(name) for name in ("step", "epochs", "seconds")}
        rounds += [text | one for one in model.training.get("mix", {}).get("rounds", [own])]
    return rounds


def _note_words(base: ModelFolder, documents: Sequence[Document]) -> None:
    """Saves the commonest words of the training documents."""
    counts = count_words(f"{document.text}\n" for document in documents)
    if words := word_filter(counts, max_words=BASE_WORDS):
        save_words(base.folder, words)


def _about(
    recipe: Recipe, mix: tuple[Sequence[Document], Sequence[Document]], scores: Mapping[str, float]
) -> dict[str, Any]:
    """What the card of a base says of its texts and its scores."""
    train_documents, valid_documents = mix
    sources = {
        source: _facts(
            [document for document in train_documents if document.source == source],
            sum(document.source == source for document in valid_documents),
        )
        | {"bits_per_byte": scores.get(source)}
        for source in dict.fromkeys(name for part in recipe.parts for name in (*part.by_kind.values(), part.source))
        if any(document.source == source for document in (*train_documents, *valid_documents))
    }
    return {"sources": sources, "bits_per_byte": scores["all"]}


def _facts(documents: Sequence[Document], held_out: int) -> dict[str, Any]:
    """Counts of the documents of a source, with repeated ones, and of the characters in each Chinese script."""
    scripts = Counter[str]()
    for document in documents:
        scripts[script(document.text)] += len(document.text)
    total = sum(scripts.values())
    return {
        "num_documents": len(documents),
        "characters": total,
        "held_out": held_out,
        "simplified": round(scripts["simplified"] / max(total, 1), 4),
        "traditional": round(scripts["traditional"] / max(total, 1), 4),
    }


def base_card(recipe: Recipe, record: Mapping[str, Any]) -> str:
    """Builds the model card of a base: that of a model, its texts, its scores by source, its limitations."""
    base = record["mix"]
    has_scripts = any(facts["simplified"] or facts["traditional"] for facts in base["sources"].values())
    head = [
        "source",
        "documents",
        "characters",
        "held out",
        "bits per byte",
        *(["simplified or traditional"] if has_scripts else []),
    ]
    rows = [head, ["---"] * len(head)]
    for source, facts in base["sources"].items():
        score = "" if facts["bits_per_byte"] is None else f"{facts['bits_per_byte']:.3f}"
        counts = [f"{facts[name]:,}" for name in ("num_documents", "characters", "held_out")]
        rows.append([source, *counts, score, *([_scripts(facts)] if has_scripts else [])])
    rows.append(["all", "", "", "", f"{base['bits_per_byte']:.3f}", *([""] if has_scripts else [])])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    origins = "\n".join(f"- {_names(part)}: {part.origin}" for part in recipe.parts)
    repeated = ", ".join(f"the {part.source} occur {part.times} times" for part in recipe.parts if part.times > 1)
    note = f" In the training text, {repeated}; the table counts each occurrence." if repeated else ""
    held_out = "training"
    if others := sum(one.get("text") != base["rounds"][-1].get("text") for one in base["rounds"]):
        held_out = "the last round"
        note = (
            f" {counted(others, 'earlier round')} trained on another selection of the same collections, which may "
            f"contain some of them.{note}"
        )
    return f"""{model_card(recipe.name, record)}
## A base

A model to start from: `textgen train mine.txt --from {recipe.name}`.

It was trained on texts in the public domain{_in_rounds(base["rounds"])}, from these collections:

{origins}

{table}

{_lines(f"Bits per byte were measured on documents that were held out from {held_out}, with these weights.{note}")}

It has no index of its training text, so `--novelty` and `--no-copy` do not work with it. In a model that was fine-tuned
from it, both compare with the text of the fine-tuning only.

## Limitations

{_lines(recipe.bad_at)}

## Licence

Apache-2.0

## Made by

    {base["command"]}
"""


def _in_rounds(rounds: Sequence[Mapping[str, Any]]) -> str:
    """For the card, how long all rounds were together, if there was more than one."""
    if len(rounds) < 2:
        return ""
    epochs = sum(one["epochs"] or 0.0 for one in rounds)
    minutes = sum(one["seconds"] or 0.0 for one in rounds) / 60
    return f", in {len(rounds)} rounds of {epochs:.1f} epochs and {minutes:.0f} minutes together"


def _lines(text: str) -> str:
    return textwrap.fill(text, 120, break_on_hyphens=False)


def _names(part: Part) -> str:
    return ", ".join(part.by_kind.values()) or part.source


def _scripts(facts: Mapping[str, Any]) -> str:
    shares = ((name, facts[name]) for name in ("simplified", "traditional"))
    return ", ".join(f"{percent(share)} {name}" for name, share in shares if share)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains if need be, finishes, prints the scores."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="where the texts are")
    parser.add_argument(
        "--leave-out", type=Path, action="append", default=[], metavar="FILE", help="texts to leave out"
    )
    parser.add_argument("--work", type=Path, default=Path("build/bases"), metavar="FOLDER", help="of mix and training")
    parser.add_argument(
        "--finish", type=Path, nargs="+", metavar="MODEL_FOLDER", help="take these models as the rounds, and train none"
    )
    parser.add_argument("--out", type=Path, default=BASES, metavar="FOLDER", help="where the folder of the base goes")
    parser.add_argument(
        "--minutes",
        type=positive_number,
        nargs="+",
        help=f"of each round, instead of {' '.join(f'{one:g}' for one in MINUTES)}",
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    configure_process()
    recipe = recipe_of(given.name)
    if given.minutes is not None:
        recipe = replace(recipe, minutes=given.minutes)
    if given.finish:
        rounds = [load_model(str(folder.absolute())) for folder in given.finish]
        given.minutes = _minutes_of(rounds, given.minutes)
    else:
        rounds = train(recipe, given.data, given.work / given.name, given.leave_out, given.seed)
    base = finish(recipe, rounds, _mix_of(rounds[-1], recipe, given.data), given.out / given.name, _command(given))
    for source, facts in base.training["mix"]["sources"].items():
        print(f"{source}\t{facts['bits_per_byte']:.4f}")
    print(f"all\t{base.training['mix']['bits_per_byte']:.4f}")


def _mix_of(model: ModelFolder, recipe: Recipe, data: Path) -> tuple[list[Document], list[Document]]:
    """The mix that a model was trained on, from the files that its record names."""
    corpus = model.training.get("corpus", {})
    if not corpus.get("valid") or not corpus.get("paths"):
        raise SavedModelError(f"{model.folder} does not say which files it was trained and scored on: train it again.")
    train_file, valid_file = Path(corpus["paths"][0]), Path(corpus["valid"][0])
    return read_mix(train_file, recipe.parts, data), read_mix(valid_file, recipe.parts, data)


def _minutes_of(rounds: Sequence[ModelFolder], given: Sequence[float] | None) -> Sequence[float] | None:
    """The minutes of trained rounds, for the command in the card; None if they are the usual ones, or not known.

    Raises:
        TrainingError: Others were given.
    """
    all_minutes = [minutes for model in rounds for minutes in _recorded_minutes(model)]
    recorded = [minutes for minutes in all_minutes if minutes is not None]
    if len(recorded) < len(all_minutes):
        return given
    if given is not None and [*given] != recorded:
        trained, asked = (" ".join(f"{minutes:g}" for minutes in each) for each in (recorded, given))
        raise TrainingError(f"The rounds were trained with minutes {trained}, not {asked}: leave the minutes out.")
    return None if tuple(recorded) == MINUTES and given is None else recorded


def _recorded_minutes(model: ModelFolder) -> list[float | None]:
    """The minutes of the round that a model is, None if they are not known; of a base, those of each of its rounds."""
    if rounds := model.training.get("mix", {}).get("rounds"):
        return [None if one["seconds"] is None else float(round(one["seconds"] / 60)) for one in rounds]
    return [model.training.get("training", {}).get("minutes")]


def _command(given: argparse.Namespace) -> str:
    """The command that makes the same base, whoever gives it."""
    words = ["python", "scripts/train_base.py", given.name, "--data", "FOLDER"]
    for path in given.leave_out:
        words += ["--leave-out", path.name]
    words += ["--minutes", *(f"{minutes:g}" for minutes in given.minutes)] if given.minutes is not None else []
    words += ["--seed", str(given.seed)] if given.seed else []
    return shlex.join(words)


if __name__ == "__main__":
    run_script(main)
