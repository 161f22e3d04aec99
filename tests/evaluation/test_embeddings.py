"""Vectors of texts: what they are made of, by hand; which texts are near; `textgen embed`."""

from __future__ import annotations

import gzip
import io
import json
import os
import tracemalloc
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from loaded_modules import modules_after
from networks import random_weights
from rich_files import pdf

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.errors import ConfigError
from textgen.evaluation.embeddings import CONTEXT, Embedder, TextVectors, unit
from textgen.model.config import ModelConfig
from textgen.model.directions import one_way
from textgen.model.numpy_model import NumpyModel
from textgen.model.reference import forward, initial_state, stack_forward, stack_of
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer

TEXTS = ["The cat sat on the mat.", "a", "床前明月光", "The dog saw the cat.", "The cat sat on a mat.", "疑是地上霜"]


def config_of(tokenizer: Tokenizer, direction: str, attention: int = 0) -> ModelConfig:
    return ModelConfig(
        tokenizer.vocab_size, embedding_dim=6, hidden_units=8, num_layers=2, direction=direction, attention=attention
    )


def embedder_of(tokenizer: Tokenizer, direction: str = "both", attention: int = 0) -> Embedder:
    config = config_of(tokenizer, direction, attention)
    weights = random_weights(config)
    return Embedder({each: NumpyModel(*one_way(config, weights, each)) for each in config.directions}, tokenizer)


@pytest.mark.parametrize(
    ("direction", "attention"), [("forward", 0), ("backward", 0), ("both", 0), ("forward", 3), ("backward", 3)]
)
@pytest.mark.parametrize("labels", [(), ("fox",)])
def test_a_vector_is_what_the_equations_say(
    tokenizer: Tokenizer, direction: str, attention: int, labels: tuple[str, ...]
) -> None:
    tokenizer = tokenizer.with_labels(labels)
    config = config_of(tokenizer, direction, attention)
    weights, stack = random_weights(config), stack_of(config)
    (found,) = embedder_of(tokenizer, direction, attention).read(["The cat"])
    ids = np.array(tokenizer.encode("The cat"))
    parts, nats = [unit(weights["embedding/table"][ids])], np.zeros(len(ids))
    for way in config.directions:
        _, own = one_way(config, weights, way)
        seen = ids[::-1] if way == "backward" else ids
        opening = tokenizer.opening()
        inputs = np.array([[*opening, *seen]])
        state = initial_state(own, 1, stack)
        said = stack_forward(own, own["embedding/table"][inputs], state[:2])[0][0, len(opening) :]  # [N, H]
        logits = forward(own, inputs, state, stack)[0][0, len(opening) - 1 : -1].astype(float)
        losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(ids)), seen]
        turn = -1 if way == "backward" else 1
        parts.append(CONTEXT * unit(said[::turn]))
        nats += losses[::turn] / len(config.directions)
    pieces = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(found.token_vectors, pieces, atol=1e-5)
    np.testing.assert_allclose(found.nats, nats, rtol=1e-5)
    np.testing.assert_allclose(found.vector, unit((nats[:, None] ** 2 * pieces).sum(axis=0)), atol=1e-5)
    assert found.token_vectors.shape == (7, 6 + 8 * len(config.directions))
    assert found.ids == tuple(ids)


def test_a_text_has_the_same_vector_whatever_stands_beside_it(tokenizer: Tokenizer) -> None:
    embedder = embedder_of(tokenizer)
    together = np.stack(list(embedder.vectors(TEXTS * 20)))
    alone = np.concatenate([list(embedder.vectors([text])) for text in TEXTS])
    np.testing.assert_allclose(together, np.tile(alone, (20, 1)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-6)


def test_a_long_text_beside_short_ones_costs_no_more_than_alone(tokenizer: Tokenizer) -> None:
    embedder, long = embedder_of(tokenizer), "The cat sat on the mat. " * 50
    peaks, found = list[int](), list[list[np.ndarray]]()
    for texts in ([long], [long, *TEXTS * 5]):
        tracemalloc.start()
        try:
            found.append(list(embedder.vectors(texts)))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-6)
    assert peaks[1] < 3 * peaks[0]


def test_the_vectors_of_tokens_are_not_kept_for_those_of_texts(tokenizer: Tokenizer) -> None:
    embedder, texts, peaks = embedder_of(tokenizer), ["The cat sat on the mat. " * 3] * 300, list[int]()
    for make in (embedder.read, embedder.vectors):
        tracemalloc.start()
        try:
            assert len(list(make(texts))) == len(texts)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 0.75 * peaks[0]


