"""Prepared folders and encoded corpora from strangers, or damaged: one clear line, whatever is in them.

The damage is drawn at random from a seed: odd values and missing keys in the JSON, bits and lengths of the files. In
half of the cases the checksums are made to agree with it, as somebody would who means harm.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textgen.dataset.batches import Batches
from textgen.dataset.corpus_preparation import prepare_corpus
from textgen.dataset.prepared_corpus import PreparedCorpus
from textgen.dataset.token_cache import TokenData
from textgen.dataset.token_stream import TokenStream
from textgen.errors import CorpusError, TextgenError
from textgen.storage.file_reading import sha256
from textgen.storage.files import json_bytes
from textgen.storage.manifests import MANIFEST

ODD: list[Any] = [
    None, True, -1, 0, 1, 2, 3, 7, 259, 65536, 10**9, 10**30, -(10**18), 0.5, 1e308, float("nan"), float("inf"), "",
    "x", "/etc/passwd", "../..", "\0", "\ud800", "x" * 5000, [], [1], ["a", None], {}, {"a": 1}, [[[[]]]],
    "uint8", "object",
]  # fmt: skip


ENDS = ("told", "altered, with checksums that agree", "as before")


def changed(value: Any, lot: random.Random) -> Any:
    """The same JSON with something odd somewhere in it."""
    value = copy.deepcopy(value)
    place = value
    while isinstance(place, dict) and place:
        key = lot.choice(sorted(place))
        if isinstance(place[key], dict) and place[key] and lot.random() < 0.8:
            place = place[key]
            continue
        kind = lot.randrange(10)
        if kind == 0:
            del place[key]
        elif kind == 1:
            place[lot.choice(["more", "", "\ud800", "train", "__class__"])] = lot.choice(ODD)
        else:
            place[key] = lot.choice(ODD)
        return value
    return lot.choice(ODD)


def damage(path: Path, lot: random.Random) -> None:
    """Changes a file: its values, if it is JSON, or its bytes."""
    data = bytearray(path.read_bytes())
    if path.suffix == ".json" and lot.random() < 0.8:
        path.write_text(json.dumps(changed(json.loads(data), lot)), encoding="utf-8")
        return
    kind = lot.randrange(6)
    if kind == 0 and data:
        data[lot.randrange(len(data))] ^= 1 << lot.randrange(8)
    elif kind == 1:
        del data[lot.randrange(len(data) + 1) :]
    elif kind == 2:
        data += lot.randbytes(lot.choice([1, 2, 7, 8, 16, 4096]))
    elif kind == 3:
        data = bytearray(lot.randbytes(len(data)))
    elif kind == 4:
        data = bytearray(lot.choice([b"", b"{" * 200_000, b"[" * 200_000, b"1" * 5000, b"\xff\xfe", b"null", b'"x"']))
    else:
        at = lot.randrange(len(data) + 1)
        data[at : at + 8] = np.int64(lot.choice([-1, -(1 << 63), (1 << 63) - 1, 1 << 40, 0])).tobytes()
    path.write_bytes(bytes(data))


def agree(folder: Path) -> None:
    """Writes a manifest that is true of the files as they are."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
    entries = {path.name: {"size": path.stat().st_size, "sha256": sha256(path)} for path in files}
    (folder / MANIFEST).write_bytes(json_bytes({"files": entries}))


