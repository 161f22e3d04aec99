"""Addresses: what is one, and which parts of it are never shown."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from file_server import FileServer, server
from remote_systems import no_retry_delay, read

from textgen.cli import textgen
from textgen.corpus.corpus import Corpus
from textgen.errors import ConfigError, CorpusError, RemoteError, TextgenError
from textgen.saved_model.bases import bases_folder
from textgen.saved_model.loading import load_model
from textgen.saved_model.registry import list_models, models_folder
from textgen.saved_model.saving import write_training
from textgen.storage.addresses import is_remote, refuse_remote, text_without_secrets, without_secrets
from textgen.storage.cache_folder import cache_folder

__all__ = ["no_retry_delay", "server"]


def test_what_exists_here_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "s3://bucket/a",
        "https://a.b/c.txt",
        "zip://a.txt::b.zip",
        "zip::https://a.b/c.zip",
        "hf://datasets/a",
    ):
        assert is_remote(name)
    for name in ("C:/a.txt", "C:\\\\a", "c://a", "a:b", "a.txt", "-", "", "x/s3://a", "3d://a"):
        assert not is_remote(name)
    (tmp_path / "memory:" / "d").mkdir(parents=True)
    (tmp_path / "memory:" / "d" / "a.txt").write_text("local", encoding="utf-8")
    assert not is_remote("memory://d/a.txt")
    assert read("memory://d/a.txt") == ["local"]


def test_what_may_be_secret_is_not_shown() -> None:
    for address, expected in {
        "https://user:pass@h/a.txt?X-Signature=1#a": "https://h/a.txt",
        "HTTP://h?key=1": "HTTP://h",
        "zip://why?.csv::https://u:p@h/a.zip?key=1": "zip://why?.csv::https://h/a.zip",
        "sftp://user:p@ss@h/C#.txt": "sftp://h/C#.txt",
        "abfs://b/a.txt?sv=1&sig=2": "abfs://b/a.txt",
        "s3://b/a@b/c?.txt": "s3://b/a@b/c?.txt",
        "github://owner:repo@main/a.txt": "github://owner:repo@main/a.txt",
        "https://user:pa/SECRET@h/a.txt": "https://h/a.txt",
        "ftp://user:p?SECRET@h/f.txt": "ftp://h/f.txt",
        "sftp://user:p#SECRET@h/f.txt": "sftp://h/f.txt",
        "s3://KEY:ab/SECRET@bucket/a.txt": "s3://bucket/a.txt",
        "zip://a.txt::https://user:1p/SECRET@h/a.zip?key=1": "zip://a.txt::https://h/a.zip",
        "https://user:p::SECRET@h/a.txt": "https://h/a.txt",
        "https://h:9/a.txt?x=1::SECRET&y": "https://h:9/a.txt",
        "https://h:9/a.txt?x=1::ab://SECRET": "https://h:9/a.txt",
        "https://h:8080/@me/a.txt": "https://h:8080/@me/a.txt",
        "https://[::1]:80/a@b": "https://[::1]:80/a@b",
        "s3://arn:aws:s3:eu:1:accesspoint/n/a@b": "s3://arn:aws:s3:eu:1:accesspoint/n/a@b",
        "zip://a:b/c@d.txt::b.zip": "zip://a:b/c@d.txt::b.zip",
        "https://user:p://SECRET@h/a.txt": "https://h/a.txt",
        "https://u:p@h/http://user:SECRET@g/a.txt": "https://h/http://g/a.txt",
        "https://h/web/2020/http://x:y/z@w.txt": "https://h/web/2020/http://x:y/z@w.txt",
        "/home/a?b=c#d.txt": "/home/a?b=c#d.txt",
        "-": "-",
    }.items():
        assert without_secrets(address) == expected


@pytest.mark.parametrize("mark", ["'", "(", ")", "'),(", "[", ",", ";", "|"])
def test_the_end_of_a_query_is_not_shown_whatever_is_in_it(server: FileServer, mark: str) -> None:
    server.status = 500
    with pytest.raises(RemoteError, match="the server says 500") as info:
        Corpus([f"{server.url}/a.txt?sig=AB{mark}SECRETTAIL"])
    assert "SECRETTAIL" not in str(info.value)
    said = text_without_secrets(f"500, message='Error', url='https://u:p@h/a.txt?sig=AB{mark}SECRET' (tried 3 times)")
    assert said == "500, message='Error', url='https://h/a.txt (tried 3 times)"


@pytest.mark.parametrize("mark", ["/", "?", "#", "://"])
@pytest.mark.parametrize("start", ["https://", "ftp://", "zip://a.txt::https://"])
def test_a_password_that_ends_the_host_is_refused_and_not_shown(start: str, mark: str) -> None:
    with pytest.raises(RemoteError, match="Write / as %2F") as info:
        Corpus([f"{start}user:HALF{mark}SECRET@127.0.0.1:9/a.txt"])
    assert not any(word in str(info.value) for word in ("HALF", "SECRET", "user"))
    assert "127.0.0.1:9/a.txt" in str(info.value)


@pytest.mark.parametrize("path", ["/get?url=http://a:b/c@d.txt", "/web/2020/http://x:y/z@w.txt"])
def test_an_address_within_an_address_has_no_password(server: FileServer, path: str) -> None:
    server.files[path] = b"The cat sat."
    assert read(f"{server.url}{path}") == ["The cat sat."]


def test_messages_hold_no_secret(server: FileServer, tmp_path: Path) -> None:
    address = f"{server.url.replace('//', '//user:password@')}/a.txt?key=secret"
    for status in (403, 404, 503):
        server.status = status
        with pytest.raises(RemoteError, match=f"{server.url}/a.txt") as info:
            Corpus([address])
        assert not any(word in str(info.value) for word in ("secret", "password"))
    server.files["/a.txt?key=secret"] = b"\x00\x01\x02" * 100
    with pytest.raises(CorpusError, match=f"^{server.url}/a.txt looks like a binary file"):
        Corpus([address])


def test_a_model_holds_no_secret_but_what_resuming_needs(server: FileServer, tmp_path: Path) -> None:
    server.files["/novel.txt?key=sec/ret"] = b"The cat sat on the mat. The dog saw the cat.\n" * 50
    address = f"{server.url.replace('//', '//user:password@')}/novel.txt?key=sec/ret"
    tiny = ["--tokenizer", "char", "--hidden-units", "4", "--embedding-dim", "4", "--num-layers", "1", "--steps", "1"]
    models, page = tmp_path / "models", tmp_path / "page.html"
    for command in (
        ["train", address, *tiny],
        ["models", "compress", "novel", "--out", "small", "--accept-loss"],
        ["export", "novel", str(page)],
        ["models", "show", "novel", "--json"],
        ["train", "--resume", "--name", "novel", "--steps", "2", "--json"],
    ):
        result = CliRunner().invoke(textgen, [*command, "--models-dir", str(models)], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
        assert not any(word in result.output for word in ("sec/ret", "password"))
    holding = models / "novel" / "training.json"
    record = json.loads(holding.read_bytes())
    assert stat.S_IMODE(holding.stat().st_mode) == 0o600
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != holding]
    assert [path for path in written if any(word in path.read_bytes() for word in (b"sec/ret", b"password"))] == []
    assert any(path.parent.name == "logs" for path in written)
    assert record["corpus"]["paths"] == [address]
    with pytest.MonkeyPatch.context() as patch:  # of another user
        patch.setattr(os, "access", lambda path, mode: Path(path) != holding)
        assert load_model("novel", models).training == {}
    holding.chmod(0o644)
    write_training(models / "novel", record)
    assert stat.S_IMODE(holding.stat().st_mode) == 0o600
    write_training(models / "small", load_model("small", models).training)
    assert stat.S_IMODE((models / "small" / "training.json").stat().st_mode) & 0o044
    texts = [path.read_bytes() for path in [models / "novel" / "README.md", page, *(models / "small").iterdir()]]
    assert b"`novel.txt`" in texts[0]
    assert not any(word in text for text in texts for word in (b"sec/ret", b"key=", b"password"))
    assert not any(path.startswith("/novel.txt?key=sec/ret/") for path, _ in server.asked), "a file, no prepared folder"


def test_nothing_is_written_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text", encoding="utf-8")
    for arguments in (
        ["corpus", "prepare", str(tmp_path / "a.txt"), "--out", "s3://bucket/made"],
        ["train", str(tmp_path / "a.txt"), "--models-dir", "s3://bucket/models"],
    ):
        result = CliRunner().invoke(textgen, arguments)
        assert result.exit_code == 1
        assert "Cannot write" in result.stderr
        assert "Write to a folder of this machine" in result.stderr
    with pytest.raises(TextgenError, match="to s3://a: folders elsewhere cannot be replaced as a whole"):
        refuse_remote("s3://a", "a model")


@pytest.mark.parametrize("address", ["s3://bucket/m", "https://user:password@host/m?key=1", "zip://m::a.zip"])
@pytest.mark.parametrize(
    ("variable", "use"),
    [("TEXTGEN_MODELS", models_folder), ("TEXTGEN_BASES", bases_folder), ("TEXTGEN_CACHE", cache_folder)],
)
def test_an_address_is_not_taken_for_a_folder_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, address: str, variable: str, use: Callable[[], Path]
) -> None:
    monkeypatch.setenv(variable, address)
    with pytest.raises(ConfigError, match=rf"^{variable} must be a folder of this machine, not an address\.") as error:
        use()
    assert without_secrets(address) in str(error.value)
    assert "password" not in str(error.value)


def test_the_models_of_a_program_are_in_a_folder_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^models_dir must be a folder of this machine.* 's3://bucket/m'"):
        list_models("s3://bucket/m")
    (tmp_path / "s3:" / "bucket" / "m").mkdir(parents=True)
    assert models_folder("s3://bucket/m") == Path("s3:/bucket/m"), "a path that exists is none"
