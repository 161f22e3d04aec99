"""Files elsewhere: `s3://`, `gs://`, `hf://`, `https://`, `zip://` and other addresses.

A file is copied into the cache folder when it is first read, in pieces, and read from there. Its place in the cache is
made of its address and of what the other side says about its version (an ETag, a checksum or a time), so an unchanged
file is copied once. The version of a member of an archive includes that of the archive: a tar archive says only the
second in which a member was written.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from textgen.errors import RemoteError
from textgen.storage.addresses import address_of, is_web_address, without_secrets
from textgen.storage.cache_folder import filling_cache
from textgen.storage.file_replacement import rename
from textgen.storage.file_systems import (
    attempts,
    has_archive,
    is_on_this_machine,
    is_there,
    open_file_system,
    unread_links,
)
from textgen.storage.files import TEMPORARY, random_hex, writing
from textgen.storage.leftovers import sweep
from textgen.storage.locks import locked_in_turn
from textgen.storage.names import is_backup, is_hidden
from textgen.storage.remote_cache import copy_name, entry_folder, make_room, mark_used, record_address
from textgen.wording import counted

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
NAME_BYTES = 100  # maximum length of the name of a copy; its temporary name is longer
VERSIONS = (
    "ETag", "etag", "Content-MD5", "Digest", "md5Hash", "sha256", "CRC", "generation", "blob_id", "LastModified",
    "Last-Modified", "last_modified", "mtime", "updated", "created",
)  # fmt: skip
"""What the file systems call that which changes with a file."""
PAGE_KINDS = {"text/html": ".html", "application/xhtml+xml": ".xhtml"}  # as web servers call pages: their suffixes
PAGE_BYTES = 1 << 10  # read to tell a page from text that a server calls one
COMPRESSED_STARTS = {
    ".gz": (b"\x1f\x8b",),
    ".zst": (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + number, 0x2A, 0x4D, 0x18]) for number in range(16))),
}
"""First bytes of files that some web servers send as compressed for the way alone, by suffix."""


@dataclass(frozen=True)
class RemoteFile:
    """A file elsewhere.

    Attributes:
        address: Its address, with all that is needed to read it; messages have `without_secrets(address)`.
        path: Its path in the file system.
        system: The file system of fsspec.
        size: Its size in bytes; None if the other side does not say.
        version: What changes with the file; "" if the other side says nothing.
        shared_version: The same, if it is the same on every machine that can read the file; else "".
        copies: The copy that this object has made, which is new enough if there is no version.
        is_named: Whether it was found at an address of its own, and not at that of a folder or by a pattern.
        kind: What a web server says that it is, such as "text/html"; "" if the other side does not say.
    """

    address: str
    path: str
    system: Any = field(repr=False, compare=False)
    size: int | None
    version: str
    shared_version: str
    copies: set[Path] = field(default_factory=set, repr=False, compare=False)
    is_named: bool = field(default=False, repr=False, compare=False)
    kind: str = field(default="", repr=False, compare=False)

    @property
    def name(self) -> str:
        """The file name, with its suffixes."""
        path = unquote(urlsplit(self.path).path) if is_web_address(self.path) else self.path
        return copy_name(PurePosixPath(path).name, NAME_BYTES) or "file"

    @cached_property
    def page(self) -> str:
        """The usual suffix of what it is, if a server says that it is a web page and it begins as one; else ""."""
        suffix = PAGE_KINDS.get(self.kind, "")
        start = self.head(PAGE_BYTES).lstrip(b"\xef\xbb\xbf\xfe\xff\0\t\n\f\r ") if suffix else b""
        return suffix if start.startswith(b"<") else ""

    @cached_property
    def is_decompressed(self) -> bool:
        """Whether a file that is compressed by its name has lost that on its way, as from some web servers.

        They call its compression the Content-Encoding of the answer, so the library for http undoes it. The file is
        copied to find out. If it does not begin as a compressed file, the server is asked again, for the file as it is:
        what is compressed for any other reason, such as a page in place of the file, has no Content-Encoding then.
        """
        starts = COMPRESSED_STARTS.get(PurePosixPath(self.name).suffix.lower())
        if starts is None or not is_web_address(self.address):
            return False
        with self.fetch().open("rb") as file:
            if file.read(max(map(len, starts))).startswith(starts):
                return False
        stored = ""
        for attempt in attempts(self.address):
            with attempt, self._stream({"Accept-Encoding": "identity"}) as source:
                headers = source.r.headers
                # Google Cloud Storage undoes the compression itself, and says so
                stored = headers.get("X-Goog-Stored-Content-Encoding") or headers.get("Content-Encoding", "")
        return stored.strip().lower() not in ("", "identity")

    def local(self) -> Path:
        """The place of the copy in the cache folder. `fetch` makes it."""
        key = hashlib.sha256(f"{self.address}\n{self.size}\n{self.version}".encode()).hexdigest()[:32]
        return entry_folder(key) / self.name

    def fetch(self) -> Path:
        """Copies the file into the cache folder, unless it is there or another process has just copied it.

        Returns:
            Path of the copy.

        Raises:
            RemoteError: The file cannot be read.
            CannotWrite: The cache folder is full.
        """
        path = self.local()
        if self._is_whole(path) and (self.version or path in self.copies):
            mark_used(path.parent)
            return path
        before = _identity(path)
        with filling_cache(), writing(path), locked_in_turn(path.parent, log.warning) as is_held:
            if is_held:
                sweep(path.parent)
            is_new = _identity(path) != before  # copied by another process, while this one waited for it
            if not (self._is_whole(path) and (self.version or is_new)):
                self.copy_to(path)
                record_address(path.parent, self.address)
        self.copies.add(path)
        make_room(path.stat().st_size)
        return path

    def _is_whole(self, path: Path) -> bool:
        """Whether a copy is there, and not cut off, as by a machine that stopped before it was on the disk."""
        return path.is_file() and path.stat().st_size >= (self.size or 0)

    def head(self, size: int) -> bytes:
        """Reads the first bytes of the file.

        Args:
            size: How many, at most.

        Returns:
            The bytes; fewer of a shorter file.
        """
        data = b""
        for attempt in attempts(self.address):
            with attempt, self._open() as source:
                data = b""
                while len(data) < size and (chunk := source.read(size - len(data))):  # over http, what has come so far
                    data += chunk
        return data

    def has_beside(self, path: str) -> bool:
        """Checks whether there is a file at another path of the same file system.

        Args:
            path: The path.

        Raises:
            RemoteError: The other side cannot be reached.
        """
        there = False
        for attempt in attempts(self.address):
            with attempt:
                there = is_there(self.system, path)
        return there

    def copy_to(self, path: Path, limit: int | None = None) -> None:
        """Copies the file in pieces; a broken connection goes on where it broke, if the other side can do that.

        A web server can if it knows ranges and says which version of the file it has.

        Args:
            path: Where to copy it; the copy is complete or absent.
            limit: Its size in the manifest of its folder, if that has one: at most so many bytes are written.

        Raises:
            RemoteError: The file cannot be read, or is larger than the limit.
            CannotWrite: The copy cannot be written.
        """
        part = path.with_name(f"{TEMPORARY}{random_hex()}")
        try:
            with part.open("xb") as target:
                self._copy_into(target, path, limit)
                with writing(path):
                    target.flush()
                    os.fsync(target.fileno())
            with writing(path):
                rename(part, path, replace=True)
        finally:
            with suppress(OSError):  # renamed already; or another error tells more
                part.unlink()

    def _copy_into(self, target: BinaryIO, path: Path, limit: int | None) -> None:
        """Copies the file into an open one, in several attempts if need be."""
        done = 0
        for attempt in attempts(self.address):
            with attempt, self._open(done) as source:
                done = _resume(source, target, done)
                while chunk := source.read(CHUNK_BYTES):
                    self._check_size(done + len(chunk), limit)
                    with writing(path):  # a full disk is no fault of the other side
                        target.write(chunk)
                    done += len(chunk)
                if self.size is not None and done < self.size:
                    raise ConnectionError(f"{done:,} of {self.size:,} bytes came")

    def _check_size(self, size: int, limit: int | None) -> None:
        """Raises `RemoteError` if more bytes came than its manifest allows: a stream may have no end."""
        if limit is not None and size > limit:
            raise RemoteError(
                f"{without_secrets(self.address)} has more than {counted(limit, 'byte')}, its size in the manifest of "
                "its folder. Copy the folder there again."
            )

    def _open(self, start: int = 0) -> Any:
        """Opens the file. A stream of a web server is at `start` if that could be asked for, else at the beginning."""
        if not is_web_address(self.address):
            return self.system.open(self.path, "rb", block_size=4 * CHUNK_BYTES, cache_type="readahead")
        if start and self._validator and (source := self._rest(start)):
            return source
        return self._stream({})

    def _rest(self, start: int) -> Any:
        """Asks a web server for the rest of the file. Returns the stream, or None if the answer is of no use."""
        from aiohttp import ClientResponseError

        headers = {"Range": f"bytes={start}-", "If-Range": self._validator, "Accept-Encoding": "identity"}
        try:
            source = self._stream(headers)
        except ClientResponseError as error:
            if error.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return None
            raise
        if _is_part(source.r, start):
            source.loc = start
        elif source.r.status == HTTPStatus.PARTIAL_CONTENT:
            source.close()
            return None
        return source

    def _stream(self, headers: Mapping[str, str]) -> Any:
        """Opens one stream, for servers without ranges, too. It needs no size, which would be asked for once more."""
        headers = {**self.system.kwargs.get("headers", {}), **headers}
        return self.system.open(self.path, "rb", block_size=0, size=self.size or 1, headers=headers)

    @property
    def _validator(self) -> str:
        """What names this version byte by byte for a web server: its ETag, or when it last changed; "" without one."""
        known = json.loads(self.version or "{}")
        tag = str(known.get("ETag", ""))
        return "" if tag.startswith("W/") else tag or str(known.get("Last-Modified", ""))


def _is_part(response: Any, start: int) -> bool:
    """Whether an answer of a web server is a file from a byte on, as it is: parts that are compressed are of no use."""
    is_plain = response.headers.get("Content-Encoding", "identity") in ("", "identity")
    is_there = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
    return is_plain and is_there and response.status == HTTPStatus.PARTIAL_CONTENT


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a copy from the one that replaces it; None without one."""
    with suppress(OSError):
        status = path.stat()
        return status.st_ino, status.st_mtime_ns
    return None