def everything(data: TokenData) -> Iterator[list[int]]:
    """Whatever can be read of it."""
    for stream in (data.train, data.valid):
        yield stream.read(0, len(stream)).tolist()
        yield stream.borders.tolist()
        yield stream.counts.tolist()
        yield stream.openings[0].ravel().tolist()
        for inputs, _ in Batches(stream, 2, 64, 0, seed=1).epoch(0):
            yield inputs.ravel().tolist()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared corpus of three shards with labels, of documents long enough to be opened inside."""
    folder = tmp_path_factory.mktemp("damage")
    lot = random.Random(0)
    for name in ("ann", "bob"):
        (folder / "texts" / name).mkdir(parents=True)
        text = "".join(f"{''.join(lot.choices('abcdefgh ', k=50))}\n" for _ in range(120))
        (folder / "texts" / name / "text.txt").write_text(text, encoding="utf-8")
    settings = {"shards": 3, "labels": "folder", "documents": "file", "tokenizer": "char"}
    prepare_corpus([str(folder / "texts")], folder / "prepared", settings)
    return folder


def survey(whole: Path, tmp_path: Path, cases: int, seed: int) -> Counter[str]:
    """How cases of damage end: told, or read as if nothing had happened. Anything but a `TextgenError` goes through."""
    ends = Counter[str]()
    sound = list(everything(PreparedCorpus(whole / "prepared").data()))
    for case in range(cases):
        lot, folder = random.Random(f"{seed} {case}"), tmp_path / "prepared"
        shutil.copytree(whole / "prepared", folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        path = lot.choice(files)
        before, is_sly = path.read_bytes(), path.name != MANIFEST and lot.random() < 0.5
        damage(path, lot)
        if is_sly:
            agree(path.parent)
        started = time.perf_counter()
        try:
            found = list(everything(PreparedCorpus(folder).data()))
            assert is_sly or found == sound, f"case {case}: {path.relative_to(folder)} was altered and nothing was said"
            ends[ENDS[2] if path.read_bytes() == before else ENDS[1]] += 1
        except TextgenError as error:
            line = str(error)
            ends["told" if "\n" not in line and len(line) < 12_000 else f"told badly, case {case}: {line}"] += 1
        assert time.perf_counter() - started < 20, f"case {case}: it takes too long"
        shutil.rmtree(folder)
    return ends


def test_damage_is_told_in_one_line(whole: Path, tmp_path: Path) -> None:
    ends = survey(whole, tmp_path, cases=100, seed=1)
    assert ends.total() == 100
    assert ends["told"] > 60, ends
    assert ends.keys() <= set(ENDS), ends


@pytest.mark.slow
def test_much_damage_is_told_in_one_line(whole: Path, tmp_path: Path) -> None:
    ends = survey(whole, tmp_path, cases=4_000, seed=2)
    print(dict(ends))
    assert ends.total() == 4_000
    assert ends["told"] > 2_400, ends
    assert ends.keys() <= set(ENDS), ends


def test_damage_of_the_cache_is_encoded_again(whole: Path, tmp_path: Path) -> None:
    """A folder in the cache is as it was, or is not taken."""
    shard = next((whole / "prepared").glob("shard-00002*"))
    sound = [stream.tolist() for stream in counts_and_ids(shard)]
    for case in range(100):
        lot, folder = random.Random(f"cache {case}"), tmp_path / "cached"
        shutil.copytree(shard, folder)
        path = lot.choice(sorted(folder.iterdir()))
        before = path.read_bytes()
        damage(path, lot)
        data = TokenData.cached(folder)
        is_same = path.name == MANIFEST or path.read_bytes() == before
        assert data is None or is_same, f"case {case}: {path.name}"
        if data:
            assert [stream.tolist() for stream in counts_and_ids(folder)] == sound, f"case {case}"
        shutil.rmtree(folder)


def counts_and_ids(folder: Path) -> list[np.ndarray]:
    streams = [TokenStream(folder, split) for split in ("train", "valid")]
    return [array for stream in streams for array in (stream.counts, stream.read(0, len(stream)))]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seed", None, "it lacks 'seed'"),
        ("glance", 5, "glance should be a string, not 5"),
        ("paths", ["a.txt", 5], r"paths\[1\] should be a string, not 5"),
        ("tokenizer", [], "tokenizer should be an object, not a list"),
        ("corpus", {"documents": None}, "documents and vocab_size must be set"),
        ("sed", 5, "There is no setting 'sed'.*"),
    ],
)
def test_settings_that_are_missing_unknown_or_of_another_kind_are_told(
    whole: Path, tmp_path: Path, name: str, value: object, message: str
) -> None:
    folder = tmp_path / "prepared"
    shutil.copytree(whole / "prepared", folder)
    values = json.loads((folder / "prepared.json").read_bytes())
    changed = {each: of for each, of in {**values, name: value}.items() if of is not None}
    (folder / "prepared.json").write_bytes(json_bytes(changed))
    agree(folder)
    with pytest.raises(CorpusError, match=rf"prepared\.json is damaged: {message}\. Prepare the corpus again\.$"):
        PreparedCorpus(folder)


@pytest.mark.parametrize("shards", [0, -1, 10**9, "3", 2.0, True, None])
def test_a_number_of_shards_that_cannot_be_is_told_at_once(whole: Path, tmp_path: Path, shards: object) -> None:
    folder = tmp_path / "prepared"
    shutil.copytree(whole / "prepared", folder)
    values = json.loads((folder / "prepared.json").read_bytes())
    (folder / "prepared.json").write_bytes(json_bytes(values | {"shards": shards}))
    agree(folder)
    with pytest.raises(
        TextgenError, match=r"prepared\.json is damaged: shards (must|should) be .* Prepare the corpus again"
    ):
        PreparedCorpus(folder).data()
