"""Libraries report nothing to their makers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import textgen
from textgen import telemetry, versions
from textgen.storage.file_systems import open_file_system

PACKAGE = Path(textgen.__file__).parent
ONE_STEP = """
import numpy as np
from textgen.model.config import ModelConfig
from textgen.model.onnx_graph import Float32Products, step_graph
from textgen.model.onnx_model import OnnxModel
from textgen.model.reference import initial_weights
config = ModelConfig(5, embedding_dim=2, hidden_units=2)
model = OnnxModel(step_graph(config, initial_weights(config, np.random.default_rng(0))).SerializeToString(), config)
print(model.step(np.array([1], np.int32), model.initial_state(1))[0].shape)
"""
AUTOMATIONS = ("CI", "TF_BUILD", "GITHUB_ACTIONS")  # ONNX Runtime is silent where one is set


def test_a_step_of_onnx_runtime_leaves_no_device_id_and_no_events(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    places = {"HOME": str(home), "USERPROFILE": str(home), "TMPDIR": str(temporary), "TEXTGEN_CACHE": str(tmp_path)}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in (*AUTOMATIONS, telemetry.ONNX_RUNTIME) and not name.startswith("XDG_")
    }
    run = subprocess.run([sys.executable, "-c", ONE_STEP], env=kept | places, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "(1, 5)\n", "")
    assert [*home.rglob("*"), *temporary.rglob("*")] == []


def test_modules_get_onnx_runtime_only_with_its_telemetry_turned_off() -> None:
    imports = re.compile(
        r"^\s*import [^#\n]*\bonnxruntime\b|^\s*from onnxruntime\b"
        r"""|(__import__|import_module)\(\s*["']onnxruntime\b""",
        re.MULTILINE,
    )
    assert [path for path in PACKAGE.rglob("*.py") if imports.search(path.read_text(encoding="utf-8"))] == []


def test_telemetry_is_off_before_a_library_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reporting.py").write_text("import os\nis_silent = os.environ.get('SILENT') == '1'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SILENT", "")
    monkeypatch.setitem(telemetry.VARIABLES, "reporting", "SILENT")
    assert versions.load("reporting", "A test").is_silent


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("", "1"), ("0", "0"), ("true", "true")])
def test_what_the_user_has_decided_stays(before: str | None, after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_LIBRARY_IS_SILENT", raising=False)
    if before is not None:
        monkeypatch.setenv("SOME_LIBRARY_IS_SILENT", before)
    telemetry.turn_off("SOME_LIBRARY_IS_SILENT")
    assert os.environ["SOME_LIBRARY_IS_SILENT"] == after


def test_requests_for_addresses_do_not_name_other_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec")
    monkeypatch.setenv(telemetry.HUGGING_FACE, "")
    open_file_system("memory://a.txt")
    assert os.environ[telemetry.HUGGING_FACE] == "1"
