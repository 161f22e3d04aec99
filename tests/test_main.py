"""The program as `python -m textgen` starts it."""

from __future__ import annotations

import signal
import subprocess
import sys

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


def test_ctrl_c_while_the_program_is_loaded_ends_it_without_a_traceback() -> None:
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + signal.SIGINT, "", "")
