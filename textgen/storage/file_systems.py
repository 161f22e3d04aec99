"""File systems elsewhere, by fsspec: how they are opened, which errors are tried again, what errors mean."""

from __future__ import annotations

import errno
import gzip
import lzma
import re
import stat
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from textgen.errors import RemoteError
from textgen.storage.addresses import has_bare_password, text_without_secrets, without_secrets
from textgen.telemetry import HUGGING_FACE, turn_off
from textgen.versions import cannot_use, install_command, load, missing
from textgen.wording import visible

WEB = ("http", "https")
ARCHIVES = ("zip", "tar", "libarchive")  # file systems whose files are the members of one file
HOSTED = ("ftp", "sftp", "ssh", "smb")  # file systems that cannot be made without a host
LIBRARIES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub", "http": "aiohttp",
    "https": "aiohttp", "az": "adlfs", "abfs": "adlfs", "adl": "adlfs", "sftp": "paramiko", "ssh": "paramiko",
    "smb": "smbprotocol", "oss": "ossfs", "gdrive": "gdrive_fsspec", "webdav": "webdav4", "box": "boxfs",
    "dropbox": "dropboxdrivefs", "hdfs": "pyarrow", "arrow_hdfs": "pyarrow", "git": "pygit2", "github": "requests",
}  # fmt: skip
"""What fsspec needs for a protocol."""
ATTEMPTS = 4
CONNECT_SECONDS = 30.0  # to reach a web server
SILENT_SECONDS = 60.0  # between two pieces of an answer of a web server, which may last as long as it needs
RETRY_DELAY = 0.5  # seconds before the second attempt; twice as long before each further one
NOT_RETRIED = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError)
ABSENT = (FileNotFoundError, PermissionError, NotADirectoryError)
ABSENT_ERRNOS = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM)  # where the class tells nothing
BUSY = (408, 429)  # HTTP status of a request that may succeed later
LEADING = re.compile(r"^(?:\.?/+)*(?:\.\Z)?")  # what may precede the path of a member of an archive
NO_SEEK = "seek zstd"  # what `zstandard` says of a .tar.zst archive, in which its members are looked up
BAD_STREAM = "Invalid data stream"  # what `bz2` says of damage, with an error that has no class of its own
UNKNOWN_PACKING = ("compress", "encryption", "zip file version")  # what `zipfile` cannot unpack, in its messages
LIBRARY_ERRORS = (
    "botocore.exceptions.BotoCoreError", "botocore.exceptions.ClientError", "aiohttp.client_exceptions.ClientError",
    "requests.exceptions.RequestException", "httpx.HTTPError", "httpx2.HTTPError", "gcsfs.retry.HttpError",
    "google.auth.exceptions.GoogleAuthError", "huggingface_hub.errors.HfHubHTTPError", "zipfile.BadZipFile",
    "tarfile.TarError", "zstandard.ZstdError",
)  # fmt: skip
"""What the libraries raise besides errors of the system. Only those of libraries that are loaded can be raised."""


def open_file_system(address: str) -> tuple[Any, str]:
    """Opens the file system of an address.

    Args:
        address: The address.

    Returns:
        The file system of fsspec, and the path in it.

    Raises:
        RemoteError: The address is not valid, or the library for it is not installed or cannot be imported.
    """
    protocol = address.partition("://")[0].partition("::")[0].lower()
    if has_bare_password(address):  # before a library sees it, whose words could repeat a part of the password
        raise RemoteError(
            f"Cannot read {without_secrets(address)}: its password has a character that ends the host of an address. "
            "Write / as %2F, ? as %3F and # as %23 within the password."
        )
    if missing(["fsspec"]):
        raise RemoteError(
            f"Cannot read {without_secrets(address)}. Addresses are read with fsspec: {install_command('remote')}."
        )
    fsspec = load("fsspec", f"Cannot read {without_secrets(address)}: textgen", "remote", RemoteError)
    if protocol in HOSTED and address.partition("://")[2].startswith("/"):
        raise RemoteError(f"Cannot read {without_secrets(address)}: it names no host. Write {protocol}://HOST/PATH.")
    turn_off(HUGGING_FACE)
    try:
        system, path = fsspec.core.url_to_fs(address, **_options(address, fsspec.config.conf))
    except ImportError as error:
        library = LIBRARIES.get(protocol)
        needed = f"needs a library: pip install {library or error}."
        if library and not missing([library]) and not isinstance(error.__cause__, ModuleNotFoundError):
            needed = cannot_use(library, error)
        raise RemoteError(f"Cannot read {without_secrets(address)}. {protocol}:// {needed}") from None
    except (ValueError, TypeError) as error:  # one for an argument, such as the host, that an address lacks
        why = _reason(error).rstrip(".")
        raise RemoteError(f"Cannot read {without_secrets(address)}: {why}. Check the address.") from None
    except _possible_errors() as error:
        raise RemoteError(_error_message(address, error)) from None
    return system, _with_relative_names(system, path)


