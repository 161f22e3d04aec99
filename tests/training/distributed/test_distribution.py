"""Several replicas and processes: the rows are shared out, the result is that of one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from events import curves

from textgen.errors import ConfigError, WorkerLost
from textgen.system.runtime import load_tensorflow
from textgen.training.config import TrainingConfig
from textgen.training.distributed import distribution as distribution_module
from textgen.training.distributed import joining, slurm
from textgen.training.distributed.distribution import Distribution, Shares
from textgen.training.distributed.joining import is_follower, join_processes, planned_shares
from textgen.training.distributed.worker_group import Group
from textgen.training.distributed.workers import FINAL

STEPS = 50
SCRIPTS = Path(__file__).parents[3] / "scripts"

# Trainings in a program of its own, since logical devices are settled at TensorFlow's start: losses as JSON.
TRAINING = """
    import json, sys
    import numpy as np
    from dataclasses import replace
    from pathlib import Path
    from textgen.corpus.config import CorpusConfig
    from textgen.training.distributed.distribution import Distribution
    from textgen.training.distributed.joining import join_processes
    from textgen.system.runtime import load_tensorflow

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
    tuning = dict(decay_target="start", weight_decay=0.05, layer_learning_rate_decay=0.9)
    plan = replace(plan, training_config=replace(plan.training_config, **tuning))  # the base: the first weights
    for replicas, strategy in ((1, "single"), (most, "mirrored")):
        watch, distribution = Losses(), join_processes(strategy)
        assert distribution.num_replicas == replicas
        rows = np.arange(24.0).reshape(8, 3)
        assert (np.asarray(distribution.gather(distribution.split({"rows": rows}))["rows"]) == rows).all()
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
    (one, score), (several, theirs) = losses(2, folder, sampled_softmax=16, full_softmax_fraction=0.5)
    assert len(one) == STEPS
    np.testing.assert_allclose(several, one, atol=1e-5, rtol=0)
    assert theirs == pytest.approx(score, abs=1e-5)


def test_the_rows_of_the_replicas_of_one_process_are_joined_without_gather() -> None:
    """TensorFlow's own `gather` warns at every save if the replicas are GPUs."""
    load_tensorflow()
    import tensorflow as tf

    strategy: Any = SimpleNamespace(num_replicas_in_sync=2, experimental_local_results=lambda array: array.parts)
    split = {"rows": SimpleNamespace(parts=[tf.constant([[1], [2]]), tf.constant([[3], [4]])])}
    assert Distribution(strategy).gather(split)["rows"].numpy().tolist() == [[1], [2], [3], [4]]


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


class Joined:
    """Takes the place of the strategy of several processes: keeps what it was made with."""

    def __init__(self, **options: Any) -> None:
        self.resolver = options["cluster_resolver"]
        self.implementation = options["communication_options"].implementation.value


def found(monkeypatch: pytest.MonkeyPatch, gpus: int) -> list[str]:
    """Lets TensorFlow find GPUs. Returns those of this process, all of them at first."""
    load_tensorflow()
    import tensorflow as tf

    there = [f"gpu {number}" for number in range(gpus)]
    own = list(there)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(there) if kind == "GPU" else ["cpu"])
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: list(own) if kind == "GPU" else ["cpu"])
    return own


def join(monkeypatch: pytest.MonkeyPatch, gpus: int, variables: dict[str, str]) -> tuple[Joined, list[str]]:
    """Joins the processes of these variables, without a server.

    Returns:
        The strategy, and the GPUs of this process.
    """
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    own = found(monkeypatch, gpus)
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, kind: own.__setitem__(slice(None), devices))
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", Joined)
    joined = joining._join("multiworker")
    assert isinstance(joined, Joined)
    return joined, own


def slurm_step(task: int, nodes: str, tasks: str) -> dict[str, str]:
    return {
        **{"SLURM_PROCID": str(task), "SLURM_STEP_NUM_TASKS": "2"},
        **{"SLURM_STEP_NODELIST": nodes, "SLURM_STEP_TASKS_PER_NODE": tasks},
    }


