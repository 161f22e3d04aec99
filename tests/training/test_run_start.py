"""The beginning of a run, before its network is built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
from model_folders import CORPUS, save, small, weights_of
from runs import begun

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.split import hold_out
from textgen.errors import ModelChanged, SavedModelError
from textgen.saved_model.creation import claimed
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.training import run_start
from textgen.training.planning.plan import Hardware, Plan, Sources, make_plan

plan, text = runs.plan, runs.text  # fixtures


@pytest.mark.parametrize("stopped", ["save_ngram_index", "save_known_words", "write_training", "write_own_file"])
@pytest.mark.parametrize("is_large", [False, True])
def test_a_run_that_is_killed_at_any_stage_of_its_start_can_begin_anew(
    plan: Plan, tmp_path: Path, stopped: str, is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large corpus neither index nor words are beside a vocabulary, which alone would be taken for somebody's."""
    if is_large:
        monkeypatch.setattr(run_start, "MAX_NGRAMS", 0)
        monkeypatch.setattr(run_start, "MAX_TOKENS", 0)
    folder = tmp_path / "models" / "songs"

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_start, stopped, stop)
        with claimed(folder), pytest.raises(KeyboardInterrupt):
            run_start.begin(plan, folder)
    with claimed(folder):
        assert not list(folder.iterdir())


def test_a_base_that_its_training_saves_meanwhile_is_taken_as_it_is_then(tmp_path: Path) -> None:
    folder, config = save(tmp_path / "base", ByteTokenizer()), small(ByteTokenizer().vocab_size)
    start, newer = load_model(str(folder)), {name: 2 * array for name, array in weights_of(config).items()}
    save(folder, ByteTokenizer(), newer)
    for name, array in run_start._weights_of(start).items():
        np.testing.assert_array_equal(array, newer[name])
    other = replace(config, hidden_units=5)
    save_model(folder, weights_of(other), other, TokenizerConfig("byte"), CORPUS, ByteTokenizer())
    with pytest.raises(ModelChanged, match="saved anew"):
        run_start._weights_of(start)


def lines_of_words(number: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join("".join(rng.choice([*"abcdefgh"], 5)) for _ in range(9)) for _ in range(number)]


@pytest.mark.parametrize(
    ("kind", "is_known"),
    [("a part of its text", True), ("another text", False), ("the same phrases as in its text", False)],
)
def test_held_out_text_that_the_start_model_has_read_is_reported(tmp_path: Path, kind: str, is_known: bool) -> None:
    """The n-grams of a text of set phrases are also in the text to train on."""

    def plan_of(lines: list[str], seed: int, start: ModelFolder | None = None) -> Plan:
        path = tmp_path / f"{seed}.txt"
        path.write_text("\n".join(lines), encoding="utf-8")
        given = {"batch_size": 2, "sequence_length": 8, "steps": 4} if start else runs.SETTINGS
        corpus = Corpus([path], CorpusConfig(documents="line"))
        return make_plan(corpus, {**given, "seed": seed}, sources=Sources(start=start), hardware=Hardware(flops=1e11))

    old, said = lines_of_words(60, seed=0), list[str]()
    if kind.startswith("the same"):
        old = old[:3] * 20
    new = lines_of_words(40, seed=1) if kind == "another text" else old[20:]
    start = load_model(str(begun(plan_of(old, 3), tmp_path / "novel")))
    begun(plan_of(new, 4, start), tmp_path / "letters", say=said.append)
    found = [line for line in said if "occurs in the training text of novel" in line]
    assert [line.endswith("hold out text that novel has not read (valid_file).") for line in found] == [True] * is_known


