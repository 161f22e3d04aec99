"""Several replicas and processes: the rows are shared out, the result is that of one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from events import curves

from textgen.errors import ConfigError, WorkerLost
from textgen.runtime import load_tensorflow
from textgen.training.config import TrainingConfig
from textgen.training.distribution import Distribution, is_follower, start

STEPS = 50
SCRIPTS = Path(__file__).parents[2] / "scripts"

# Trainings in a program of its own, since logical devices are settled at TensorFlow's start: losses as JSON.
TRAINING = """
    import json, sys
    from dataclasses import replace
    from pathlib import Path
    from textgen.corpus.config import CorpusConfig
    from textgen.training.distribution import Distribution, start
    from textgen.runtime import load_tensorflow

    most, folder = int(sys.argv[1]), Path(sys.argv[2])

    def devices():
        import tensorflow as tf
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * most)

    load_tensorflow(devices)
    from textgen.corpus.corpus import Corpus
    from textgen.training.planning.plan import Hardware, make_plan
    from textgen.training.observers.observer import Observer
    from textgen.training.run import train
    from textgen.training.run_setup import RunOptions

    class Losses(Observer):
        def __init__(self):
            super().__init__()
            self.losses = []

        def on_step(self, report):
            self.losses.append(report.nats_per_token)

    settings = dict(
        tokenizer="char", hidden_units=16, embedding_dim=16, num_layers=2, dropout=0.2, embedding_dropout=0.1,
        batch_size=8, sequence_length=8, steps=STEPS, learning_rate=0.05, precision="float32", valid_tokens=512,
        **OTHERS,
    )
    plan = make_plan(Corpus([folder / "songs.txt"], CorpusConfig(documents="line")), settings, hardware=Hardware(1e11))
    tuning = dict(decay_target="base", weight_decay=0.05, layer_learning_rate_decay=0.9)
    plan = replace(plan, training_config=replace(plan.training_config, **tuning))  # the base: the first weights
    for replicas, strategy in ((1, "single"), (most, "mirrored")):
        watch, distribution = Losses(), start(strategy)
        assert distribution.num_replicas == replicas
        saved = train(plan, folder / f"model-{replicas}", RunOptions([watch], distribution=distribution))
        print(json.dumps([watch.losses, saved.training["scores"]["nats_per_token"]]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    words = ["moon", "river", "the", "old", "fox", "sang", "a", "slow", "song", "of", "rain", "and"]
    lines = [" ".join(rng.choice(words, 6)) for _ in range(200)]
    (tmp_path / "songs.txt").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def losses(replicas: int, folder: Path, **others: Any) -> list[tuple[list[float], float]]:
    """Of one replica and of several: the loss of each step, and the score of the model."""
    program = textwrap.dedent(TRAINING).replace("STEPS", str(STEPS)).replace("OTHERS", repr(others))
    done = subprocess.run(
        [sys.executable, "-c", program, str(replicas), str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [(steps, score) for steps, score in map(json.loads, done.stdout.splitlines())]


@pytest.mark.parametrize("replicas", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_losses_are_the_same_for_any_number_of_replicas(folder: Path, replicas: int) -> None:
    """With dropout, carried state, decay towards the first weights and slower lower layers, in float32."""
    (one, score), (several, theirs) = losses(replicas, folder)
    assert len(one) == STEPS
    assert np.mean(one[-10:]) < one[0] - 0.2
    np.testing.assert_allclose(several, one, atol=1e-5, rtol=0)
    assert theirs == pytest.approx(score, abs=1e-5)
    norms = [dict(curves(folder / f"model-{number}" / "logs")["gradient_norm/all"]) for number in (1, replicas)]
    assert list(norms[0]) == list(range(10, STEPS + 1, 10))
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)


@pytest.mark.slow
def test_replicas_share_the_candidates_of_a_sampled_softmax(folder: Path) -> None:
    (one, score), (several, theirs) = losses(2, folder, sampled_softmax=16, full_softmax_share=0.5)
    assert len(one) == STEPS
    np.testing.assert_allclose(several, one, atol=1e-5, rtol=0)
    assert theirs == pytest.approx(score, abs=1e-5)


def test_a_batch_that_cannot_be_shared_out_is_refused() -> None:
    load_tensorflow()
    distribution = Distribution()
    assert distribution.local_rows(TrainingConfig(batch_size=6)) == slice(0, 6)
    assert distribution.local_rows(TrainingConfig(batch_size=6, gradient_accumulation_steps=3)) == slice(0, 18)
    distribution.num_replicas = 4
    with pytest.raises(ConfigError, match=r"batch_size must be a multiple of 4, the number of replicas\. Received: 6"):
        distribution.local_rows(TrainingConfig(batch_size=6))


def cluster(index: int, number: int = 2) -> str:
    workers = [f"127.0.0.1:{port}" for port in range(2000, 2000 + number)]
    return json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})


@pytest.mark.parametrize(
    ("variables", "follows"),
    [
        ({}, False),
        ({"TF_CONFIG": cluster(0)}, False),
        ({"TF_CONFIG": cluster(1)}, True),
        ({"TF_CONFIG": cluster(0, number=1)}, False),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}, False),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}, True),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, False),
    ],
)
def test_the_environment_tells_who_follows(
    variables: dict[str, str], follows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TF_CONFIG", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_follower("auto") is follows
    assert is_follower("multiworker") is follows
    assert is_follower("single") is False


def test_the_template_for_kubernetes_sets_tf_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    template = (SCRIPTS / "train.kubernetes.yaml").read_text(encoding="utf-8")
    script = template[template.index("- |\n") + 4 : template.index("          resources:")]
    script = textwrap.dedent(script).replace("exec textgen", 'echo "$TF_CONFIG"; true')
    environment = {"WORKERS": "3", "JOB_COMPLETION_INDEX": "2", "PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", "-euc", script], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {
        "cluster": {"worker": [f"textgen-{index}.textgen:2222" for index in range(3)]},
        "task": {"type": "worker", "index": 2},
    }
    monkeypatch.setenv("TF_CONFIG", done.stdout)
    assert is_follower()
    assert "--trust-network" in script
    policy = next(part for part in template.split("---\n") if "kind: NetworkPolicy" in part)
    selected = "matchLabels:\njob-name: textgen\n"  # these pods, and only from them
    assert re.sub(r"\n +", "\n", policy).count(selected) == 2
    assert "- Ingress" in policy


@pytest.mark.parametrize("granted", [{}, {"SLURM_CPUS_PER_TASK": "8"}], ids=["as written", "by --cpus-per-task=8"])
def test_the_template_for_slurm_trains_and_goes_on(granted: dict[str, str], tmp_path: Path) -> None:
    """With an `srun` that says what it was given, and fails the first time."""
    srun, said = tmp_path / "srun", tmp_path / "said"
    checkpoint = tmp_path / "models" / "news" / "checkpoints" / "step-1"
    srun.write_text(
        f'#!/bin/bash\necho "$SRUN_CPUS_PER_TASK $*" >> {said}\nmkdir -p {checkpoint} && [ $(wc -l < {said}) = 2 ]\n',
        encoding="utf-8",
    )
    (tmp_path / "sleep").write_text("#!/bin/bash\n", encoding="utf-8")
    for program in (srun, tmp_path / "sleep"):
        program.chmod(0o755)
    environment = {"HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"} | granted
    subprocess.run(["bash", str(SCRIPTS / "train.slurm")], env=environment, check=True, capture_output=True)
    first, second = said.read_text(encoding="utf-8").splitlines()
    asked = re.search(r"^#SBATCH --cpus-per-task=(\d+)$", (SCRIPTS / "train.slurm").read_text("utf-8"), re.MULTILINE)
    assert asked
    assert first.split()[0] == second.split()[0] == granted.get("SLURM_CPUS_PER_TASK", asked[1])
    assert "textgen train --strategy multiworker --name news" in first
    assert "--trust-network" in first
    assert first.endswith(f"{tmp_path}/news-prepared --batch-size 256")
    assert second.endswith("--resume")


@pytest.mark.parametrize(
    ("strategy", "config", "message"),
    [
        ("sharded", None, "strategy must be one of auto, single, mirrored, multiworker. Received: 'sharded'"),
        ("multiworker", None, "multiworker needs several processes"),
        ("multiworker", cluster(0, number=1), "multiworker needs several processes"),
        ("auto", "{", "TF_CONFIG is not valid: '{'"),
        ("auto", "[]", "TF_CONFIG is not valid"),
        ("auto", '{"cluster": 3}', "TF_CONFIG is not valid"),
        ("auto", '{"cluster": {"worker": ["a:1", "b:1"]}}', "TF_CONFIG is not valid"),
        ("auto", cluster(0).replace('"index": 0', '"index": Infinity'), "TF_CONFIG is not valid"),
        pytest.param("auto", "[" * 200_000, "TF_CONFIG is not valid: '[[[[", id="deeper than Python can read"),
        (
            "auto",
            '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
            "TF_CONFIG names the jobs chief, worker: make all of them workers, the first is the chief.",
        ),
    ],
)
def test_a_strategy_that_cannot_be_followed_is_refused(
    strategy: str, config: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ConfigError) as caught:
        start(strategy)
    assert message in str(caught.value)


def test_a_process_that_does_not_answer_is_a_lost_one() -> None:
    load_tensorflow()
    import tensorflow as tf

    alone, one_of_two = Distribution(), Distribution()
    one_of_two.num_workers = 2
    with pytest.raises(tf.errors.UnavailableError), alone.together():
        raise tf.errors.UnavailableError(None, None, "gone")
    with pytest.raises(WorkerLost) as caught, one_of_two.together():
        raise tf.errors.UnavailableError(None, None, "gone")
    assert caught.value.exit_code == 75
