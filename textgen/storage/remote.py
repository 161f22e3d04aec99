"""Files and folders elsewhere: `s3://`, `gs://`, `hf://`, `https://`, `zip://` and other addresses, by fsspec.

A file is copied into the cache folder when it is first read, in pieces, and read from there. Its place in the cache is
made of its address and of what the other side says about its version (an ETag, a checksum or a time), so an unchanged
file is copied once. A folder with a manifest, such as a saved model, has a place made of its manifest, and each of its
files is checked against it.

    CACHE/remote/KEY/NAME             a file, or a folder with a manifest
    CACHE/remote/KEY/.address.json    where it comes from, without a query or a password

The copies are listed, cleared and limited like the rest of the cache (`textgen.storage.cache_eviction`).

A path that exists on this machine is never taken for an address, nor is one that begins with a drive letter.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from textgen.errors import RemoteError
from textgen.storage.cache_eviction import ADDRESS, REMOTE, evict, limit_bytes
from textgen.storage.cache_folder import cache_folder, filling_cache
from textgen.storage.files import TEMPORARY, json_bytes, random_word, write_own_file, writing
from textgen.storage.folders import MANIFEST, MANIFEST_BYTES, new_folder, sweep
from textgen.storage.locks import Hold, locked_in_turn

log = logging.getLogger(__name__)

IS_PAGE = re.compile("https?://")
HOSTED = ("ftp", "sftp", "ssh", "smb")  # file systems that cannot be made without a host
OWNERS = ("github", "git")  # have before an @ who owns the files, or what they are a version of
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"<>()]+", re.ASCII)  # within a message
IS_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|[A-Za-z][A-Za-z0-9+.-]+::", re.ASCII)  # two letters: not a drive
CHUNK_BYTES = 1 << 20
FILE_BYTES, FOLDER_BYTES = 100, 200  # longest name of a copy; that of its temporary copy adds some
TRIES = 4
SPARE = 3600.0  # seconds since its last use for which a copy is not removed to make room
LIMIT_PARTS = 100  # of the limit of the cache: the room is checked whenever so large a part has been copied
PAUSE = 0.5  # seconds before the second try; twice as long before each further one
VERSIONS = (
    "ETag", "etag", "Content-MD5", "Digest", "md5Hash", "sha256", "CRC", "generation", "blob_id", "LastModified",
    "Last-Modified", "last_modified", "mtime", "updated", "created",
)  # fmt: skip
"""What the file systems call that which changes with a file."""
NOT_AGAIN = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError)  # tries are no use
LIBRARIES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub", "http": "aiohttp",
    "https": "aiohttp", "az": "adlfs", "abfs": "adlfs", "adl": "adlfs", "sftp": "paramiko", "ssh": "paramiko",
    "smb": "smbprotocol", "oss": "ossfs", "gdrive": "gdrive_fsspec", "webdav": "webdav4", "box": "boxfs",
    "dropbox": "dropboxdrivefs", "hdfs": "pyarrow", "arrow_hdfs": "pyarrow", "git": "pygit2", "github": "requests",
}  # fmt: skip
ERRORS = (
    "botocore.exceptions.BotoCoreError", "botocore.exceptions.ClientError", "aiohttp.client_exceptions.ClientError",
    "requests.exceptions.RequestException", "httpx.HTTPError", "httpx2.HTTPError", "gcsfs.retry.HttpError",
    "google.auth.exceptions.GoogleAuthError", "huggingface_hub.errors.HfHubHTTPError", "zipfile.BadZipFile",
)  # fmt: skip
"""What the libraries raise besides errors of the system. Only those of libraries that are loaded can be raised."""


def is_remote(name: str | os.PathLike[str]) -> bool:
    """Checks whether a name is an address of a file elsewhere.

    Args:
        name: What the user wrote. Paths that exist on this machine are none.

    Example:
        >>> [is_remote(name) for name in ("s3://bucket/a.txt", "C:/a.txt", "a:b.txt", "zip://a.txt::b.zip")]
        [True, False, False, True]
    """
    return isinstance(name, str) and bool(IS_ADDRESS.match(name)) and not os.path.lexists(name)


def shown(address: str) -> str:
    """Returns an address without what may be secret: a user, a password, and a query such as a signature.

    What is no address is returned as it is.

    >>> shown("https://user:password@host/a.txt?signature=1"), shown("zip://b.txt::https://host/a.zip?key=1")
    ('https://host/a.txt', 'zip://b.txt::https://host/a.zip')
    """
    return "::".join(map(_without_secrets, address.split("::"))) if IS_ADDRESS.match(address) else address


def _without_secrets(link: str) -> str:
    protocol = link.partition("://")[0].lower()
    if protocol not in OWNERS:
        link = re.sub(r"(?<=://)[^/?#]*@", "", link)
    return re.sub("[?#].*" if IS_PAGE.match(link.lower()) else r"\?[^?]*=.*", "", link, flags=re.DOTALL)


@dataclass(frozen=True)
class RemoteFile:
    """A file elsewhere.

    Attributes:
        address: Its address, with all that is needed to read it; messages have `shown(address)`.
        path: Its path in the file system.
        system: The file system of fsspec.
        size: Its size in bytes; None if the other side does not say.
        version: What changes with the file; "" if the other side says nothing.
        copies: The copy that this object has made, which is new enough if there is no version.
        is_named: Whether it was found at an address of its own, and not at that of a folder or by a pattern.
    """

    address: str
    path: str
    system: Any = field(repr=False, compare=False)
    size: int | None
    version: str
    copies: set[Path] = field(default_factory=set, repr=False, compare=False)
    is_named: bool = field(default=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The file name, with its suffixes."""
        path = unquote(urlsplit(self.path).path) if IS_PAGE.match(self.path) else self.path
        return _file_name(PurePosixPath(path).name, FILE_BYTES) or "file"

    def local(self) -> Path:
        """The place of the copy in the cache folder. `fetch` makes it."""
        key = hashlib.sha256(f"{self.address}\n{self.size}\n{self.version}".encode()).hexdigest()[:32]
        return _place(key) / self.name

    def fetch(self) -> Path:
        """Copies the file into the cache folder, unless it is there or another process has just copied it.

        Returns:
            Path of the copy.

        Raises:
            RemoteError: The file cannot be read.
            CannotWrite: The cache folder is full.
        """
        path = self.local()
        if path.is_file() and (self.version or path in self.copies):
            _note_use(path.parent)
            return path
        before = _stamp(path)
        with filling_cache(), writing(path), locked_in_turn(path.parent, log.warning) as is_held:
            if is_held:
                sweep(path.parent)
            is_new = _stamp(path) != before  # copied by another process, while this one waited for it
            if not (path.is_file() and (self.version or is_new)):
                self.copy_to(path)
                _note_address(path.parent, self.address)
        self.copies.add(path)
        _make_room(path.stat().st_size)
        return path

    def head(self, size: int) -> bytes:
        """Reads the first bytes of the file.

        Args:
            size: How many, at most.
        """
        data = b""
        for attempt in _tries(self.address):
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
        for attempt in _tries(self.address):
            with attempt:
                there = bool(self.system.exists(path))
        return there

    def copy_to(self, path: Path) -> None:
        """Copies the file in pieces; a broken connection goes on where it broke, if the file system can do that.

        Args:
            path: Where to copy it; the copy is complete or absent.

        Raises:
            RemoteError: The file cannot be read.
            CannotWrite: The copy cannot be written.
        """
        part = path.with_name(f"{TEMPORARY}{random_word()}")
        try:
            done = 0
            with part.open("xb") as target:
                for attempt in _tries(self.address):
                    with attempt, self._open() as source:
                        done = _go_on(source, target, done)
                        while chunk := source.read(CHUNK_BYTES):
                            with writing(path):  # a full disk is no fault of the other side
                                target.write(chunk)
                            done += len(chunk)
                        if self.size is not None and done < self.size:
                            raise ConnectionError(f"{done:,} of {self.size:,} bytes came")
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def _open(self) -> Any:
        if IS_PAGE.match(self.address):
            return self.system.open(self.path, "rb", block_size=0)  # one stream, for servers without ranges, too
        return self.system.open(self.path, "rb", block_size=4 * CHUNK_BYTES, cache_type="readahead")


