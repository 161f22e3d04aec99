"""What several tests need: folders of their own, and the smallest tokenizer and network that work."""

from __future__ import annotations

import gc
import os
import random
import resource
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import Result
from hypothesis import HealthCheck, settings
from networks import random_weights
from sample_text import LINES
from song_model import POEMS, TINY, run

from textgen.corpus.config import CorpusConfig
from textgen.model.config import ModelConfig
from textgen.saved_model.saving import save_model
from textgen.storage import cache_folder
from textgen.system.runtime import XLA_FLAGS_OF, configure_process, load_tensorflow
from textgen.telemetry import ONNX_RUNTIME, turn_off
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer
from textgen.versions import module_version

if TYPE_CHECKING:
    from textgen.model.language_model import LanguageModel

# A busy machine is no fault of the program. `scripts/test --hypothesis-profile=search` looks for new counterexamples.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=False)
settings.register_profile("repeat", settings.get_profile("search"), derandomize=True)
settings.load_profile("repeat")  # each run tests the same examples
gc.set_threshold(100_000, 20, 50)  # graphs are many small objects: the collector would go through them again and again
configure_process()  # the tests have their process to themselves, as the program has
turn_off(ONNX_RUNTIME)  # some tests import it themselves

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # by a shell, in the background: programs begun here would, too
    signal.signal(signal.SIGINT, signal.default_int_handler)


QUICK_XLA = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_llvm_disable_expensive_passes=true",
)


def pytest_configure(config: pytest.Config) -> None:
    """Refuses to run the tests in browsers where there is none, and lets XLA compile quickly and to slow code.

    Tests compile much and run it little. Slow tests have the usual code.
    """
    if config.option.markexpr == "browsers":
        from browsers import require_browser

        require_browser()
    if "not slow" in config.option.markexpr and module_version("tensorflow").startswith(XLA_FLAGS_OF):
        os.environ.setdefault("XLA_FLAGS", " ".join(QUICK_XLA))


