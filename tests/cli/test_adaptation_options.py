"""Models that adapt to a text: --adapt, --neural-cache and --dynamic."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import song_model
from song_model import POEMS, run

from textgen.dataset import token_cache
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_model

models = song_model.models  # fixture


def test_sample_with_a_cache_and_after_learning(models: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("zebra zoo\n" * 200, encoding="utf-8")
    weights = models / "songs" / "model.safetensors"
    before = weights.read_bytes()
    arguments = ["sample", "songs", "--seed", "1", "--max-tokens", "60", "--models-dir", str(models)]
    adapt = ["--adapt", str(tmp_path / "other.txt"), "--dynamic-learning-rate", "1"]
    plain, cached, learned = (
        run(*arguments, *more).stdout for more in ([], ["--neural-cache", "--neural-cache-lambda", "0.5"], adapt)
    )
    assert plain != cached
    assert plain.count("z") < learned.count("z") > 5
    assert weights.read_bytes() == before
    result = run(*arguments, "--dynamic-decay", "0")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--dynamic-decay needs --adapt" in result.stderr
    missing = run(*arguments, "--adapt", str(tmp_path / "missing.txt"))
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "missing.txt" in missing.stderr
    state = ["--load-state", str(tmp_path / "state")]
    assert run(*arguments, "--neural-cache", "--save-state", str(tmp_path / "state")).exit_code == 0
    assert run(*arguments, "--neural-cache", *state).exit_code == 0
    assert "the state of another model" in run(*arguments, *state).stderr


def test_a_state_after_learning_knows_the_text_and_not_its_place(models: Path, tmp_path: Path) -> None:
    text, elsewhere, state = tmp_path / "private.txt", tmp_path / "moved.txt", tmp_path / "state"
    text.write_text("zebra zoo\n" * 20, encoding="utf-8")
    elsewhere.write_text("zebra zoo\r\n" * 20, encoding="utf-16", newline="")
    sample = ["sample", "songs", "--max-tokens", "3", "--models-dir", str(models)]
    assert run(*sample, "--adapt", str(text), "--save-state", str(state)).exit_code == 0
    assert b"private" not in state.read_bytes()
    again = [*sample, "--load-state", str(state), "--adapt"]
    assert run(*again, str(elsewhere), "--encoding", "utf-16").exit_code == 0
    other_ways = run(*again, str(text), "--dynamic-learning-rate", "0.5")
    text.write_text("zebra zoo\n" * 19 + "zebra zob\n", encoding="utf-8")
    for result in (other_ways, run(*again, str(text)), run(*again[:-1])):
        assert (result.exit_code, result.stdout) == (1, "")
        assert "the state of another model, or was made with other settings" in result.stderr


def test_evaluate_with_a_cache_and_learning(models: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text(POEMS, encoding="utf-8")
    arguments = ["evaluate", "songs", str(tmp_path / "other.txt"), "--models-dir", str(models), "--json"]
    results = [run(*arguments, *more) for more in ([], ["--neural-cache"], ["--dynamic"])]
    alone, cached, learned = (json.loads(result.stdout) for result in results)
    assert "nats_per_token_as_saved" not in alone
    for adapted in (cached, learned):
        assert adapted["nats_per_token"] < alone["nats_per_token"]
        assert adapted["nats_per_token_as_saved"] == pytest.approx(alone["nats_per_token"], rel=1e-6)
    assert "worse" not in results[2].stderr
    assert "Adapting made it worse: try" in run(*arguments, "--dynamic", "--dynamic-learning-rate", "30").stderr
    result = run(*arguments, "--neural-cache-window", "10")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--neural-cache-window needs --neural-cache" in result.stderr
    assert "--dynamic-decay needs --dynamic" in run(*arguments, "--dynamic-decay", "0").stderr


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "songs", "songs.txt"],
        ["tune-state", "songs", "songs.txt", "--out", "a.state", "--steps", "1"],
        ["sample", "songs", "--adapt", "songs.txt", "--max-tokens", "2"],
    ],
)
def test_a_model_may_be_saved_anew_while_a_text_is_encoded(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(models / "songs", tmp_path / "models" / "songs")
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    encode, saved_anew = token_cache.encoded, list[Path]()

    def encoded(*given: Any) -> Any:
        saved = load_model("songs")
        configs = (saved.model_config, saved.tokenizer_config, saved.corpus_config)
        save_model(
            saved.folder, {name: 2 * array for name, array in saved.weights().items()}, *configs, saved.tokenizer
        )
        saved_anew.append(saved.folder)
        return encode(*given)

    monkeypatch.setattr(token_cache, "encoded", encoded)
    result = run(*command)
    assert (result.exit_code, len(saved_anew)) == (0, 1), result.stderr
