"""The script that writes the pages of several models and draws them."""

from __future__ import annotations

import base64
import io
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from script_modules import load_script

from textgen.errors import ConfigError
from textgen.export.attribution import Attribution
from textgen.export.html import CLOSING, OPENING
from textgen.export.packing import contents_in

CARD = "# mine\n\n## Licence\n\nCC BY 4.0\n\n## Note\n\nLetters of my grandmother.\n"


@pytest.fixture
def gallery(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("gallery", monkeypatch)


@pytest.fixture
def models(tiny_models: Path, tmp_path: Path) -> list[Path]:
    """Two models, the first one with a licence and a note."""
    folders = [tmp_path / "mine", tmp_path / "bare"]
    for folder in folders:
        shutil.copytree(tiny_models / "tiny", folder)
    (folders[0] / "README.md").write_text(CARD, encoding="utf-8")
    (folders[1] / "README.md").unlink(missing_ok=True)
    return folders


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([], [Attribution("CC BY 4.0", "Letters of my grandmother."), Attribution()]),
        (["--note", "Mine."], [Attribution("CC BY 4.0", "Mine."), Attribution(note="Mine.")]),
        (["--licence", "CC0", "--note", ""], [Attribution("CC0"), Attribution("CC0")]),
    ],
    ids=["none given", "a note given", "both given"],
)
def test_a_page_has_the_licence_and_the_note_of_its_model_unless_others_are_given(
    options: list[str],
    shown: list[Attribution],
    gallery: ModuleType,
    models: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["gallery.py", *map(str, models), "--out", str(tmp_path / "pages"), *options])
    gallery.main()
    for folder, texts in zip(models, shown, strict=True):
        page = (tmp_path / "pages" / f"{folder.name}.html").read_text(encoding="utf-8")
        packed = page.partition(OPENING)[2].partition(CLOSING)[0]
        assert contents_in(base64.b64decode(packed))[1] == texts


@pytest.mark.parametrize("name", ["mine", "Mine"])
def test_models_of_one_name_are_refused_before_a_page_is_written(
    name: str, gallery: ModuleType, models: list[Path], tmp_path: Path
) -> None:
    other = tmp_path / "others" / name
    shutil.copytree(models[0], other)
    with pytest.raises(ConfigError, match="would replace that of") as caught:
        gallery.build([str(models[0]), str(other)], tmp_path / "pages", {})
    assert str(models[0]) in str(caught.value)
    assert str(other) in str(caught.value)
    assert not (tmp_path / "pages").exists()


class Page:
    """A browser whose pages have written a text."""

    def __init__(self, picture: bytes) -> None:
        self.picture = lambda: picture

    def evaluate(self, expression: str) -> str:
        return "A text."

    def __getattr__(self, name: str) -> object:
        return lambda *_: None


def test_a_picture_that_is_too_large_leaves_the_one_that_is_there(
    gallery: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = pytest.importorskip("PIL.Image")
    data = io.BytesIO()
    image.linear_gradient("L").resize((gallery.WIDTH, gallery.HEIGHT)).save(data, "png")

    @contextmanager
    def browser(name: str) -> Iterator[Page]:
        yield Page(data.getvalue())

    monkeypatch.setattr(gallery, "browser_of_tests", browser)
    target = tmp_path / "gallery.png"
    gallery.draw([tmp_path / "mine.html"], [""], target)
    with image.open(target) as drawn:
        assert drawn.size == (gallery.WIDTH, gallery.HEIGHT)
    target.write_bytes(b"the good one")
    monkeypatch.setattr(gallery, "MAX_PICTURE_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"more than 1,000, so .*gallery\.png was not written"):
        gallery.draw([tmp_path / "mine.html"], [""], target)
    assert target.read_bytes() == b"the good one"
