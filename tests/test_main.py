"""The program as `python -m textgen` starts it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

INTERRUPTED = """
import sys


class Interrupted:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "textgen.cli":
            raise KeyboardInterrupt


sys.meta_path.insert(0, Interrupted)
from textgen.__main__ import main

main()
"""
INTERRUPTED_LATER = """
import textgen.cli.stderr
from textgen.__main__ import main


def interrupt():
    raise KeyboardInterrupt


textgen.cli.stderr.keep_going_without_stderr = interrupt
main()
"""


@pytest.mark.parametrize("code", [INTERRUPTED, INTERRUPTED_LATER], ids=["while it is imported", "as it is set up"])
def test_ctrl_c_while_the_program_is_loaded_ends_it_without_a_traceback(code: str) -> None:
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + signal.SIGINT, "", "")