def _resume(source: Any, target: BinaryIO, done: int) -> int:
    """Moves to where the last attempt ended, or to the beginning if the source cannot. Returns the position."""
    if done:
        try:
            source.seek(done)
        except (OSError, ValueError, NotImplementedError):
            done = 0
    target.seek(done)
    target.truncate()
    return done


def find_files(address: str, links: dict[str, str] | None = None) -> list[RemoteFile]:
    """Lists the files at an address.

    Args:
        address: Address of a file, of a folder, or a pattern with `*`.
        links: Takes the links of an archive that lead to no file: what each is, by its address without secrets.

    Returns:
        The files, sorted. Files and folders whose names begin with a dot are left out, unless that part of the address
        begins with a dot, too; so are files of desktop programs, and backups of editors, unless the address names one.

    Raises:
        RemoteError: There are none, the address cannot be read, the library for it is not installed, or only part of
            an archive can be listed.
    """
    base = _base_of(address)  # before it is opened: a later state could belong to other bytes than those that are read
    system, path = open_file_system(address)
    found: list[RemoteFile] = []
    for attempt in attempts(address):
        with attempt:
            try:
                infos = _infos(system, path, is_page=is_web_address(address))
            except FileNotFoundError:
                _require_whole(address, system)
                _refuse_link(address, path, system)
                raise
            found = [_remote_file(address, path, system, info, base) for info in infos]
            if not (found and found[0].is_named):
                _require_whole(address, system)
    chain = "".join(f"::{link}" for link in address.split("::")[1:])
    unread = {
        without_secrets(f"{address_of(address.split('::')[0], path, name)}{chain}"): what
        for name, what in unread_links(system).items()
        if _is_at(name, path)
    }
    if not found and unread:
        raise RemoteError(
            f"There is no file at {without_secrets(address)}, but {counted(len(unread), 'link')} to nowhere, such as "
            f"{next(iter(unread))}: {next(iter(unread.values()))}. Name files."
        )
    if not found:
        raise RemoteError(f"There is no file at {without_secrets(address)}. Check the address.")
    if links is not None:
        links |= unread
    return found


