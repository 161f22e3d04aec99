"""textgen serve: what it says before it listens."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from loaded_modules import modules_after

from textgen import versions
from textgen.__main__ import configure
from textgen.cli import textgen
from textgen.model.onnx_model import session_options
from textgen.server import serving
from textgen.server.config import ServerConfig
from textgen.system import machine, runtime


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What would be served; nothing listens."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(serving, "serve", lambda *arguments: calls.append(arguments))
    begin_anew(monkeypatch)
    return calls


def begin_anew(patch: pytest.MonkeyPatch, own: str | None = None) -> None:
    """Cores are as in a new process, in whose environment the user has set `own`."""
    patch.setattr(machine, "_most_cores", None)
    patch.setattr(runtime, "_blas_threads", None)
    patch.setenv("OPENBLAS_NUM_THREADS", own or "")  # so that it is as before in the end
    if own is None:
        patch.delenv("OPENBLAS_NUM_THREADS")


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "missing", lambda modules: [name for name in modules if name == "msgspec"])
    result = CliRunner().invoke(textgen, ["serve"])
    assert (result.exit_code, result.stderr) == (
        1,
        'Error: textgen serve needs msgspec: run pip install ".[serve]" in the folder of textgen\'s source.\n',
    )


def test_settings_and_names_reach_the_server(tiny_models: Path, served: list[tuple[Any, ...]]) -> None:
    arguments = ["serve", "tiny", f"other={tiny_models / 'tiny'}", "--port", "0", "--slots", "8", "--no-page"]
    result = CliRunner().invoke(textgen, [*arguments, "--models-dir", str(tiny_models)])
    assert result.exit_code == 0, result.output
    ((config, places, models_dir, keys, _, _),) = served
    assert config == ServerConfig(port=0, slots=8, page=False)
    assert places == {"tiny": "tiny", "other": str(tiny_models / "tiny")}
    assert (models_dir, keys) == (tiny_models, [])


@pytest.mark.parametrize(("flags", "page"), [([], " Open it in a browser to write."), (["--no-page"], "")])
def test_the_address_is_told_with_what_is_there(
    tiny_models: Path, served: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str], flags: list[str], page: str
) -> None:
    CliRunner().invoke(textgen, ["serve", *flags, "--models-dir", str(tiny_models)])
    ((*_, announce, _),) = served
    announce(SimpleNamespace(port=8017))
    assert capsys.readouterr().err == f"Listening on http://127.0.0.1:8017 (Ctrl-C ends it).{page}\n"


def test_an_open_server_without_a_key_is_warned_about(
    tiny_models: Path, served: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["serve", "--host", "0.0.0.0", "--models-dir", str(tiny_models)]
    assert "everybody who can reach 0.0.0.0" in CliRunner().invoke(textgen, arguments).stderr
    monkeypatch.setenv("TEXTGEN_API_KEY", "secret")
    assert CliRunner().invoke(textgen, arguments).stderr == ""
    assert served[1][3] == ["secret"]


def test_without_any_model_it_says_so(tmp_path: Path, served: list[tuple[Any, ...]]) -> None:
    result = CliRunner().invoke(textgen, ["serve", "--models-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "There is no model" in result.stderr
    assert not served


# === Cores ===


@pytest.mark.parametrize(
    ("granted", "own", "flags", "cores"),
    [
        (None, None, [], "7"),
        (2, None, [], "1"),  # `configure` has let NumPy use the two that the container grants
        (1, None, [], "1"),
        (2, "5", [], "5"),  # the user's own
        (2, None, ["--threads", "2"], "2"),
        (2, None, ["--threads", "1"], "1"),
        (None, "5", ["--threads", "1"], "1"),
    ],
)
def test_cores_of_numpy(
    granted: float | None,
    own: str | None,
    flags: list[str],
    cores: str,
    tiny_models: Path,
    served: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "granted_cores", lambda: granted)
    for module in (machine, runtime):
        monkeypatch.setattr(module, "processor_cores", lambda: 8)
    begin_anew(monkeypatch, own)
    arguments = ["serve", *flags, "--models-dir", str(tiny_models)]
    result = CliRunner().invoke(textgen, arguments, obj=configure, catch_exceptions=False)
    assert (result.exit_code, result.stderr) == (0, "")
    assert os.environ["OPENBLAS_NUM_THREADS"] == cores
    assert len(served) == 1


@pytest.mark.parametrize(("flags", "cores"), [([], 2), (["--threads", "1"], 1), (["--threads", "8"], 2)])
def test_cores_of_onnx_runtime(
    flags: list[str], cores: int, tiny_models: Path, served: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "available_cores", lambda: 8)
    arguments = ["serve", *flags, "--models-dir", str(tiny_models)]
    assert CliRunner().invoke(textgen, arguments, catch_exceptions=False).exit_code == 0
    assert session_options().intra_op_num_threads == cores
    assert len(served) == 1


def test_more_cores_than_there_are_is_one_clear_line(
    served: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "available_cores", lambda: 2)
    result = CliRunner().invoke(textgen, ["serve", "--threads", "3"])
    assert result.exit_code == 1
    assert "Error: --threads must be at most 2, the processor cores of this process. Received: 3." in result.stderr
    assert not served


@pytest.mark.parametrize("command", ["serve", "train"])
def test_cores_are_limited_before_numpy_is_imported(command: str) -> None:
    assert "numpy" not in modules_after(f"import textgen.cli.{command}")
