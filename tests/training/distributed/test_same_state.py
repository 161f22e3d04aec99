"""Processes that have read different states of a run all end with the same error."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs

from textgen.errors import SavedModelError, TextgenError, TrainingError
from textgen.saved_model.layout import CHECKPOINTS, read_training
from textgen.saved_model.saving import write_training
from textgen.system.runtime import load_tensorflow
from textgen.training import run
from textgen.training.checkpoints import Checkpoint, save_checkpoint
from textgen.training.distributed.distribution import Distribution
from textgen.training.distributed.same_state import require_same_state
from textgen.training.distributed.worker_group import Group, connected
from textgen.training.rollback import agreed_checkpoint
from textgen.training.run_setup import RunOptions

folder, plan, text = runs.folder, runs.plan, runs.text  # fixtures
Outcome = Exception | str


class Built(Exception):
    """The network would be built now."""


@pytest.fixture
def pair() -> Iterator[list[Distribution]]:
    """Two processes of a group, the chief first."""
    load_tensorflow()
    links = connected(2)
    groups = [Group(worker, 2, links[worker]) for worker in range(2)]
    for one in chain.from_iterable(links):
        one.settimeout(60)  # one that waits alone fails the test
    yield [Distribution(group=group) for group in groups]
    for group in groups:
        group.close()


def together(*calls: Callable[[], object]) -> list[Outcome]:
    """Runs calls at the same time. Returns their errors, or "went on"."""

    def outcome(call: Callable[[], object]) -> Outcome:
        try:
            call()
        except (TextgenError, Built) as error:
            return error
        return "went on"

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(outcome, calls))


@pytest.fixture
def join_both(pair: list[Distribution], monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Path], list[Outcome]]:
    """Resumes a run in two processes that see different folders, until they build the network."""

    def build(_: object) -> None:
        raise Built

    monkeypatch.setattr(run._Run, "_build", build)

    def joined(chiefs: Path, others: Path) -> list[Outcome]:
        chief, other = (RunOptions(distribution=distribution) for distribution in pair)
        return together(lambda: run.resume(chiefs, options=chief), lambda: run.join(others, other))

    return joined


def copy_of(folder: Path, name: str) -> Path:
    copy = folder.parent / name
    shutil.copytree(folder, copy)
    return copy


def checkpoint(step: int, **others: Any) -> Checkpoint:
    return Checkpoint({"weights/a": np.zeros(3, np.float32)}, {"step": step, **others})


def test_processes_that_share_the_folder_or_a_copy_of_it_go_on(
    folder: Path, join_both: Callable[[Path, Path], list[Outcome]]
) -> None:
    for others in (folder, copy_of(folder, "copy")):
        assert [type(outcome) for outcome in join_both(folder, others)] == [Built, Built]


def older(copy: Path) -> None:
    """The other process sees the folder as it was before the newest checkpoint."""
    shutil.rmtree(copy / CHECKPOINTS / "step-000000005")


def empty(copy: Path) -> None:
    shutil.rmtree(copy / CHECKPOINTS)


def damaged(copy: Path) -> None:
    (copy / CHECKPOINTS / "step-000000005" / "tensors.safetensors").write_bytes(b"")


def with_other_settings(copy: Path) -> None:
    record = read_training(copy)
    write_training(copy, record | {"training": record["training"] | {"learning_rate": 0.5}})


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (older, "this process from step 1"),
        (damaged, "this process from step 1"),
        (empty, "this process from the beginning"),
        (with_other_settings, "this process has read another record or another checkpoint"),
    ],
)
def test_a_process_that_sees_another_folder_ends_all(
    change: Callable[[Path], None], seen: str, folder: Path, join_both: Callable[[Path, Path], list[Outcome]]
) -> None:
    save_checkpoint(folder / CHECKPOINTS, 5, checkpoint(5))
    others = copy_of(folder, "copy")
    change(others)
    before = (folder / "training.json").read_bytes()
    chief, other = join_both(folder, others)
    begin = "The processes have read different states of the run: the chief goes on from step 5, and "
    advice = ". Share the folder of models between all machines, and restart all of them."
    assert isinstance(chief, TrainingError)
    assert isinstance(other, TrainingError)
    assert str(chief) == f"{begin}1 of 2 processes from another state{advice}"
    assert str(other) == f"{begin}{seen}{advice}"
    assert (folder / "training.json").read_bytes() == before


@pytest.mark.parametrize(
    ("mine", "others"),
    [
        (checkpoint(5, seconds=1.5), checkpoint(5, seconds=1.25)),
        (None, checkpoint(0)),
        (checkpoint(0), None),
    ],
)
def test_checkpoints_of_one_step_are_told_apart(
    mine: Checkpoint | None, others: Checkpoint | None, pair: list[Distribution]
) -> None:
    chief, other = pair
    found = together(lambda: require_same_state(chief, mine), lambda: require_same_state(other, others))
    assert [type(outcome) for outcome in found] == [TrainingError, TrainingError]
    again = together(lambda: require_same_state(chief, mine), lambda: require_same_state(other, mine))
    assert again == ["went on", "went on"]


@pytest.mark.parametrize(
    ("steps", "kinds"),
    [
        (([2, 4], [2, 4]), ["went on", "went on"]),
        (([2, 4], [2]), [TrainingError, TrainingError]),
        (([2, 4], []), [TrainingError, TrainingError]),
        (([], []), [SavedModelError, SavedModelError]),
    ],
)
def test_processes_return_to_the_same_checkpoint(
    steps: tuple[list[int], list[int]], kinds: list[Any], pair: list[Distribution], tmp_path: Path
) -> None:
    calls = list[Callable[[], object]]()
    for distribution, there in zip(pair, steps, strict=True):
        place = tmp_path / str(distribution.worker)
        for step in there:
            save_checkpoint(place, step, checkpoint(step))
        calls.append(partial(agreed_checkpoint, place, math.inf, distribution))
    found = together(*calls)
    assert [outcome if isinstance(outcome, str) else type(outcome) for outcome in found] == kinds
