"""Files that somebody has altered, at random but the same each time: one clear line, never a traceback or a hang.

The manifest agrees with what was altered: whoever makes a folder makes its checksums, too.
"""

from __future__ import annotations

import functools
import json
import operator
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from runs import SETTINGS, folder, plan, text  # noqa: F401 - fixtures
from safetensors.numpy import save as to_safetensors

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.errors import TextgenError
from textgen.export.pytorch import from_torch, read_torch
from textgen.saved_model.compression import compress, record_of_copy
from textgen.saved_model.layout import (
    CHECKPOINTS,
    CONFIG,
    FLOAT32,
    POSITION,
    PRECISIONS,
    TENSORS,
    TRAINING,
    WEIGHTS,
    read_training,
    shown_record,
)
from textgen.saved_model.loading import load_model
from textgen.saved_model.model_card import model_card
from textgen.saved_model.saving import save_model
from textgen.settings import read_toml
from textgen.storage.files import write_file
from textgen.storage.manifests import MANIFEST, update_folder
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.training.checkpoints import newest_checkpoint
from textgen.training.planning.plan import Hardware, make_plan
from textgen.training.resumption import ResumeSources, read_run

SEED = 20
ROUNDS = [40, pytest.param(1500, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
ODD: list[Any] = [
    None, True, 0, -1, 5, 1.5, 1e308, float("nan"), float("inf"), 10**40, -(10**40), "", "x", "\0", "\udce9", "月" * 50,
    [], [1], [[]], {}, {"a": 1}, "../../etc/passwd", "/dev/zero", [None] * 3, {"": {}}, 2**63, 0.1, "finished: ",
]  # fmt: skip
RAW = [b"", b"{", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"null", b"1" * 10_000, b"[]", b'"x"', b"{}" * 3]


class Told:
    """How many of the altered files were accepted, and how many refused in a line."""

    accepted = refused = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """The block may end with a `TextgenError` of one line; every other error is a bug."""
        line = ""
        try:
            yield
        except TextgenError as error:
            line = str(error)
            self.refused += 1
        else:
            self.accepted += 1
        assert not line or ("\n" not in line and 20 < len(line) < 3000), line


def altered(value: Any, lot: random.Random) -> Any:
    """A copy of JSON values with one of them, anywhere, replaced, left out, doubled or added."""
    copy = json.loads(json.dumps(value))
    holder: Any = None
    key: Any = None
    parts = copy
    while isinstance(parts, (dict, list)) and parts and lot.random() < 0.85:
        holder, key = parts, lot.choice(list(parts)) if isinstance(parts, dict) else lot.randrange(len(parts))
        parts = parts[key]
    if holder is None:
        return lot.choice(ODD)
    action = lot.randrange(6)
    if action == 0:
        del holder[key]
    elif action == 1 and isinstance(holder, dict):
        holder[lot.choice(["x", "", "__class__", "url"])] = lot.choice(ODD)
    else:
        holder[key] = lot.choice(ODD)
    return copy


def altered_json(data: bytes, lot: random.Random) -> bytes:
    """The same of a file, or something that is no JSON, or with some bytes changed."""
    kind = lot.randrange(8)
    if kind == 0:
        return lot.choice(RAW)
    if kind == 1:
        other = bytearray(data)
        for _ in range(lot.randrange(1, 4)):
            other[lot.randrange(len(other))] = lot.randrange(256)
        return bytes(other)
    return json.dumps(altered(json.loads(data), lot)).encode(errors="replace")


def altered_tensors(data: bytes, lot: random.Random) -> bytes:
    """A safetensors file with another header, or cut, or with other numbers."""
    length = int.from_bytes(data[:8], "little")
    header = altered_json(data[8 : 8 + length], lot)
    if lot.randrange(4) == 0:
        sound = lot.choice([b'"F32"', b'"I8"', b'"F16"'])
        header = header.replace(sound, lot.choice([b'"F8_E4M3"', b'"BF16"', b'"F64"', b'"I64"', b'"BOOL"', b'"F4"']))
    size = lot.choice([len(header)] * 8 + [0, 1 << 62, len(header) + 1])
    return size.to_bytes(8, "little") + header + data[8 + length :][: lot.choice([None, None, None, -1, 0])]


def test_models(folder: Path) -> None:  # noqa: F811
    """What the tests below take for sound is."""
    assert load_model("songs").weights()
    assert read_run(folder, {}, ResumeSources(), print).data
    assert newest_checkpoint(folder / CHECKPOINTS)


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("name", [CONFIG, TRAINING, MANIFEST])
def test_altered_json_of_a_model(folder: Path, name: str, rounds: int) -> None:  # noqa: F811
    lot, told, sound = random.Random(f"{SEED} {name}"), Told(), (folder / name).read_bytes()
    if name == TRAINING:  # without the checksum, which would notice everything before the structure is looked at
        sound = json.dumps({key: value for key, value in json.loads(sound).items() if key != "checksum"}).encode()
    for _ in range(rounds):
        data = altered_json(sound, lot)
        update_folder(folder, {name: data}) if name == CONFIG else write_file(folder / name, data)
        with told.one():
            load_model("songs").weights()
        with told.one():
            read_run(folder, {}, ResumeSources(), lambda line: None)
        for command in (["models", "list"], ["models", "list", "--json"], ["models", "show", "songs"]):
            result = CliRunner().invoke(textgen, command, catch_exceptions=False)
            assert result.exit_code in (0, 1)
        if name == CONFIG:
            update_folder(folder, {CONFIG: sound})
    assert told.refused > rounds / 2


def test_a_bit_of_training_json_that_has_turned_over_is_noticed_or_does_not_matter(
    folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At every position. It does not matter in white space, and in the name of the checksum itself."""
    sound, lot, told = (folder / TRAINING).read_bytes(), random.Random(SEED), Told()
    expected = read_training(folder)
    for position in range(len(sound)):
        data = bytearray(sound)
        data[position] ^= 1 << lot.randrange(8)
        monkeypatch.setattr("textgen.saved_model.layout.read_file", lambda *_, data=data: bytes(data))
        with told.one():
            record = read_training(folder)
            assert {name: record[name] for name in expected} == expected
    assert told.accepted < 0.1 * len(sound) < told.refused


def entries(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values within JSON."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from entries(value[key], (*path, key))


def test_each_entry_of_training_json_that_is_accepted_can_be_shown_and_copied(
    folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sound, told = json.loads((folder / TRAINING).read_bytes()), Told()
    del sound["checksum"]
    for *sections, key in entries(sound):
        for odd in [*ODD, ["s3://"], ["https://["], ["\0"]]:
            record = json.loads(json.dumps(sound))
            holder = functools.reduce(operator.getitem, sections, record)
            holder[key] = odd
            data = json.dumps(record).encode()
            monkeypatch.setattr("textgen.saved_model.layout.read_file", lambda *_, data=data: data)
            with told.one():
                training = read_training(folder)
                assert all([shown_record(training), record_of_copy(training), model_card("songs", training)])
    assert min(told.accepted, told.refused) > 100


def test_a_training_json_that_is_cut_short_is_one_clear_line(
    folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sound, told = (folder / TRAINING).read_bytes(), Told()
    for length in range(len(sound) - 2):  # without the last brace
        monkeypatch.setattr("textgen.saved_model.layout.read_file", lambda *_, length=length: sound[:length])
        with told.one():
            read_training(folder)
    assert told.accepted == 0


@pytest.mark.parametrize("rounds", ROUNDS)
def test_altered_positions(folder: Path, rounds: int) -> None:  # noqa: F811
    from textgen.training.position import Position

    lot, told = random.Random(SEED), Told()
    sound = json.dumps(asdict(Position(step=3, epoch=1, best_nats_per_token=2.5))).encode()
    for _ in range(rounds):
        update_folder(folder / CHECKPOINTS / "step-000000001", {POSITION: altered_json(sound, lot)})
        with told.one():
            checkpoint, _ = newest_checkpoint(folder / CHECKPOINTS)
            position = Position.from_dict(checkpoint.position)
            assert position.step >= 0
            position.health.record(1.0, True)
            position.loss_scale.record(False)
    assert told.refused > rounds / 4


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_altered_tensors(folder: Path, precision: str, rounds: int) -> None:  # noqa: F811
    if precision != FLOAT32:
        compress(load_model("songs"), precision)
    lot, told, sound = random.Random(SEED), Told(), (folder / WEIGHTS).read_bytes()
    for _ in range(rounds):
        data = altered_tensors(sound, lot)
        update_folder(folder, {WEIGHTS: data})
        with told.one():
            load_model("songs").weights()
        update_folder(folder / CHECKPOINTS / "step-000000001", {TENSORS: data})
        with told.one():
            newest_checkpoint(folder / CHECKPOINTS)
    assert told.refused > rounds / 2


def torch_state() -> dict[str, np.ndarray]:
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.weight": (259, 3), "rnn.weight_ih_l0": (16, 3), "rnn.weight_hh_l0": (16, 4), "rnn.bias_ih_l0": (16,),
        "rnn.bias_hh_l0": (16,), "decoder.weight": (259, 4), "decoder.bias": (259,),
    }  # fmt: skip
    return {name: np.full(shape, 0.1, np.float32) for name, shape in shapes.items()}


def imported(path: Path, folder: Path) -> None:  # noqa: F811
    """As `textgen import` does; what it would call saved can be loaded."""
    config, weights = from_torch(read_torch(path))
    if config.vocab_size != 259:
        raise TextgenError("The tokenizer is another, as textgen import says.")
    save_model(folder, weights, config, TokenizerConfig("byte"), CorpusConfig(documents="file"), ByteTokenizer())
    assert load_model(str(folder)).weights().keys() == weights.keys()


@pytest.mark.parametrize("rounds", ROUNDS)
def test_altered_weights_of_pytorch(tmp_path: Path, rounds: int) -> None:
    lot, told, sound, path = random.Random(SEED), Told(), to_safetensors(torch_state()), tmp_path / "state"
    path.write_bytes(sound)
    imported(path, tmp_path / "sound")
    for number in range(rounds):
        state = torch_state()
        name = lot.choice(list(state))
        shape = lot.choice([(), (1,), (0,), (16,), (3, 4), (259, 1), (259, 4), (2, 2, 2), (0, 4), (16, 0)])
        state[lot.choice([name, "other", "x.weight", "x.bias", "rnn.weight_hh_l1"])] = np.zeros(
            shape, lot.choice(["f4", "f8", "i4", "?", "f2"])
        )
        path.write_bytes(altered_tensors(sound, lot) if number % 2 else to_safetensors(state))
        with told.one():
            imported(path, tmp_path / "imported")
        shutil.rmtree(tmp_path / "imported", ignore_errors=True)
    assert told.refused > rounds / 2


TOML = [
    "= ", "[", "]", "{", "}", '"', "'", "\n", "hidden_units", "steps", "dropout", "labels", "cell", "freeze", "nan",
    "inf", "-inf", "0x" + "f" * 9000, "1" * 9000, "1e999", "1979-05-27T07:32:00Z", "true", "[" * 3000,
    "a." * 3000 + "b=1", "{a=" * 2000, "[[x]]", "[x.y]", "=", "#", '"""', "\\u0000", "\x00", "\ud7ff", "9" * 30,
    "-1", "0.5", '"line"',
]  # fmt: skip


@pytest.mark.parametrize("rounds", ROUNDS)
def test_altered_settings(text: Path, rounds: int) -> None:  # noqa: F811
    lot, told, path = random.Random(SEED), Told(), text.with_name("settings.toml")
    corpus = Corpus([text], CorpusConfig(documents="line"))
    corpus.stats()
    names = [*SETTINGS, "epochs", "minutes", "freeze", "patience", "labels", "cell", "sample_bytes", "clip_norm", "x"]
    values = [
        "0x" + "f" * 9000,
        "1e999",
        "nan",
        "-inf",
        "[[[1]]]",
        "{a=1}",
        "true",
        "''",
        "['a']",
        "[1]",
        "1e300",
        "-5",
    ]
    values += ["1979-05-27", "9" * 4000, "9" * 20, "0.5", "2", "'char'", "0", "'\\u001b]0;x'", "07:32:00"]
    for number in range(4 * rounds):
        lines = [f"{lot.choice(names)} = {lot.choice(values)}" for _ in range(lot.randrange(1, 3))]
        if number % 2:
            lines.insert(lot.randrange(len(lines) + 1), "".join(lot.choice(TOML) for _ in range(lot.randrange(1, 5))))
        path.write_text("\n".join(lines), encoding="utf-8", errors="replace")
        with told.one():
            make_plan(corpus, read_toml(path), hardware=Hardware(flops=1e11))
    assert told.refused > rounds


def test_a_file_of_settings_may_be_a_pipe_and_has_a_limit(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("#" * (1 << 21))
    with pytest.raises(TextgenError, match="more than 1,048,576 bytes, the limit"):
        read_toml(tmp_path / "settings.toml")
    with pytest.raises(TextgenError, match=r"Cannot read the settings in .*: Is a directory"):
        read_toml(tmp_path)


@pytest.mark.parametrize("bias", [(), (1,), (16, 1), (0,)])
@pytest.mark.parametrize("name", ["rnn.bias_ih_l0", "rnn.bias_hh_l0", "decoder.bias"])
def test_a_bias_of_another_shape_is_refused_before_anything_is_saved(
    tmp_path: Path, name: str, bias: tuple[int, ...]
) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(to_safetensors(torch_state() | {name: np.zeros(bias, np.float32)}))
    command = ["import", str(path), "--name", "x", "--tokenizer-from", "byte"]
    result = CliRunner().invoke(textgen, command, catch_exceptions=False)
    assert (result.exit_code, "Saved" in result.stderr) == (1, False)
    assert "Expected are the weights of" in result.stderr
    assert not (tmp_path / "models" / "x").exists()
