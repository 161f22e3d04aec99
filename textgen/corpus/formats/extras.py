"""Libraries that some formats of files need, and that need not be installed."""

from __future__ import annotations

from functools import cache
from typing import Any

from textgen import versions
from textgen.errors import CorpusError
from textgen.versions import install_command, missing

EXTRAS = {  # by the name of the module
    "lxml.etree": "documents",
    "pypdf": "documents",
    "striprtf.striprtf": "documents",
    "pyarrow.parquet": "parquet",
}
LIBRARIES = {  # by the suffix of the file name: the module that reads it
    ".docx": "lxml.etree",
    ".epub": "lxml.etree",
    ".htm": "lxml.etree",
    ".html": "lxml.etree",
    ".odt": "lxml.etree",
    ".xhtml": "lxml.etree",
    ".pdf": "pypdf",
    ".rtf": "striprtf.striprtf",
    ".parquet": "pyarrow.parquet",
}


def missing_for(suffix: str) -> str:
    """Says what reading a kind of file takes and is not installed.

    Args:
        suffix: Suffix of the file name, such as ".pdf".

    Returns:
        What to do, in a sentence; "" if nothing is missing.
    """
    module = LIBRARIES.get(suffix)
    return "" if module is None or _is_there(module) else _advice(module)


def load(module: str, name: str) -> Any:
    """Imports a library.

    Args:
        module: Name of the module, one of `EXTRAS`.
        name: Name of the file that it reads, for the error message.

    Returns:
        The module.

    Raises:
        CorpusError: It is not installed, or cannot be imported.
    """
    if missing([module]):
        raise CorpusError(f"Cannot read {name}. {_advice(module)}")
    return versions.load(module, f"Cannot read {name}: textgen", EXTRAS[module], CorpusError)


def _advice(module: str) -> str:
    return f"Such files are read with {module.partition('.')[0]}: {install_command(EXTRAS[module])}."


@cache
def _is_there(module: str) -> bool:
    return not missing([module])
