"""Pictures, and a cell through training."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from click.testing import CliRunner
from events import read
from networks import random_weights

import textgen as textgen_package
from textgen import versions
from textgen.cli import textgen
from textgen.cli.inspect import _write_pictures
from textgen.corpus.config import CorpusConfig
from textgen.errors import SavedModelError
from textgen.html_page import asset
from textgen.insight.config import InspectConfig
from textgen.insight.events import check_logs, write_events
from textgen.insight.figures import _draw_cells, _draw_gradient
from textgen.insight.gradients import COMPARED
from textgen.insight.history import through_training
from textgen.insight.inspection import inspect_model
from textgen.model.config import ModelConfig
from textgen.saved_model.layout import CHECKPOINTS, LOGS
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_model
from textgen.storage import files
from textgen.storage.file_replacement import write_through
from textgen.storage.files import CannotWrite
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.training.checkpoints import Checkpoint, save_checkpoint, weights_by_step
from textgen.versions import install_command

TEXT = "The cat (so black) sat.\nThe dog (so old) ran off.\n\n" * 6
CONFIG = ModelConfig(259, embedding_dim=6, hidden_units=8, num_layers=2)


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib: pip install '.[figures]'")
def test_the_current_folder_does_not_decide_how_pictures_are_drawn(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    lines = (
        "import matplotlib",
        "from textgen.insight.figures import _png",
        "print(matplotlib.rcParams['text.usetex'])",
        "_png(lambda axes: print(matplotlib.rcParams['text.usetex'], axes.set(title='a') != []))",
    )
    root = Path(textgen_package.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(root), "PATH": "", "MPLCONFIGDIR": str(tmp_path / "config")},
    )  # fmt: skip
    assert done.stdout.split() == ["True", "False", "True"], done.stderr


def test_untrained_networks_have_the_names_of_the_page() -> None:
    flow, labels = SimpleNamespace(norms=[1.0]), list[str]()
    axes = SimpleNamespace(semilogy=lambda *_, label, **__: labels.append(label), set=lambda **_: 0, legend=lambda: 0)
    words = json.loads(asset("textgen.insight", "page/words.json"))
    for config, last in ((CONFIG, "rnn"), (replace(CONFIG, cell="rnn", activation="relu"), "rnn relu")):
        seen: Any = SimpleNamespace(
            saved=SimpleNamespace(name="caf\udce9 $1"),
            reader=SimpleNamespace(config=config),
            flow=flow,
            untrained=dict.fromkeys(COMPARED, flow),
        )
        labels.clear()
        _draw_gradient(seen, axes)
        keys = [*list(COMPARED)[:-1], last]
        named = [words["untrained"][0].replace("{cell}", words[f"untrained {key}"][0]) for key in keys]
        assert labels == ["caf\\xe9 \\$1", *named]  # no lone surrogate, and no formula


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_pictures_of_cells_show_the_memory_as_the_page_does(cell: str) -> None:
    memory = "c" if cell == "lstm" else "h"
    values, images, labels = np.linspace(-0.9, 0.9, 12).reshape(1, 4, 3), list[np.ndarray](), list[str]()
    axes = SimpleNamespace(
        imshow=lambda image, **_: images.append(image),
        figure=SimpleNamespace(colorbar=lambda _, label: labels.append(label)),
        set=lambda **_: None,
    )
    seen: Any = SimpleNamespace(
        reader=SimpleNamespace(memory=memory), reading=SimpleNamespace(layers=[{memory: values}])
    )
    _draw_cells(seen, axes)
    np.testing.assert_allclose(images[0], (np.tanh(values) if memory == "c" else values)[0].T)
    assert labels == ["tanh(c)" if memory == "c" else "h"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A model with two checkpoints, the last of which has its weights."""
    folder, weights = tmp_path / "models" / "run", random_weights(CONFIG)
    save_model(folder, weights, CONFIG, TokenizerConfig("byte"), CorpusConfig(), ByteTokenizer())
    for step, factor in ((10, 0.5), (20, 1.0)):
        tensors = {f"weights/{name}": array * np.float32(factor) for name, array in weights.items()}
        save_checkpoint(folder / CHECKPOINTS, step, Checkpoint({**tensors, "optimizer/a": np.zeros(2)}, {"step": step}))
    return folder


def test_a_cell_through_the_checkpoints_ends_where_the_model_is(run: Path) -> None:
    seen = inspect_model(load_model("run", run.parent), [TEXT], InspectConfig(max_tokens=300, cell=("L1/3",)))
    assert [step for step, _ in weights_by_step(run / CHECKPOINTS)] == [10, 20]
    first, last = through_training(seen, 1, 3)
    np.testing.assert_array_equal(last.memory, seen.reading.layers[1]["c"][0, :, 3])
    assert np.abs(first.memory - last.memory).max() > 1e-3
    assert seen.half_lives is not None
    assert last.half_life == pytest.approx(float(seen.half_lives[1][3]))


