"""Versions of modules are found in whatever distribution has them; those that are missing are named."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from textgen.corpus.corpus import Corpus
from textgen.errors import ConfigError, CorpusError, RemoteError, TextgenError
from textgen.model.numpy_model import NumpyModel
from textgen.saved_model import saved_model
from textgen.saved_model.loading import load_model
from textgen.storage.file_systems import open_file_system
from textgen.system import runtime
from textgen.versions import cannot_use, load, missing, module_version, require

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
    with runtime._xla_flags:
        assert os.environ["XLA_FLAGS"].startswith(runtime.ynnpack_flag())
    install("tensorflow", "tf-nightly", "2.99.0")
    with runtime._xla_flags:
        assert "XLA_FLAGS" not in os.environ


def test_modules_that_are_missing_are_named_with_what_installs_them() -> None:
    names = ["numpy.linalg", "no_such_module", "another.module"]
    assert missing(names) == names[1:]
    require("Counting", ["numpy"], "nothing")
    with pytest.raises(ConfigError, match=r"^Counting needs no_such_module, another\.module: run pip .*\[nothing\]"):
        require("Counting", names, "nothing", ConfigError)


# === Modules that are there and cannot be imported ===

DLL = "DLL load failed while importing _core: The specified module could not be found."
AGAIN = r"Install it again; on Windows also Microsoft's Visual C\+\+ Redistributable\."


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts modules that lack a library of the system before the installed ones."""
    packages_of_tests = set[str]()

    def put(*modules: str, error: str = f"ImportError({DLL!r})") -> None:
        for module in modules:
            *packages, name = module.split(".")
            packages_of_tests.add(module.partition(".")[0])
            folder = tmp_path.joinpath("broken", *packages)
            folder.mkdir(parents=True, exist_ok=True)
            for package in range(len(packages)):
                tmp_path.joinpath("broken", *packages[: package + 1], "__init__.py").touch()
            (folder / f"{name}.py").write_text(f"raise {error}\n")
            for loaded in [each for each in sys.modules if each.partition(".")[0] == module.partition(".")[0]]:
                monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.syspath_prepend(tmp_path / "broken")

    yield put
    for loaded in [each for each in sys.modules if each.partition(".")[0] in packages_of_tests]:
        del sys.modules[loaded]  # the package of a module that could not be imported


@pytest.mark.parametrize("error", [f"ImportError({DLL!r})", f"OSError({DLL!r})"])
def test_a_module_that_cannot_be_loaded_is_told_from_one_that_is_missing(
    broken: Callable[..., None], error: str
) -> None:
    broken("some.core", error=error)
    assert load("numpy", "Counting").__name__ == "numpy"
    with pytest.raises(ConfigError, match=rf"^Counting cannot use some\.core: {DLL} {AGAIN}$"):
        load("some.core", "Counting", "nothing", ConfigError)
    with pytest.raises(ConfigError, match=rf"^Counting cannot use some\.core: {DLL} {AGAIN}$"):
        require("Counting", ["numpy", "some.core"], "nothing", ConfigError)
    with pytest.raises(ConfigError, match=r"^Counting needs no_such: run pip install \. in the folder"):
        load("no_such", "Counting", error=ConfigError)


def test_a_failing_disk_is_no_fault_of_a_module(broken: Callable[..., None]) -> None:
    broken("some.core", error="OSError(28, 'No space left on device')")
    with pytest.raises(OSError, match="No space left on device"):
        load("some.core", "Counting")


def test_of_several_errors_the_first_is_told() -> None:
    failure = ImportError("Failed to load the native runtime.\nSee a page.")
    failure.__cause__ = ImportError(DLL)
    assert cannot_use("some", failure).startswith(f"cannot use some: {DLL}")


def test_a_library_of_a_format_that_cannot_be_loaded(tmp_path: Path, broken: Callable[..., None]) -> None:
    broken("striprtf.striprtf")
    (tmp_path / "a.rtf").write_text(r"{\rtf1 text}")
    with pytest.raises(
        CorpusError, match=rf"^Cannot read .*a\.rtf: textgen cannot use striprtf.striprtf: {DLL} {AGAIN}"
    ):
        Corpus([tmp_path / "a.rtf"])


def test_libraries_of_addresses_that_cannot_be_loaded(broken: Callable[..., None]) -> None:
    pytest.importorskip("fsspec")
    broken("s3fs")
    with pytest.raises(RemoteError, match=rf"^Cannot read s3://a/b\. s3:// cannot use s3fs: {DLL} {AGAIN}$"):
        open_file_system("s3://a/b")
    broken("fsspec")
    with pytest.raises(RemoteError, match=rf"^Cannot read s3://a/b: textgen cannot use fsspec: {DLL} {AGAIN}$"):
        open_file_system("s3://a/b")


def test_tensorflow_that_cannot_be_loaded(broken: Callable[..., None]) -> None:
    broken("tensorflow")
    with pytest.raises(TextgenError, match=rf"^textgen cannot use tensorflow: {DLL} {AGAIN}$"):
        runtime.load_tensorflow()


def test_without_an_onnx_runtime_that_can_be_loaded_numpy_writes(
    tiny_models: Path, broken: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken("onnx", "onnxruntime")
    monkeypatch.setattr(saved_model, "MIN_ONNX_WEIGHTS", 1)
    model, lines = load_model("tiny", tiny_models), list[str]()
    assert isinstance(model.step_model(note=lines.append), NumpyModel)
    assert lines == [f"ONNX Runtime {cannot_use('onnxruntime', ImportError(DLL))} NumPy writes instead."]
    with pytest.raises(ConfigError, match=r"^ONNX Runtime cannot use onnxruntime: DLL"):
        model.step_model("onnx")


@pytest.mark.parametrize(
    ("module", "command", "what"),
    [
        ("msgspec", ["serve"], "textgen serve"),
        ("onnx", ["export", "tiny", "tiny.onnx"], "The format onnx"),
        ("sentencepiece", ["sample", "tiny"], "textgen"),
    ],
)
def test_a_command_whose_library_cannot_be_loaded_ends_with_one_line(
    tiny_models: Path, tmp_path: Path, broken: Callable[..., None], module: str, command: list[str], what: str
) -> None:
    broken(module, error=f"ImportError({DLL!r}, name='{module}.core')")
    command = [sys.executable, "-m", "textgen", *command, "--models-dir", str(tiny_models)]
    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(rf"Error: {what} cannot use {module}: {DLL} {AGAIN}\n", ended.stderr)


# === Which modules are loaded ===


def test_asking_for_modules_imports_none() -> None:
    code = "import sys; from textgen.versions import missing; missing(['lxml', 'numpy']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"lxml", "numpy", "importlib.metadata"}.isdisjoint(loaded)