def _go_on(source: Any, target: Any, done: int) -> int:
    """Moves to where the last try ended; to the beginning if the source cannot."""
    if done:
        try:
            source.seek(done)
        except (OSError, ValueError, NotImplementedError):
            done = 0
    target.seek(done)
    target.truncate()
    return done


def find_files(address: str) -> list[RemoteFile]:
    """Lists the files at an address.

    Args:
        address: Address of a file, of a folder, or a pattern with `*`.

    Returns:
        The files, sorted. Files and folders whose names begin with a dot are left out, unless that part of the address
        begins with a dot, too.

    Raises:
        RemoteError: There are none, the address cannot be read, or the library for it is not installed.
    """
    system, path = _file_system(address)
    found: list[RemoteFile] = []
    for attempt in _tries(address):
        with attempt:
            infos = _infos(system, path, is_page=bool(IS_PAGE.match(address)))
            found = [_described(address, path, system, info) for info in infos]
    if not found:
        raise RemoteError(f"There is no file at {shown(address)}. Check the address.")
    return found


def _infos(system: Any, path: str, is_page: bool) -> list[dict[str, Any]]:
    if is_page:
        return [system.info(path)]
    folder, dotted = path, list[str]()
    if _is_pattern(system, path):
        literal = re.split(r"[*?[]", path)[0]
        folder = literal[: literal.rfind("/") + 1]
        dotted = [part for part in path.removeprefix(folder).split("/") if part.startswith(".")]
        listed = system.glob(path, detail=True)
    else:
        info = system.info(path) if path else {"type": "directory"}
        if info["type"] != "directory":
            return [{**info, "name": path}]
        listed = system.find(path, detail=True)
    files = [{**info, "name": name} for name, info in sorted(listed.items()) if info["type"] != "directory"]
    return [info for info in files if not _is_hidden(info["name"].removeprefix(folder), dotted)]


