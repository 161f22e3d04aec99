"""Which modules a piece of code loads."""

from __future__ import annotations

import subprocess
import sys


def modules_after(code: str, *, top_level: bool = True) -> set[str]:
    """Modules that are loaded once `code` has run in a fresh process; only `top_level` ones, or all by full name."""
    script = f"import sys\n{code}\nprint('modules:', *sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    names = result.stdout.split("modules:")[1].split()
    return {name.split(".")[0] for name in names} if top_level else set(names)
