"""Numbers for Prometheus, under the names of vLLM, so that its dashboards and scaling rules work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from textgen.server.engine import Engine
from textgen.server.served_model import ServedModel
from textgen.server.turns import Turns

SECONDS = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.45, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip
LABELS = ("model_name",)


class Metrics:
    """The counters and histograms of a server, and the gauges of its models."""

    def __init__(self, models: Callable[[], Iterable[ServedModel]], turns: Turns) -> None:
        """Makes metrics that have counted nothing.

        Args:
            models: Returns the models in memory.
            turns: The work of models that is done one piece after another, by their names.
        """
        self.registry = CollectorRegistry()
        self._models = models
        self._turns = turns
        self.prompt_tokens = self._counter("vllm:prompt_tokens", "Tokens of prompts.")
        self.generation_tokens = self._counter("vllm:generation_tokens", "Tokens written.")
        self.prefix_cache_queries = self._counter(
            "vllm:prefix_cache_queries", "Tokens of prompts looked for in the prefix cache."
        )
        self.prefix_cache_hits = self._counter("vllm:prefix_cache_hits", "Tokens of prompts found in the prefix cache.")
        self.finished = self._counter("vllm:request_success", "Texts that have ended.", "finished_reason")
        self.abandoned = self._counter("textgen:abandoned", "Texts given up before their end, since the client left.")
        self.first_token = self._histogram("vllm:time_to_first_token_seconds", "From the request to its first token.")
        self.inter_token = self._histogram("vllm:inter_token_latency_seconds", "From one token of a text to the next.")
        self.whole = self._histogram("vllm:e2e_request_latency_seconds", "From the request to the end of its answer.")
        self.loop_lag = Histogram(
            "textgen:event_loop_lag_seconds",
            "Delay of the heartbeat of the event loop.",
            registry=self.registry,
            buckets=SECONDS,
        )
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yields the gauges as they are now."""
        running = GaugeMetricFamily("vllm:num_requests_running", "Texts and other work in progress.", labels=LABELS)
        waiting = GaugeMetricFamily("vllm:num_requests_waiting", "Texts and other work that wait.", labels=LABELS)
        cached = GaugeMetricFamily("textgen:prefix_cache_bytes", "Bytes of states within prompts.", labels=LABELS)
        engines: dict[str, list[Engine]] = {}
        for model in self._models():  # several have a name while the folder of a model has changed
            engines.setdefault(model.name, []).extend([model.engine] if model.engine else [])
        for name, each in engines.items():
            at_work = int(self._turns.running == name)
            running.add_metric([name], sum(engine.running for engine in each) + at_work)
            waiting.add_metric([name], sum(engine.waiting for engine in each) + self._turns.names[name] - at_work)
            cached.add_metric([name], sum(engine.prefix_cache.bytes for engine in each))
        yield from (running, waiting, cached)

    def text(self) -> bytes:
        """All of them in Prometheus's format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(name, help, (*LABELS, *labels), registry=self.registry)

    def _histogram(self, name: str, help: str) -> Histogram:
        return Histogram(name, help, LABELS, registry=self.registry, buckets=SECONDS)
