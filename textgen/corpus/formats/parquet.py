"""Reads .parquet files, a few rows at a time, with pyarrow (the extra `parquet`).

Only the columns of the text and of the label are read. A text that many rows share is in memory once, so that a small
file does not become large.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from textgen.corpus.formats.extras import load
from textgen.corpus.formats.table import require_single
from textgen.errors import CorpusError

CHECKSUM = "CRC checksum"  # what pyarrow says of a page that was altered
LIST = re.compile(r"\.(?:list\.(?:element|item)|bag\.array_element|array)(?=\.|$)")
"""What the path of a column in a file has for a list, as its various writers call it; the path to a field lacks it."""
ROWS = 64  # number of rows read at a time
MAX_GROUP_BYTES = 1 << 32  # maximum size in bytes of a decompressed column in a row group


def parquet_rows(path: Path, name: str, text: str, label: str | None = None) -> Iterator[dict[str, Any]]:
    """Iterates over the rows of a file.

    Args:
        path: Path of the file.
        name: Name of the file, for error messages.
        text: Name of the column of the text, or a path that begins with it.
        label: That of the label.

    Yields:
        The values of each row by column. If there is no column of the text, the first row with all columns.

    Raises:
        CorpusError: The file is damaged or too large, or pyarrow is not installed.
    """
    parquet = load("pyarrow.parquet", name)
    with _reading(name), parquet.ParquetFile(path) as file:
        there = list(file.schema_arrow.names)
        texts = [column for column in there if f"{text}.".startswith(f"{column}.")]
        labels = [column for column in there if f"{label or ''}.".startswith(f"{column}.")]
        for column, setting in (*((each, "text_column") for each in texts), *((each, "labels") for each in labels)):
            require_single(there, column, name, setting)
        wanted = list(dict.fromkeys([*texts, *labels])) if texts else []
        _check_sizes(file.metadata, wanted, name)
        strings = [column for column in wanted if _is_string(file.schema_arrow.field(column).type)]
    # not mapped into memory, where the end of a file that is cut off meanwhile ends the process; and read as it is
    # needed, since pyarrow takes a file of which it finds less than it wanted to read ahead for one that ends there
    options = {"read_dictionary": strings, "page_checksum_verification": True, "memory_map": False, "pre_buffer": False}
    with _reading(name), parquet.ParquetFile(path, **options) as file:
        for batch in file.iter_batches(ROWS, columns=wanted or there):
            arrays = [batch.column(index) for index in range(batch.num_columns)]
            for row in range(batch.num_rows):
                yield {column: array[row].as_py() for column, array in zip(batch.schema.names, arrays, strict=True)}
                if not wanted:
                    return


def parquet_columns(path: Path, name: str) -> list[str]:
    """Lists the columns of a file.

    Args:
        path: Path of the file.
        name: Name of the file, for error messages.

    Returns:
        Names of the columns.

    Raises:
        CorpusError: The file is damaged, or pyarrow is not installed.
    """
    parquet = load("pyarrow.parquet", name)
    with _reading(name), parquet.ParquetFile(path) as file:
        return list(file.schema_arrow.names)


def parquet_text_bytes(path: Path, name: str, text: str) -> int:
    """Finds the size of a column in bytes, decompressed, or of all of it if the path to a field is not found in it.

    Args:
        path: Path of the file.
        name: Name of the file, for error messages.
        text: Name of the column, or a path to a field within it.

    Returns:
        The size; 0 if there is no such column.

    Raises:
        CorpusError: The file is damaged, or pyarrow is not installed.
    """
    parquet = load("pyarrow.parquet", name)
    with _reading(name), parquet.ParquetFile(path) as file:
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
        sizes = [(LIST.sub("", chunk.path_in_schema), chunk.total_uncompressed_size) for chunk in chunks]
        found = [size for path, size in sizes if f"{path}.".startswith(f"{text}.")]
        column = text.partition(".")[0]
        return sum(found or [size for path, size in sizes if path.partition(".")[0] == column])


def _is_string(kind: Any) -> bool:
    types = importlib.import_module("pyarrow.types")
    return types.is_string(kind) or types.is_large_string(kind)


def _check_sizes(metadata: Any, columns: Collection[str], name: str) -> None:
    """Raises `CorpusError` if a part of the file that is decompressed at once is too large for memory."""
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        chunks = [row_group.column(index) for index in range(row_group.num_columns)]
        size = sum(
            chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.partition(".")[0] in columns
        )
        if size > MAX_GROUP_BYTES:
            raise CorpusError(
                f"{name}: row group {group + 1} has {size:,} bytes of text, more than the limit of "
                f"{MAX_GROUP_BYTES:,}. Write the file again with smaller row groups."
            )


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Converts errors of pyarrow, most of which are `ValueError`s and `OSError`s, to `CorpusError`."""
    errors = importlib.import_module("pyarrow").ArrowException
    try:
        yield
    except PermissionError:
        raise CorpusError(f"Cannot read {name}: permission denied. Ask the owner for permission to read it.") from None
    except NotImplementedError as error:
        raise CorpusError(
            f"Cannot read {name}: pyarrow says {_first_line(error)!r}. Update pyarrow, or write the file again in "
            "another way, such as with the compression zstd."
        ) from None
    except (ValueError, OSError, MemoryError, errors) as error:
        if CHECKSUM in str(error):
            raise CorpusError(
                f"{name} is damaged: a part of it does not match its checksum. Write or download it again."
            ) from None
        raise CorpusError(
            f"{name} is damaged, no Parquet file, or was cut off or changed while it was read: {_first_line(error)}. "
            "Write or download it again."
        ) from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else "it cannot be read"
