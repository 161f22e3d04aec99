"""Folders and globs -> files: what textgen writes itself is passed over."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from files import read, write

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.walk import RECORDED
from textgen.errors import CorpusError
from textgen.saved_model.layout import CARD, CHECKPOINTS, CONFIG, RECORD, TRAINING
from textgen.storage.manifests import MANIFEST

MODELS = (MANIFEST, CONFIG), (TRAINING, CHECKPOINTS), (TRAINING,)


def model_in(folder: Path, *marks: str) -> None:
    """A model that was saved, or one that is being trained."""
    for name in (*marks, CARD, "logs/events.txt"):
        text = json.dumps({key: {} for key in RECORDED}) if name == TRAINING else "{}"
        write(folder, f"{name}/step-1/a.json" if name == CHECKPOINTS else name, text)


def test_models_are_recognized_by_sections_that_they_have() -> None:
    assert RECORD.keys() >= RECORDED


@pytest.mark.parametrize("marks", MODELS)
@pytest.mark.parametrize("name", [".", "*", "**/*", "**/*.md", "saved_models", "saved_models/*", "**/*.txt"])
def test_saved_models_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marks: tuple[str, ...], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("a.md", "saved_models/b.md", "saved_models/text/c.md", "a.txt", "saved_models/b.txt"):
        write(tmp_path, file, Path(file).stem)
    model_in(tmp_path / "saved_models" / "novel", *marks)
    found, said = Corpus([name]), list[str]()
    suffix = {Path(name).suffix} if Path(name).suffix else {".md", ".txt"}
    expected = [path for path in tmp_path.rglob("*.*") if path.suffix in suffix and "novel" not in path.parts]
    within = [
        path for path in expected if name.startswith("saved_models") <= path.is_relative_to(tmp_path / "saved_models")
    ]
    assert sorted(path.resolve() for path in found.files) == sorted(within)
    assert found.models == [Path("saved_models/novel")]
    found.say_findings(said.append)
    assert said == ["Skipped saved_models/novel: it is a saved model."]


def test_a_saved_model_that_is_named_is_no_text_but_its_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model_in(tmp_path / "novel", MANIFEST, CONFIG)
    for name in ("novel", "novel/*.md", "."):
        with pytest.raises(
            CorpusError,
            match=rf"No text in {name}: there is nothing but 1 saved model, such as novel".replace("*", r"\*"),
        ):
            Corpus([name])
    assert read(f"novel/{CARD}") == ["{}"]
    write(tmp_path, "config/config.json", '["one of these files is no model"]')
    assert read("config") == ["one of these files is no model"]


@pytest.mark.parametrize("content", ['{"text": "of another program", "model": {}}', '["no object"]', "no JSON"])
def test_a_training_of_another_program_is_a_text(tmp_path: Path, content: str) -> None:
    """Whatever lies beside it."""
    write(tmp_path, f"data/{TRAINING}", content)
    write(tmp_path, f"data/{CHECKPOINTS}/a.txt", "a")
    assert {path.name for path in Corpus([tmp_path / "data"]).files} == {TRAINING, "a.txt"}


def test_names_are_compared_exactly_on_a_disk_that_ignores_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web page with a manifest.json and a config.json is no model, however its files are found."""
    for name in ("manifest.json", CONFIG):
        write(tmp_path, f"site/{name}", '"a text"')
    exists = os.path.exists

    def ignoring_case(path: Path) -> bool:
        return exists(path) or exists(str(path).replace(MANIFEST, "manifest.json"))

    monkeypatch.setattr("os.path.exists", ignoring_case)
    for name in ("site", "site/*.json"):
        corpus = Corpus([tmp_path / name], CorpusConfig(documents="file"))
        assert ({path.name for path in corpus.files}, corpus.models) == ({"manifest.json", CONFIG}, [])


