"""Scripts as modules."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def load_script(name: str, patch: pytest.MonkeyPatch) -> ModuleType:
    """Imports `scripts/NAME.py`, which may import other scripts, for as long as the patch lasts."""
    patch.syspath_prepend(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def said_by_usage(
    name: str, arguments: Sequence[str], folder: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """The error about usage with which `scripts/NAME.py` ends. It leaves its folder, the current one, empty."""
    patch.chdir(folder)
    patch.setattr(sys, "argv", [f"{name}.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        load_script(name, patch).main()
    assert caught.value.code == 2
    assert not list(folder.iterdir())
    return capsys.readouterr().err