def test_a_split_that_holds_out_far_less_than_it_should_is_reported(tmp_path: Path) -> None:
    """Of lines that are too short to be cut, a draw may take the shortest."""
    path = tmp_path / "lines.txt"
    path.write_text("\n".join([(line * 6)[: 300 if n % 5 < 3 else 3] for n, line in enumerate(lines_of_words(25, 5))]))
    corpus = Corpus([path], CorpusConfig(documents="line"))
    held = {seed: held_out_of(corpus, seed) for seed in range(200)}
    few, usual = min(held, key=held.__getitem__), next(seed for seed in held if 0.07 < held[seed] < 0.15)
    for seed, is_told in ((few, True), (usual, False)):
        said = list[str]()
        given = {**runs.SETTINGS, "seed": seed, "valid_fraction": 0.1}
        begun(make_plan(corpus, given, hardware=Hardware(flops=1e11)), tmp_path / str(seed), say=said.append)
        found = [line for line in said if line.startswith("Only ")]
        assert len(found) == is_told
        assert all(f"are held out, {100 * held[seed]:.1f} % and not 10.0 %" in line for line in found)


def test_a_tenth_of_the_characters_is_a_tenth_in_any_script(tmp_path: Path) -> None:
    """A book in Chinese ends with a licence in English, whose characters have a third of the bytes."""
    path = tmp_path / "book.txt"
    path.write_text("天地玄黄宇宙洪荒" * 700 + "\n" + "\n".join(lines_of_words(14, 5)), encoding="utf-8")
    said = list[str]()
    plan = make_plan(
        Corpus([path], CorpusConfig(documents="file")), {**runs.SETTINGS, "valid_fraction": 0.1},
        hardware=Hardware(flops=1e11),
    )  # fmt: skip
    begun(plan, tmp_path / "model", say=said.append)
    assert not [line for line in said if line.startswith("Only ")]


def held_out_of(corpus: Corpus, seed: int) -> float:
    """The fraction of a corpus that is held out of it with a seed, where a tenth should be."""
    valid = sum(len(part.text) for name, part in hold_out(corpus.parts, 0.1, str(seed)) if name == "valid")
    return valid / sum(len(part.text) for part in corpus.parts())


def test_a_corpus_too_large_for_an_index_is_trained_on_without_one(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_start, "MAX_NGRAMS", 100)
    said = list[str]()
    saved = load_model(str(begun(plan, tmp_path / "songs", say=said.append)))
    assert any("too large for an index" in line for line in said)
    assert not saved.has_ngrams
    with pytest.raises(SavedModelError, match="copies of it cannot be detected"):
        saved.ngrams()


@pytest.mark.parametrize("why", ["its words are new", "its text is too long", "it has a vocabulary of words"])
def test_a_model_that_starts_from_one_without_a_list_of_words_gets_none(
    tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of its own text alone would forbid the words of the first."""
    rng, said = np.random.default_rng(0), list[str]()
    names = [" ".join("".join(rng.choice([*"abcdefgh"], 12)) for _ in range(5)) for _ in range(60)]
    songs = ["a bad cab had a fade", "a deaf hag bade a head"] * 40

    def plan_of(lines: list[str], name: str, start: ModelFolder | None = None) -> Plan:
        (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
        given: dict[str, Any] = {"batch_size": 2, "sequence_length": 8, "steps": 4} if start else dict(runs.SETTINGS)
        if why == "it has a vocabulary of words":
            given["tokenizer"] = "char" if start else "word"
        corpus = Corpus([tmp_path / name], CorpusConfig(documents="line"))
        return make_plan(corpus, given, sources=Sources(start=start), hardware=Hardware(flops=1e11))

    with monkeypatch.context() as patch:
        if why == "its text is too long":
            patch.setattr(run_start, "MAX_TOKENS", 100)
        start = load_model(str(begun(plan_of(names if why == "its words are new" else songs, "1.txt"), tmp_path / "1")))
    assert start.words() is None
    tuned = load_model(str(begun(plan_of(songs, "2.txt", start), tmp_path / "2", say=said.append)))
    assert tuned.words() is None
    assert "1 has no list of its words and may invent some, so the new model may, too." in said
    if why != "it has a vocabulary of words":
        assert load_model(str(begun(plan_of(songs, "3.txt"), tmp_path / "3"))).words()
