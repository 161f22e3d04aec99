"""What the command line needs on Windows to write as on other systems."""

from __future__ import annotations

import importlib
import sys
from io import TextIOWrapper


def prepare_streams() -> None:
    """Makes the console understand escape sequences, and ends lines in pipes and files with \\n, as on other systems.

    Consoles older than Windows Terminal print such sequences as text unless a program enables them.
    """
    importlib.import_module("colorama").just_fix_windows_console()
    if isinstance(sys.stdout, TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(newline="\n")
