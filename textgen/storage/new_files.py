"""Creates files atomically for libraries that write to a path, also where the path is that of a stream."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from textgen.storage.files import replacing_file, writing
from textgen.storage.streams import is_stream, open_stream
from textgen.storage.temporary import temporary_folder


@contextmanager
def new_file(path: Path, *, follow_link: bool = True) -> Iterator[Path]:
    """Creates a file atomically, for libraries that write to a path.

    The block writes to a temporary file next to `path`, with the same suffix, which is renamed to `path` if the block
    ends without an error. If `path` is a stream, the file is in the folder for temporary files, and its content is
    written into the stream. Errors raised in the block are not converted: use `writing` there for clear messages.

    Args:
        path: Path of the file. An existing file keeps its mode, owner and group as with `write_file`.
        follow_link: Whether to replace the target of a link instead of the link. Set False in folders that textgen
            manages.

    Yields:
        Path of the temporary file, which exists and is empty.

    Raises:
        TextgenError: The file cannot be written.
    """
    if not follow_link or not is_stream(path):
        with replacing_file(path, follow_link=follow_link) as temporary:
            yield temporary
        return
    with temporary_folder() as folder:  # held: the block may take longer than an abandoned folder is kept
        temporary = folder / path.name
        with writing(temporary):
            temporary.touch()
        yield temporary
        with writing(path), temporary.open("rb") as source, open_stream(path) as target:
            shutil.copyfileobj(source, target)
