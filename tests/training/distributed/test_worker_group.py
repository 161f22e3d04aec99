"""Workers of one machine that add up arrays over inherited sockets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from networks import random_weights

from textgen.errors import ConfigError, TrainingError, WorkerLost
from textgen.model.config import ModelConfig
from textgen.system.child_processes import WORKER_VARIABLE
from textgen.training.config import TrainingConfig
from textgen.training.distributed import worker_group
from textgen.training.distributed.distribution import Distribution
from textgen.training.distributed.joining import is_follower, join_processes
from textgen.training.distributed.worker_group import Group, connected

Workers = Callable[[Callable[[Group], Any]], list[Any]]


@pytest.fixture(params=[2, 3])
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    """Calls a function in as many threads, each with its place in a group."""
    groups = [Group(worker, request.param, links) for worker, links in enumerate(connected(request.param))]
    with ThreadPoolExecutor(request.param) as threads:
        yield lambda function: list(threads.map(function, groups))
    for one in groups:
        one.close()


def test_sums_are_the_same_in_all_workers_and_those_of_all(workers: Workers) -> None:
    def arrays(worker: int) -> list[np.ndarray]:
        rng = np.random.default_rng(worker)
        large = rng.normal(size=(700, 500)).astype(np.float32)  # more than a socket holds
        return [large, large.T, np.array(worker + 1, np.float32), np.zeros((0, 3)), np.array([worker, 7])]

    results = workers(lambda one: one.summed(arrays(one.worker)))
    for number, arrays_of_one in enumerate(zip(*map(arrays, range(len(results))), strict=True)):
        expected = np.sum(np.stack(arrays_of_one), axis=0)
        for result in results:
            assert result[number].dtype == np.asarray(arrays_of_one[0]).dtype
            assert result[number].shape == np.shape(arrays_of_one[0])
            np.testing.assert_array_equal(result[number], results[0][number])
            np.testing.assert_allclose(result[number], expected, rtol=1e-5, atol=1e-6)


def test_rows_are_gathered_in_the_order_of_the_workers(workers: Workers) -> None:
    results = workers(lambda one: one.gathered(np.full((2, 3), one.worker, np.float32)))
    for result in results:
        np.testing.assert_array_equal(result, np.repeat(np.arange(len(results)), 2)[:, None] * np.ones((1, 3)))


def test_a_worker_that_is_gone_is_noticed_by_all_others(workers: Workers) -> None:
    def leave(one: Group) -> str:
        if one.worker == one.size - 1:
            one.close()
            return "gone"
        try:
            one.summed([np.zeros(3)])
        except WorkerLost as error:
            one.close()  # as its process ends
            return str(error)
        return "nothing noticed"

    *others, gone = workers(leave)
    assert gone == "gone"
    assert set(others) == {"Another process was lost, or did not answer."}


def test_workers_at_different_places_are_an_error_and_no_wrong_sum(workers: Workers) -> None:
    def astray(one: Group) -> str:
        try:
            one.summed([np.zeros(3 + one.worker)])
        except (TrainingError, WorkerLost) as error:
            one.close()
            return str(error)
        return "no error"

    assert "at different positions of the run" in workers(astray)[0]


def test_the_environment_tells_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", "not asked")
    links = connected(3)
    for worker in range(3):
        monkeypatch.setenv(WORKER_VARIABLE, worker_group.description(worker, 3, links[worker], parent_pipe=99))
        assert worker_group.rank_and_size() == (worker, 3)
        assert worker_group.parent_pipe() == 99
        assert is_follower("auto") is is_follower("multiworker") is (worker > 0)
        assert is_follower("single") is False
    monkeypatch.setenv(WORKER_VARIABLE, json.dumps({"worker": 0, "of": 2, "links": [987], "parent_pipe": 988}))
    with pytest.raises(TrainingError, match="The connections named in TEXTGEN_WORKER do not exist"):
        join_processes("multiworker")
    for pairs in links:
        for one in pairs:
            one.close()


@pytest.mark.parametrize("variables", [{"TF_CONFIG": "two"}, {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}])
@pytest.mark.parametrize("strategy", ["auto", "multiworker"])
def test_no_server_is_opened_unasked(variables: dict[str, str], strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
        monkeypatch.setenv(name, json.dumps(cluster) if value == "two" else value)
    monkeypatch.setattr("tensorflow.distribute.MultiWorkerMirroredStrategy", None)  # nobody comes so far
    with pytest.raises(
        ConfigError, match=r"anyone who can connect can read and write files as you\. Set trust_network"
    ):
        join_processes(strategy)


@pytest.mark.parametrize("workers", [2, pytest.param(3, marks=pytest.mark.slow)], indirect=True)
def test_a_group_takes_the_steps_of_one_process(workers: Workers) -> None:
    """With dropout, accumulated batches and a state that is carried on."""
    from textgen.model.language_model import LanguageModel
    from textgen.training.train_step import TrainStep

    model_config = ModelConfig(20, embedding_dim=6, hidden_units=8, dropout=0.3, embedding_dropout=0.1)
    config = TrainingConfig(
        batch_size=6, gradient_accumulation_steps=2, sequence_length=5, precision="float32", steps=3
    )
    rng = np.random.default_rng(0)
    windows = rng.integers(1, 20, (3, 2, config.num_streams, config.sequence_length), dtype=np.int32)

    def learned(one: Group | None) -> tuple[dict[str, np.ndarray], list[float], np.ndarray]:
        distribution = Distribution(group=one)
        rows = distribution.local_rows(config)
        model = LanguageModel(model_config, pad_id=0, seed=1)
        own = {name: array + distribution.worker for name, array in random_weights(model_config).items()}
        model.assign_weights(distribution.from_chief(own))
        update, nats = TrainStep(model, config, distribution), []
        state = distribution.split(model.initial_state(rows.stop - rows.start))
        for step, (inputs, targets) in enumerate(windows[:, :, rows]):
            read, expected = distribution.split((inputs, targets))
            gradient = update.gradient(read, expected, state, step)
            update.apply(gradient, 0.01)
            nats.append(gradient.nats)
            state = gradient.state
        return model.weights_as_arrays(), nats, distribution.gather(state)[0][0].numpy()

    one_process = learned(None)
    several = workers(learned)
    for weights, nats, state in several:
        assert nats == several[0][1]
        np.testing.assert_allclose(nats, one_process[1], rtol=1e-6)
        np.testing.assert_allclose(state, one_process[2], atol=1e-6)
        for name, array in weights.items():
            np.testing.assert_array_equal(array, several[0][0][name])
            np.testing.assert_allclose(array, one_process[0][name], atol=1e-6)
