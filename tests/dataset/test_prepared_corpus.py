"""A prepared folder: what training takes from it, and what is missing or damaged in it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from disk import unreadable
from prepared import BYTE, files_of, flip, lines_in, make

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.walk import PREPARED
from textgen.dataset import corpus_preparation, prepared_corpus
from textgen.dataset.prepared_corpus import PreparedCorpus, PreparedSettings, is_prepared, open_corpus
from textgen.errors import ConfigError, CorpusError, UnreadableCorpus
from textgen.storage.manifests import MANIFEST
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.training.planning.plan import Hardware, Sources, make_plan


def test_missing_shards_are_named_with_the_command_that_makes_them(tmp_path: Path) -> None:
    path = lines_in(tmp_path)
    for number in (2, 5):
        make(path, tmp_path / "out", shard=(number, 7), settings={"shards": 7})
    prepared = PreparedCorpus(tmp_path / "out")
    assert prepared.missing() == [1, 3, 4, 6, 7]
    with pytest.raises(
        CorpusError, match=r"5 of 7 shards are missing or damaged: shard 1, 3-4, 6-7: missing"
    ) as raised:
        prepared.data()
    command = f"textgen corpus prepare {path} --out {tmp_path / 'out'}"
    assert f"`{command}`" in str(raised.value)
    assert f"`{command} --shard 1/7`" in str(raised.value)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("train.bin", flip, "train.bin was altered"),
        ("valid-documents.bin", cut, "valid-documents.bin has 8 bytes instead of 16"),
        ("train-counts.bin", Path.unlink, "train-counts.bin is missing"),
        ("tokens.json", flip, "tokens.json was altered"),
        (MANIFEST, cut, "MANIFEST.json is damaged"),
        (MANIFEST, Path.unlink, "missing"),
    ],
)
def test_damage_is_found_named_and_mended(
    tmp_path: Path, name: str, damage: Callable[[Path], None], message: str
) -> None:
    path = lines_in(tmp_path)
    make(path, tmp_path / "out")
    before = files_of(tmp_path / "out")
    damage(tmp_path / "out" / "shard-00002-of-00003" / name)
    with pytest.raises(CorpusError, match=f"1 of 3 shards are missing or damaged: shard 2: .*{message}"):
        PreparedCorpus(tmp_path / "out").data()
    make(path, tmp_path / "out")
    after = files_of(tmp_path / "out")
    assert {k: v[1] for k, v in after.items()} == {k: v[1] for k, v in before.items()}
    assert [k for k in before if after[k] != before[k] and "00002" not in k] == [], "only that one was made again"


@pytest.mark.parametrize("name", ["train.bin", MANIFEST])
def test_a_shard_that_cannot_be_read_for_a_moment_is_not_prepared_again(tmp_path: Path, name: str) -> None:
    path = lines_in(tmp_path)
    make(path, tmp_path / "out")
    before = files_of(tmp_path / "out")
    with (
        unreadable(tmp_path / "out" / "shard-00002-of-00003" / name),
        pytest.raises(UnreadableCorpus, match=rf"Cannot read .*{name}: Input/output error\. Try again"),
    ):
        make(path, tmp_path / "out")
    assert files_of(tmp_path / "out") == before


@pytest.mark.parametrize(("form", "encoding"), [(2, None), (3, "utf-8"), (4, "utf-8")])
def test_a_folder_from_before_an_encoding_could_be_left_open_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: int, encoding: str | None
) -> None:
    """Its settings say utf-8, whether that was given or not."""
    given = BYTE | {"encoding": "utf-8"}
    path = lines_in(tmp_path)
    make_in_format(form, path, tmp_path / "out", monkeypatch, settings=given)
    before = files_of(tmp_path / "out")
    for settings in (BYTE, given):
        prepared = make(path, tmp_path / "out", settings=settings)
        assert (prepared.config.encoding, prepared.missing()) == (encoding, [])
    assert len(prepared.data().train)
    assert files_of(tmp_path / "out") == before


def make_in_format(form: int, path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Prepares a corpus as the version that wrote a format did."""

    def as_then(**values: Any) -> PreparedSettings:
        return PreparedSettings(**(values | {"format": form, "characters": None}))

    with monkeypatch.context() as patch:
        patch.setattr(prepared_corpus, "FORMAT", form)
        patch.setattr(corpus_preparation, "PreparedSettings", as_then)
        make(path, folder, **options)


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("is_damaged", [True, False])
def test_a_folder_of_which_other_text_is_held_out_is_not_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: int, is_damaged: bool
) -> None:
    path, out, said = lines_in(tmp_path), tmp_path / "out", list[str]()
    make_in_format(form, path, out, monkeypatch)
    (cut if is_damaged else Path.unlink)(out / "shard-00002-of-00003" / MANIFEST)
    before = files_of(out)
    refused = f"{out} was prepared by another version of textgen, which holds out other text: prepare another folder."
    with pytest.raises(CorpusError, match=re.escape(refused)):
        make(path, out, say=said.append)
    assert said == ["Shard 1 of 3 already exists."]
    with pytest.raises(CorpusError, match=f"1 of 3 shards are missing or damaged: shard 2: .*{re.escape(refused)}$"):
        PreparedCorpus(out).data()
    assert files_of(out) == before


