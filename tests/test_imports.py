"""What is heavy waits until it is needed."""

from __future__ import annotations

import pytest
from loaded_modules import modules_after

HEAVY = {"tensorflow", "keras", "numpy", "sentencepiece", "rich", "tensorboard", "safetensors", "prompt_toolkit"}


@pytest.mark.parametrize(
    "code",
    [
        "import textgen",
        "from textgen import SamplingConfig, TextgenError, TrainingConfig",
        "import textgen.cli",
        "from textgen.cli import textgen\ntry: textgen(['--help'])\nexcept SystemExit: pass",
        "from textgen.cli import textgen\ntry: textgen(['train', '--help'])\nexcept SystemExit: pass",
        "from textgen.cli import textgen\ntry: textgen(['models', 'compress', '--help'])\nexcept SystemExit: pass",
    ],
)
def test_help_loads_nothing_heavy(code: str) -> None:
    assert not HEAVY & modules_after(code)


@pytest.mark.parametrize("code", ["", "import textgen.cli", "import textgen.cli.lazy_group"])
def test_help_imports_no_command_and_no_setting(code: str) -> None:
    script = "try: textgen(['--help'])\nexcept SystemExit: pass"
    loaded = modules_after(f"{code}\nfrom textgen.cli import textgen\n{script}", top_level=False)
    ours = {name for name in loaded if name.split(".")[0] == "textgen"}
    light = {"textgen.cli.lazy_group", "textgen.cli.typos", "textgen.errors"}
    assert ours == {"textgen", "textgen.cli", *light}
    assert not {"dataclasses", "tomllib", "json", "tempfile", "importlib.metadata", "ctypes"} & loaded


MODULES = (
    "api", "corpus.corpus", "tokenizer.kinds", "dataset.token_stream", "dataset.batches", "dataset.prepared_corpus",
    "generation.sampling.sampler", "model.reference.network", "saved_model.saved_model", "training.planning.plan",
    "generation.generator", "evaluation.anomalies", "editor.session", "insight.page", "insight.events",
)  # fmt: skip
ONE_BY_ONE = f"""
import importlib
for module in {MODULES!r}:
    importlib.import_module(f"textgen.{{module}}")
    if heavy := {{"tensorflow", "keras"}} & set(sys.modules):
        sys.exit(f"{{module}} loads {{heavy}}")
"""


def test_the_road_before_the_network_needs_no_tensorflow() -> None:
    """In one process, since what is not loaded after all of them is loaded by none."""
    assert {f"textgen.{module}" for module in MODULES} <= modules_after(ONE_BY_ONE, top_level=False)