def _options(address: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the file systems of an address, by protocol: without them, whole files must come within 5 minutes.

    Args:
        address: The address.
        settings: Those of fsspec for each protocol, which the user may have set and which take precedence.
    """
    protocols = {link.partition("://")[0] for link in address.split("::")}.intersection(WEB)
    if not protocols or missing(["aiohttp"]):
        return {}
    try:
        import aiohttp
    except ImportError:  # opening the file system says why
        return {}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS)
    return {
        protocol: {"client_kwargs": {"timeout": timeout, **settings.get(protocol, {}).get("client_kwargs", {})}}
        for protocol in protocols
    }


def has_archive(links: Iterable[str]) -> bool:
    """Checks whether one of the links of an address leads into an archive."""
    return any(link.partition("://")[0].lower() in ARCHIVES for link in links)


def is_on_this_machine(system: Any) -> bool:
    """Checks whether a file system of fsspec is that of this machine."""
    names = system.protocol  # one name or several
    return "file" in ([names] if isinstance(names, str) else names)


def is_there(system: Any, path: str) -> bool:
    """Checks whether there is something at a path, in one of `attempts`.

    A service that does not say what it has, such as S3 without the right to list a bucket, denies access to what is
    missing. So nothing for which access is denied counts as there. Unlike `exists` of fsspec, which takes any error for
    an answer, this does not mistake a broken connection for one.

    Args:
        system: The file system of fsspec.
        path: The path in it.
    """
    errors: tuple[type[BaseException], ...] = (LookupError, *_possible_errors())
    try:
        system.info(path)
    except errors as error:
        if _is_absence(error):
            return False
        raise
    return True


def _with_relative_names(system: Any, path: str) -> str:
    """Leaves out the slash or `./` with which names of members of an archive begin: fsspec lists these, but finds none.

    Members that are no files are left out of the list, too, such as links that lead nowhere: see `unread_links`.

    Args:
        system: The file system of fsspec, of an archive or of anything else.
        path: The path in it.

    Returns:
        The path, without such a beginning if it is that of a member.
    """
    archive, index = getattr(system, "zip", None), getattr(system, "index", None)
    if isinstance(archive, zipfile.ZipFile):
        for member in archive.filelist:
            member.filename = LEADING.sub("", member.filename)
            archive.NameToInfo[member.filename] = member  # of equal names the last, as where files are unpacked
        listed = {member.filename: archive.NameToInfo[member.filename] for member in archive.filelist}
        listed.pop("", None)  # the folder that holds all
        archive.filelist = [member for member in listed.values() if not _is_zipped_link(member)]
        return LEADING.sub("", path)
    if isinstance(getattr(system, "tar", None), tarfile.TarFile) and isinstance(index, dict):
        entries = list(index.items())
        members = _members_of(system.tar)
        without = {name for name, member in members.items() if not _is_readable(system.tar, member)}
        index.clear()
        for name, (info, *place) in entries:
            info["name"] = LEADING.sub("", name)
            if info["name"] and info["name"] not in without:
                index[info["name"]] = info, *place
        return LEADING.sub("", path)
    return path


def unread_links(system: Any) -> dict[str, str]:
    """Finds the links in an archive that are not among its files, since nothing can be read there.

    Args:
        system: A file system that `open_file_system` has returned, of an archive or of anything else.

    Returns:
        What each link is, in a few words, by its path in the archive.
    """
    archive, index = getattr(system, "zip", None), getattr(system, "index", None)
    if isinstance(archive, zipfile.ZipFile):
        zipped = [member.filename for member in archive.NameToInfo.values() if _is_zipped_link(member)]
        return dict.fromkeys(zipped, "it is a link, and links in a .zip archive are not followed")
    archive = getattr(system, "tar", None)
    if isinstance(archive, tarfile.TarFile) and isinstance(index, dict):
        members = _members_of(archive).items()
        links = {name: member for name, member in members if name not in index and (member.issym() or member.islnk())}
        why = "it is a link to {}, which is no file of the archive"
        return {name: why.format(visible(member.linkname)) for name, member in links.items()}
    return {}


def _is_zipped_link(member: zipfile.ZipInfo) -> bool:
    """Whether a member is a symbolic link, whose content is the path to which it leads."""
    return stat.S_ISLNK(member.external_attr >> 16)


def _members_of(archive: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    """The members of an archive by their names, of equal names the last, without the folder that holds all."""
    named = {LEADING.sub("", re.sub("/+", "/", member.name.rstrip("/"))): member for member in archive.getmembers()}
    named.pop("", None)
    return named


def _is_readable(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bool:
    """Whether a member is a folder, a file, or a link to a file of the archive. No others can be opened."""
    if member.isdir() or member.isreg():
        return True
    try:
        return archive.extractfile(member) is not None
    except (LookupError, RecursionError):  # a link to what is not there, or to itself
        return False


def attempts(address: str) -> Iterator[_Attempt]:
    """Repeats an operation until it succeeds, after a pause that doubles each time.

    Args:
        address: What is read, for error messages.

    Yields:
        A context for each attempt, within which the operation belongs.

    Raises:
        RemoteError: The last attempt failed, or one failed whose repetition is of no use.

    Example:
        for attempt in attempts(address):
            with attempt:
                data = system.cat(path)
    """
    for number in range(1, ATTEMPTS + 1):
        attempt = _Attempt(address, number == ATTEMPTS)
        yield attempt
        if not attempt.failed:
            return
        time.sleep(RETRY_DELAY * 2 ** (number - 1))


@dataclass
class _Attempt:
    """One of several attempts. All but the last suppress errors after which another attempt may succeed."""

    address: str
    is_last: bool
    failed: bool = False

    def __enter__(self) -> None:
        self.failed = False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if error is None or isinstance(error, RemoteError) or not isinstance(error, _possible_errors()):
            return False
        cause = _cause(error)
        if self.is_last or not _is_worth_retrying(cause, self.address):
            raise RemoteError(_error_message(self.address, cause)) from None
        self.failed = True
        return True


def _possible_errors() -> tuple[type[BaseException], ...]:
    """Returns the errors that file systems raise."""
    found = []
    for name in LIBRARY_ERRORS:
        module, _, kind = name.rpartition(".")
        if module in sys.modules and hasattr(sys.modules[module], kind):
            found.append(getattr(sys.modules[module], kind))
    unpacking = zlib.error, lzma.LZMAError
    return (OSError, EOFError, ValueError, RuntimeError, TimeoutError, ImportError, *unpacking, *found)


def _cause(error: BaseException) -> BaseException:
    """What is behind an error: some libraries report a broken connection as a file that is missing."""
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
    return error if cause is None or isinstance(cause, LookupError) else cause


def _is_absence(error: BaseException) -> bool:
    """Whether an error says that nothing is there, or nothing that may be read."""
    cause = _cause(error)
    if status := _status(cause):
        return status in range(400, 500) and status not in BUSY
    if isinstance(cause, ABSENT) or getattr(cause, "errno", None) in ABSENT_ERRNOS:
        return True
    return not isinstance(cause, _possible_errors())  # a KeyError, say, of the list of an archive


def _is_worth_retrying(error: BaseException, address: str) -> bool:
    """Whether another attempt may succeed: not after a request that the server refused."""
    is_refused = _status(error) in range(400, 500) or _is_circle(error)
    return not (isinstance(error, NOT_RETRIED) or is_refused or _is_local(error, address))


def _is_local(error: BaseException, address: str) -> bool:
    """Whether an error does not come from the network: a full disk here, no credentials, an archive that is no use."""
    return (
        type(error).__name__ in ("NoCredentialsError", "DefaultCredentialsError")
        or isinstance(error, NotImplementedError)
        or _is_damage(error, address)
        or _is_locked(error)
        or (isinstance(error, OSError) and error.filename is not None)
    )


def _is_circle(error: BaseException) -> bool:
    """Whether a web server redirects a request again and again. Such an error has the status 0, or 302."""
    return type(error).__name__ == "TooManyRedirects"


def _is_damage(error: BaseException, address: str) -> bool:
    """Whether an error is about the content of an archive."""
    if type(error).__name__ == "BadZipFile" or type(error).__module__ == "tarfile":
        return True
    links = address.split("::")
    if not has_archive(links):
        return False
    if isinstance(error, EOFError):  # without a word, some libraries say so that the other side has hung up
        return bool(str(error)) or links[-1].partition("://")[0].lower() not in HOSTED
    is_of_library = isinstance(error, (zlib.error, lzma.LZMAError, gzip.BadGzipFile))
    return is_of_library or type(error).__name__ == "ZstdError" or str(error) == BAD_STREAM


def _is_locked(error: BaseException) -> bool:
    """Whether a member of an archive needs a password, or is packed in a way that cannot be unpacked here."""
    why = str(error)
    if type(error) is OSError and NO_SEEK in why:
        return True
    if isinstance(error, NotImplementedError):
        return any(part in why.lower() for part in UNKNOWN_PACKING)
    return type(error) is RuntimeError and "password" in why.lower()


def _status(error: BaseException) -> int | None:
    """The HTTP status of an error, if it has one."""
    response = getattr(error, "response", None)
    metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    found = [getattr(error, "status", None), getattr(response, "status_code", None), metadata.get("HTTPStatusCode")]
    if type(error).__module__.startswith("gcsfs"):
        found.append(getattr(error, "code", None))
    return next((value for value in found if isinstance(value, int)), None)


def _error_message(address: str, error: BaseException) -> str:
    """What a failure means and what to do, in a line."""
    kind, status, address = type(error).__name__, _status(error), without_secrets(address)
    why = _reason(error).rstrip(".") or ("it does not answer" if isinstance(error, TimeoutError) else kind)
    if isinstance(error, ImportError):
        return f"Cannot read {address}: a library is missing ({why}). Install it."
    if kind in ("NoCredentialsError", "DefaultCredentialsError", "PartialCredentialsError"):
        return (
            f"Cannot read {address}: there are no credentials ({why}). Set them as the library of the service expects."
        )
    if _is_circle(error):
        return f"Cannot read {address}: the server redirects to itself, or too often. Check the address."
    if isinstance(error, PermissionError) or status in (401, 403):
        return f"Cannot read {address}: permission denied ({why}). Check the credentials, and who may read it."
    if isinstance(error, FileNotFoundError) or status == 404:
        return f"There is nothing at {address}. Check the address."
    if status is not None:
        return f"Cannot read {address}: the server says {status} ({why}). Try again later."
    if _is_damage(error, address):
        why = "it ends too early" if why == kind else why
        return f"Cannot read {address}: the archive is damaged ({why}). Make it again."
    if _is_locked(error):
        return f"Cannot read {address}: {why}. Unpack it, or pack it without a password, as an ordinary .zip file."
    if isinstance(error, NotImplementedError):
        return f"Cannot read {address}: {why}. Its service cannot do that; copy the files to this machine."
    return f"Cannot read {address}: {why} ({kind}). Check the network, and the address; the service may be down."


def _reason(error: BaseException) -> str:
    """What an error says, in a line, without secrets in addresses."""
    return text_without_secrets(" ".join(str(error).split()))