def test_a_damaged_checkpoint_is_left_out_and_a_model_without_any_has_no_history(run: Path) -> None:
    (run / CHECKPOINTS / "step-000000010" / "tensors.safetensors").write_bytes(b"damaged")
    assert [step for step, _ in weights_by_step(run / CHECKPOINTS)] == [20]
    assert list(weights_by_step(run / "none")) == []


def linked(run: Path) -> str:
    (run.parent / "elsewhere").mkdir()
    (run / LOGS).symlink_to(run.parent / "elsewhere")
    return "run"


def as_base(run: Path) -> str:
    shutil.copytree(run, run.parent.parent / "bases" / "english")
    return "english"


def as_copy(run: Path) -> str:
    fsspec = pytest.importorskip("fsspec", reason='pip install ".[remote]"')
    for path in (path for path in run.rglob("*") if path.is_file()):
        fsspec.filesystem("memory").pipe(f"/models/run/{path.relative_to(run).as_posix()}", path.read_bytes())
    return "memory://models/run"


OTHER_LOGS: dict[str, tuple[Callable[[Path], str], str]] = {
    "a link": (linked, "logs is a link, which a model folder must not contain"),
    "a base": (as_base, "The logs of english are those of the program: write pictures to a folder instead"),
    "a copy": (as_copy, "The logs of run are those of a model elsewhere: write pictures to a folder instead"),
}


@pytest.mark.parametrize("kind", OTHER_LOGS)
def test_events_are_written_to_logs_of_the_user_alone(run: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, words = OTHER_LOGS[kind]
    name = make(run)
    saved = load_model(name)
    with pytest.raises(SavedModelError, match=words):
        check_logs(saved)
    monkeypatch.setattr("textgen.insight.figures.require_matplotlib", lambda: None)
    result = CliRunner().invoke(textgen, ["inspect", name, "missing.txt", "--tensorboard"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert words in result.stderr, "before the text is read"
    assert not list(saved.folder.glob(f"{LOGS}/*"))


def test_events_that_cannot_be_written_are_refused_before_the_text_is_read(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("textgen.storage.files.tempfile.TemporaryFile", refuse)
    with pytest.raises(CannotWrite, match=f"Cannot write {run}/{LOGS}/inspect: Permission denied"):
        check_logs(load_model("run"))


def test_pictures_are_written_all_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes, mode: int) -> None:
        if data == b"second":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_through(path, data, mode)

    monkeypatch.setattr("textgen.insight.figures.figures", lambda seen: {"a": b"first", "b": b"second"})
    monkeypatch.setattr(files, "write_through", full)
    with pytest.raises(CannotWrite, match=r"b\.png: No space left on device"):
        _write_pictures(Mock(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def inspect(run: Path, *flags: str) -> tuple[int, str, str]:
    (run.parent / "text.txt").write_text(TEXT, encoding="utf-8")
    place = ("--documents", "file", "--max-tokens", "300", "--models-dir", str(run.parent))
    arguments = ("inspect", "run", str(run.parent / "text.txt"), *place, *flags)
    result = CliRunner().invoke(textgen, arguments, catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("flags", [("--png", "pictures"), ("--tensorboard",)])
def test_without_matplotlib_one_line_says_what_to_install(
    run: Path, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "missing", list)
    code, out, err = inspect(run, *flags)
    assert (code, out) == (1, "")
    assert err == (f"Error: Drawing pictures needs matplotlib: {install_command('figures')}.\n")
    assert not (run / LOGS).exists()


def test_a_model_that_is_removed_meanwhile_is_not_made_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inspection: Any = SimpleNamespace(saved=load_model(str(run)), shown=[])
    monkeypatch.setattr("textgen.insight.events.require_matplotlib", lambda: None)
    monkeypatch.setattr("textgen.insight.events.cell_names", lambda inspection: {})
    monkeypatch.setattr("textgen.insight.events.figures", lambda inspection: shutil.rmtree(run))
    with pytest.raises(CannotWrite, match="run/logs/inspect: No such file"):
        write_events(inspection)
    assert not run.exists()


@pytest.mark.slow
def test_png_and_tensorboard(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason='pictures need matplotlib: pip install ".[figures]"')
    folder = tmp_path / "pictures"
    code, _, err = inspect(run, "--png", str(folder), "--tensorboard", "--cell", "L0/1")
    assert code == 0
    names = {path.name for path in folder.iterdir()}
    assert names >= {"memory.png", "gradient.png", "cells.png", "gates-L0-1.png", "saturation-lstm_0-f.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.iterdir())
    assert "cells at 2 checkpoints" in err
    events = read(run / LOGS / "inspect")
    tags = events.PluginTagToContent("images")
    assert {"L0/1/memory", "inspection/gradient", "inspection/memory"} <= set(tags)
    assert [event.step for event in events.Tensors("L0/1/memory")] == [10, 20]
    assert [event.step for event in events.Tensors("inspection/gradient")] == [20]
