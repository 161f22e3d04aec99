"""`python -m textgen`, and the console script."""

import os
import sys


def main() -> None:
    """Runs the program."""
    try:
        leave_out_current_folder()
        from textgen.cli import textgen
        from textgen.cli.stderr import keep_going_without_stderr

        if os.name == "nt":
            from textgen.cli.windows_streams import prepare_streams

            prepare_streams()
        keep_going_without_stderr()
    except KeyboardInterrupt:  # the program, which ends a command without a traceback, may not be there yet
        sys.exit(130)
    textgen(prog_name="textgen", obj=configure)


def configure() -> None:
    """Sets the process up for textgen. Called before a command, but not for `textgen --help`."""
    from textgen.system.runtime import configure_process

    configure_process()


def leave_out_current_folder() -> None:
    """Keeps Python from looking for modules in the current folder, where a user's own random.py may lie.

    It does so with -m, and for empty and relative entries of PYTHONPATH; those stand before its own library.
    """
    try:
        here = os.getcwd()
    except FileNotFoundError:  # it was deleted
        return
    given = "" if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "")
    meant = [os.path.normpath(entry) for entry in given.split(os.pathsep)]
    library = os.path.dirname(os.__file__)
    number = sys.path.index(library) if library in sys.path else 0
    first = [entry for entry in sys.path[:number] if os.path.abspath(entry) != here or entry in meant]
    sys.path[:number] = first


if __name__ == "__main__":
    main()
