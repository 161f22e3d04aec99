"""Versions of modules are found in whatever distribution has them; those that are missing are named."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from textgen.errors import ConfigError
from textgen.saved_model.saved_model import load_model
from textgen.system import runtime
from textgen.versions import missing, module_version, require

Install = Callable[[str, str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a distribution that has a module of another name, and hides the one that is called as the module."""

    def installed(module: str, name: str, number: str) -> None:
        folder = tmp_path / f"{name} {number}"
        metadata = folder / f"{name.replace('-', '_')}-{number}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
        (metadata / "top_level.txt").write_text(f"{module}\n")
        monkeypatch.setattr("sys.path", [str(folder)])  # of modules that are not imported yet
        importlib.invalidate_caches()

    return installed


def test_a_module_of_its_own_distribution() -> None:
    assert module_version("numpy") == version("numpy")


def test_a_module_of_another_distribution(install: Install) -> None:
    install("onnxruntime", "onnxruntime-gpu", "1.99.0")
    assert module_version("onnxruntime") == "1.99.0"
    assert module_version("no_such_module") == ""


def test_a_network_in_8_bits_belongs_to_the_version_of_any_onnx_runtime(tiny_models: Path, install: Install) -> None:
    source = load_model("tiny", tiny_models)._source
    keys = {source.key}
    for name, number in (("onnxruntime-gpu", "1.98.0"), ("onnxruntime-gpu", "1.99.0"), ("onnxruntime-x", "1.99.1")):
        install("onnxruntime", name, number)
        keys.add(source.key)
    assert len(keys) == 4


def test_xla_gets_its_flags_from_any_tensorflow(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    install("tensorflow", "tensorflow-cpu", f"{runtime.XLA_FLAGS_OF}0")
    with runtime._xla_flags():
        assert os.environ["XLA_FLAGS"].startswith(runtime.SAFE_XLA_FLAG)
    install("tensorflow", "tf-nightly", "2.99.0")
    with runtime._xla_flags():
        assert "XLA_FLAGS" not in os.environ


def test_modules_that_are_missing_are_named_with_what_installs_them() -> None:
    names = ["numpy.linalg", "no_such_module", "another.module"]
    assert missing(names) == names[1:]
    require("Counting", ["numpy"], "nothing")
    with pytest.raises(ConfigError, match=r"^Counting needs no_such_module, another\.module: run pip .*\[nothing\]"):
        require("Counting", names, "nothing", ConfigError)


def test_asking_for_modules_imports_none() -> None:
    code = "import sys; from textgen.versions import missing; missing(['lxml', 'numpy']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"lxml", "numpy", "importlib.metadata"}.isdisjoint(loaded)
