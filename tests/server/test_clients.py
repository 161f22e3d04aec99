"""Other people's clients, unmodified, over a socket. Run with `make test-clients`: they are installed first."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Running, python_with, running

CLIENTS = {
    "openai-2": ("openai", ["openai==2.54.0"]),
    "openai-3": ("openai", ["openai==3.51.0"]),
    "langchain": ("langchain", ["langchain-openai==1.7.4"]),
    "llm": ("llm", ["llm==0.36"]),
}
PROGRAMS = Path(__file__).parent / "client_programs.py"


@pytest.fixture(scope="module")
def server(tiny_models: Path) -> Iterator[Running]:
    with running(tiny_models) as there:
        yield there


@pytest.mark.clients
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_gets_the_text_of_its_seed(name: str, server: Running) -> None:
    program, packages = CLIENTS[name]
    prompt = "The cat"
    command = [str(python_with(name, packages)), str(PROGRAMS), program, f"http://127.0.0.1:{server.port}/v1", prompt]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    expected = server.complete(prompt=prompt, seed=4, max_tokens=12)["choices"][0]["text"]
    assert json.loads(done.stdout)["text"].rstrip("\n") == expected.rstrip("\n")