def _refuse_link(address: str, path: str, system: Any) -> None:
    """Raises `RemoteError` if an address is that of a link that leads to no file of an archive."""
    if what := unread_links(system).get(path):
        raise RemoteError(f"Cannot read {without_secrets(address)}: {what}. Name the file itself.")


def _is_at(name: str, path: str) -> bool:
    """Whether a link of an archive lies in a folder of the archive, or may match a pattern, and is not hidden."""
    if "*" in path or "[" in path:
        return fnmatchcase(name, path) and not _is_hidden(name, path.split("/"))
    folder = path.rstrip("/")
    return (not folder or name.startswith(f"{folder}/")) and not _is_hidden(name.removeprefix(folder), [])


def _require_whole(address: str, system: Any) -> None:
    """Raises `RemoteError` for a tar archive that is damaged or cut off.

    Its library takes the first header that it cannot read for the end, and what follows would be missing.

    Args:
        address: Address of the archive, for the message.
        system: The file system of fsspec, in which the members are listed.
    """
    archive = getattr(system, "tar", None)
    if not isinstance(archive, tarfile.TarFile) or archive.fileobj is None:
        return
    archive.fileobj.seek(archive.offset)  # where the list ends
    end = archive.fileobj.read(2 * tarfile.BLOCKSIZE)
    if len(end) < tarfile.BLOCKSIZE or end.strip(b"\0"):
        files = counted(sum(not member.isdir() for member in archive.getmembers()), "file")
        raise RemoteError(
            f"Cannot read {without_secrets(address)}: the archive is damaged or cut off after {files}. Make it again."
        )


