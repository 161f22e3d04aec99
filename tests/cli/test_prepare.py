"""textgen corpus prepare, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from song_model import POEMS, TINY, run


def test_a_corpus_is_prepared_in_shards_trained_on_and_resumed(tmp_path: Path) -> None:
    poems, out, models = tmp_path / "songs.txt", str(tmp_path / "prepared"), str(tmp_path / "models")
    poems.write_text(POEMS, encoding="utf-8")
    first = run("corpus", "prepare", str(poems), "--out", out, "--shard", "2/2", "--tokenizer", "char", "--json")
    assert first.exit_code == 0
    assert json.loads(first.stdout)["missing"] == [1]
    tiny = [option for option in TINY if option not in ("--tokenizer", "char")]
    early = run("train", out, "--models-dir", models, *tiny)
    assert early.exit_code == 1
    assert f"`textgen corpus prepare {poems} --out {out} --shard 1/2`" in early.stderr
    assert not Path(models).exists()

    rest = run("corpus", "prepare", str(poems), "--out", out)
    assert rest.exit_code == 0
    assert "Shard 2 of 2 already exists." in rest.stderr
    assert f"textgen train {out}" in rest.stdout
    counts = json.loads(run("corpus", "prepare", str(poems), "--out", out, "--json").stdout)
    assert counts["train"]["num_documents"] + counts["valid"]["num_documents"] == 48

    trained = run("train", out, "--models-dir", models, "--json", *tiny)
    assert trained.exit_code == 0
    assert "48 documents by blank-line" in trained.stderr
    record = json.loads(trained.stdout)
    assert record["tokens"]["train"] == counts["train"]["tokens"]
    assert record["scores"]["bytes"] == counts["valid"]["bytes"]
    refused = run("train", out, "--valid-file", "missing.txt", "--models-dir", models, *tiny)
    assert refused.stderr == f"Error: {out} has held-out text of its own: leave out --valid-file.\n"
    poems.unlink()
    resumed = run("train", "--resume", "--models-dir", models, "--json", "--steps", "9")
    assert json.loads(resumed.stdout)["progress"]["step"] == 9


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_shard_is_made_though_another_one_is_damaged(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poems, out = tmp_path / "songs.txt", tmp_path / "out"
    poems.write_text(POEMS, encoding="utf-8")
    command = ["corpus", "prepare", str(poems), "--out", str(out), "--tokenizer", "char", "--shard"]
    assert run(*command, "2/2").exit_code == 0
    with (out / "shard-00002-of-00002" / "train.bin").open("ab") as file:
        file.write(b"x")
    monkeypatch.setattr("textgen.dataset.prepared_corpus.PreparedCorpus.data", pytest.fail)
    result = run(*command, "1/2", *more)
    assert result.exit_code == 0, result.stderr
    assert "1 of 2 shards are missing or damaged: shard 2: " in result.stderr
    if more:
        assert json.loads(result.stdout)["missing"] == []
    else:
        assert result.stdout == f"{out}: none of its 2 shards is missing.\n"


@pytest.mark.parametrize("shard", ["3", "1/2/3", "a/b", "-1/3"])
def test_a_shard_that_cannot_be_read_is_wrong_usage(tmp_path: Path, shard: str) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    result = run("corpus", "prepare", str(tmp_path / "songs.txt"), "--out", str(tmp_path / "out"), "--shard", shard)
    assert result.exit_code == 2
    assert "is not of the form 3/16" in result.stderr
    assert not (tmp_path / "out").exists()