def test_another_setting_than_that_of_the_folder_is_refused(tmp_path: Path) -> None:
    prepared = make(lines_in(tmp_path), tmp_path / "out")
    for message, given in {
        "without encoding, not with 'utf-8': leave encoding out": {"encoding": "utf-8"},
        "with documents 'line', not 'file': leave documents out": {"documents": "file"},
    }.items():
        with pytest.raises(ConfigError, match=f"out was prepared {message}, or prepare another folder"):
            prepared.require(given)
    prepared.require({"encoding": None, "documents": "line"})


@pytest.mark.parametrize("move", [shutil.copytree, os.rename])
def test_a_shard_under_the_name_of_another_is_refused_and_made_again(
    tmp_path: Path, move: Callable[[Path, Path], None]
) -> None:
    path, out, said = lines_in(tmp_path), tmp_path / "out", list[str]()
    before = {name: data for name, (_, data) in files_of(make(path, out).folder).items()}
    shutil.rmtree(out / "shard-00003-of-00003")
    move(out / "shard-00001-of-00003", out / "shard-00003-of-00003")
    with pytest.raises(CorpusError, match="shard 3: it is shard 1 under another name"):
        PreparedCorpus(out).data()
    make(path, out, say=said.append)
    assert "Shard 3 of 3 is prepared again: it is shard 1 under another name." in said
    assert {name: data for name, (_, data) in files_of(out).items()} == before


def test_a_copied_shard_of_a_version_that_did_not_note_numbers_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = lines_in(tmp_path), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(corpus_preparation, "NUMBER", "unread")
        make(path, out)
    assert PreparedCorpus(out).data()
    shutil.rmtree(out / "shard-00003-of-00003")
    shutil.copytree(out / "shard-00001-of-00003", out / "shard-00003-of-00003")
    with pytest.raises(ConfigError, match=r"Shard 3 of .* is a copy of shard 1: remove shard-00003-of-00003 there"):
        make(path, out)


def test_a_shard_of_another_folder_is_refused(tmp_path: Path) -> None:
    path = lines_in(tmp_path)
    make(path, tmp_path / "out")
    make(path, tmp_path / "other", settings={"valid_fraction": 0.2})
    (tmp_path / "out" / "shard-00002-of-00003").rename(tmp_path / "aside")
    (tmp_path / "other" / "shard-00002-of-00003").rename(tmp_path / "out" / "shard-00002-of-00003")
    with pytest.raises(CorpusError, match="shard 2: it was made with other settings or another vocabulary"):
        PreparedCorpus(tmp_path / "out").data()


@pytest.mark.parametrize("name", [PREPARED, MANIFEST])
def test_a_damaged_beginning_is_named(tmp_path: Path, name: str) -> None:
    make(lines_in(tmp_path), tmp_path / "out")
    (tmp_path / "out" / name).write_bytes(b"{")
    with pytest.raises(CorpusError, match=f"out is not a prepared corpus, or is damaged: .*{name}"):
        PreparedCorpus(tmp_path / "out")


