"""What the command line needs on Windows to write as on other systems."""

from __future__ import annotations

import importlib
import sys
from io import TextIOWrapper


def prepare_streams() -> None:
    """Makes the console understand escape sequences, and line ends in a pipe or a file those of other systems.

    Before Windows Terminal, consoles showed the sequences that colour text as they are, unless a program asks for more.
    """
    importlib.import_module("colorama").just_fix_windows_console()
    if isinstance(sys.stdout, TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(newline="\n")