def test_links_out_of_a_folder_are_followed_and_counted(tmp_path: Path) -> None:
    corpus, private = tmp_path / "corpus", tmp_path / "private"
    write(corpus, "texts/a.txt", "one")
    for name in ("b.txt", "more/c.txt"):
        write(private, name, name)
    (corpus / "inside.txt").symlink_to("texts/a.txt")
    (corpus / "within").symlink_to("texts")
    (corpus / "nowhere.txt").symlink_to("../none.txt")
    found, said = Corpus([corpus]), list[str]()
    found.say_findings(said.append)
    skipped, once = said
    assert skipped.startswith("Skipped")
    assert once == f"Read 1 file only once, though several paths lead there, such as {corpus}/texts/a.txt."
    (corpus / "b.txt").symlink_to("../private/b.txt")
    (corpus / "texts/more").symlink_to(private / "more")
    found, said = Corpus([corpus, corpus / "texts"]), list[str]()
    assert {path.name for path in found.files} >= {"b.txt", "c.txt"}
    found.say_findings(said.append)
    message = f"Followed 2 links to places outside the folders of the corpus, such as {corpus / 'b.txt'}."
    assert said[1] == message


def links_out_of(*names: str | Path) -> list[str]:
    """What is said about links that were followed."""
    said = list[str]()
    Corpus(names).say_findings(said.append)
    return [line.removesuffix(".") for line in said if line.startswith("Followed")]


@pytest.mark.parametrize("name", ["corpus", "corpus/*", "corpus/**/*.txt", "c*", "./corpus/../corpus/[abm]*"])
def test_links_out_are_noted_where_a_pattern_names_them_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for file in ("work/corpus/a.txt", "private/b.txt", "private/more/c.txt", "private/more/d.txt"):
        write(tmp_path, file, file)
    monkeypatch.chdir(tmp_path / "work")
    Path("corpus/b.txt").symlink_to(tmp_path / "private/b.txt")
    Path("corpus/more").symlink_to(tmp_path / "private/more")
    assert [Path(path).name for path in Corpus([name]).files] == ["a.txt", "b.txt", "c.txt", "d.txt"]
    (about,) = links_out_of(name)
    assert about.startswith("Followed 2 links to places outside the folders of the corpus, such as ")
    assert about.endswith("corpus/b.txt")


def test_links_by_which_nothing_was_read_were_not_followed(tmp_path: Path) -> None:
    corpus, private = tmp_path / "corpus", tmp_path / "private"
    write(corpus, "a.txt", "one")
    model_in(private / "novel", MANIFEST, CONFIG)
    write(private, "b.bin", b"\0")
    write(private, "empty/.hidden.txt", "two")
    for name in ("novel", "b.bin", "empty"):
        (corpus / name).symlink_to(private / name)
    (corpus / "around").symlink_to("../corpus")
    assert links_out_of(corpus) == links_out_of(corpus / "*") == []


def test_links_to_what_the_paths_lead_to_anyway_do_not_lead_out(tmp_path: Path) -> None:
    corpus, other = tmp_path / "corpus", tmp_path / "other"
    write(corpus, "a.txt", "one")
    for name in ("b.txt", "more/c.txt", "more/d.txt"):
        write(other, name, name)
    for name in ("b.txt", "more"):
        (corpus / name).symlink_to(other / name)
    for rest in ([other], [other / "**/*.txt"], [other / "b.txt", other / "more"]):
        assert links_out_of(corpus, *rest) == links_out_of(*rest, corpus) == []
    assert links_out_of(corpus / "b.txt") == []
    message = "Followed 1 link to places outside the folders of the corpus, such as "
    assert links_out_of(corpus, other / "b.txt") == [f"{message}{corpus / 'more'}"]
    assert links_out_of(other / "more/c.txt", corpus / "more") == []
    assert links_out_of(corpus, other / "more/c.txt", other / "b.txt") == [f"{message}{corpus / 'more'}"]


def test_a_folder_that_is_itself_a_link_leads_nowhere_else(tmp_path: Path) -> None:
    write(tmp_path, "texts/a.txt", "one")
    (tmp_path / "corpus").symlink_to("texts")
    said = list[str]()
    Corpus([tmp_path / "corpus"]).say_findings(said.append)
    assert said == []
