"""The versions of installed libraries."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, packages_distributions, version


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
    try:
        return version(module)
    except PackageNotFoundError:  # all distributions are looked through, which takes longer
        distributions = sorted(packages_distributions().get(module, []))
        return version(distributions[0]) if distributions else ""