def test_a_corpus_too_short_to_hold_anything_out(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a", encoding="utf-8")
    prepared = make(tmp_path / "text.txt", tmp_path / "out")
    with pytest.raises(CorpusError, match="too short to hold some of it out"):
        prepared.data()


def test_a_plan_takes_what_the_folder_has_settled(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = lines_in(tmp_path, 2000)
    make(path, tmp_path / "out", settings={"valid_fraction": 0.25})
    corpus = open_corpus([tmp_path / "out"], CorpusConfig())
    assert isinstance(corpus, PreparedCorpus)
    small = {"batch_size": 4, "sequence_length": 16, "precision": "float32"}
    plan = make_plan(corpus, {**small, "documents": "line", **BYTE}, hardware=Hardware(flops=1e11))
    assert plan.estimates.tokens == len(corpus.data().train)
    assert plan.sources.tokenizer is corpus.tokenizer
    assert plan.model_config.vocab_size == 259
    assert plan.training_config.valid_fraction == 0.25
    assert plan.corpus_config.documents == "line"
    refused: list[tuple[dict[str, Any], Sources]] = [
        ({"documents": "file"}, Sources()),
        ({"tokenizer": "bpe"}, Sources()),
        ({"valid_fraction": 0.1}, Sources()),
        ({}, Sources(tokenizer=tokenizer)),
        ({}, Sources(valid=Corpus([path]))),
    ]
    for changes, sources in refused:
        with pytest.raises(ConfigError, match="out"):
            make_plan(corpus, {**small, **changes}, sources=sources, hardware=Hardware(flops=1e11))


def test_a_prepared_folder_is_recognized(tmp_path: Path) -> None:
    path = lines_in(tmp_path)
    make(path, tmp_path / "out")
    assert is_prepared(tmp_path / "out")
    assert not is_prepared(tmp_path)
    assert isinstance(open_corpus([path], CorpusConfig()), Corpus)
    with pytest.raises(CorpusError, match="name it alone"):
        open_corpus([tmp_path / "out", path], CorpusConfig())


@pytest.mark.parametrize("paths", [["out"], ["."], ["*"], ["out", "more"], ["text.txt", "out"]])
def test_a_prepared_folder_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paths: list[str]) -> None:
    make(lines_in(tmp_path), tmp_path / "out")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / PREPARED).write_text("{}")  # of another program
    monkeypatch.chdir(tmp_path)
    assert [path.name for path in Corpus(["more"]).files] == [PREPARED]
    expected = r"^(\./)?out is a prepared corpus, .* Only textgen train reads it"
    with pytest.raises(CorpusError, match=expected):
        Corpus(paths)


def test_a_moved_folder_is_the_same_corpus(tmp_path: Path) -> None:
    prepared = make(lines_in(tmp_path), tmp_path / "out")
    fingerprint = prepared.fingerprint()
    (tmp_path / "out").rename(tmp_path / "moved")
    moved = PreparedCorpus(tmp_path / "moved")
    assert moved.fingerprint() == fingerprint
    assert len(moved.data().train)
    settings = json.loads((tmp_path / "moved" / PREPARED).read_text(encoding="utf-8"))
    assert settings["shards"] == 3


def test_a_shard_of_other_text_gives_another_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Corpus, "glance", lambda _: "as before")  # which may miss a change in the middle of a file
    monkeypatch.setattr(Corpus, "section_glance", lambda *_: "")
    path, out = lines_in(tmp_path), tmp_path / "out"
    before = make(path, out).fingerprint()
    for is_changed in (False, True):
        shutil.rmtree(out / "shard-00002-of-00003")
        with pytest.raises(CorpusError, match=r"1 of 3 shards are missing or damaged: shard 2: missing\. Make them"):
            PreparedCorpus(out).fingerprint()
        if is_changed:
            path.write_text(path.read_text(encoding="utf-8").replace("la la", "lo lo"), encoding="utf-8")
        assert (make(path, out).fingerprint() != before) is is_changed
    assert PreparedCorpus(out).is_named(before) is False
    assert PreparedCorpus(out).is_named(PreparedCorpus(out).settings.digest()), "as older versions name it"
