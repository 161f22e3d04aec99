"""scripts/setup makes and fills .venv where it must, and leaves it otherwise: with stubs for the interpreters."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from processes import child_process
from repository import files_of_the_repository
from script_modules import SCRIPTS

# An interpreter that writes down what it is asked for, and whose pip notes the folder that was installed.
STUB = """#!/bin/sh
case "$*" in
*version_info*) [ {version} != 3.10 ] ;;
*sys.version*) echo {version} ;;
*find_spec*) [ "$(cat .venv/made-in)" = "$PWD" ] ;;
"-m venv .venv") echo "{version} venv" >> {log} && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
"-m pip install "*) sleep {pause} && echo "{version} ${{*##* }}" >> {log} && pwd > .venv/made-in ;;
*) exit 1 ;;
esac
"""

ANEW = "Making .venv anew: it was made in another folder, or for another Python."


class Checkout:
    """A folder with a copy of the script, and interpreters: python3 is Python 3.11.

    Attributes:
        folder: The checkout.
        said: What the last run of the script wrote to stderr.
        prefix: Command that starts the script.
    """

    def __init__(self, folder: Path, pause: float = 0.0) -> None:
        self.said = ""
        self.prefix = list[str]()
        self.folder, self._log, self._programs = folder / "checkout", folder / "log", folder / "programs"
        (self.folder / "scripts").mkdir(parents=True)
        shutil.copy(SCRIPTS / "setup", self.folder / "scripts")
        self.change()
        self._programs.mkdir()
        for name, version in (("python3", "3.11"), ("python3.10", "3.10"), ("python3.13", "3.13")):
            self.install(name, version, pause)

    def install(self, name: str, version: str, pause: float = 0.0) -> None:
        """An interpreter on the PATH."""
        stub = self._programs / name
        stub.write_text(STUB.format(version=version, log=self._log, pause=pause), encoding="utf-8")
        stub.chmod(0o755)

    def start(self, *extras: str, **variables: str) -> AbstractContextManager[subprocess.Popen[str]]:
        """Runs the script beside a block."""
        path = f"{self._programs}:{os.environ['PATH']}"
        command = [*self.prefix, "scripts/setup", *extras]
        environment = {"PATH": path, **variables}
        return child_process(command, cwd=self.folder, env=environment, stderr=subprocess.PIPE, text=True)

    def setup(self, *extras: str, code: int = 0, **variables: str) -> list[str]:
        """What was made and installed by a run of the script, with which version."""
        with self.start(*extras, **variables) as done:
            self.said = done.communicate()[1]
        assert done.returncode == code, self.said
        return self.done()

    def done(self) -> list[str]:
        """What was made and installed since the last time."""
        lines = self._log.read_text(encoding="utf-8").splitlines() if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        return lines

    def change(self) -> None:
        """Changes pyproject.toml, after all that was installed."""
        path, stamps = self.folder / "pyproject.toml", self.folder.glob(".venv/.installed-*")
        path.touch()
        latest = max((stamp.stat().st_mtime for stamp in stamps), default=0.0)
        os.utime(path, (latest + 10, latest + 10))


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_what_is_up_to_date_is_left(checkout: Checkout) -> None:
    assert checkout.setup() == ["3.11 venv", "3.11 .[dev]"]
    assert "anew" not in checkout.said
    assert checkout.setup() == []
    assert checkout.said == ""


def test_what_is_up_to_date_serves_those_who_may_not_write(checkout: Checkout) -> None:
    checkout.setup()
    path = checkout.folder / "pyproject.toml"
    path.chmod(0o444)
    if os.access(path, os.W_OK):  # root, who may write it nevertheless
        checkout.prefix = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
        if not shutil.which("setpriv") or subprocess.run([*checkout.prefix, "true"]).returncode:
            pytest.skip("needs a user who may not write it")
    assert checkout.setup() == []
    assert checkout.said == ""


def test_extras_are_installed_once(checkout: Checkout) -> None:
    assert checkout.setup("dask", "clouds") == ["3.11 venv", "3.11 .[dev]", "3.11 .[dask]", "3.11 .[clouds]"]
    assert checkout.setup("dask", "oracles") == ["3.11 .[oracles]"]
    assert checkout.setup("dask", "clouds", "oracles") == []
    checkout.change()
    assert checkout.setup("dask") == ["3.11 .[dev]", "3.11 .[dask]"]


def test_a_moved_folder_gets_an_environment_of_its_own(checkout: Checkout) -> None:
    checkout.setup("dask")
    checkout.folder = checkout.folder.rename(checkout.folder.with_name("moved"))
    assert checkout.setup() == ["3.11 venv", "3.11 .[dev]"]
    assert checkout.said.startswith(ANEW)
    assert checkout.setup("dask") == ["3.11 .[dask]"]
    assert ANEW not in checkout.said


@pytest.mark.parametrize("stamp", [".installed", ".installed-dev"])
def test_an_environment_that_the_script_made_is_made_anew(checkout: Checkout, stamp: str) -> None:
    (checkout.folder / ".venv").mkdir()
    (checkout.folder / ".venv" / stamp).touch()  # that of earlier versions, too
    assert checkout.setup() == ["3.11 venv", "3.11 .[dev]"]
    assert checkout.said.startswith(ANEW)


def test_an_environment_that_the_script_did_not_make_is_kept(checkout: Checkout) -> None:
    binaries = checkout.folder / ".venv" / "bin"
    binaries.mkdir(parents=True)
    checkout.install("python3.12", "3.12")
    shutil.copy(checkout.folder.parent / "programs" / "python3.12", binaries / "python")
    (binaries / "own").touch()
    assert checkout.setup(PYTHON="python3.13") == ["3.12 .[dev]"]
    assert checkout.said.startswith("Keeping .venv, which scripts/setup did not make. Remove it")
    assert (binaries / "own").exists()
    assert checkout.setup() == []
    assert checkout.said == ""


def test_an_environment_that_was_kept_is_kept_ever_after(checkout: Checkout) -> None:
    """Also after textgen was installed into it."""
    (checkout.folder / ".venv" / "bin").mkdir(parents=True)
    checkout.install("python3.12", "3.12")
    shutil.copy(checkout.folder.parent / "programs" / "python3.12", checkout.folder / ".venv" / "bin" / "python")
    assert checkout.setup() == ["3.12 .[dev]"]
    assert checkout.setup(PYTHON="python3.13") == []
    assert checkout.said.startswith("Keeping .venv, which scripts/setup did not make.")


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize("is_ours", [True, False])
def test_make_clean_removes_only_an_environment_that_the_script_made(checkout: Checkout, is_ours: bool) -> None:
    shutil.copy(SCRIPTS.parent / "Makefile", checkout.folder)
    (checkout.folder / "build" / "lib").mkdir(parents=True)
    if not is_ours:
        (checkout.folder / ".venv" / "bin").mkdir(parents=True)
        shutil.copy(checkout.folder.parent / "programs" / "python3", checkout.folder / ".venv" / "bin" / "python")
    checkout.setup()
    done = subprocess.run(["make", "-s", "clean"], cwd=checkout.folder, capture_output=True, text=True, check=True)
    assert (checkout.folder / ".venv").exists() is not is_ours
    assert ("Keeping .venv" in done.stderr) is not is_ours
    assert not (checkout.folder / "build" / "lib").exists()
    subprocess.run(["make", "-s", "clean"], cwd=checkout.folder, check=True)


def test_an_environment_whose_making_was_interrupted_is_made_anew(checkout: Checkout) -> None:
    python = checkout.folder.parent / "programs" / "python3"
    working = python.read_text(encoding="utf-8")
    python.write_text(working.replace("mkdir -p .venv/bin &&", "mkdir -p .venv/bin && exit 1 &&"), encoding="utf-8")
    assert checkout.setup(code=1) == ["3.11 venv"]
    python.write_text(working, encoding="utf-8")
    assert checkout.setup() == ["3.11 venv", "3.11 .[dev]"]


INTERRUPTED = {
    "rm": """for each; do [ -e "$each" ] && case $each in .venv*) {real} -rf "$each"/.installed*; exit 1 ;; esac; done
