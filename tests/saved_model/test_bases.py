"""Bases: where they are looked for, and which one suits a text."""

from __future__ import annotations

import json
import re
import runpy
import shutil
from importlib import import_module
from pathlib import Path

import pytest

from textgen.errors import SavedModelError
from textgen.saved_model import bases
from textgen.saved_model.bases import BASES, PLACES, base_folder, base_for, installed_bases, is_base
from textgen.saved_model.layout import CONFIG, WEIGHTS
from textgen.saved_model.loading import load_model
from textgen.saved_model.registry import find_model, find_run, list_models
from textgen.storage.files import json_bytes
from textgen.storage.manifests import update_folder


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


# --- By name -------------------------------------------------------------------------------------------------


def test_a_base_is_found_by_its_name_wherever_a_model_is(own_bases: Path) -> None:
    assert find_model("english") == own_bases / "english"
    assert load_model("english").name == "english"
    assert find_model(str(own_bases / "english")) == own_bases / "english"
    assert list_models() == []


def test_a_model_of_the_user_goes_before_a_base(own_bases: Path, tiny_models: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_models / "tiny", tmp_path / "models" / "english")
    assert find_model("english") == tmp_path / "models" / "english"


def test_a_base_that_is_missing_is_no_model(own_bases: Path) -> None:
    with pytest.raises(SavedModelError, match="This installation lacks the base 'chinese'"):
        load_model("chinese")


def test_a_base_is_not_a_run_that_could_be_resumed(own_bases: Path) -> None:
    with pytest.raises(SavedModelError, match="english is a base, which is a part of the program"):
        find_run("english")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("version", "has the format version 9, this program reads 1 and 2. Upgrade textgen"),
        ("weights", "model.safetensors was altered"),
        ("config", "config.json is missing"),
    ],
)
def test_a_base_that_cannot_be_used_is_told_in_a_line(own_bases: Path, damage: str, words: str) -> None:
    folder = own_bases / "english"
    if damage == "version":
        config = json.loads((folder / CONFIG).read_bytes()) | {"format_version": 9}
        update_folder(folder, {CONFIG: json_bytes(config)})
    elif damage == "weights":
        data = bytearray((folder / WEIGHTS).read_bytes())
        data[-1] ^= 1
        (folder / WEIGHTS).write_bytes(data)
    else:
        (folder / CONFIG).unlink()
    with pytest.raises(SavedModelError, match=re.escape(words)) as caught:
        load_model("english").weights()
    assert "\n" not in str(caught.value)


# --- In a package --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("editable", [False, True])
def test_a_wheel_holds_the_bases(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch, editable: bool
) -> None:
    """setup.py puts them where `PLACES` looks in an installed package; an editable installation needs no copy."""
    base = tmp_path / "saved_models" / "bases" / "english"
    shutil.copytree(tiny_models / "tiny", base)
    (base / "checkpoints").mkdir()
    (base / "checkpoints" / "tensors").write_text("large")
    (tmp_path / "textgen").mkdir()
    (tmp_path / "textgen" / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    commands: dict[str, type] = {}
    monkeypatch.setattr("setuptools.setup", lambda cmdclass: commands.update(cmdclass))
    made = import_module("setuptools").Distribution({"packages": ["textgen"], "script_name": "setup.py"})
    runpy.run_path(str(PLACES[1].parents[1] / "setup.py"))
    command = commands["build_py"](made)
    command.build_lib, command.editable_mode = str(tmp_path / "lib"), editable
    command.ensure_finalized()
    command.run()
    found = tmp_path / "lib" / "textgen" / "bases" / "english"
    names = sorted(path.name for path in base.iterdir() if path.is_file())
    assert not found.exists() if editable else sorted(path.name for path in found.iterdir()) == names
    outputs = {Path(path) for path in command.get_outputs()}
    assert {found / name for name in names} & outputs == (set() if editable else {found / name for name in names})


def test_a_source_distribution_holds_the_bases() -> None:
    manifest = (PLACES[1].parents[1] / "MANIFEST.in").read_text()
    assert "recursive-include saved_models/bases *\n" in manifest