LONG_FILES = (
    "test_run.py", "test_run_resumed.py", "test_run_killed.py", "test_run_faults.py", "test_run_failed.py",
    "test_run_from_a_model.py", "test_run_callbacks.py", "test_workers.py", "test_distribution.py",
    "test_adaptation_options.py", "test_evaluate.py", "test_label_options.py", "test_novelty.py", "test_prepare.py",
    "test_train_runs.py", "test_api.py", "test_process.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts files with long tests first, so that at the end no process waits for a long one of another."""
    items.sort(key=lambda item: item.path.name not in LONG_FILES)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test marked `oracles` where what it compares with is missing; fails it if such tests are asked for."""
    for library in (name for marker in item.iter_markers("oracles") for name in marker.args):
        try:
            pytest.importorskip(library, reason='pip install ".[oracles]"')
        except pytest.skip.Exception as missing:
            if item.config.option.markexpr == "oracles":
                pytest.fail(f"{library} is missing: {missing}")
            raise


@pytest.fixture(scope="session", autouse=True)
def quick_graphs(pytestconfig: pytest.Config) -> None:
    """TensorFlow runs graphs as they are traced, if a module of tests has loaded it."""
    optimize_no_graphs(pytestconfig)


def optimize_no_graphs(config: pytest.Config) -> None:
    """TensorFlow, if it is loaded, runs graphs as they are traced: tests trace much and run it little.

    Slow tests have optimized graphs, as have programs that tests start.
    """
    if "not slow" in config.option.markexpr and (tensorflow := sys.modules.get("tensorflow")):
        tensorflow.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture(scope="session", autouse=True)
def one_shard() -> Iterator[None]:
    """A batch stays whole, however many cores there are: TensorFlow then traces and compiles each step once."""
    with pytest.MonkeyPatch.context() as patch:
        shard_on(1, patch)
        yield


@pytest.fixture
def two_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is split in two, as on a machine with two cores."""
    shard_on(2, monkeypatch)


def shard_on(cores: int, patch: pytest.MonkeyPatch) -> None:
    """Splits batches as on a machine with `cores` cores."""
    for module in ("textgen.model.sharding", "textgen.training.distributed.distribution"):
        patch.setattr(f"{module}.num_cores", lambda processes=1: max(1, cores // processes))


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Nothing is forced onto the disk: no test outlives the machine. A descriptor that is not open is still refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: os.fstat(descriptor) and None)
        yield


SETTINGS_OF_THE_USER = (
    "TEXTGEN_API_KEY", "TEXTGEN_CACHE_LIMIT",
    "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES",
)  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def no_settings_of_the_user() -> Iterator[None]:
    """What the user has set for his terminal and his server does not count, nor for fixtures of a whole module."""
    with pytest.MonkeyPatch.context() as patch:
        for name in SETTINGS_OF_THE_USER:
            patch.delenv(name, raising=False)
        if os.environ.get("TERM") in ("dumb", "unknown"):  # as where no terminal is, but tests have some of their own
            patch.delenv("TERM")
        yield


@pytest.fixture(scope="session", autouse=True)
def no_folders_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fixtures of a whole module come before those of a test: what they train and read is in folders of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        use_folders_in(tmp_path_factory.mktemp("session"), patch)
        yield


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's cache nor his models are read or written, and no base is there that a test did not make."""
    use_folders_in(tmp_path, monkeypatch)
    cache_folder._temporary_cache.cache_clear()  # another test may have made one


def use_folders_in(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Has the cache, the models and the bases in a folder."""
    for name in ("cache", "models", "bases"):
        patch.setenv(f"TEXTGEN_{name.upper()}", str(folder / name))


@pytest.fixture(autouse=True)
def seeds_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts without a seed of their own are the same in each run of a test: a rare one, as an empty one, fails none."""
    monkeypatch.setattr(secrets, "randbits", random.Random(0).getrandbits)


@pytest.fixture
def no_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder for temporary files can be written to, as on a full disk or in a read-only container."""
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/dev/null/tmp"])


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Characters, and bytes for those that `LINES` lacks."""
    return train_tokenizer([LINES], TokenizerConfig("char"))


@pytest.fixture(scope="session")
def model(tokenizer: Tokenizer, pytestconfig: pytest.Config) -> LanguageModel:
    """Two layers of 8 units, not trained. It is shared: do not change its weights."""
    load_tensorflow()
    optimize_no_graphs(pytestconfig)
    from textgen.model.language_model import LanguageModel

    config = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8, num_layers=2)
    return LanguageModel(config, pad_id=tokenizer.pad_id, seed=1)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A folder of models with one in it, `tiny`, of random weights. It is shared: copy it to change it."""
    folder = tmp_path_factory.mktemp("models")
    config = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8)
    corpus = CorpusConfig(documents="line")
    save_model(folder / "tiny", random_weights(config), config, TokenizerConfig("char"), corpus, tokenizer)
    return folder


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A folder of models with one in it, `my-songs`, and what its training said. It is shared: copy it to change it."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "my songs.txt").write_text(POEMS, encoding="utf-8")
    result = run("train", str(folder / "my songs.txt"), "--models-dir", str(folder), *TINY)
    assert result.exit_code == 0, result.output
    return folder, result


@pytest.fixture
def no_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow cannot be loaded."""

    def load() -> None:
        raise AssertionError("TensorFlow is loaded")

    names = ("system.runtime", "training.distributed.joining", "api", "saved_model.adaptation")
    modules = [import_module(f"textgen.{name}") for name in names]  # all before one is changed: they take it from it
    for module in modules:
        monkeypatch.setattr(module, "load_tensorflow", load)


@pytest.fixture
def disk_of() -> Callable[[int], AbstractContextManager[None]]:
    """`with disk_of(1000):` no file can grow beyond 1,000 bytes; the write that would fails halfway."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "dont_write_bytecode", True)  # Python would keep half of a compiled module
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
            try:
                yield
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))

    return limited
