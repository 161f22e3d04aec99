"""Other people's clients, unmodified, over a socket. Run with `make test-clients`: they are installed first."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Running, python_with, running

from textgen.saved_model.loading import load_model
from textgen.server.config import ServerConfig

CLIENTS = {
    "openai-2": ("openai", ["openai==2.54.0"]),
    "openai-3": ("openai", ["openai==3.51.0"]),
    "langchain": ("langchain", ["langchain-openai==1.7.4"]),
    "llm": ("llm", ["llm==0.36"]),
}
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
PROGRAMS = Path(__file__).parent / "client_programs.py"


@pytest.fixture(scope="module")
def server(tiny_models: Path) -> Iterator[Running]:
    with running(tiny_models) as there:
        yield there


def use(server: Running, name: str, program: str, packages: list[str], prompt: str) -> Any:
    """What a client found."""
    python = str(python_with(name, packages))
    command = [python, str(PROGRAMS), program, f"http://127.0.0.1:{server.port}/v1", prompt]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# === Environments ===


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is installed, by nothing, into environments in a folder for temporary files of its own."""
    installed: list[list[str]] = []

    def run(command: list[str], check: bool) -> None:
        assert check
        Path(command[-1]).mkdir() if "venv" in command else installed.append(command[5:])

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", run)
    return installed


def test_an_environment_is_kept_until_other_packages_are_asked_for(asked: list[list[str]], tmp_path: Path) -> None:
    first = python_with("openai", ["openai==2.54.0"])
    assert python_with("openai", ["openai==2.54.0"]) == first
    assert asked == [["openai==2.54.0"]]
    assert python_with("openai", ["openai==2.55.0"]) != first
    assert asked == [["openai==2.54.0"], ["openai==2.55.0"]]
    (place,) = tmp_path.iterdir()
    assert first.is_relative_to(place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


@pytest.mark.parametrize("plant", ["open", "link", "file"])
def test_nothing_is_run_from_a_folder_that_others_can_use(asked: list[list[str]], tmp_path: Path, plant: str) -> None:
    python_with("openai", ["openai==2.54.0"])
    (place,) = tmp_path.iterdir()
    if plant == "open":
        place.chmod(0o777)
    else:
        place.rename(tmp_path / "moved")
        place.symlink_to(tmp_path / "moved") if plant == "link" else place.touch()
    with pytest.raises(OSError, match=place.name):
        python_with("openai", ["openai==2.54.0"])
    assert len(asked) == 1


# === Clients ===


@pytest.mark.clients
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_gets_the_text_of_its_seed(name: str, server: Running) -> None:
    found = use(server, name, *CLIENTS[name], "The cat")
    expected = server.complete(prompt="The cat", seed=4, max_tokens=12)["choices"][0]["text"]
    assert found["text"].rstrip("\n") == expected.rstrip("\n")


@pytest.mark.clients
@pytest.mark.timeout(1800)
def test_lm_eval_finds_the_log_probability_of_textgen_score(server: Running, tiny_models: Path) -> None:
    text = "The dog saw 床前 the cat."
    found = use(server, "lm-eval", "lm_eval", ["lm-eval[api]==0.4.13"], text)
    (expected,) = load_model("tiny", tiny_models).scorer().scores([text], ends=False)
    assert found["log_probability"] == pytest.approx(-expected.total.nats, abs=1e-4)


@pytest.mark.clients
@pytest.mark.timeout(3600)
def test_schemathesis_finds_no_fault_by_the_description_of_the_interface(tiny_models: Path) -> None:
    """Requests made from /openapi.json, right and wrong ones: none fails, and answers are as they are described."""
    program = python_with("schemathesis", ["schemathesis==4.32.5"]).with_name("schemathesis")
    with running(tiny_models, ServerConfig(port=0, max_length=12, max_prompt=400)) as server:
        command = [str(program), "run", f"http://127.0.0.1:{server.port}/openapi.json", "--checks", CHECKS]
        how = ["--max-examples", "30", "--seed", "1", "--no-color", "--request-timeout", "120"]
        done = subprocess.run([*command, *how], capture_output=True, text=True, timeout=3000)
        assert done.returncode == 0, done.stdout[-5000:]
        server.wait(lambda: server.engine.is_idle)
        assert server.complete(max_tokens=1)
