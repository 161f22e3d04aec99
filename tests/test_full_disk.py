"""A disk that is full while a command writes: one clear line, nothing half-written, and the next try succeeds."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from textgen.cli import textgen

DiskOf = Callable[[int], AbstractContextManager[None]]
COMMANDS: dict[str, list[str]] = {
    "export": ["export", "tiny", "OUT/weights.safetensors"],
    "save a state": ["sample", "tiny", "--max-tokens", "5", "--seed", "1", "--save-state", "OUT/text.state"],
    "embed": ["embed", "tiny", "TEXT", "--format", "npy", "--out", "OUT/vectors.npy"],
    "train a tokenizer": ["tokenizer", "train", "TEXT", "--tokenizer", "char", "--out", "OUT/text.model"],
    "prepare": ["corpus", "prepare", "TEXT", "--tokenizer", "byte", "--out", "OUT/prepared"],
    "write a shard": ["corpus", "prepare", "TEXT", "--out", "SHARDS"],
}
MAX_FILE_BYTES = 150  # bytes of a file; each of these commands writes more


def run(words: list[str]) -> Result:
    return CliRunner().invoke(textgen, words, catch_exceptions=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk(
    command: str, tmp_path: Path, tiny_models: Path, disk_of: DiskOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTGEN_MODELS", str(tiny_models))
    out, shards, text = tmp_path / "out", tmp_path / "shards", tmp_path / "text.txt"
    out.mkdir()
    text.write_text("The cat sat on the mat.\n" * 100, encoding="utf-8")
    if "SHARDS" in COMMANDS[command]:  # begun, and without its second shard
        begin = ["corpus", "prepare", str(text), "--tokenizer", "byte", "--out", str(shards), "--shard", "1/2"]
        assert run(begin).exit_code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    places = {"TEXT": str(text), "SHARDS": str(shards)}
    words = [places.get(word, word.replace("OUT/", f"{out}/")) for word in COMMANDS[command]]
    with disk_of(MAX_FILE_BYTES):
        refused = run(words)
    assert refused.exit_code == 1
    last = refused.stderr.splitlines()[-1]
    assert f"Cannot write {tmp_path}/" in last
    assert "File too large. Free some space or choose another folder" in last
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert run(words).exit_code == 0


def test_a_full_cache_is_said_to_be_the_cache(tmp_path: Path, disk_of: DiskOf) -> None:
    (tmp_path / "text.txt").write_text("The cat sat on the mat.\n" * 100, encoding="utf-8")
    words = ["train", str(tmp_path / "text.txt"), "--tokenizer", "byte", "--hidden-units", "8", "--steps", "1"]
    with disk_of(1000):
        refused = run(words)
    assert refused.exit_code == 1
    last = refused.stderr.splitlines()[-1]
    assert f"Cannot write {tmp_path}/cache/tokens/" in last
    assert "set TEXTGEN_CACHE to a folder with more space" in last
    assert not list((tmp_path / "cache" / "tokens").iterdir())
    assert not list((tmp_path / "models").glob("*"))


def test_without_a_folder_for_temporary_files_it_is_one_clear_line(
    tmp_path: Path, tiny_models: Path, no_temporary_folder: None
) -> None:
    (tmp_path / "text.txt").write_text("The cat sat on the mat.\n", encoding="utf-8")
    refused = run(["evaluate", str(tiny_models / "tiny"), str(tmp_path / "text.txt")])
    assert refused.exit_code == 1
    assert "set TMPDIR to a folder with more space" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_full_folder_for_temporary_files_is_said_to_be_that(
    tmp_path: Path, tiny_models: Path, disk_of: DiskOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "text.txt").write_text("The cat sat on the mat.\n" * 100, encoding="utf-8")
    with disk_of(1000):
        refused = run(["evaluate", str(tiny_models / "tiny"), str(tmp_path / "text.txt")])
    assert refused.exit_code == 1
    last = refused.stderr.splitlines()[-1]
    assert f"Cannot write {tmp_path}/textgen-" in last
    assert "set TMPDIR to a folder with more space" in last
    assert not list(tmp_path.glob("textgen-*"))
