"""Other people's clients, unmodified, over a socket. Run with `make test-clients`: they are installed first."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Running, python_with, running

from textgen.saved_model.saved_model import load_model
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
