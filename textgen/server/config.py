"""Settings of the server: address, limits, access."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from textgen.errors import ConfigError
from textgen.generation.config import AUTO, RUNTIME_HELP, RUNTIMES
from textgen.server.host_names import host_name, origin_of
from textgen.settings import Settings, setting

LIMITS, ACCESS = "Limits", "Access"
TEMPLATES = ("text", "dialogue")


@dataclass(frozen=True)
class ServerConfig(Settings):
    """Where the server listens, how much it does at once, and who may use it.

    Example:
        >>> ServerConfig(host="0.0.0.0").is_local, ServerConfig().is_local
        (False, True)
    """

    host: str = setting(
        "127.0.0.1", "Address to listen on; 0.0.0.0 opens the server to other machines.", metavar="ADDRESS"
    )
    port: int = setting(8000, "Port to listen on; 0 takes a free one.", low=0, high=65535)
    slots: int = setting(
        64, "Maximum number of texts that are written at the same time; others wait.", low=1, high=4096
    )
    runtime: str = setting(AUTO, RUNTIME_HELP, choices=RUNTIMES)
    exact: bool = setting(
        False, "Compute in exact arithmetic unless a request says otherwise: the same seed gives the text of "
        "textgen sample --exact on every machine.",
    )  # fmt: skip
    chat_template: str = setting(
        "text", "How a chat becomes a prompt: its messages line by line, or as a dialogue of User and Assistant.",
        choices=TEMPLATES,
    )  # fmt: skip
    page: bool = setting(True, "Serve the page for writing at /.")

    max_queue: int = setting(
        256,
        "Maximum number of texts that wait to be written; beyond it, a request of the key with the most waiting texts "
        "gets status 429.",
        low=0,
        high=1 << 20,
        section=LIMITS,
    )
    max_connections: int = setting(
        1024, "Maximum number of open connections; a further one gets status 503.", low=1, high=1 << 20, section=LIMITS
    )
    max_body: int = setting(
        1 << 20,
        "Maximum size of a request in bytes; a larger one gets status 413.",
        low=1 << 10,
        high=1 << 30,
        section=LIMITS,
    )
    max_choices: int = setting(
        64,
        "Maximum number of texts that one request may ask for: its prompts times n or best_of.",
        low=1,
        high=1 << 16,
        section=LIMITS,
    )
    max_length: int = setting(
        16_384, "Largest max_tokens that a request may ask for.", low=1, high=1 << 30, section=LIMITS
    )
    max_prompt: int = setting(
        32_768, "Maximum number of tokens of all prompts of one request together.", low=1, high=1 << 30, section=LIMITS
    )
    max_time: float = setting(
        600.0,
        "Maximum number of seconds for a text, the reading of its prompt included; then it ends.",
        low=1.0,
        high=1e6,
        section=LIMITS,
    )
    idle_time: float = setting(
        30.0,
        "Seconds without data after which a connection is closed, while a request arrives or an answer is read. "
        "The body of a request has this time and a second for each kilobyte; of an answer, a kilobyte must be read a "
        "second, and a large answer within --max-time.",
        low=0.1,
        high=1e6,
        section=LIMITS,
    )
    drain_time: float = setting(
        30.0,
        "Maximum number of seconds that texts may take to end after a signal to stop.",
        low=0.0,
        high=1e6,
        section=LIMITS,
    )
    model_memory: int = setting(
        4096,
        "Maximum memory for models in megabytes; beyond it, the least recently used are unloaded.",
        low=1,
        high=1 << 30,
        section=LIMITS,
    )
    prefix_cache_memory: int = setting(
        64,
        "Maximum memory for the prefix cache, which keeps the states of earlier prompts, in megabytes; 0 turns it off.",
        low=0,
        high=1 << 30,
        section=LIMITS,
    )
    state_memory: int = setting(
        64,
        "Maximum memory for the states that clients keep, in megabytes; beyond it, old states of the API key that "
        "has most are deleted.",
        low=1,
        high=1 << 30,
        section=LIMITS,
    )
    state_time: float = setting(
        86_400.0, "Seconds for which a state is kept after its last use.", low=1.0, high=1e9, section=LIMITS
    )
    threads: int | None = setting(
        None, "Maximum number of cores for matrix products. By default NumPy uses one fewer than the machine has, ONNX "
        "Runtime two.", low=1, high=4096, section=LIMITS,
    )  # fmt: skip

    api_key_file: str | None = setting(
        None,
        "File of API keys, one a line; a request needs one of them. $TEXTGEN_API_KEY is one more key.",
        section=ACCESS,
        metavar="FILE",
    )
    open_metrics: bool = setting(False, "Answer /metrics without a key.", section=ACCESS)
    allow_origin: Sequence[str] = setting(
        (), "Let pages of this origin use the server, such as https://example.org; * lets all.",
        section=ACCESS, metavar="ORIGIN",
    )  # fmt: skip
    allow_host: Sequence[str] = setting(
        (),
        "Host name by which clients reach the server; a port in it is ignored. If one is given, or if the server "
        "listens on this machine only, all others except localhost, 127.0.0.1 and ::1 are refused. Otherwise, a "
        "server without keys takes IP addresses and the name of its machine only, and one with keys takes any "
        "host name.",
        section=ACCESS,
        metavar="NAME",
    )

    def check(self) -> None:
        """Checks that a request can have each host and origin. Raises `ConfigError`."""
        for name, given, read in (
            ("allow_origin", self.allow_origin, origin_of),
            ("allow_host", self.allow_host, host_name),
        ):
            for value in given:
                try:
                    read(value)
                except ValueError as error:
                    raise ConfigError(f"{name} {value!r:.100} matches no request: {error}.") from None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
