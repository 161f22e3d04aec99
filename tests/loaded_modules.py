"""Which modules a piece of code loads."""

from __future__ import annotations

import subprocess
import sys


def modules_after(code: str) -> set[str]:
    """Top-level modules that are loaded once `code` has run in a fresh process."""
    script = f"import sys\n{code}\nprint('modules:', *{{name.split('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stdout.split("modules:")[1].split())
