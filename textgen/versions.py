"""Which libraries are installed, in which versions, and how those that are missing are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from textgen.errors import TextgenError


def missing(modules: Iterable[str]) -> list[str]:
    """Finds out which modules are not installed. None is imported.

    Args:
        modules: Names of modules. For one in a package, the package is looked for.

    Returns:
        The names of those that are missing.

    Example:
        >>> missing(["numpy.linalg", "no_such_module"])
        ['no_such_module']
    """
    return [module for module in modules if importlib.util.find_spec(module.partition(".")[0]) is None]


def require(what: str, modules: Iterable[str], extra: str, error: type[TextgenError] = TextgenError) -> None:
    """Checks that modules are installed.

    Args:
        what: What needs them, as the beginning of a sentence.
        modules: Their names.
        extra: The extra of textgen that brings them, as in `pyproject.toml`.
        error: Class of the error.

    Raises:
        TextgenError: A module is missing; it is an instance of `error`.
    """
    if lacking := missing(modules):
        raise error(f"{what} needs {', '.join(lacking)}: {install_command(extra)}.")


def install_command(extra: str) -> str:
    """Says how an extra of textgen is installed: from its source, as the name on PyPI belongs to another program.

    Args:
        extra: Name of the extra, as in `pyproject.toml`.

    Returns:
        What to do, without a capital and a full stop.

    Example:
        >>> print(install_command("serve"))
        run pip install ".[serve]" in the folder of textgen's source
    """
    return f'run pip install ".[{extra}]" in the folder of textgen\'s source'


def module_version(module: str) -> str:
    """Finds the version of a module that is installed, whatever the distribution that it comes from is called.

    The module `onnxruntime` is also in onnxruntime-gpu and onnxruntime-directml, and `tensorflow` in tensorflow-cpu and
    tf-nightly. The module is not imported.

    Args:
        module: Name of the module.

    Returns:
        Its version. Empty if no distribution has the module, as in a folder of sources.

    Example:
        >>> module_version("numpy").count(".")
        2
    """
    from importlib.metadata import PackageNotFoundError, packages_distributions, version  # takes time to import

    try:
        return version(module)
    except PackageNotFoundError:  # all distributions are looked through, which takes longer
        distributions = sorted(packages_distributions().get(module, []))
        return version(distributions[0]) if distributions else ""