exec {real} "$@" """,
    "touch": 'case "$*" in *.installed-venv*) exit 1 ;; *) exec {real} "$@" ;; esac',
    "mkdir": '{real} "$@"; exit 1',
}


@contextmanager
def interrupted(program: str, checkout: Checkout) -> Iterator[None]:
    """A program that stops a script amid its work."""
    path = checkout.folder.parent / "programs" / program
    path.write_text(f"#!/bin/sh\n{INTERRUPTED[program].format(real=shutil.which(program))}\n", encoding="utf-8")
    path.chmod(0o755)
    yield
    path.unlink()


@pytest.mark.parametrize("program", INTERRUPTED)
def test_wherever_making_it_anew_is_interrupted_the_next_run_makes_it(checkout: Checkout, program: str) -> None:
    checkout.setup()
    with interrupted(program, checkout):
        assert checkout.setup(PYTHON="python3.13", code=1) == []
    assert checkout.setup(PYTHON="python3.13") == ["3.13 venv", "3.13 .[dev]"]
    assert "Keeping" not in checkout.said
    assert not list(checkout.folder.glob(".venv-*"))


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize("then", ["setup", "clean"])
def test_nothing_is_left_of_an_interrupted_make_clean(checkout: Checkout, then: str) -> None:
    shutil.copy(SCRIPTS.parent / "Makefile", checkout.folder)
    checkout.setup()
    environment = {"PATH": f"{checkout.folder.parent / 'programs'}:{os.environ['PATH']}"}
    with interrupted("rm", checkout):
        done = subprocess.run(["make", "-s", "clean"], cwd=checkout.folder, env=environment, capture_output=True)
    assert done.returncode
    assert list(checkout.folder.glob(".venv*"))
    if then == "clean":
        subprocess.run(["make", "-s", "clean"], cwd=checkout.folder, check=True)
        assert not list(checkout.folder.glob(".venv*"))
    else:
        assert checkout.setup() == ["3.11 venv", "3.11 .[dev]"]
        assert "Keeping" not in checkout.said
        assert [path.name for path in checkout.folder.glob(".venv*")] == [".venv"]


@pytest.mark.parametrize("python", [None, "#!/no/such/interpreter"])
def test_an_environment_of_somebody_without_a_python_is_an_error(checkout: Checkout, python: str | None) -> None:
    binaries = checkout.folder / ".venv" / "bin"
    binaries.mkdir(parents=True)
    if python:
        (binaries / "python").write_text(python)
        (binaries / "python").chmod(0o755)
    assert checkout.setup(code=1) == []
    assert checkout.said == (
        "Error: .venv, which scripts/setup did not make, has no Python that runs. Remove it to get a new one.\n"
    )


def test_a_link_to_an_environment_that_the_script_made_is_replaced_and_the_other_stays(checkout: Checkout) -> None:
    elsewhere = checkout.folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".installed-dev").touch()
    (checkout.folder / ".venv").symlink_to(elsewhere)
    assert checkout.setup() == ["3.11 venv", "3.11 .[dev]"]
    assert not (checkout.folder / ".venv").is_symlink()
    assert [path.name for path in elsewhere.iterdir()] == [".installed-dev"]


def test_another_interpreter_that_is_named_is_taken(checkout: Checkout) -> None:
    checkout.setup()
    assert checkout.setup(PYTHON="python3") == []
    assert checkout.setup(PYTHON="python3.13") == ["3.13 venv", "3.13 .[dev]"]
    assert checkout.said.startswith(ANEW)
    assert checkout.setup(PYTHON="python3.13") == checkout.setup() == []


def test_an_environment_keeps_its_interpreter_where_none_is_named(checkout: Checkout) -> None:
    checkout.setup(PYTHON="python3.13")
    checkout.install("python3", "3.10")
    checkout.change()
    assert checkout.setup() == ["3.13 .[dev]"]


@pytest.mark.parametrize("name", ["python3.10", "no-such-python"])
def test_an_interpreter_that_does_not_do_leaves_what_is_there(checkout: Checkout, name: str) -> None:
    checkout.setup()
    assert checkout.setup(PYTHON=name, code=1) == []
    assert checkout.setup() == []


def test_two_at_once_install_once(tmp_path: Path) -> None:
    if not shutil.which("flock"):
        pytest.skip("without flock they do not wait for each other")
    checkout = Checkout(tmp_path, pause=0.2)
    with checkout.start() as one, checkout.start() as other:
        for each in (one, other):
            errors = each.communicate()[1]
            assert each.returncode == 0, errors
    assert checkout.done() == ["3.11 venv", "3.11 .[dev]"]


def test_an_exported_cdpath_leads_nowhere(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "scripts").mkdir(parents=True)
    checkout.setup(CDPATH=str(tmp_path / "elsewhere"))
    assert (checkout.folder / ".venv").is_dir()


def test_all_that_enter_the_checkout_do_so_without_cdpath() -> None:
    scripts = [path for path in files_of_the_repository(SCRIPTS) if not path.suffix]
    texts = {path.name: path.read_text(encoding="utf-8") for path in (*scripts, SCRIPTS.parent / ".ci" / "run")}
    assert {"setup", "test", "demo", "check", "update-readme", "run"} <= texts.keys()
    for name, text in texts.items():
        assert text.count('unset CDPATH\ncd "$(dirname') == text.count("cd ") == 1, name


def test_make_runs_one_target_at_a_time() -> None:
    """With `make -j2 check test`, too."""
    assert ".NOTPARALLEL:" in (SCRIPTS.parent / "Makefile").read_text(encoding="utf-8")
