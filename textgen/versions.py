"""Which libraries are installed, in which versions; loads those that may be missing, and says how to install them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import Any

from textgen.errors import TextgenError
from textgen.telemetry import VARIABLES, turn_off

RUNTIME_LIBRARY = "Microsoft's Visual C++ Redistributable"  # many libraries need it, and Windows does not have it


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
    """Checks that modules are installed and can be imported, before long work.

    Args:
        what: What needs them, as the beginning of a sentence.
        modules: Their names.
        extra: The extra of textgen that brings them, as in `pyproject.toml`.
        error: Class of the error.

    Raises:
        TextgenError: A module is missing or cannot be imported; it is an instance of `error`.
    """
    modules = list(modules)
    if lacking := missing(modules):
        raise error(f"{what} needs {', '.join(lacking)}: {install_command(extra)}.")
    for module in modules:
        load(module, what, extra, error)


def load(module: str, what: str, extra: str = "", error: type[TextgenError] = TextgenError) -> Any:
    """Imports a module, with the telemetry of its library turned off.

    Args:
        module: Its name.
        what: What needs it, as the beginning of a sentence.
        extra: The extra of textgen that brings it, as in `pyproject.toml`; none if textgen always needs it.
        error: Class of the error.

    Returns:
        The module.

    Raises:
        TextgenError: The module is missing or cannot be imported; it is an instance of `error`.
        OSError: Its import has used the disk, which failed.
    """
    if variable := VARIABLES.get(module):
        turn_off(variable)
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as failure:
        if isinstance(failure, OSError) and failure.errno and not getattr(failure, "winerror", None):
            raise  # it is not that of a library that could not be loaded, but, for example, of a full disk
        if missing([module]):
            raise error(f"{what} needs {module}: {install_command(extra)}.") from None
        raise error(f"{what} {cannot_use(module, failure)}") from None


def cannot_use(module: str, failure: BaseException) -> str:
    """Says that a module is installed but cannot be imported, as where Windows lacks a library that it needs.

    Args:
        module: Its name.
        failure: What its import raised. The message tells the error that came first: libraries add long texts.

    Returns:
        The rest of a sentence, and what to do.

    Example:
        >>> print(cannot_use("lxml", ImportError("DLL load failed")))
        cannot use lxml: DLL load failed. Install it again; on Windows also Microsoft's Visual C++ Redistributable.
    """
    while isinstance(first := failure.__cause__ or failure.__context__, ImportError | OSError):
        failure = first
    why = " ".join(str(failure).split()).rstrip(".")
    return f"cannot use {module}: {why}. Install it again; on Windows also {RUNTIME_LIBRARY}."


def install_command(extra: str) -> str:
    """Says how an extra of textgen is installed: from its source, as the name on PyPI belongs to another program.

    Args:
        extra: Name of the extra, as in `pyproject.toml`; none for textgen alone.

    Returns:
        What to do, without a capital and a full stop.

    Example:
        >>> print(install_command("serve"))
        run pip install ".[serve]" in the folder of textgen's source
    """
    what = f'".[{extra}]"' if extra else "."
    return f"run pip install {what} in the folder of textgen's source"


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
