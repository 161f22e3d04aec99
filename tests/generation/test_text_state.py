from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_fakes import TableModel, WordsTokenizer
from safetensors.numpy import save_file

from textgen.errors import ConfigError, SavedModelError, TextgenError
from textgen.generation.config import MAX_LOOK_BACK, SamplingConfig
from textgen.generation.generator import Generator
from textgen.generation.text_state import RECENT, TextState, join, of_document, pick, save_state
from textgen.tokenizer.kinds import ByteTokenizer

TOKENIZER = WordsTokenizer(["The", " cat", " c", "at"])
V = TOKENIZER.vocab_size
CONFIG = SamplingConfig(temperature=0.0, min_p=0.0, max_tokens=12, presence_penalty=1.0, heal=False)


@pytest.fixture
def generator() -> Generator:
    model = TableModel(V)
    model.tables[:, :, TOKENIZER.eos_id] = -100.0
    return Generator(model, TOKENIZER, fingerprint="this one")


def test_rows_of_nests() -> None:
    nest = ((np.arange(6).reshape(3, 2),), np.array([7, 8, 9]))
    (picked,), others = pick(nest, [2, 0, 2])
    assert picked.tolist() == [[4, 5], [0, 1], [4, 5]]
    assert others.tolist() == [9, 7, 9]
    (first,), second = join([pick(nest, [0]), pick(nest, slice(1, None))])
    assert first.tolist() == nest[0][0].tolist()
    assert second.tolist() == [7, 8, 9]


def test_a_document_begins_after_the_last_end_of_another() -> None:
    for ids, expected in (
        ((), ()), ((5, 6), (5, 6)), ((0, 5), (5,)), ((5, 0, 6, 0, 7, 8), (7, 8)), ((5, 0), ()), ([5, 0, 0, 6], [6]),
    ):  # fmt: skip
        assert of_document(ids, eos_id=0) == expected


def test_a_text_goes_on_from_its_state_as_if_it_had_never_stopped(generator: Generator, tmp_path: Path) -> None:
    whole = [piece.id for piece in generator.tokens("The cat", replace(CONFIG, max_tokens=24))]
    writing = generator.tokens("The cat", CONFIG)
    first = [piece.id for piece in writing]
    generator.save_state(tmp_path / "state", writing.state)
    state = generator.load_state(tmp_path / "state")
    assert first + [piece.id for piece in generator.tokens("", CONFIG, state)] == whole
    assert (tmp_path / "state").stat().st_size < 2000


def test_a_state_may_be_used_twice_and_an_earlier_one_takes_back(generator: Generator) -> None:
    config = replace(CONFIG, temperature=1.0, seed=1)
    writing = generator.tokens("The", config)
    states = [writing.state]
    ids = []
    for piece in writing:
        states.append(writing.state)
        ids.append(piece.id)
    greedy = [[piece.id for piece in generator.tokens("", CONFIG, states[5])] for _ in range(2)]
    assert greedy[0] == greedy[1]
    again = [p.id for p in generator.tokens("", CONFIG, generator.tokens("The", config).state)]
    assert again == [p.id for p in generator.tokens("The", CONFIG)]
    assert states[5].ids == (TOKENIZER.eos_id, *TOKENIZER.encode("The"), *ids[:5])


def test_a_prompt_may_come_in_parts(generator: Generator) -> None:
    state = generator.read(" cat\n", generator.read("The"))
    expected = [piece.id for piece in generator.tokens("The cat\nThe", CONFIG)]
    assert [piece.id for piece in generator.tokens("The", CONFIG, state)] == expected
    assert generator.read("").ids == generator.start().ids