@pytest.fixture
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TF_CONFIG", *(name for name in os.environ if name.startswith("SLURM_"))):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("task", [0, 1])
@pytest.mark.usefixtures("no_launcher")
def test_slurm_numbers_the_machines_not_their_names(task: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nvidia-smi, or with one that fails: TensorFlow itself knows the GPUs."""
    monkeypatch.setenv("PATH", "")
    joined, own = join(monkeypatch, 2, slurm_step(task, "n[9-10]", "1(x2)"))
    assert joined.resolver.cluster_spec().as_dict() == {"worker": ["n9:8888", "n10:8888"]}
    assert (joined.resolver.task_type, joined.resolver.task_id, joined.resolver.rpc_layer) == ("worker", task, "grpc")
    assert (joined.resolver.num_accelerators(), own) == ({"GPU": 2}, ["gpu 0", "gpu 1"])
    assert planned_shares("auto") == Shares(replicas=4, processes=2, machines=2)


@pytest.mark.parametrize(("gpus", "own"), [(0, []), (1, ["gpu 0"]), (2, ["gpu 1"]), (4, ["gpu 2", "gpu 3"])], ids=str)
@pytest.mark.usefixtures("no_launcher")
def test_tasks_of_slurm_on_one_machine_have_gpus_of_their_own(
    gpus: int, own: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If they see only one, it is theirs; they share the memory of the machine."""
    variables = slurm_step(1, "n1", "2")
    with monkeypatch.context() as patch:
        joined, there = join(patch, gpus, variables)
        assert joined.resolver.cluster_spec().as_dict() == {"worker": ["n1:8888", "n1:8889"]}
        assert (joined.resolver.num_accelerators(), there) == ({"GPU": len(own)}, own)
        assert joined.implementation == ("NCCL" if gpus else "AUTO")
        joining._join("multiworker")
        assert there == own, "GPUs are divided once"
    with monkeypatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        found(patch, gpus)
        assert planned_shares("auto") == Shares(replicas=2 * max(1, len(own)), processes=2, machines=1)


@pytest.mark.parametrize(
    ("gpus", "hosts", "given", "own"),
    [
        (0, "aa", {}, []),
        (2, "aa", {}, [1]),
        (4, "aa", {}, [2, 3]),
        (2, "ab", {}, [0, 1]),
        (3, "ba", {}, [0, 1, 2]),
        (2, "aba", {}, [0, 1]),
        (2, "baa", {}, [0]),
        (1, "aa", {"CUDA_VISIBLE_DEVICES": "1"}, [0]),
        (2, "aa", {"CUDA_VISIBLE_DEVICES": "2,3"}, [0, 1]),
        (2, "aa", {"NVIDIA_VISIBLE_DEVICES": "2,3"}, [0, 1]),
        (2, "aa", {"NVIDIA_VISIBLE_DEVICES": "all"}, [1]),  # as images set it
    ],
)
@pytest.mark.usefixtures("no_launcher")
def test_processes_of_tf_config_on_one_machine_have_gpus_of_their_own(
    gpus: int, hosts: str, given: dict[str, str], own: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of them, unless each was given GPUs of its own."""
    for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    addresses = [f"{host}:{2000 + number}" for number, host in enumerate(hosts)]
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 1}}
    joined, there = join(monkeypatch, gpus, {**given, "TF_CONFIG": json.dumps(config)})
    assert joined.resolver is None
    assert there == [f"gpu {number}" for number in own]
    shares = planned_shares("auto")
    assert shares == Shares(len(hosts) * max(1, len(own)), len(hosts), len(set(hosts)))


@pytest.mark.usefixtures("no_launcher")
def test_gpus_that_processes_of_tf_config_cannot_divide_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    message = (
        r"The 2 processes on 127\.0\.0\.1 cannot divide 1 GPU evenly\. Set CUDA_VISIBLE_DEVICES in each, or start "
        "another number of processes there"
    )
    with pytest.raises(ConfigError, match=message):
        join(monkeypatch, 1, {"TF_CONFIG": cluster(0)})


@pytest.mark.usefixtures("no_launcher")
def test_gpus_that_the_program_has_hidden_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    own = found(monkeypatch, 2)
    own.clear()
    joining._own_device(Group(1, 2, []))
    assert planned_shares("auto") == Shares()
    assert joining.communication_options().implementation.value == "AUTO"
    monkeypatch.setenv("TF_CONFIG", cluster(0))
    assert planned_shares("auto") == Shares(replicas=2, processes=2, machines=1)


@pytest.mark.parametrize(("bound", "cores"), [(False, 4), (True, 8)])
def test_processes_on_one_machine_share_its_cores(bound: bool, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the three are on this machine, where each sees 8 cores."""
    monkeypatch.setattr(distribution_module, "num_cores", lambda processes=1: 8 // processes)
    monkeypatch.setattr(slurm, "is_bound_to_cores", lambda: bound)
    distribution = distribution_of("a:1", "a:2", "b:1")
    assert distribution.cores_per_replica == cores
    assert Distribution().cores_per_replica == 8


@pytest.mark.parametrize(("cores", "sets"), [(4, 2), (8, 1)])
@pytest.mark.usefixtures("no_launcher")
def test_the_cores_of_all_tasks_of_slurm_are_counted_once(
    cores: int, sets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two tasks on a machine with 8 cores, which may use half of them or all."""
    for name, value in {**slurm_step(1, "n1", "2"), "SLURM_CPUS_ON_NODE": "8"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("textgen.training.distributed.slurm.processor_cores", lambda: cores)
    assert planned_shares("auto").core_sets == sets
    assert Shares(4, 4).core_sets == 1, "workers share the cores of their machine"


def distribution_of(*addresses: str) -> Distribution:
    """The second of the processes at these addresses, with a replica each."""
    load_tensorflow()
    import tensorflow as tf

    workers = tf.train.ClusterSpec({"worker": addresses})
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(workers, task_type="worker", task_id=1)
    strategy: Any = SimpleNamespace(num_replicas_in_sync=len(addresses), cluster_resolver=resolver)
    return Distribution(strategy)


@pytest.mark.usefixtures("no_launcher")
def test_a_program_may_join_processes_in_its_own_way() -> None:
    """Without the variables of SLURM and TF_CONFIG; of three processes, two are on one machine."""
    distribution = distribution_of("a:1", "a:2", "b:1")
    assert (distribution.worker, distribution.server) == (1, "a:2")
    assert distribution.shares == Shares(replicas=3, processes=3, machines=2)


@pytest.mark.usefixtures("no_launcher")
def test_gpus_that_tasks_of_slurm_cannot_divide_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="Set gpus-per-task of srun"):
        join(monkeypatch, 3, slurm_step(0, "n1", "2"))


@pytest.mark.parametrize(("gpus", "implementation"), [(2, "NCCL"), (0, "AUTO")])
@pytest.mark.usefixtures("no_launcher")
def test_joined_processes_add_gradients_by_nccl_on_gpus(
    gpus: int, implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With AUTO, TensorFlow passes them through the hosts."""
    joined, _ = join(monkeypatch, gpus, {"TF_CONFIG": cluster(0)})
    assert joined.resolver is None
    assert joined.implementation == implementation
    assert planned_shares("auto") == Shares(replicas=2, processes=2, machines=1)


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


def by_slurm(folder: Path, codes: list[int], granted: dict[str, str]) -> tuple[int, list[str], list[str]]:
    """Runs the template with an `srun` that ends with these codes. Returns the last one, what it was given, pauses."""
    srun, said, slept = folder / "srun", folder / "said", folder / "slept"
    checkpoint = folder / "models" / "news" / "checkpoints" / "step-1"
    srun.write_text(
        f'#!/bin/bash\necho "$SRUN_CPUS_PER_TASK $*" >> {said}\nmkdir -p {checkpoint}\n'
        f"codes=({' '.join(map(str, codes))})\nexit ${{codes[$(wc -l < {said}) - 1]}}\n",
        encoding="utf-8",
    )
    (folder / "sleep").write_text(f'#!/bin/bash\necho "$1" >> {slept}\n', encoding="utf-8")
    for program in (srun, folder / "sleep"):
        program.chmod(0o755)
    environment = {"HOME": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"} | granted
    done = subprocess.run(["bash", str(SCRIPTS / "train.slurm")], env=environment, capture_output=True)
    given, pauses = (path.read_text(encoding="utf-8").splitlines() if path.exists() else [] for path in (said, slept))
    return done.returncode, given, pauses


@pytest.mark.parametrize("granted", [{}, {"SLURM_CPUS_PER_TASK": "8"}], ids=["as written", "by --cpus-per-task=8"])
def test_the_template_for_slurm_trains_and_goes_on(granted: dict[str, str], tmp_path: Path) -> None:
    """With an `srun` that says what it was given, and fails the first time."""
    code, (first, second), _ = by_slurm(tmp_path, [75, 0], granted)
    assert code == 0
    asked = re.search(r"^#SBATCH --cpus-per-task=(\d+)$", (SCRIPTS / "train.slurm").read_text("utf-8"), re.MULTILINE)
    assert asked
    assert first.split()[0] == second.split()[0] == granted.get("SLURM_CPUS_PER_TASK", asked[1])
    assert "textgen train --strategy multiworker --name news" in first
    assert "--trust-network" in first
    assert first.endswith(f"{tmp_path}/news-prepared --batch-size 256")
    assert second.endswith("--resume")


@pytest.mark.parametrize("code", FINAL)
def test_the_template_for_slurm_restarts_nothing_that_has_ended_for_good(code: int, tmp_path: Path) -> None:
    ended, given, pauses = by_slurm(tmp_path, [code], {})
    assert (ended, len(given), pauses) == (code, 1, [])


@pytest.mark.parametrize("code", [75, 137])
def test_the_template_for_slurm_restarts_lost_processes_some_times(code: int, tmp_path: Path) -> None:
    """There is no pause after the last time, and the exit code tells how it ended."""
    ended, given, pauses = by_slurm(tmp_path, [code] * 9, {})
    assert (ended, len(given), pauses) == (code, 4, ["30", "60", "90"])


def test_the_template_for_kubernetes_restarts_no_error_that_would_come_again() -> None:
    """A policy for failed pods needs pods that are replaced. Kubernetes itself ends pods by signals, to move them."""
    job = (SCRIPTS / "train.kubernetes.yaml").read_text(encoding="utf-8").split("---\n")[-1]
    assert "restartPolicy: Never" in job
    (values,) = re.findall(r"action: FailJob\n.*?values: \[(.*?)\]", job, re.DOTALL)
    assert [int(value) for value in values.split(", ")] == [code for code in FINAL if 0 < code < 128]


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
        (
            "auto",
            cluster(2),
            "The index of this process in TF_CONFIG must be from 0 to 1, since it names 2 workers. Received: 2.",
        ),
        ("auto", cluster(-1), "must be from 0 to 1"),
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
        join_processes(strategy)
    assert message in str(caught.value)


LOST = """Graph execution error:

Detected at node CollectiveReduceV2 defined at (most recent call last):
  File "train.py", line 19, in <module>

Collective ops is aborted by: recvmsg:Connection reset by peer
Additional GRPC error information from remote target /job:worker/replica:0/task:1
"""


def one_of_two(group: bool = False) -> Distribution:
    """One of two processes of a group, or of those that TensorFlow joins."""
    load_tensorflow()
    return Distribution(group=Group(0, 2, [])) if group else distribution_of("a:1", "b:1")


@pytest.mark.parametrize(
    ("kind", "message", "is_lost"),
    [
        ("UnavailableError", "gone", True),  # what the others get if a process is killed
        ("AbortedError", "gone", True),
        ("CancelledError", "gone", True),
        ("DeadlineExceededError", "gone", True),
        ("InternalError", "NCCL: unhandled system error", True),
        ("UnknownError", "NCCL: remote process exited", True),
        ("InvalidArgumentError", LOST, True),
        ("InvalidArgumentError", "{{node MatMul}} Matrix size-incompatible", False),
        ("ResourceExhaustedError", "OOM when allocating tensor", False),
        ("UnimplementedError", "no kernel", False),
        ("NotFoundError", "no kernel image", False),
    ],
)
def test_an_error_is_that_of_a_lost_process_only_where_it_can_be(kind: str, message: str, is_lost: bool) -> None:
    """One process alone has no other that it could lose; those of a group are lost by their sockets."""
    cluster = one_of_two()
    import tensorflow as tf

    error = getattr(tf.errors, kind)(None, None, message)
    for distribution in (Distribution(), one_of_two(group=True)):
        with pytest.raises(type(error)), distribution.together():
            raise error
    with pytest.raises(WorkerLost if is_lost else type(error)) as caught, cluster.together():
        raise error
    assert not is_lost or getattr(caught.value, "exit_code", None) == 75


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (LOST, "Collective ops is aborted by: recvmsg:Connection reset by peer"),
        ("{{node A}} {{function_node B}} The tasks have crashed\nMore.", "The tasks have crashed"),
        ("", "UnavailableError"),
    ],
)
def test_a_lost_process_is_told_of_in_the_words_of_tensorflow(message: str, said: str) -> None:
    cluster = one_of_two()
    import tensorflow as tf

    with pytest.raises(WorkerLost) as caught, cluster.together():
        raise tf.errors.UnavailableError(None, None, message)
    assert str(caught.value) == f"Another process was lost, or did not answer. TensorFlow says: {said}"
