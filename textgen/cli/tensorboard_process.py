"""TensorBoard in a process of its own, without the log of TensorFlow, which it loads."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Runs TensorBoard with the arguments of the command line. Ctrl-C ends it without a traceback, also while it loads.

    The command has blocked Ctrl-C until here, since Python would show where it was interrupted.
    """
    try:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        from textgen.system.machine import has_gpu
        from textgen.system.runtime import configure_process, quiet

        configure_process()
        with quiet():  # no setting hides what TensorFlow logs while it is imported and looks for a GPU
            has_gpu()
        from tensorboard.main import run_main

        run_main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
