"""`python -m textgen`, and the console script."""

from textgen.cli import textgen
from textgen.runtime import configure_process


def main() -> None:
    """Runs the program, which has its process to itself."""
    configure_process()
    textgen(prog_name="textgen")


if __name__ == "__main__":
    main()
