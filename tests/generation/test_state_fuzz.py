"""Files of states and of n-grams that were damaged at random: one clear line, or what a sound file would have given."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_fakes import TableModel, WordsTokenizer

from textgen.dataset.ngram_index import ABOUT, NgramIndex, read_index
from textgen.errors import SavedModelError, TextgenError
from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Generator
from textgen.generation.text_state import TextState

TOKENIZER = WordsTokenizer(["The", " cat"])
V = TOKENIZER.vocab_size
CONFIG = SamplingConfig(temperature=0.0, max_tokens=3, heal=False)
GENERATOR = Generator(TableModel(V), TOKENIZER, fingerprint="this one")
TYPES = {
    "F32": 4,
    "F64": 8,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "U8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,
    "C64": 8,
    "X": 4,
}
VALUES: list[Any] = [
    0, 1, -1, 2.5, 1e300, 1 << 70, math.nan, None, True, "3", [], [3], [3.0], [True], {}, {"a": 1}, "\ud800", "x" * 99,
]  # fmt: skip
ROUNDS, MANY = 300, 10_000


def parts_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and arrays of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def file_of(header: Any, arrays: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + arrays


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes that are changed, lost or added, or a header that says something else."""
    if rng.random() < 0.3:
        place = rng.randrange(len(data))
        changed = bytes(rng.randrange(256) for _ in range(rng.randrange(4)))
        return data[:place] + changed + data[place + rng.randrange(4) :]
    header, arrays = parts_of(data)
    for _ in range(rng.randint(1, 2)):
        name = rng.choice(list(header))
        if name == "__metadata__":
            about = header[name]
            about[rng.choice([*about, "other"])] = _text(about, rng)
        elif rng.random() < 0.2:
            header[rng.choice([*header, "ids", "memory/7", "bits_1"])] = header.pop(name)
        else:
            header[name] = _array(header[name], rng)
    ends = [each["data_offsets"][1] for name, each in header.items() if name != "__metadata__"]
    return file_of(header, arrays.ljust(max([len(arrays), *ends]), b"\x01"))


def _text(about: dict[str, Any], rng: random.Random) -> str:
    """Another value of the metadata: any text, or JSON of which one value is changed."""
    if ABOUT not in about or rng.random() < 0.3:
        return str(rng.choice(VALUES)).encode(errors="replace").decode()
    return json.dumps({"ngram": 6, "hashes": [11]} | {rng.choice(["ngram", "hashes"]): rng.choice(VALUES)})


def _array(entry: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Another type or shape, and as many bytes as they take."""
    shape, kind = list(entry["shape"]), entry["dtype"]
    if rng.random() < 0.5:
        kind = rng.choice(list(TYPES))
    else:
        shape = [rng.choice([0, 1, 2, 3, 5, 1 << 11, 1 << 40]) for _ in range(rng.randrange(4))]
    start = entry["data_offsets"][0]
    size = math.prod(shape) * TYPES[kind]
    return {"dtype": kind, "shape": shape, "data_offsets": [start, start + min(size, 1 << 16)]}


def use_state(path: Path) -> None:
    state = GENERATOR.load_state(path)
    assert len(list(GENERATOR.tokens("", CONFIG, state))) <= 3


def use_index(path: Path) -> None:
    index = read_index(path)
    ids = np.arange(40, dtype=np.int32)
    assert index.contains(ids).dtype == bool
    assert 0.0 <= index.false_positive_rate <= 1.0


def good_state(path: Path) -> None:
    GENERATOR.save_state(path, GENERATOR.read("The cat"))


def good_index(path: Path) -> None:
    path.write_bytes(NgramIndex.build([np.arange(50)], 6, 50, TOKENIZER.eos_id).to_bytes())


def count_errors(path: Path, kind: str, rounds: int) -> int:
    """How many of `rounds` damaged files are refused, each in one line; the others can be used."""
    (good_state if kind == "state" else good_index)(path)
    use, sound, errors = (use_state if kind == "state" else use_index), path.read_bytes(), list[str]()
    use(path)
    for number in range(rounds):
        path.write_bytes(damaged(sound, random.Random(number)))
        try:
            use(path)
        except SavedModelError as error:
            errors.append(str(error))
    assert not [line for line in errors if "\n" in line]
    return len(errors)


@pytest.mark.parametrize("kind", ["state", "index"])
def test_damaged_files_are_one_line(tmp_path: Path, kind: str) -> None:
    assert count_errors(tmp_path / "file", kind, ROUNDS) > ROUNDS / 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["state", "index"])
def test_many_damaged_files_are_one_line(tmp_path: Path, kind: str) -> None:
    assert count_errors(tmp_path / "file", kind, MANY) > MANY / 2


MODEL_STATE = GENERATOR.start().model_state
STATES: list[tuple[str, Any]] = [
    ("no state", None), ("model state alone", MODEL_STATE), ("no model state", TextState(None, (2,))),
    ("a list of ids", TextState(MODEL_STATE, [2])), ("no ids", TextState(MODEL_STATE, ())),  # type: ignore[arg-type]
    ("no whole numbers", TextState(MODEL_STATE, (2.0,))), ("no piece", TextState(MODEL_STATE, (V,))),  # type: ignore[arg-type]
    ("below 0", TextState(MODEL_STATE, (-1,))), ("an array", TextState(MODEL_STATE, np.array([2]))),  # type: ignore[arg-type]
    ("two rows", TextState(((np.zeros((2, 1), np.int64),), np.zeros((2, 3), np.float32)), (2,))),
    ("another type", TextState(((np.zeros((1, 1), np.int32),), np.zeros((1, 3), np.float32)), (2,))),
    ("another nest", TextState((np.zeros((1, 1), np.int64), np.zeros((1, 3), np.float32)), (2,))),
    ("a number for a model", TextState(MODEL_STATE, (2,), 5)),  # type: ignore[arg-type]
    ("objects", TextState(((np.array([[None]]),), np.zeros((1, 3), np.float32)), (2,))),
]  # fmt: skip


@pytest.mark.parametrize(("name", "state"), STATES, ids=[name for name, _ in STATES])
def test_objects_that_are_no_states_are_one_line(tmp_path: Path, name: str, state: Any) -> None:
    with pytest.raises(TextgenError, match=r"^The state is damaged") as caught:
        GENERATOR.save_state(tmp_path / "state", state)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "state").exists()
    if state is not None:
        for use in (GENERATOR.tokens, GENERATOR.read, GENERATOR.row):
            with pytest.raises(SavedModelError, match=r"^The state is damaged"):
                use("The", start=state)