def test_a_text_without_pieces_has_no_direction(tokenizer: Tokenizer) -> None:
    empty, full = embedder_of(tokenizer).vectors(["", "cat"])
    assert not empty.any()
    assert full.any()


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_the_nearest_text_is_the_text_itself_and_then_one_that_is_alike(tokenizer: Tokenizer, direction: str) -> None:
    embedder = embedder_of(tokenizer, direction)
    every = list(enumerate(TEXTS))
    for place, text in every:
        (cosine, nearest), (second, _) = embedder.nearest(text, iter(every), 2)
        assert nearest == (place, text)
        assert cosine == pytest.approx(1.0, abs=1e-5)
        assert second < 1.0
    assert embedder.nearest(TEXTS[0], every, 2)[1][1][0] == 4, "one word differs"
    again = embedder.nearest("a", enumerate(["b", "a", "a", "c", "a"]), 2)
    assert [place for _, (place, _) in again] == [1, again[1][1][0]], "of texts that are the same, the first"
    assert again[1][1][1] in "bc"
    log = [line for line in TEXTS for _ in range(3)]
    for num in range(1, len(TEXTS) + 1):
        best = [given for _, given in embedder.nearest(TEXTS[2], every, num)]
        found = [(place // 3, text) for _, (place, text) in embedder.nearest(TEXTS[2], enumerate(log), num)]
        assert found == best
    assert len(embedder.nearest("a", every, 99)) == len(TEXTS)


def test_one_text_is_read_as_a_whole(tokenizer: Tokenizer) -> None:
    embedder = embedder_of(tokenizer)
    (vector,), (read,) = embedder.vectors(TEXTS[0]), embedder.read(TEXTS[0])
    assert read.text == TEXTS[0]
    assert np.array_equal(vector, next(embedder.vectors([TEXTS[0]])))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", ["ab", "cd"], 1), "texts[0] must be a pair of a key and a text. Received: 'ab'."),
        (("a", [(1, "ab"), (2, None)], 1), "texts[1] must be a pair of a key and a text. Received: (2, None)."),
        (("a", {"ab": "cd"}, 1), "texts must be a list of pairs. Received: {'ab': 'cd'}."),
        (("a", 5, 1), "texts must be a list of pairs. Received: 5."),
        ((["a"], [(1, "ab")], 1), "query is ['a'], not a text: leave out missing values, and convert others to str."),
        (("a", [(1, "ab")], None), "num must be an integer. Received: None."),
        (("a", [(1, "ab")], 0), "num must be a number of at least 1. Received: 0."),
        (("a", [(1, "ab")], -1), "num must be a number of at least 1. Received: -1."),
    ],
)
def test_texts_to_search_are_pairs(tokenizer: Tokenizer, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        embedder_of(tokenizer).nearest(*arguments)
    assert str(caught.value) == message


# === textgen embed ===


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for direction in ("forward", "both"):
        config = config_of(tokenizer, direction)
        corpus = CorpusConfig(documents="line")
        save_model(folder / direction, random_weights(config), config, TokenizerConfig("char"), corpus, tokenizer)
    return folder


def embed(models: Path, *arguments: str, model: str = "both", stdin: str | None = None) -> Result:
    arguments = ("embed", model, *arguments, "--models-dir", str(models))
    return CliRunner().invoke(textgen, arguments, input=stdin, catch_exceptions=False, prog_name="textgen")


@pytest.fixture
def lines(tmp_path: Path) -> str:
    path = tmp_path / "lines.txt"
    path.write_text("\ufeff" + "\n\n".join(TEXTS) + "\r\n  \n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("model", ["forward", "both"])
def test_a_vector_for_each_line_in_every_format(models: Path, tokenizer: Tokenizer, lines: str, model: str) -> None:
    expected = np.stack(list(embedder_of(tokenizer, model).vectors(TEXTS)))
    objects = [json.loads(line) for line in embed(models, lines, model=model).stdout.splitlines()]
    assert [each["text"] for each in objects] == TEXTS
    np.testing.assert_allclose([each["vector"] for each in objects], expected, atol=2e-6)
    table = np.loadtxt(io.StringIO(embed(models, lines, "--format", "tsv", model=model).stdout), delimiter="\t")
    np.testing.assert_allclose(table, expected, atol=2e-6)
    array = np.load(io.BytesIO(embed(models, lines, "--format", "npy", model=model).stdout_bytes), allow_pickle=False)
    np.testing.assert_allclose(array, expected, atol=1e-6)
    assert array.dtype == np.float32


def test_texts_pieces_and_files(models: Path, tokenizer: Tokenizer, lines: str, tmp_path: Path) -> None:
    (pieces,) = embedder_of(tokenizer).read(["cat"])
    found = json.loads(embed(models, "--text", "cat", "--tokens").stdout)
    assert found["token_texts"] == ["c", "a", "t"]
    np.testing.assert_allclose(found["vectors"], pieces.token_vectors, atol=2e-6)
    both = embed(models, lines, "--text", "cat").stdout.splitlines()
    assert [json.loads(line)["text"] for line in both] == ["cat", *TEXTS]
    assert (
        embed(models, stdin="cat\n").stdout
        == embed(models, "--text", "cat").stdout
        == embed(models, "-", stdin="cat").stdout
    )
    result = embed(models, lines, "--format", "npy", "--tokens", "--out", str(tmp_path / "v.npy"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert len(np.load(tmp_path / "v.npy")) == sum(len(tokenizer.encode(text)) for text in TEXTS)


def test_a_search_prints_the_lines_that_are_alike(models: Path, lines: str) -> None:
    rows = embed(models, lines, "--search", TEXTS[3], "--top", "2").stdout.splitlines()
    assert rows[0] == f" 1.0000  {lines}:7  {TEXTS[3]}"
    assert len(rows) == 2
    found = [json.loads(line) for line in embed(models, lines, "--search", TEXTS[3], "--json").stdout.splitlines()]
    assert found[0] == {"cosine": pytest.approx(1.0, abs=1e-5), "place": f"{lines}:7", "text": TEXTS[3]}
    assert len(found) == 5
    cosines = [each["cosine"] for each in found]
    assert cosines == sorted(cosines, reverse=True)


def test_a_search_has_no_format(models: Path) -> None:
    result = embed(models, "--text", "fox", "--search", "fox", "--format", "npy")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--format" in result.stderr


def test_a_file_that_changes_during_a_search_is_read_once(
    models: Path, lines: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearest = Embedder.nearest

    def nearest_of_a_log(self: Embedder, *arguments: Any) -> list[tuple[float, tuple[str, str]]]:
        found = nearest(self, *arguments)
        Path(lines).write_text("It was emptied.\n", encoding="utf-8")
        return found

    monkeypatch.setattr(Embedder, "nearest", nearest_of_a_log)
    result = embed(models, lines, "--search", TEXTS[3], "--top", "1")
    assert result.stdout == f" 1.0000  {lines}:7  {TEXTS[3]}\n"


def test_any_mix_of_files_is_read(models: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.jsonl").write_text(
        '{"text": "one\\ntwo"}\n\n{"id": 1}\n{"text": "three"}\n', encoding="utf-8"
    )
    (tmp_path / "folder" / "b.csv").write_text("id,text\n1,four\n", encoding="utf-8")
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"five\n\nsix"))
    (tmp_path / "folder" / "d.bin").write_bytes(bytes(100))
    result = embed(models, str(tmp_path / "folder"), str(tmp_path / "c.*"), "-", stdin="seven\n\neight")
    texts = ["one\ntwo", "three", "four", "five", "six", "seven", "eight"]
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == texts
    assert f"Skipped {tmp_path / 'folder' / 'd.bin'}: it looks like a binary file." in result.stderr
    assert "Skipped 1 record without text in " in result.stderr
    for text, place in (("three", "folder/a.jsonl:2"), ("six", "c.txt.gz:3"), ("eight", "-:3")):
        arguments = (str(tmp_path / "folder"), str(tmp_path / "c.*"), "-", "--search", text, "--top", "1", "--json")
        found = json.loads(embed(models, *arguments, stdin="seven\n\neight").stdout)
        assert (found["text"], found["place"].removeprefix(f"{tmp_path}/")) == (text, place)
    (tmp_path / "latin.txt").write_bytes("Käse".encode("latin-1"))
    result = embed(models, str(tmp_path / "latin.txt"), "--encoding", "latin-1")
    assert json.loads(result.stdout)["text"] == "Käse"


def test_lines_are_read_when_their_turn_comes(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that those of a file of any size are not in memory at a time."""
    monkeypatch.setattr("textgen.evaluation.scoring.AHEAD_TEXTS", 1)
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n{"text": ', encoding="utf-8")
    for arguments in ([], ["--tokens"], ["--format", "tsv"]):
        result = embed(models, str(tmp_path / "a.jsonl"), *arguments)
        assert (result.exit_code, len(result.stdout.splitlines())) == (1, 2)
        assert "a.jsonl, line 3: " in result.stderr


class Thirds(Embedder):
    """Vectors of 64 numbers, and a text after which the user presses Ctrl-C."""

    def __init__(self) -> None: ...

    def vectors(self, texts: Iterable[str]) -> Iterator[np.ndarray]:
        for text in texts:
            if text == "stop":
                raise KeyboardInterrupt
            yield np.full(64, 1 / 3, np.float32)

    def read(self, texts: Iterable[str]) -> Iterator[TextVectors]:
        for text in texts:
            yield TextVectors(text, (3, 4), np.full((2, 64), 1 / 3, np.float32), np.zeros(2))


@pytest.mark.parametrize("arguments", [["--format", "npy"], ["--format", "tsv"], [], ["--tokens"]])
def test_vectors_are_written_as_they_are_made(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(ModelFolder, "embedder", lambda self: Thirds())
    peaks = []
    for number in (2, 200, 2000):  # the first loads what is loaded once
        (tmp_path / "lines.txt").write_text("cat\n" * number, encoding="utf-8")
        tracemalloc.start()
        try:
            result = embed(models, str(tmp_path / "lines.txt"), *arguments, "--out", str(tmp_path / "vectors"))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert (result.exit_code, result.stdout) == (0, "")
    size = (tmp_path / "vectors").stat().st_size
    assert size > 400_000
    assert peaks[2] - peaks[1] < size / 4


@pytest.mark.parametrize("number", [1, 12, 101])
def test_an_array_that_is_written_row_by_row_is_that_of_numpy(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(ModelFolder, "embedder", lambda self: Thirds())
    lines = ["--text", "cat"] * number
    assert embed(models, *lines, "--format", "npy", "--out", str(tmp_path / "vectors")).exit_code == 0
    expected = io.BytesIO()
    np.save(expected, np.full((number, 64), 1 / 3, np.float32))
    assert (tmp_path / "vectors").read_bytes() == expected.getvalue()


@pytest.mark.parametrize("kind", ["jsonl", "tsv", "npy"])
def test_vectors_of_before_stay_until_all_are_made(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(ModelFolder, "embedder", lambda self: Thirds())
    out = tmp_path / "vectors"
    out.write_bytes(b"before")
    result = embed(models, "--text", "cat", "--text", "stop", "--format", kind, "--out", str(out))
    assert result.exit_code != 0
    assert out.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("kind", ["jsonl", "npy"])
def test_a_pipe_gets_the_vectors(models: Path, tmp_path: Path, kind: str) -> None:
    arguments = ["--text", "cat", "--text", "a", "--format", kind]
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor() as pool:
        read = pool.submit((tmp_path / "pipe").read_bytes)
        assert embed(models, *arguments, "--out", str(tmp_path / "pipe")).exit_code == 0
        assert read.result() == embed(models, *arguments).stdout_bytes


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--text", "a", "--top", "2"], 2, "--top and --json need --search"),
        (["--text", "a", "--json"], 2, "--top and --json need --search"),
        (["--text", "a", "--search", "b", "--tokens"], 2, "cannot be combined with --tokens, --out or --format"),
        (["--text", "a", "--search", " "], 2, "--search is empty"),
        (["--text", ""], 1, "A text is empty"),
        (["nowhere.txt"], 1, "nowhere.txt does not exist"),
        (["--text", "a", "--encoding", "latin-1"], 2, "--encoding needs PATHS"),
        (["-"], 1, "No text in standard input: it is empty or has only white space."),
        (["--text", "a", "--format", "csv"], 2, "'csv' is not one of"),
        (["--text", "a", "--search", "b", "--top", "0"], 2, "--top must be a number of at least 1"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(models: Path, arguments: list[str], code: int, message: str) -> None:
    result = embed(models, *arguments, stdin="\n")
    assert result.exit_code == code
    assert message in result.stderr
    assert not result.stdout


def test_files_without_text_are_named_with_the_reason(models: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,\n2, \n", encoding="utf-8")
    path = pdf(tmp_path / "b.pdf", [None])
    for arguments in ([], ["--format", "npy", "--out", str(tmp_path / "vectors.npy")], ["--search", "cat"]):
        result = embed(models, str(tmp_path / "a.csv"), str(path), *arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        expected = f"Error: No text in {tmp_path / 'a.csv'}, {path}: they are empty or have only white space. "
        assert result.stderr.splitlines()[-1].startswith(expected)
        assert "1 page without text" in result.stderr.splitlines()[-1]
    assert not (tmp_path / "vectors.npy").exists()


def test_it_starts_at_once() -> None:
    loaded = modules_after(
        "import textgen.cli.embed, textgen.evaluation.embeddings, textgen.generation.infilling\n"
        "import textgen.model.directions"
    )
    assert not {"tensorflow", "keras"} & loaded