def _infos(system: Any, path: str, is_page: bool) -> list[dict[str, Any]]:
    if is_page:
        return [system.info(path)]
    folder, shown = path, list[str]()
    if _is_pattern(system, path):
        literal = re.split(r"[*?[]", path)[0]
        folder = literal[: literal.rfind("/") + 1]
        shown = [part for part in path.removeprefix(folder).split("/") if part.startswith(".") or is_backup(part)]
        listed = system.glob(path, detail=True)
    else:
        info = system.info(path) if path else {"type": "directory"}
        if info["type"] != "directory":
            return [{**info, "name": path}]
        listed = system.find(path, detail=True)
    files = [{**info, "name": name} for name, info in sorted(listed.items()) if info["type"] != "directory"]
    return [info for info in files if not _is_hidden(info["name"].removeprefix(folder), shown)]


def _is_pattern(system: Any, path: str) -> bool:
    """Whether a path is a pattern, and not the name of something with brackets in it, which may be any name."""
    return "*" in path or ("[" in path and not is_there(system, path))


def _is_hidden(path: str, shown: Sequence[str]) -> bool:
    """Whether a part of a path is hidden and matches none of the parts of a pattern that are to match such names."""
    *folders, name = PurePosixPath(path).parts
    hidden = [part for part in folders if part.startswith(".")] + [name] * is_hidden(name)
    return any(not any(fnmatchcase(part, pattern) for pattern in shown) for part in hidden)


@dataclass(frozen=True)
class _Base:
    """What is at the end of a chain of links: the archive that holds the file to be read, or what a cache is for.

    Attributes:
        chain: The links after the first, with an absolute path on this machine; "" if there are none.
        is_archive: Whether it is an archive, so that the file to be read changes with it.
        version: What changes with the archive.
        is_local: Whether the archive is on this machine.
    """

    chain: str = ""
    is_archive: bool = False
    version: Mapping[str, str] = field(default_factory=dict)
    is_local: bool = False

    def versions(self, info: Mapping[str, Any]) -> tuple[str, str]:
        """`RemoteFile.version` and `RemoteFile.shared_version` of a file with this base."""
        own = _version(info)
        version = shared = own
        if self.is_archive:
            has_checksum = "CRC" in own
            version = {**own, "base": json.dumps(self.version)} if self.version else own if has_checksum else {}
            shared = own if has_checksum else {} if self.is_local else version
        return json.dumps(version) if version else "", json.dumps(shared) if shared else ""


def _base_of(address: str) -> _Base:
    """Finds what is at the end of a chain of links. Raises `RemoteError` if it is an archive that cannot be reached."""
    *links, base = address.split("::")
    if not links:
        return _Base()
    system, path = open_file_system(base)
    is_local, version = is_on_this_machine(system), dict[str, str]()
    chain = "".join(f"::{link}" for link in [*links[1:], path if is_local else base])
    if not has_archive(links):
        return _Base(chain)  # a cache, say, of a folder or of the files that a pattern matches
    for attempt in attempts(address):
        with attempt:
            if is_local:
                status = os.stat(path)
                version = {"size": str(status.st_size), "ns": str(status.st_mtime_ns), "inode": str(status.st_ino)}
            else:
                info = system.info(path)
                version = _version(info)
                if version:
                    version["size"] = str(info.get("size"))
    return _Base(chain, is_archive=True, version=version, is_local=is_local)


def _remote_file(address: str, path: str, system: Any, info: Mapping[str, Any], base: _Base) -> RemoteFile:
    """The file at an address; `path` is its path in the file system."""
    name = str(info["name"])
    own = name if "://" in name else address_of(address.split("::")[0], path, name)
    return RemoteFile(
        f"{own}{base.chain}",
        name,
        system,
        info.get("size") or None,  # some servers say 0 of what is made when it is asked for
        *base.versions(info),
        is_named=name == path,
        kind=str(info.get("mimetype") or "").strip().lower(),
    )


def _version(info: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(info[key]) for key in VERSIONS if info.get(key) is not None}
