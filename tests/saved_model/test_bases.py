"""Bases: where they are looked for, and which one suits a text."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from textgen.errors import SavedModelError
from textgen.saved_model import bases
from textgen.saved_model.bases import BASES, base_folder, base_for, installed_bases, is_base


@pytest.fixture
def own_bases(tmp_path: Path, tiny_models: Path) -> Path:
    """A folder of bases with one in it, `english`."""
    folder = tmp_path / "bases"
    shutil.copytree(tiny_models / "tiny", folder / "english")
    return folder


def test_the_folder_of_the_variable_is_used(own_bases: Path) -> None:
    assert installed_bases() == ["english"]
    assert base_folder("english") == own_bases / "english"


@pytest.mark.parametrize("found", [0, 1])
def test_bases_of_a_package_and_of_the_repository_are_found(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch, found: int
) -> None:
    places = (tmp_path / "package", tmp_path / "repository")
    monkeypatch.delenv("TEXTGEN_BASES")
    monkeypatch.setattr(bases, "PLACES", places)
    for name in BASES:
        shutil.copytree(tiny_models / "tiny", places[found] / name)
    assert installed_bases() == list(BASES)
    assert [base_folder(name) for name in BASES] == [places[found] / name for name in BASES]


def test_the_places_are_those_of_the_package_and_the_repository() -> None:
    root = Path(bases.__file__).parents[2]
    assert (root / "textgen" / "bases", root / "saved_models" / "bases") == bases.PLACES


def test_a_base_that_is_missing_or_unknown_is_told_in_a_line(own_bases: Path) -> None:
    with pytest.raises(SavedModelError, match=r"lacks the base 'chinese': .*chinese is missing. Install textgen again"):
        base_folder("chinese")
    for name in ("klingon", "", "../english", "english/"):
        with pytest.raises(SavedModelError, match=r"There is no base .* The bases are: english, chinese\."):
            base_folder(name)


def test_an_installation_may_have_no_base() -> None:
    assert installed_bases() == []


def test_the_folder_of_a_base_is_known_by_any_path(own_bases: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(own_bases)
    assert is_base(own_bases / "english")
    assert is_base(own_bases / ".." / "bases" / "english")
    assert is_base(tmp_path / "link" / "english")
    assert not is_base(own_bases / "novel")
    assert not is_base(tmp_path / "english")
    assert not is_base(own_bases)


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("", "english"),
        (" \n\t", "english"),
        ("Once upon a time", "english"),
        ("Es war einmal, vor langer Zeit, ein Müller.", "english"),
        ("床前明月光，疑是地上霜。", "chinese"),
        ("紅樓夢 (Dream of the Red Chamber)", "english"),
        ("DeepMind 的新模型", "chinese"),
        ("\U00020bb7\U0002a6a5", "chinese"),
        ("กาลครั้งหนึ่งนานมาแล้ว", None),
        ("Однажды в студёную зимнюю пору", None),
        ("これはペンです。", None),
        ("1984 + 16 = 2000", None),
        ("!?", None),
        ("\udce9\udce9", None),
    ],
)
def test_the_script_chooses_the_base(text: str, base: str | None) -> None:
    assert base_for(text) == base
