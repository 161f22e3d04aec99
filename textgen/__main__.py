"""`python -m textgen`, and the console script."""

from textgen.cli import textgen


def main() -> None:
    """Runs the program."""
    textgen(prog_name="textgen")


if __name__ == "__main__":
    main()
