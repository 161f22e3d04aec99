"""A corpus in shards: the same documents as in one, whoever makes them, and what goes wrong is named."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prepared import BYTE, files_of, flip, lines_in, make
from processes import child_process
from rich_files import docx, paragraphs
from streams import EOS, texts_of

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.fingerprints import GLANCE_BYTES
from textgen.corpus.source import Source
from textgen.corpus.walk import PREPARED
from textgen.dataset import corpus_preparation
from textgen.dataset.corpus_preparation import prepare_corpus
from textgen.dataset.prepared_corpus import TEXT, PreparedCorpus, PreparedSettings
from textgen.dataset.token_cache import encode_and_split, encode_corpus
from textgen.dataset.token_stream import TokenStream
from textgen.dataset.token_writer import encode_parts
from textgen.errors import ConfigError, CorpusError, TextgenError
from textgen.storage.cache_layout import SUMMARY
from textgen.storage.manifests import MANIFEST
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import learn_vocabulary, train_tokenizer

# --- Shards ------------------------------------------------------------------------------------------------

words = st.text("ab月 .", min_size=1, max_size=12).filter(lambda text: not text.isspace())


@settings(deadline=None, max_examples=10)
@given(
    st.lists(st.lists(words, min_size=1, max_size=40), min_size=1, max_size=4),
    st.sampled_from(["line", "blank-line", "file"]),
    st.floats(0.05, 0.5),
)
@example([[*["a"] * 9, "aaaa", *["a"] * 30]], "line", 0.5)  # a shard of fewer than 20 lines, cut inside one
def test_shards_together_hold_what_one_holds(files: list[list[str]], documents: str, fraction: float) -> None:
    tokenizer = ByteTokenizer()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "corpus").mkdir()
        for number, lines in enumerate(files):
            text = ("\n\n" if documents == "blank-line" else "\n").join(lines)
            (folder / "corpus" / f"{number}.txt").write_text(text, encoding="utf-8")
        corpus = Corpus([folder / "corpus"], CorpusConfig(documents=documents))
        whole = encode_corpus(corpus, tokenizer, folder / "whole")
        for shards in (1, 2, 5):
            prepared = prepare_corpus(
                [str(folder / "corpus")],
                folder / str(shards),
                {"documents": documents, "shards": shards, "valid_fraction": fraction, **BYTE},
            )
            names = [prepared.shard_name(number) for number in range(1, shards + 1)]
            streams = [TokenStream(prepared.folder, split, names) for split in ("train", "valid")]
            counts = streams[0].counts + streams[1].counts
            closed = sum(stream.summary.ends - stream.summary.documents for stream in streams)  # cut, not ended
            assert counts[EOS] == whole.counts[EOS] + closed
            assert np.array_equal(np.delete(counts, EOS), np.delete(whole.counts, EOS))
            for field in ("documents", "characters", "bytes"):
                assert sum(getattr(stream.summary, field) for stream in streams) == getattr(whole.summary, field)
            assert sum(stream.summary.tokens for stream in streams) == whole.summary.tokens + closed
            if documents != "file" and len(corpus_lines(corpus)) > 1 and not closed:
                found = [text for stream in streams for text in texts_of(stream, tokenizer)]
                assert sorted(found) == sorted(corpus_lines(corpus))


def corpus_lines(corpus: Corpus) -> list[str]:
    return list(corpus.documents())


def test_held_out_documents_are_spread_over_the_shards(tmp_path: Path) -> None:
    prepared = make(lines_in(tmp_path, 300), tmp_path / "out", settings={"valid_fraction": 0.1})
    tokenizer = prepared.tokenizer
    train, valid = prepared.data().train, prepared.data().valid
    assert sorted(texts_of(train, tokenizer) + texts_of(valid, tokenizer)) == sorted(
        Corpus([tmp_path / "text.txt"], CorpusConfig(documents="line")).documents()
    )
    assert abs(valid.summary.documents - 30) <= 3
    numbers = [int(text.split(":")[0].split()[1]) for text in texts_of(valid, tokenizer)]
    assert max(np.diff([0, *sorted(numbers), 300])) <= 21, "at least one of each ten"
    other = make(tmp_path / "text.txt", tmp_path / "other", settings={"valid_fraction": 0.1, "seed": 1})
    assert texts_of(other.data().valid, tokenizer) != texts_of(valid, tokenizer)


def test_shards_of_few_short_documents_hold_out_the_fraction_together(tmp_path: Path) -> None:
    prepared = make(lines_in(tmp_path, 240), tmp_path / "out", settings={"valid_fraction": 0.03, "shards": 30})
    assert 4 <= prepared.data().valid.summary.documents <= 12


@pytest.mark.parametrize("shards", [1, 3])
def test_of_a_novel_in_a_shard_the_end_is_held_out(tmp_path: Path, shards: int) -> None:
    notes = "".join(f"note {number:02} of some words\n" for number in range(60))
    (tmp_path / "text.txt").write_text(f"{notes}{'word ' * 4000}\n{notes}", encoding="utf-8")
    prepared = make(tmp_path / "text.txt", tmp_path / "out", settings={"documents": "line", "shards": shards})
    data = prepared.data()
    assert 0.08 < len(data.valid) / (len(data.train) + len(data.valid)) < 0.12


@pytest.mark.parametrize("word", ["word ", "月木水火"])
def test_documents_are_cut_by_the_characters_of_all_texts(tmp_path: Path, word: str) -> None:
    """A novel is longer than a quarter of what is held out, but not than a quarter of that fraction of the file."""
    short = [{"text": f"{number:04} {word * 20}"} for number in range(400)]
    novels = [{"text": f"novel {number} {word * 600}"} for number in range(8)]
    records = [record for at in range(8) for record in (*short[50 * at : 50 * at + 50], novels[at])]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"other": "a" * 4 * len(r["text"]), **r}) + "\n" for r in records))
    for seed in range(2):
        given = {"shards": 2, "valid_fraction": 0.1, "seed": seed}
        prepared = make(path, tmp_path / str(seed), settings=given)
        assert prepared.settings.characters == pytest.approx(sum(len(r["text"]) for r in records), rel=0.1)
        data = prepared.data()
        assert 0.08 < len(data.valid) / (len(data.train) + len(data.valid)) < 0.12


def test_the_fraction_of_chinese_text_is_held_out(tmp_path: Path) -> None:
    lines = [f"{number:04}{'月' * (2400 if number % 51 == 50 else 80)}" for number in range(408)]
    (tmp_path / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    for seed in range(2):
        prepared = make(tmp_path / "text.txt", tmp_path / str(seed), settings={"shards": 2, "seed": seed})
        data = prepared.data()
        assert 0.08 < len(data.valid) / (len(data.train) + len(data.valid)) < 0.12


def test_a_folder_that_does_not_say_how_long_the_text_is_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lines_in(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(corpus_preparation, "PreparedSettings", settings_without_characters)
        prepared = make(path, tmp_path / "out", shard=(1, 3))
    assert "characters" not in json.loads((tmp_path / "out" / PREPARED).read_text(encoding="utf-8"))
    assert make(path, tmp_path / "out").missing() == []
    assert PreparedCorpus(tmp_path / "out").fingerprint() == prepared.fingerprint()


def settings_without_characters(**values: Any) -> PreparedSettings:
    return PreparedSettings(**(values | {"characters": None}))


def test_the_size_of_the_text_is_not_estimated_where_nothing_depends_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def size(_: Corpus) -> int:
        raise AssertionError("not needed")

    monkeypatch.setattr(Corpus, "size", property(size))
    prepared = make(lines_in(tmp_path), tmp_path / "out", settings={"shards": 1, "valid_fraction": 0.1})
    assert len(prepared.data().valid)


def test_for_another_shard_only_its_files_are_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "texts").mkdir()
    for name in range(12):
        docx(tmp_path / "texts" / f"{name:02}.docx", paragraphs(*[f"line {name} {line}" for line in range(20)]))
    make(tmp_path / "texts", tmp_path / "out", shard=(1, 4))
    converted, convert = set[Path](), Source.converted

    def noted(source: Source) -> Any:
        converted.add(source.path)
        return convert(source)

    monkeypatch.setattr(Source, "converted", noted)
    make(tmp_path / "texts", tmp_path / "out", shard=(2, 4))
    assert 2 <= len(converted) <= 4


def test_one_huge_document_is_cut_into_all_shards(tmp_path: Path) -> None:
    path = lines_in(tmp_path, 500)
    prepared = make(path, tmp_path / "out", settings={"documents": "file", "shards": 4})
    names = [prepared.shard_name(number) for number in range(1, 5)]
    sizes = [len(TokenStream(prepared.folder, "train", [name])) for name in names]
    assert max(sizes) < 1.1 * min(sizes)
    data = prepared.data()
    assert data.train.summary.documents + data.valid.summary.documents == 1
    texts = [
        "".join(tokens_text(TokenStream(prepared.folder, split, [name])) for split in ("train", "valid"))
        for name in names
    ]
    assert "".join(texts) == path.read_text(encoding="utf-8")
    assert all(text.endswith("\n") for text in texts[:-1]), "cut between lines"


def tokens_text(stream: TokenStream) -> str:
    return ByteTokenizer().decode(stream.read(0, len(stream)).tolist())


def test_many_small_and_compressed_files_are_spread(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(40):
        text = "".join(f"{number} {line} {line * 7919 % 1000003}\n" for line in range(50)).encode()
        name = f"{number}.txt.gz" if number % 2 else f"{number}.txt"
        (folder / name).write_bytes(gzip.compress(text) if number % 2 else text)
    prepared = make(folder, tmp_path / "out", settings={"shards": 4})
    sizes = [len(TokenStream(prepared.folder, "train", [prepared.shard_name(n)])) for n in range(1, 5)]
    assert sum(sizes) == len(prepared.data().train)
    assert max(sizes) < 2 * min(sizes)


# --- Again, and on ----------------------------------------------------------------------------------------


def test_again_does_nothing(tmp_path: Path) -> None:
    path, said = lines_in(tmp_path), list[str]()
    make(path, tmp_path / "out")
    before = files_of(tmp_path / "out")
    prepare_corpus([str(path)], tmp_path / "out", say=said.append)
    assert files_of(tmp_path / "out") == before
    assert said == [f"Shard {number} of 3 already exists." for number in (1, 2, 3)]


def test_shards_are_the_same_in_any_order_and_on_any_machine(tmp_path: Path) -> None:
    path = lines_in(tmp_path)
    make(path, tmp_path / "one")
    for number in (3, 1, 2):
        make(path, tmp_path / "two", shard=(number, 3))
    for number in (1, 2, 3):
        name = f"shard-{number:05d}-of-00003"
        assert files_equal(tmp_path / "one" / name, tmp_path / "two" / name)


def files_equal(one: Path, other: Path) -> bool:
    return {k: v[1] for k, v in files_of(one).items()} == {k: v[1] for k, v in files_of(other).items()}


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path, out = lines_in(tmp_path, 20_000), tmp_path / "out"
    command = [sys.executable, "-m", "textgen", "corpus", "prepare"]
    command += [str(path), "--out", str(out), "--documents", "line"]
    command += ["--tokenizer", "byte"]
    make(path, out, shard=(1, 12))
    with child_process(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        while not list(out.glob("shard-00003*")):
            assert process.poll() is None, "it should take longer"
            time.sleep(0.002)
        process.kill()
    before = files_of(out)
    done = len(list(out.glob(f"shard-*/{MANIFEST}")))
    assert 3 <= done < 12
    said: list[str] = []
    prepared = prepare_corpus([str(path)], out, say=said.append)
    assert sum(line.endswith("already exists.") for line in said) == done
    kept = {name: value for name, value in files_of(out).items() if name in before}
    assert kept == {name: value for name, value in before.items() if not name.startswith(".tmp-")}
    assert not list(out.glob(".tmp-*")), "what the kill left is swept"
    whole = make(path, tmp_path / "whole", settings={"shards": 12})
    assert np.array_equal(prepared.data().train.counts, whole.data().train.counts)


def test_a_second_program_leaves_the_shard_that_the_first_is_making(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out, seen = lines_in(tmp_path), tmp_path / "out", list[int]()
    make(path, out, shard=(2, 3))

    def meanwhile(parts: Any, tokenizer: Tokenizer, folder: Path, **options: Any) -> None:
        def slowly() -> Iterator[Any]:
            for number, part in enumerate(parts):
                if number == 5:
                    monkeypatch.setattr("textgen.dataset.corpus_preparation.encode_parts", encode_parts)
                    seen.append(len(list(out.glob(".tmp-new-shard-00001-*"))))
                    make(path, out, shard=(1, 3))
                    seen.append(len(list(out.glob(".tmp-new-shard-00001-*"))))
                yield part

        encode_parts(slowly(), tokenizer, folder, **options)

    monkeypatch.setattr("textgen.dataset.corpus_preparation.encode_parts", meanwhile)
    make(path, out)
    assert seen == [1, 1], "it is still there"
    assert PreparedCorpus(out).missing() == []
    assert PreparedCorpus(out).data().train.summary.documents > 50
    assert not list(out.glob(".tmp-*"))


def test_a_shard_that_another_program_has_made_meanwhile_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out, said, made = lines_in(tmp_path), tmp_path / "out", list[str](), list[dict[str, Any]]()

    def meanwhile(parts: Any, tokenizer: Tokenizer, folder: Path, **options: Any) -> None:
        def slowly() -> Iterator[Any]:
            yield from parts
            monkeypatch.setattr("textgen.dataset.corpus_preparation.encode_parts", encode_parts)
            make(path, out)
            made.append(files_of(out))

        encode_parts(slowly(), tokenizer, folder, **options)

    monkeypatch.setattr("textgen.dataset.corpus_preparation.encode_parts", meanwhile)
    make(path, out, say=said.append)
    shards, shards_then = (
        [each for each in sorted(files.items()) if each[0].startswith("shard-")] for files in (files_of(out), made[0])
    )
    assert shards == shards_then
    assert [line for line in said if line.startswith("Shard ")][1:] == [
        "Shard 2 of 3 already exists.",
        "Shard 3 of 3 already exists.",
    ]


def test_a_shard_of_a_file_that_changes_meanwhile_is_not_kept(tmp_path: Path) -> None:
    path, out = lines_in(tmp_path), tmp_path / "out"
    make(path, out, shard=(1, 3))

    def change(line: str) -> None:
        if line.startswith("Shard 2"):
            os.utime(path, (1, 1))

    with pytest.raises(CorpusError, match=r"text\.txt changed while it was read"):
        make(path, out, say=change)
    assert PreparedCorpus(out).missing() == [3]
    make(path, out)
    assert PreparedCorpus(out).missing() == []


def test_a_folder_is_not_continued_with_text_that_has_moved(tmp_path: Path) -> None:
    """The size, the beginning, the middle and the end of the file stay as they are."""
    path, out = lines_in(tmp_path, 40_000), tmp_path / "out"
    make(path, out, shard=(1, 3))
    assert path.stat().st_size > 8 * GLANCE_BYTES
    lines = path.read_bytes().splitlines(keepends=True)
    first, last = len(lines) // 5, len(lines) * 2 // 5
    path.write_bytes(b"".join([*lines[:first], *reversed(lines[first:last]), *lines[last:]]))
    for shard in ({"shard": (2, 3)}, {"shard": (3, 3)}, {}):
        with pytest.raises(ConfigError, match=r"has changed since shard 1 of .*out was made: .*shard-00001-of-00003"):
            make(path, out, **shard)
    shutil.rmtree(out / "shard-00001-of-00003")
    data = make(path, out).data()
    assert data.train.summary.documents + data.valid.summary.documents == 40_000


def test_documents_that_begin_elsewhere_far_from_a_border_are_noticed(tmp_path: Path) -> None:
    """A line around the border is longer than what is hashed there, and the next shard is the one that is there."""
    path, out = tmp_path / "text.txt", tmp_path / "out"
    half, long = b"one line of text\n" * 40_000, 4 * GLANCE_BYTES
    path.write_bytes(half + b"a" * long + b"\n" + half)
    make(path, out, shard=(2, 2), settings={"shards": 2})
    data = path.read_bytes()
    place = len(half) + long * 7 // 8
    path.write_bytes(data[:place] + b"\n" + data[place + 1 :])
    with pytest.raises(ConfigError, match="has changed since shard 2"):
        make(path, out, settings={"shards": 2})


def test_a_shard_that_a_neighbour_has_made_of_other_text_meanwhile_is_noticed(tmp_path: Path) -> None:
    path, out = lines_in(tmp_path, 40_000), tmp_path / "out"
    lines = path.read_bytes().splitlines(keepends=True)
    first, last = len(lines) * 3 // 5, len(lines) * 4 // 5

    def other(line: str) -> None:
        if line.startswith("Shard 1"):
            (tmp_path / "elsewhere").mkdir()
            moved = tmp_path / "elsewhere" / "text.txt"
            moved.write_bytes(b"".join([*lines[:first], *reversed(lines[first:last]), *lines[last:]]))
            make(moved, out, shard=(3, 3))

    with pytest.raises(ConfigError, match="has changed since shard 3"):
        make(path, out, say=other)
    assert PreparedCorpus(out).missing() == [2]


def test_shards_of_versions_that_did_not_note_their_text_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = lines_in(tmp_path), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(corpus_preparation, "TEXT", "prepared")
        patch.setattr(Corpus, "section_glance", lambda *_: PreparedCorpus(out).settings.digest())
        make(path, out, shard=(1, 3))
    assert TEXT not in json.loads((out / "shard-00001-of-00003" / SUMMARY).read_text(encoding="utf-8"))
    assert make(path, out).missing() == []


def test_whoever_begins_second_takes_over_the_vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, said = lines_in(tmp_path), list[str]()

    def meanwhile(corpus: Corpus, config: TokenizerConfig) -> Tokenizer:
        monkeypatch.setattr("textgen.dataset.corpus_preparation.learn_vocabulary", learn_vocabulary)
        make(path, tmp_path / "out", shard=(1, 3), settings={"tokenizer": "char"})
        return train_tokenizer(["another vocabulary"], TokenizerConfig("char"))

    monkeypatch.setattr("textgen.dataset.corpus_preparation.learn_vocabulary", meanwhile)
    prepared = make(path, tmp_path / "out", shard=(2, 3), settings={"tokenizer": "char"}, say=said.append)
    assert f"{tmp_path / 'out'} was started by another process: its vocabulary is used." in said
    assert prepared.missing() == [3]
    make(path, tmp_path / "out", shard=(3, 3), settings={"tokenizer": "char"})
    found = texts_of(prepared.data().train, prepared.tokenizer)
    assert set(found) <= set(Corpus([path], CorpusConfig(documents="line")).documents())


def test_whoever_finds_the_folder_begun_while_reading_the_corpus_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, said = lines_in(tmp_path), list[str]()

    def slowly(*arguments: Any, **options: Any) -> Corpus:
        monkeypatch.setattr("textgen.dataset.corpus_preparation.Corpus", Corpus)
        make(path, tmp_path / "out", shard=(1, 3), settings={"tokenizer": "char"})
        return Corpus(*arguments, **options)

    monkeypatch.setattr("textgen.dataset.corpus_preparation.Corpus", slowly)
    prepared = make(path, tmp_path / "out", shard=(2, 3), settings={"tokenizer": "char"}, say=said.append)
    assert said[0] == f"{tmp_path / 'out'} was started by another process: its vocabulary is used."
    assert prepared.missing() == [3]


@pytest.mark.parametrize("paths", [["news"], ["."], ["news/*"], ["news/**/*.json", "news/a.txt"], ["news", "news/out"]])
def test_a_folder_within_its_corpus_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paths: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "news").mkdir()
    lines_in(tmp_path / "news", name="a.txt")
    (tmp_path / "news" / "b.json").write_text('["more"]')
    settings = {"documents": "line", **BYTE}
    for number in (1, 2, 3):
        prepare_corpus(
            [path for path in paths if Path(path).exists() or "*" in path],
            Path("news/out"),
            settings,
            shard=(number, 3),
        )
    before = files_of(tmp_path / "news" / "out")
    prepared = prepare_corpus(paths, tmp_path / "news" / "out")
    assert prepared.missing() == []
    assert files_of(tmp_path / "news" / "out") == before
    with pytest.raises(CorpusError, match=r"^news/out is a prepared corpus"):
        prepare_corpus(["news/out"], Path("news/out"))
    (tmp_path / "news" / "out").rename(tmp_path / "news" / "moved")
    with pytest.raises(CorpusError, match="news/moved is a prepared corpus"):
        prepare_corpus(paths, Path("news/out"), settings)


@pytest.mark.parametrize("kind", ["byte", "char"])
def test_no_shard_is_made_of_a_corpus_without_text(tmp_path: Path, kind: str) -> None:
    rows = [json.dumps({"content": f"text {number:06d}"}) for number in range(10_000)]
    (tmp_path / "texts.jsonl").write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(CorpusError, match=r"no field 'text' in any record\. Set text_field to .*: content\."):
        make(tmp_path / "texts.jsonl", tmp_path / "out", settings={"tokenizer": kind, "sample_bytes": 10_000})
    assert not (tmp_path / "out").exists()


# --- What is wrong is named --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"documents": "blank-line"}, "documents 'line', not 'blank-line'"),
        ({"tokenizer": "bpe"}, "tokenizer 'byte', not 'bpe'"),
        ({"vocab_size": 300}, "vocab_size 259, not 300"),
        ({"valid_fraction": 0.3}, r"valid_fraction 0\.1, not 0\.3"),
        ({"shards": 4}, "shards 3, not 4"),
        ({"seed": 1}, "seed 0, not 1"),
        ({"newlines": "keep"}, "newlines 'normalize', not 'keep'"),
    ],
)
def test_settings_that_contradict_the_folder(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    path = lines_in(tmp_path)
    make(path, tmp_path / "out")
    before = files_of(tmp_path / "out")
    with pytest.raises(ConfigError, match=message):
        prepare_corpus([str(path)], tmp_path / "out", settings)
    assert files_of(tmp_path / "out") == before


def test_another_vocabulary_and_another_corpus_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = lines_in(tmp_path)
    make(path, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"another vocabulary \(259 tokens, byte\) than this one"):
        prepare_corpus([str(path)], tmp_path / "out", tokenizer=tokenizer)
    flip(path)
    with pytest.raises(ConfigError, match="started with another corpus"):
        prepare_corpus([str(path)], tmp_path / "out")


@pytest.mark.parametrize("shards", [0, -1, 100_000, 1_000_000_000])
def test_shards_are_as_many_as_can_be(tmp_path: Path, shards: int) -> None:
    with pytest.raises(ConfigError, match=f"shards must be a whole number from 1 to 99,999. Received: {shards}"):
        make(lines_in(tmp_path), tmp_path / "out", settings={"shards": shards})


def test_a_number_of_shards_that_does_not_print_is_refused_as_others_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"from 1 to 99,999\. Received: int of great size\."):
        make(lines_in(tmp_path), tmp_path / "out", settings={"shards": 10**5000})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shard", [(0, 3), (4, 3), (-1, 3), (0, 0)])
def test_shards_are_counted_from_one(tmp_path: Path, shard: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="numbered from 1"):
        make(lines_in(tmp_path), tmp_path / "out", shard=shard)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = lines_in(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".DS_Store").touch()
    make(path, tmp_path / "out")  # one that is empty but for what a desktop has put there will do
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(CorpusError, match="exists and is not a prepared corpus"):
        make(path, tmp_path / "full")
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["letter.txt"]


def test_a_corpus_is_prepared_where_a_link_leads(tmp_path: Path) -> None:
    path = lines_in(tmp_path)
    (tmp_path / "disk").mkdir()
    for name in ("disk", "new"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(name)
        assert make(path, tmp_path / "link").missing() == []
        assert (tmp_path / "link").is_symlink()
        assert PreparedCorpus(tmp_path / name).missing() == []


def test_a_place_that_cannot_be_written_is_known_before_the_vocabulary_is_learned(tmp_path: Path) -> None:
    said = list[str]()
    with pytest.raises(TextgenError, match="Choose a name of at most 229 bytes"):
        make(lines_in(tmp_path), tmp_path / ("n" * 240), settings={"tokenizer": "char"}, say=said.append)
    assert said == []


@pytest.mark.parametrize(
    ("path", "out"),
    [
        ("poems", "poems"),
        ("poems/", "poems"),
        ("link", "poems"),
        ("poems", "link"),
        ("poems/text.txt", "poems"),
        (".", "."),
    ],
)
def test_a_folder_that_holds_the_text_itself_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, out: str
) -> None:
    (tmp_path / "poems").mkdir()
    lines_in(tmp_path / "poems")
    (tmp_path / "link").symlink_to("poems")
    monkeypatch.chdir(tmp_path)
    expected = f"^{re.escape(out)} holds the text itself: name another folder to write\\.$"
    with pytest.raises(CorpusError, match=expected):
        prepare_corpus([path], Path(out), {"documents": "line", **BYTE})
    assert [file.name for file in (tmp_path / "poems").iterdir()] == ["text.txt"]


def test_two_numbers_of_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Two numbers of shards are given, 8 and 16: leave shards out"):
        make(lines_in(tmp_path), tmp_path / "out", shard=(3, 16), settings={"shards": 8})


def test_one_shard_is_what_training_encodes_itself(tmp_path: Path) -> None:
    path = lines_in(tmp_path)
    prepared = make(path, tmp_path / "out", settings={"shards": 1, "tokenizer": "char"})
    corpus = Corpus([path], CorpusConfig(documents="line"))
    data = encode_and_split(corpus, prepared.tokenizer)
    for split in ("train", "valid"):
        ours, others = getattr(prepared.data(), split), getattr(data, split)
        assert ours.summary.documents == others.summary.documents
    assert np.array_equal(
        prepared.data().train.counts + prepared.data().valid.counts, data.train.counts + data.valid.counts
    )
    stats, counted = prepared.stats(), corpus.stats()
    assert (stats.documents, stats.characters, stats.bytes) == (counted.documents, counted.characters, counted.bytes)


def test_files_that_are_left_out_are_named(tmp_path: Path) -> None:
    for shard in (1, 2):  # the second goes on in a folder that is there
        said: list[str] = []
        (tmp_path / "texts").mkdir(exist_ok=True)
        lines_in(tmp_path / "texts")
        (tmp_path / "texts" / "picture.png").write_bytes(b"\x89PNG\0\0")
        make(tmp_path / "texts", tmp_path / "out", shard=(shard, 2), say=said.append)
        assert said[0] == f"Skipped {tmp_path / 'texts' / 'picture.png'}: it looks like a binary file."


def test_a_prepared_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, said = lines_in(tmp_path), list[str]()
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    with pytest.raises(TextgenError, match=r"Cannot write \.: it is a folder that exists\. Choose a name\."):
        make(path, Path("."), say=said.append)
    assert (said, list(Path().iterdir())) == ([], [])


@pytest.mark.parametrize("shards", [0, -1, 2.0, "3", True])
def test_a_number_of_shards_that_cannot_be_is_refused_before_anything_is_made(tmp_path: Path, shards: Any) -> None:
    (tmp_path / "text.txt").write_text("A line.\n" * 50, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"shards must be a whole number from 1 to 99,999\. Received: "):
        prepare_corpus([str(tmp_path / "text.txt")], tmp_path / "out", {"shards": shards, "tokenizer": "byte"})
    assert not (tmp_path / "out").exists()
