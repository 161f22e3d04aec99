"""Names of models: made from paths, and which are valid."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

import model_folders
import pytest

from textgen.errors import SavedModelError
from textgen.saved_model.creation import check_place, free_folder
from textgen.saved_model.model_names import check_name, check_new_name, corpus_path, free_name, name_from
from textgen.saved_model.registry import find_model, list_models
from textgen.saved_model.removal import remove_model

three = model_folders.three  # fixture


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("poems.txt", "poems"),
        ("/texts/my poems.tar.gz", "my-poems"),
        ("texts/poems/", "poems"),
        ("詩.txt", "詩"),
        (".notes", "notes"),
        (".notes.txt", "notes"),
        (".", "here"),
        ("..", "work"),
        ("./texts/..", "here"),
        ("/", "model"),
        ("texts/*.txt", "texts"),
        ("texts/old poems/200?/**/*.txt", "old-poems"),
        ("*.txt", "here"),
        ("poems [1].txt", "poems-1"),
        ("-", "stdin"),
        ("--", "model"),
        ("taken.txt", "taken-3"),
        ("a--b  c.txt", "a--b-c"),
        ("हिन्दी.txt", "हिन्दी"),
        ("தமிழ்/", "தமிழ்"),
        ("বাংলা গল্প.txt", "বাংলা-গল্প"),
        ("قُرْآن.txt", "قُرْآن"),
        ("می\u200cخواهم.txt", "می\u200cخواهم"),
        ("ශ්\u200dරී.txt", "ශ්\u200dරී"),
        (unicodedata.normalize("NFD", "Café crème.txt"), "Café-crème"),
        ("1\u200d2\u200c.txt", "1-2"),
    ],
)
def test_a_name_made_from_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, expected: str) -> None:
    (tmp_path / "work" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work" / "here")
    folder = tmp_path / "models"
    Path("poems [1].txt").touch()
    for name in ("taken", "taken-2"):
        (folder / name).mkdir(parents=True)
    assert free_name(folder, path) == free_name(folder, Path(path)) == expected


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["poems/a.txt", "poems/b.txt"], "poems"),  # as the shell writes poems/*.txt
        (["poems/a.txt", "../here/poems/b.txt"], "poems"),
        (["poems/*.txt", "poems/*.md"], "poems"),
        (["poems/tang", "poems/song"], "poems"),
        (["a.txt", "b.txt"], "here"),
        (["a.txt", "a.txt"], "a"),
        (["a.txt", "poems/b.txt"], "a"),
        (["-", "a.txt"], "stdin"),
        (["a.txt", "-"], "a"),
        (["/a.txt", "/b.txt"], "a"),
        (["~/a.txt", "~/b.txt"], "a"),
        (["~/*.txt"], "model"),
        (["~/*/*.txt", "~/*.md"], "model"),
        (["~/poems/*.txt"], "poems"),
        (["s3://bucket/poems/*.txt"], "poems"),
        (["https://host/poems.txt?version=3"], "poems"),
        (["https://host/poems.txt?version=*"], "poems"),
        (["zip://*.csv::https://host/poems.zip"], "poems"),
        (["https://host/poems/a.txt", "https://host/poems/b.txt"], "poems"),
        (["https://www.host.org/a.txt", "https://www.host.org/b.txt"], "a"),
    ],
)
def test_several_paths_or_a_pattern_are_named_after_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paths: list[str], expected: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    paths = [path.replace("~", str(Path.home())) for path in paths]
    assert name_from(corpus_path(paths)) == expected
    assert free_folder(tmp_path / "models", *paths) == tmp_path / "models" / expected


@pytest.mark.parametrize("folder", ["a [x]", "a*", "a?"])
def test_wildcards_in_the_path_of_the_working_folder_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / folder / "here" / "poems").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / folder / "here")
    assert name_from("poems/*.txt") == name_from(corpus_path(["poems/*.txt", "poems/*.md"])) == "poems"
    assert name_from("*.txt") == "here"
    assert name_from("*/poems/*.txt") == "here"


def test_a_name_made_from_a_path_is_free_where_case_and_unicode_form_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on the file systems of macOS and Windows."""

    def folded(name: str) -> str:
        return unicodedata.normalize("NFC", name).casefold()

    def lexists(path: Path) -> bool:
        return folded(path.name) in {folded(name) for name in os.listdir(path.parent)}

    monkeypatch.setattr("textgen.saved_model.model_names.os.path.lexists", lexists)
    for name in ("Poems", unicodedata.normalize("NFD", "caf\xe9"), "caf\xe9-2".upper()):
        (tmp_path / name).mkdir()
    assert free_name(tmp_path, "poems.txt") == "poems-2"
    assert free_name(tmp_path, "caf\xe9.txt") == "caf\xe9-3"
    (tmp_path / "linked").symlink_to(tmp_path / "nowhere")
    assert free_name(tmp_path, "linked.txt") == "linked-2"


