"""The templates for serving name flags, paths and metrics that exist."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import click
import pytest
from servers import running
from starlette.routing import Route

from textgen.cli import textgen
from textgen.server.config import ServerConfig
from textgen.server.openapi import OPERATIONS
from textgen.server.web_page import page_routes

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
FILES = {
    path.name: path.read_text(encoding="utf-8") for path in SCRIPTS.glob("serve.*") if path.suffix != ".dockerignore"
}


def command_lines(text: str) -> list[list[str]]:
    """The calls of textgen in a file: lines of shell, lists of arguments, ExecStart."""
    shell = [shlex.split(line) for line in re.findall(r"textgen (serve [^`&\n]*?)(?:` on|\n)", text)]
    lists = [re.findall(r'"([^"]*)"', found) for found in re.findall(r'(?:args: |CMD )\[("serve".*)\]', text)]
    return shell + lists


def test_there_are_four_templates() -> None:
    assert set(FILES) == {"serve.Dockerfile", "serve.service", "serve.nginx.conf", "serve.kubernetes.yaml"}


@pytest.mark.parametrize("name", FILES)
def test_their_flags_are_those_of_the_program(name: str) -> None:
    command = textgen.get_command(click.Context(textgen), "serve")
    assert command
    lines = command_lines(FILES[name])
    assert lines
    for words in lines:
        command.make_parser(click.Context(command)).parse_args(words[1:])  # raises for an unknown option


@pytest.mark.parametrize("name", FILES)
def test_their_paths_and_metrics_are_those_of_the_server(name: str, tiny_models: Path) -> None:
    text = FILES[name]
    paths = set(re.findall(r"(?:path: |8000)(/\w+)(?:\n|')", text)) | set(re.findall(r"location = (/\w+)", text))
    with running(tiny_models) as server:
        server.complete(max_tokens=1)
        metrics = server.request("GET", "/metrics")[2].decode()
        assert all(server.request("GET", path)[0] == 200 for path in paths), paths
    assert all(metric in metrics for metric in re.findall(r"vllm:\w+", text))
    assert bool(paths) == (name != "serve.service")


def test_texts_may_end_before_a_server_is_killed() -> None:
    drain = ServerConfig().drain_time
    grace = re.search(r"terminationGracePeriodSeconds: (\d+)", FILES["serve.kubernetes.yaml"])
    stop = re.search(r"TimeoutStopSec=(\d+)", FILES["serve.service"])
    assert grace
    assert stop
    (words,) = command_lines(FILES["serve.kubernetes.yaml"])
    (pause,) = re.findall(r'"sleep", "(\d+)"', FILES["serve.kubernetes.yaml"])
    assert int(grace[1]) > int(words[words.index("--drain-time") + 1]) + int(pause)
    assert int(stop[1]) > drain
    assert seconds_before_killed(docker_runs()["serve"]) > drain


def docker_runs() -> dict[str, list[str]]:
    """The words of the `docker run` commands that serve and that train."""
    commented = re.sub(r"\\\n#", "", FILES["serve.Dockerfile"])
    serve, train = (shlex.split(line) for line in re.findall(r"^# +(docker run .*)", commented, re.MULTILINE))
    return {"serve": serve, "train": train}


def seconds_before_killed(words: list[str]) -> int:
    """How long `docker stop` waits."""
    return int(words[words.index("--stop-timeout") + 1]) if "--stop-timeout" in words else 10


def test_a_training_in_a_container_may_save_as_long_as_one_under_kubernetes() -> None:
    text = (SCRIPTS / "train.kubernetes.yaml").read_text(encoding="utf-8")
    (grace,) = re.findall(r"terminationGracePeriodSeconds: (\d+)", text)
    assert seconds_before_killed(docker_runs()["train"]) >= int(grace)


def test_a_training_in_a_container_can_be_resumed_in_the_next_one() -> None:
    """The key that signs the paths of its texts is in the cache folder."""
    words = docker_runs()["train"]
    mounted = {path.split(":")[1]: path.split(":")[0] for option, path in pairwise(words) if option == "-v"}
    (cache,) = re.findall(r"TEXTGEN_CACHE=(\S+)", FILES["serve.Dockerfile"])
    assert {cache, "/models"} <= mounted.keys()
    (made,) = re.findall(r"^# +mkdir -p (.*)", FILES["serve.Dockerfile"], re.MULTILINE)
    assert {mounted[cache], mounted["/models"].removeprefix("./")} == set(made.split())


def limits(path: str) -> bool:
    """Whether the proxy limits requests of a path; an exact location counts first, then a pattern, then a beginning."""
    blocks = re.findall(
        r"^    location (= |~ |)(\S+) \{\n(.*?)^    \}", FILES["serve.nginx.conf"], re.MULTILINE | re.DOTALL
    )
    exact = [body for kind, place, body in blocks if kind == "= " and path == place]
    patterns = [body for kind, place, body in blocks if kind == "~ " and re.search(place, path)]
    beginnings = [body for kind, place, body in blocks if not kind and path.startswith(place)]
    return "limit_req zone=textgen" in [*exact, *patterns, *beginnings][0]


def test_a_proxy_limits_requests_for_texts_but_not_the_files_of_the_page() -> None:
    """The page needs all of its files at once, and two people may have one address."""
    files = [route.path for route in page_routes() if isinstance(route, Route)]
    assert "/" in files
    assert not any(limits(path) for path in files)
    posted = {operation.path for operation in OPERATIONS if operation.method == "post"}
    assert posted
    assert all(limits(path) for path in posted)
    outside = FILES["serve.nginx.conf"].partition("location")[0]
    assert "limit_req " not in outside, "all locations would inherit it"


def test_a_proxy_waits_for_longer_than_a_text_may_take() -> None:
    (seconds,) = re.findall(r"proxy_read_timeout (\d+)s;", FILES["serve.nginx.conf"])
    assert int(seconds) > ServerConfig().max_time


@pytest.mark.parametrize(
    ("name", "limit"), [("serve.service", r"MemoryMax=(\d+)G"), ("serve.kubernetes.yaml", r"limits:\s+memory: (\d+)Gi")]
)
def test_a_process_may_have_more_memory_than_its_models(name: str, limit: str) -> None:
    (gigabytes,) = re.findall(limit, FILES[name])
    (words,) = command_lines(FILES[name])
    config = ServerConfig()
    models = int(words[words.index("--model-memory") + 1]) if "--model-memory" in words else config.model_memory
    assert models + config.prefix_cache_memory + config.state_memory + 512 < 1024 * int(gigabytes)


def test_the_templates_of_kubernetes_are_indented_by_twos_and_refer_to_one_another() -> None:
    text = FILES["serve.kubernetes.yaml"]
    assert "\t" not in text
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    assert all((len(line) - len(line.lstrip())) % 2 == 0 for line in lines)
    kinds = re.findall(r"^kind: (\w+)", text, re.MULTILINE)
    assert kinds == ["Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"]
    assert set(re.findall(r"app: (\w+)", text)) == {"textgen"}
    mounted = set(re.findall(r"- name: (\w+)\n\s+mountPath", text))
    assert mounted == set(re.findall(r"- name: (\w+)\n\s+(?:persistentVolumeClaim|emptyDir)", text))
