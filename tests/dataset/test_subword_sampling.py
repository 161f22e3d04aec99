"""Text in other pieces: nothing is lost, the same each time that it should be, another cut where it should not be."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest
from streams import texts_of
from vocabularies import pieces_of

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset import subword_sampling, token_writer
from textgen.dataset.batches import Batches
from textgen.dataset.subword_sampling import SampledStream, parts_of, require_sampling
from textgen.dataset.token_cache import encode_and_split
from textgen.dataset.token_stream import TokenStream
from textgen.errors import ConfigError
from textgen.storage import leftovers
from textgen.storage.cache_folder import cache_folder
from textgen.tokenizer.kinds import SentencePieceTokenizer
from textgen.tokenizer.tokenizer import Tokenizer

LINE = "the moon and the river sang the old song of rain, and the fox listened to the singing river\n"
DOCUMENTS = [LINE * 3, "▁ is\ta sign\n\n  moon  river", "床前明月光 é 🌙", LINE, "singing " * 40]


EPOCH_OF = """
import json, sys
from pathlib import Path
from textgen.dataset.subword_sampling import SampledStream
from textgen.dataset.token_stream import TokenStream
from textgen.tokenizer.model_file import read_tokenizer
stream = TokenStream(Path(sys.argv[1]), "train")
sampled = SampledStream(stream, read_tokenizer(sys.argv[2]), 0.2, seed=7)
epoch = sampled.of_epoch(2)
print(json.dumps(epoch.read(0, len(epoch)).tolist()))
"""
TOKENIZERS = {kind: pieces_of(kind, DOCUMENTS * 4, vocab_size=300) for kind in ("unigram", "bpe")}


@pytest.fixture(params=list(TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest) -> SentencePieceTokenizer:
    return TOKENIZERS[request.param]


def stream_in(folder: Path, tokenizer: Tokenizer) -> TokenStream:
    for number, document in enumerate(DOCUMENTS * 5):
        (folder / f"{number:02}.txt").write_text(document, encoding="utf-8")
    return encode_and_split(Corpus([folder], CorpusConfig(documents="file")), tokenizer, cache=folder / "cache").train


def test_each_epoch_is_the_same_text_in_other_pieces(
    tokenizer: SentencePieceTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = stream_in(tmp_path, tokenizer)
    sampled = SampledStream(plain, tokenizer, 0.2, seed=7)
    texts = texts_of(plain, tokenizer)
    ids = []
    for number in range(3):
        epoch = sampled.of_epoch(number)
        ids.append(epoch.read(0, len(epoch)).tolist())
        assert texts_of(epoch, tokenizer) == texts
        assert len(epoch) > len(plain)
        assert epoch.summary.bytes == plain.summary.bytes
    assert ids[0] != ids[1] != ids[2] != ids[0]
    np.testing.assert_array_equal(sampled.read(0, len(sampled)), plain.read(0, len(plain)))

    for seed in (7, 8):  # as a resumed run finds it, without the epochs before
        again = SampledStream(plain, tokenizer, 0.2, seed)
        epoch = again.of_epoch(2)
        assert (epoch.read(0, len(epoch)).tolist() == ids[2]) == (seed == 7)
    monkeypatch.setattr(token_writer, "ENCODE_CHARACTERS", 100)  # many batches
    again = SampledStream(plain, tokenizer, 0.2, seed=7)
    epoch = again.of_epoch(2)
    assert epoch.read(0, len(epoch)).tolist() == ids[2]
    monkeypatch.setattr(subword_sampling, "READ", 50)
    parts = list(parts_of(plain, tokenizer))
    assert len(parts) > len(texts) == sum(part.ends_document for part in parts)
    assert "".join(part.text for part in parts) == "".join(texts)


def test_an_epoch_is_read_after_the_working_directory_has_changed(
    tokenizer: SentencePieceTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = stream_in(tmp_path, tokenizer)
    monkeypatch.setenv("TEXTGEN_CACHE", "cache")
    monkeypatch.chdir(tmp_path)
    sampled = SampledStream(plain, tokenizer, 0.2, seed=7)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    epoch = sampled.of_epoch(0)
    assert texts_of(epoch, tokenizer) == texts_of(plain, tokenizer)
    del sampled, epoch
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_new_process_reads_the_same_epoch(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    """So a resumed run, and each process of a run, goes on in the same ring."""
    plain, model = stream_in(tmp_path, tokenizer), tmp_path / "own.model"
    tokenizer.save(model)
    sampled = SampledStream(plain, tokenizer, 0.2, seed=7)
    epoch = sampled.of_epoch(2)
    result = subprocess.run(
        [sys.executable, "-c", EPOCH_OF, str(plain.folder), str(model)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == epoch.read(0, len(epoch)).tolist()


def test_batches_read_the_pieces_of_their_epoch(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    sampled = SampledStream(stream_in(tmp_path, tokenizer), tokenizer, 0.2, seed=7)
    batches = Batches(sampled, 3, 8, tokenizer.pad_id, seed=7)
    for epoch in (0, 1):
        stream = sampled.of_epoch(epoch)
        read = np.concatenate([inputs[inputs != 0] for inputs, _ in batches.epoch(epoch)])
        assert sorted(read.tolist()) == sorted(stream.read(0, len(stream)).tolist())
        assert len(list(batches.epoch(epoch))) == batches.steps_in(epoch)
    (whole, _), *_ = batches.epoch(1, 4)
    np.testing.assert_array_equal(whole, list(batches.epoch(1))[4][0])


def test_what_is_kept_on_the_disk_is_two_epochs_and_then_nothing(
    tokenizer: SentencePieceTokenizer, tmp_path: Path
) -> None:
    sampled = SampledStream(stream_in(tmp_path, tokenizer), tokenizer, 0.2, seed=7)
    for epoch in range(4):
        assert sampled.of_epoch(epoch) is sampled.of_epoch(epoch)
    (folder,) = cache_folder().glob("epochs-*")
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3"]
    del sampled
    assert not list(cache_folder().glob("epochs-*"))


def test_epochs_that_a_killed_run_left_are_swept_and_those_of_others_are_not(
    tokenizer: SentencePieceTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "YOUNG_SECONDS", -1.0)
    left, others = (
        cache_folder() / "epochs-ab_12345",
        [cache_folder() / name for name in ("epochs-50", "epochs-20260101")],
    )
    for folder in (left, *others):
        (folder / "7").mkdir(parents=True)
        (folder / "7" / "train.bin").write_bytes(b"12345")
    (others[1] / "7" / "weights.pt").write_bytes(b"of another program")
    stream = stream_in(tmp_path, tokenizer)
    first = SampledStream(stream, tokenizer, 0.2, seed=7)
    (folder,) = set(cache_folder().glob("epochs-*")) - {*others}
    assert folder != left
    second = SampledStream(stream, tokenizer, 0.2, seed=7)
    assert len(list(cache_folder().glob("epochs-*"))) == 2 + len(others)
    assert all((folder / "7" / "train.bin").exists() for folder in others)
    assert len(first.of_epoch(0)) == len(second.of_epoch(0)) > 0


@pytest.mark.parametrize("kind", ["char", "word", "byte"])
def test_vocabularies_with_one_way_to_cut_are_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"subword_alpha needs .* unigram or bpe: {kind} has one way"):
        require_sampling(kind)


def test_labels_stay_with_their_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subword_sampling, "READ", 7)  # documents are read in several parts
    songs = [f"{'a' if number % 3 else 'b'},moon river {number}" for number in range(40)]
    rows = ["by,text", *songs, *[",no one's"] * 9]
    (tmp_path / "songs.csv").write_text("\n".join(rows), encoding="utf-8")
    corpus = Corpus([tmp_path / "songs.csv"], CorpusConfig(labels="by"))
    tokenizer = TOKENIZERS["unigram"].with_labels(["a", "b"])
    stream = encode_and_split(corpus, tokenizer, cache=tmp_path / "cache").train
    sampled = SampledStream(stream, tokenizer, 0.1, seed=1)
    drawn = sampled.of_epoch(0)
    assert drawn.first_label == stream.first_label is not None
    texts = [[(part.label, part.text) for part in parts_of(each, tokenizer)] for each in (stream, drawn)]
    joined = [joined_by_label(parts) for parts in texts]
    assert joined[0] == joined[1]
    assert {label for label, _ in joined[0]} == {"a", "b", None}
    before, after = (each.read(0, len(each)) for each in (stream, drawn))
    assert np.array_equal(before[before >= tokenizer.first_label], after[after >= tokenizer.first_label])


def joined_by_label(parts: list[tuple[str | None, str]]) -> list[tuple[str | None, str]]:
    """Neighbours of one label put together: where parts of documents are cut does not matter."""
    return [(label, "".join(text for _, text in group)) for label, group in groupby(parts, key=itemgetter(0))]
