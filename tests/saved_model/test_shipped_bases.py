"""The bases of the repository: each can be loaded and predicts a fixed text as well as when it was added.

`shipped_bases.json` holds the bits per byte of each base on its text below. A new version of a dependency, or a change
of the code, that spoils a base fails here. To add a base, write the value that the failing test shows.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from textgen.saved_model import bases
from textgen.saved_model.bases import BASES, base_for
from textgen.saved_model.layout import TRAINING
from textgen.saved_model.loading import load_model

MAX_BASE_BYTES = 10_000_000  # bytes of a base in the repository
SHIPPED = bases.PLACES[1]
EXPECTED = json.loads(Path(__file__).with_name("shipped_bases.json").read_bytes())
TEXTS = {
    "english": (
        "The old miller kept two cats and a lame horse, and every evening he sat on the wall by the river and told "
        'them what he had done that day. "I have ground nine sacks of wheat," he said, "and I have mended the '
        'wheel." The cats did not answer, but the horse put its head on his shoulder, and he was content. One night '
        "in winter a stranger came to the door and asked for bread. The miller gave him half of what he had, and a "
        "place by the fire. When morning came the stranger was gone, and nobody in the village had seen him; but the "
        "snow in front of the house was melted, and in the wet grass there stood a small yellow flower."
    ),
    "chinese": (
        "从前有一个老磨坊主，养着两只猫和一匹瘸腿的马。每天晚上他坐在河边的墙上，把白天做过的事情说给它们听。“我今天磨了九袋麦子，"
        "”他说，“还把水车修好了。”猫没有回答，马却把头靠在他的肩上，他就心满意足了。冬天的一个夜里，有一个陌生人来敲门，想要一点吃的。"
        "老人把自己的饭分了一半给他，又让他睡在火炉旁边。第二天早晨，陌生人已经不见了，村里也没有人看见过他；可是门前的雪都化了，"
        "湿润的草地上开着一朵小小的黄花。"
    ),
}


@pytest.fixture(autouse=True)
def bases_of_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTGEN_BASES", str(SHIPPED))


def test_the_repository_ships_every_base() -> None:
    assert bases.installed_bases() == list(BASES)


@pytest.mark.parametrize("name", BASES)
def test_a_base_predicts_as_when_it_was_added(name: str) -> None:
    assert base_for(TEXTS[name]) == name
    score = load_model(name).scorer().score(TEXTS[name]).total.bits_per_byte
    assert score == pytest.approx(EXPECTED.get(name, 0.0), rel=0.005)


@pytest.mark.parametrize("name", BASES)
def test_a_base_is_small_and_holds_nothing_of_its_maker(name: str) -> None:
    folder = SHIPPED / name
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) <= MAX_BASE_BYTES
    assert not [path for path in files if path.parent != folder], "no checkpoints and logs"
    record = load_model(name).training
    assert not [path for path in record["corpus"]["paths"] if "/" in path]
    assert "signature" not in record


@pytest.mark.parametrize("name", BASES)
def test_a_base_is_recorded_as_this_version_records(name: str) -> None:
    written = json.loads((SHIPPED / name / TRAINING).read_bytes())
    assert written.pop("checksum")
    assert written == load_model(name).training, "it holds names of older versions"