def may_be_pattern(address: str) -> bool:
    """Whether an address may be a pattern, at which some files of a folder are found and others are not."""
    return "*" in address or "[" in address


def _is_pattern(system: Any, path: str) -> bool:
    """Whether a path is a pattern, and not the name of something with brackets in it, which may be any name."""
    return "*" in path or ("[" in path and not system.exists(path))


def _is_hidden(path: str, dotted: Sequence[str]) -> bool:
    """Whether a part of a path begins with a dot and matches none of the parts of a pattern that begin with one."""
    hidden = [part for part in PurePosixPath(path).parts if part.startswith(".")]
    return any(not any(fnmatchcase(part, pattern) for pattern in dotted) for part in hidden)


def _described(address: str, path: str, system: Any, info: Mapping[str, Any]) -> RemoteFile:
    """A file at an address, whose path in the file system is `path`."""
    first, *links = address.split("::")
    chain = "".join(f"::{link}" for link in links)
    name = str(info["name"])
    own = name if "://" in name else _with_host(first, path, name)
    version = {key: str(info[key]) for key in VERSIONS if info.get(key) is not None}
    return RemoteFile(
        f"{own}{chain}",
        name,
        system,
        info.get("size"),
        json.dumps(version) if version else "",
        is_named=name == path,
    )


def _with_host(link: str, path: str, name: str) -> str:
    """The address of the file `name` where that of `path` is `link`: paths lack the host, or what stands for one.

    >>> _with_host("sftp://host/data", "/data", "/data/a.txt"), _with_host("s3://bucket/", "bucket", "bucket/a.txt")
    ('sftp://host/data/a.txt', 's3://bucket/a.txt')
    >>> _with_host("github://owner:repo@main", "", "a.txt"), _with_host("memory://d", "/d", "/d/a.txt")
    ('github://owner:repo@main/a.txt', 'memory:///d/a.txt')
    """
    link = link.rstrip("/") if path.strip("/") else link
    before = link.removesuffix(path)
    if "://" not in before or not link.endswith(path):
        return f"{link.partition('://')[0]}://{name}"
    if before.endswith("://"):
        return before + name
    return f"{before.removesuffix('/')}/{name.removeprefix('/')}"


_held: dict[Path, Hold] = {}  # places of folders whose files this process may yet read
_unchecked = math.inf  # bytes copied since the room was last checked; the first copy of a process checks it


def _file_name(name: str, size: int) -> str:
    """What the name of a copy has of a name elsewhere: at most its last `size` bytes, with the suffix.

    >>> _file_name("a b/小说.txt", 7)
    '说.txt'
    """
    return re.sub(r"[^\w.-]", "_", name).encode()[-size:].decode(errors="ignore")


def _place(key: str) -> Path:
    """The folder of an entry of the cache."""
    return cache_folder().absolute() / REMOTE / key


def _stamp(path: Path) -> tuple[int, int] | None:
    """What tells a copy from the one that replaces it; None without one."""
    with suppress(OSError):
        status = path.stat()
        return status.st_ino, status.st_mtime_ns
    return None


def _note_use(place: Path) -> None:
    """Makes an entry the one that was used last."""
    with suppress(OSError):
        os.utime(place)


def _note_address(place: Path, address: str) -> None:
    """Records where an entry comes from."""
    write_own_file(place / ADDRESS, json_bytes({"address": shown(address)}))


