"""Files that are converted once: see also test_rich_text.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from textgen.corpus.formats.conversion import Conversions
from textgen.corpus.formats.findings import Findings
from textgen.corpus.formats.rich_text import RichFile
from textgen.storage.files import CannotWrite


def subtitles(path: Path, calls: list[str]) -> RichFile:
    def decoded(encoding: str) -> list[str]:
        calls.append(encoding)
        return ["00:01 --> 00:02\n", f"{path.stem}\n"]

    return RichFile(
        path, path.name, ".srt", "utf-8", lambda encoding: iter(decoded(encoding)), lambda: b"", lambda: False
    )


def test_each_file_once() -> None:
    conversions, calls = Conversions(), list[str]()
    for name in ("a.srt", "b.srt", "a.srt"):
        path, findings = conversions.converted(subtitles(Path(name), calls))
        assert (path.read_text(encoding="utf-8"), findings) == (f"{name[0]}\n", Findings())
    assert calls == ["utf-8", "utf-8"]
    folder = path.parent
    conversions.close()
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(CannotWrite, match="Try again, or set TMPDIR to another folder"):
        Conversions().converted(subtitles(Path("a.srt"), []))