BAD_NAMES = {
    "": "is empty", ".": "one part of a path", "..": "one part of a path", "a/b": "one part of a path",
    "../outside": "one part of a path", "/etc": "one part of a path", "a\\b": "one part of a path",
    ".hidden": "hidden", ".tmp-removed-x": "hidden", "-rf": "look like options", "a\nb": "cannot be shown",
    "a\x1b]52;c;QQ==\x07": "cannot be shown", "a\0b": "cannot be shown", "caf\udce9": "cannot be shown",
    "a\u200d": "cannot be shown", "\u200ca": "cannot be shown", "1\u200c2": "cannot be shown",
    "a\u200c\u200db": "cannot be shown",
    " a": "a space at an end", "a ": "a space at an end", "a" * 300: "more than 200 bytes", "月" * 67: "more than 200",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_is_one_part_of_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(SavedModelError, match=BAD_NAMES[name]) as caught:
        check_name(name)
    assert str(caught.value).isprintable()
    with pytest.raises(SavedModelError, match="There is no model"):
        find_model(name, tmp_path / "models")


ELSEWHERE = {
    "a:b": "does not allow : in a name", 'who?"': 'not allow " ? in a name', "a|b": "allow | in", "<a>*": "allow * < >",
    "etc.": "a full stop at the end", "con": "a device", "NUL": "a device", "com1.txt": "a device", "lpt³": "a device",
    "aux .b": "a device",
}  # fmt: skip


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_new_name_is_one_that_other_systems_allow(three: Path, name: str) -> None:
    """A model that has such a name already is found and removed."""
    with pytest.raises(SavedModelError, match=f"^A model cannot be called .*: Windows .*{re.escape(ELSEWHERE[name])}"):
        check_new_name(name)
    with pytest.raises(SavedModelError, match="A model cannot be called"):
        check_place(three / name)
    assert check_name(name) == name
    (three / "a").rename(three / name)
    assert find_model(name, three) == three / name
    assert name in [path.name for path in list_models(three)]
    remove_model(three / name)
    assert not (three / name).exists()


@pytest.mark.parametrize("path", ["con.txt", "NUL", "com1.txt"])
def test_no_name_of_a_device_is_made_from_a_path(tmp_path: Path, path: str) -> None:
    assert check_new_name(free_name(tmp_path, path)) == f"{path.removesuffix('.txt')}-2"


@pytest.mark.parametrize(
    "name",
    ["novel", "poems-2", "詩", "my poems", "a.b", "com", "console", "com10", "a" * 200, "می\u200cخواهم", "क्\u200dष"],
)
def test_other_names_are_let_be(name: str) -> None:
    assert check_name(name) == check_new_name(name) == name


def test_a_name_made_from_a_long_path_can_be_had(tmp_path: Path) -> None:
    for path in ("a" * 255, "月" * 85, "é" * 127 + ".txt", "می\u200c" * 36, "a" * 97 + "\u200cb"):
        assert check_name(free_name(tmp_path, path))
