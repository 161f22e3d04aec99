"""TensorBoard in a process of its own, without the log of TensorFlow, which it loads."""

from __future__ import annotations

from textgen.system.machine import has_gpu
from textgen.system.runtime import configure_process, quiet


def main() -> None:
    """Runs TensorBoard with the arguments of the command line."""
    configure_process()
    with quiet():  # no setting hides what TensorFlow logs while it is imported and looks for a GPU
        has_gpu()
    from tensorboard.main import run_main

    run_main()


if __name__ == "__main__":
    main()