def test_a_state_knows_only_the_last_pieces(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    long = generator.read("a" * (RECENT + 100))
    assert long.ids == tuple(TOKENIZER.encode("a") * RECENT)
    monkeypatch.setattr("textgen.generation.generated_text.RECENT", 10)
    writing = generator.tokens("", replace(CONFIG, max_tokens=30))
    ids = [piece.id for piece in writing]
    assert len(ids) > 10
    assert writing.state.ids == tuple(ids[-10:])


@pytest.mark.parametrize(
    "settings",
    [
        {"no_repeat_ngram_size": 1},
        {"presence_penalty": 50.0, "repeat_last_n": MAX_LOOK_BACK},
        {"dry_multiplier": 50.0, "dry_allowed_length": 1, "dry_penalty_last_n": MAX_LOOK_BACK},
    ],
    ids=str,
)
def test_settings_look_back_beyond_a_state_as_far_as_within_a_text(
    generator: Generator, tmp_path: Path, settings: dict[str, Any]
) -> None:
    config = replace(CONFIG, coin_words=True, **settings)
    text = "".join("q" + chr(code) for code in range(1, 127)) + "x" * 3000 + "q"
    whole = [token.id for token in generator.tokens(text, config)]
    state = generator.read(text)
    generator.save_state(tmp_path / "state", state)
    continued = generator.tokens("", config, generator.load_state(tmp_path / "state"))
    assert [token.id for token in continued] == whole
    short = replace(state, ids=state.ids[-1024:])
    assert [token.id for token in generator.tokens("", config, short)] != whole, "what is far back decides"


def positions(generator: Generator) -> list[TextState]:
    """A position that each way to one returns."""
    whole, writing = generator.row("The cat"), generator.tokens("The", CONFIG)
    whole.read_ahead(1, generator.model.initial_state(1))
    next(writing)
    return [generator.start(), generator.read("The"), generator.read(" cat", generator.start()), whole.start,
            writing.state, generator.row("").start]  # fmt: skip


def uses(generator: Generator, state: Any, path: Path) -> list[Callable[[], object]]:
    """All that takes a position from a caller."""
    return [
        lambda: generator.tokens("", CONFIG, state),
        lambda: generator.row("", CONFIG, state),
        lambda: generator.read("The", state),
        lambda: generator.save_state(path, state),
    ]


def test_a_state_of_another_model_of_the_same_shape_is_refused(generator: Generator, tmp_path: Path) -> None:
    other = Generator(TableModel(V, seed=1), TOKENIZER, fingerprint="that one")
    generator.save_state(tmp_path / "good", generator.start())
    states = [*positions(generator), generator.load_state(tmp_path / "good")]
    assert {state.model for state in states} == {"this one"}
    for stranger in (other, generator.with_model(generator.model, "this one clamp=L0/3.c=5.0")):
        for state in states:
            for use in uses(stranger, state, tmp_path / "state"):
                with pytest.raises(SavedModelError, match=r"^This is the state of another model, or was made with"):
                    use()
    for state in states:
        for use in uses(generator, state, tmp_path / "state"):
            use()


def test_a_state_of_no_known_model_is_checked_by_its_arrays_alone(generator: Generator, tmp_path: Path) -> None:
    unnamed = Generator(generator.model, TOKENIZER).read("The")
    for use in uses(generator, unnamed, tmp_path / "state"):
        use()
    assert generator.load_state(tmp_path / "state").ids == unnamed.ids
    assert generator.read(" cat", unnamed).ids == generator.read("The cat").ids


@pytest.mark.parametrize("state", [5, 0, "", False, (), []], ids=repr)
def test_what_is_no_state_does_not_mean_the_beginning(generator: Generator, tmp_path: Path, state: Any) -> None:
    for use in uses(generator, state, tmp_path / "state"):
        with pytest.raises(SavedModelError, match=r"^The state is damaged"):
            use()


def test_a_row_begins_a_document_with_its_label_as_a_stream_does() -> None:
    tokenizer = ByteTokenizer(["poe"])
    generator = Generator(TableModel(tokenizer.vocab_size), tokenizer)
    end = generator.read([tokenizer.eos_id], generator.read("a"))
    for label in (None, "poe"):
        config = replace(CONFIG, label=label)
        for start in (generator.row("a", config, end).start, generator.tokens("a", config, end).row.start):
            assert start.ids == (*end.ids, *tokenizer.opening(label)[1:])
        with pytest.raises(ConfigError, match="bierce"):
            generator.row("a", replace(CONFIG, label="bierce"), end)
    with pytest.raises(ConfigError, match="The text has begun"):
        generator.row("a", replace(CONFIG, label="poe"), generator.read("a"))


def other(path: Path, **changes: object) -> None:
    arrays = {"memory/0": np.zeros((1, 1), np.int64), "memory/1": np.zeros((1, 3), np.float32)}
    metadata = {"format": "textgen state 1", "model": "this one"}
    metadata |= {name: str(changes.pop(name)) for name in ("format", "model") if name in changes}
    save_file({**arrays, "ids": np.array([2], np.int32), **changes}, path, metadata)  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "that one"}, "is the state of another model"),
        ({"format": "pt"}, "is not a saved state"),
        ({"ids": np.zeros(0, np.int32)}, "is damaged"),
        ({"ids": np.zeros(RECENT + 1, np.int32)}, "is damaged"),
        ({"ids": np.zeros(1, np.float32)}, "is damaged"),
        ({"ids": np.array([V], np.int32)}, "is damaged"),
        ({"memory/1": np.zeros((1, 4), np.float32)}, "is damaged"),
        ({"memory/1": np.zeros((1, 3), np.float64)}, "is damaged"),
        ({"memory/2": np.zeros((1, 3), np.float32)}, "is damaged"),
        ({"memory/1": np.full((1, 3), np.nan, np.float32)}, "is damaged: its numbers are not finite"),
        ({"memory/1": np.full((1, 3), np.inf, np.float32)}, "is damaged: its numbers are not finite"),
    ],
    ids=str,
)
def test_a_state_that_does_not_fit(
    generator: Generator, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    other(tmp_path / "good")
    assert generator.load_state(tmp_path / "good").ids == (2,)
    other(tmp_path / "state", **changes)
    with pytest.raises(SavedModelError, match=message) as caught:
        generator.load_state(tmp_path / "state")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_or_written(generator: Generator, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("The cat sat on the mat.")
    header = b'{"' + b"a\\n" * 5000 + b'": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}'
    (tmp_path / "odd").write_bytes(len(header).to_bytes(8, "little") + header)
    advice = r"Name a file that textgen tune-state or save_state has written\."
    for name, message in {
        "missing": r": No such file or directory\. ",
        "odd": r"Cannot read the state in .*a\\na\\n.*\.\.\.\. ",
        "text": r"Cannot read the state in .*: .*\. ",
        ".": r": it is a folder\. ",
    }.items():
        with pytest.raises(SavedModelError, match=message + advice) as caught:
            generator.load_state(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(TextgenError, match="Cannot write"):
        generator.save_state(tmp_path / "no" / "folder", generator.start())
    state = generator.start()
    save_state(tmp_path / "state", TextState(state.model_state, state.ids), "this one")
    assert generator.load_state(tmp_path / "state").ids == state.ids


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_nobody_waits_in_a_pipe_for_a_state(generator: Generator, tmp_path: Path) -> None:
    """Where the library opens it, no signal ends the waiting; here an end for writing is open, so that none is long."""
    os.mkfifo(tmp_path / "pipe")
    with (
        open(os.open(tmp_path / "pipe", os.O_RDWR | os.O_NONBLOCK), "rb"),
        pytest.raises(SavedModelError, match=r"pipe: it is a pipe\. Save what comes out of it to a file, and name"),
    ):
        generator.load_state(tmp_path / "pipe")