def _make_room(size: int) -> None:
    """Keeps the copies within the limit of the cache, after another one of `size` bytes."""
    global _unchecked
    limit, _unchecked = limit_bytes(), _unchecked + size
    if _unchecked > limit / LIMIT_PARTS:
        _unchecked = 0.0
        evict(cache_folder().absolute() / REMOTE, limit, SPARE)


def fetch_folder(address: str) -> Path:
    """Copies a folder with a manifest, such as a saved model, into the cache folder, unless it is there.

    Args:
        address: Address of the folder.

    Returns:
        Path of the copy.

    Raises:
        RemoteError: There is no such folder, or a file differs from the manifest.
        CannotWrite: The cache folder is full.
    """
    address = address.rstrip("/")
    data, entries = _remote_manifest(address)
    key = hashlib.sha256(data).hexdigest()[:32]
    name = _file_name(shown(address).split("::")[0].rpartition("/")[2], FOLDER_BYTES) or "folder"
    target = _place(key) / name
    with filling_cache():
        with writing(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
        keep_copy(target)
        if not (target / MANIFEST).exists():
            _fetch_into(address, entries, target)
            _note_address(target.parent, address)
            _make_room(sum(file.stat().st_size for file in target.iterdir()))
    _note_use(target.parent)
    return target


def is_copy(folder: Path) -> bool:
    """Checks whether a folder is a copy in the cache folder, or in one."""
    return folder.absolute().is_relative_to(cache_folder().absolute() / REMOTE)


def keep_copy(folder: Path) -> None:
    """Keeps the copy of a folder in the cache folder until this process ends.

    Args:
        folder: Path of the copy.
    """
    if folder.parent not in _held:
        _held[folder.parent] = Hold(folder.parent)


def fetch_subfolder(address: str, target: Path) -> None:
    """Copies a folder with a manifest to a place within one that was fetched, unless it is there.

    Args:
        address: Address of the folder.
        target: Where to copy it.

    Raises:
        RemoteError: There is no such folder, or a file differs from the manifest.
        CannotWrite: The cache folder is full.
    """
    if not (target / MANIFEST).exists():
        with filling_cache():
            _fetch_into(address, _remote_manifest(address)[1], target)


def has_file(address: str, name: str) -> bool:
    """Checks whether a folder elsewhere has a file of a name.

    Args:
        address: Address of the folder.
        name: Name of the file.

    Raises:
        RemoteError: The other side cannot be reached, or the library for it is not installed.
    """
    system, path = _file_system(joined(address, name))
    there = False
    for attempt in _tries(address):
        with attempt:
            there = bool(system.exists(path))
    return there


def _fetch_into(address: str, entries: Mapping[str, Any], target: Path) -> None:
    sweep(target.parent, f"{target.name}-")
    with new_folder(target, unless=(target / MANIFEST).exists) as temporary:  # another process may read what is there
        for name, entry in entries.items():
            if Path(name).name != name or name in ("", "..", MANIFEST):
                raise RemoteError(f"The manifest of {shown(address)} names {name!r}, which is outside its folder.")
            (file,) = find_files(joined(address, name))
            path = temporary / name
            with writing(path):
                file.copy_to(path)
            with path.open("rb") as copy:
                digest = hashlib.file_digest(copy, "sha256").hexdigest()
            if digest != entry.get("sha256"):
                place = shown(file.address)
                raise RemoteError(f"{place} differs from the manifest of its folder. Copy it there again.")


def _remote_manifest(address: str) -> tuple[bytes, dict[str, Any]]:
    (file,) = find_files(joined(address, MANIFEST))
    data = file.head(MANIFEST_BYTES)
    try:
        entries = json.loads(data)["files"]
        if not all(isinstance(entry["sha256"], str) for entry in entries.values()):
            raise ValueError("a checksum is of the wrong type")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RemoteError(f"{shown(file.address)} is damaged: {error}. Copy the folder there again.") from None
    return data, entries


def joined(address: str, name: str) -> str:
    """Returns the address of a file in a folder, which may be within an archive.

    >>> joined("s3://bucket/folder", "a.txt"), joined("zip://folder::a.zip", "b")
    ('s3://bucket/folder/a.txt', 'zip://folder/b::a.zip')
    """
    first, *chain = address.split("::")
    return "::".join([f"{first.rstrip('/')}/{name}" if not first.endswith("://") else f"{first}{name}", *chain])


def refuse_remote(name: str, what: str) -> None:
    """Refuses an address as a place to write to.

    Args:
        name: What the user wrote.
        what: What would be written.

    Raises:
        RemoteError: The name is an address.
    """
    if is_remote(name):
        raise RemoteError(
            f"Cannot write {what} to {shown(name)}: folders elsewhere cannot be replaced as a whole, so a reader "
            "could find half of one. Write to a folder of this machine, and copy it when it is complete."
        )


# === File systems and their errors ===


def _file_system(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    protocol = address.partition("://")[0].partition("::")[0].lower()
    try:
        import fsspec
    except ImportError:
        raise RemoteError(
            f"Cannot read {shown(address)}. Addresses are read with fsspec: pip install 'textgen[remote]'."
        ) from None
    if protocol in HOSTED and address.partition("://")[2].startswith("/"):
        raise RemoteError(f"Cannot read {shown(address)}: it names no host. Write {protocol}://HOST/PATH.")
    try:
        system, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        needed = f"{protocol}:// needs a library: pip install {LIBRARIES.get(protocol) or error}."
        raise RemoteError(f"Cannot read {shown(address)}. {needed}") from None
    except (ValueError, TypeError) as error:  # one for an argument, such as the host, that an address lacks
        why = _told_by(error).rstrip(".")
        raise RemoteError(f"Cannot read {shown(address)}: {why}. Check the address.") from None
    except _errors() as error:
        raise RemoteError(_told(address, error)) from None
    return system, path


def _errors() -> tuple[type[BaseException], ...]:
    """The errors that file systems raise."""
    found = []
    for name in ERRORS:
        module, _, kind = name.rpartition(".")
        if module in sys.modules and hasattr(sys.modules[module], kind):
            found.append(getattr(sys.modules[module], kind))
    return (OSError, EOFError, ValueError, RuntimeError, TimeoutError, ImportError, *found)


@dataclass
class _Try:
    """One of several tries. Errors after which another may succeed are kept by all but the last."""

    address: str
    is_last: bool
    failed: bool = False

    def __enter__(self) -> None:
        self.failed = False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if error is None or isinstance(error, RemoteError) or not isinstance(error, _errors()):
            return False
        cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
        if self.is_last or isinstance(cause, NOT_AGAIN) or _status(cause) in range(400, 500) or _is_local(cause):
            raise RemoteError(_told(self.address, cause)) from None
        self.failed = True
        return True


def _tries(address: str) -> Iterator[_Try]:
    """Yields tries until one succeeds."""
    for number in range(1, TRIES + 1):
        attempt = _Try(address, number == TRIES)
        yield attempt
        if not attempt.failed:
            return
        time.sleep(PAUSE * 2 ** (number - 1))


def _is_local(error: BaseException) -> bool:
    """Whether an error does not come from the network: a full disk here, no credentials, a damaged archive."""
    return type(error).__name__ in ("NoCredentialsError", "BadZipFile", "DefaultCredentialsError") or (
        isinstance(error, OSError) and error.filename is not None
    )


def _status(error: BaseException) -> int | None:
    """The HTTP status of an error, if it has one."""
    response = getattr(error, "response", None)
    metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    found = [getattr(error, "status", None), getattr(response, "status_code", None), metadata.get("HTTPStatusCode")]
    if type(error).__module__.startswith("gcsfs"):
        found.append(getattr(error, "code", None))
    return next((value for value in found if isinstance(value, int)), None)


def _told(address: str, error: BaseException) -> str:
    """What a failure means and what to do, in a line."""
    kind, status, address = type(error).__name__, _status(error), shown(address)
    why = _told_by(error).rstrip(".") or kind
    if isinstance(error, ImportError):
        return f"Cannot read {address}: a library is missing ({why}). Install it."
    if kind in ("NoCredentialsError", "DefaultCredentialsError", "PartialCredentialsError"):
        return (
            f"Cannot read {address}: there are no credentials ({why}). Set those of the service, as its library reads."
        )
    if isinstance(error, PermissionError) or status in (401, 403):
        return f"Cannot read {address}: permission denied ({why}). Check the credentials, and who may read it."
    if isinstance(error, FileNotFoundError) or status == 404:
        return f"There is nothing at {address}. Check the address."
    if status is not None:
        return f"Cannot read {address}: the server says {status} ({why}). Try again later."
    if kind == "BadZipFile":
        return f"Cannot read {address}: the archive is damaged ({why}). Make it again."
    return f"Cannot read {address}: {why} ({kind}). Check the network, and the address; the service may be down."


def _told_by(error: BaseException) -> str:
    """What an error says, in a line, with addresses as they are shown."""
    return URL.sub(lambda url: shown(url[0]), " ".join(str(error).split()))
