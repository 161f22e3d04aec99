"""Addresses of files elsewhere, as text: what is one, what of it may be shown, how it is joined with a name.

A path that exists on this machine is never taken for an address, nor is one that begins with a drive letter. An address
may be a chain of links, such as that of a file in an archive: `zip://a.txt::https://host/a.zip`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from textgen.errors import ConfigError, RemoteError

ADDRESS_START = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|[A-Za-z][A-Za-z0-9+.-]+::", re.ASCII)  # two letters: no drive
# Single quotes and brackets may be a part of a query.
ADDRESS_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s\"<>]+", re.ASCII)
LOCAL = "file://"  # how addresses of files of this machine begin
OWNERS = ("github", "git")  # file systems with an owner or a version before the @
WITHOUT_USERS = (*OWNERS, "zip", "tar", "libarchive", "memory", "file", "local")  # what they have with a : is a name
NEXT_LINK = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]+(?:://|::))", re.ASCII)  # a :: that may not be within a password
USER = re.compile(r"([^:]*://)[^/?#]*@")
"""What begins a link, and a user and perhaps a password before its host. A path may have another address in it."""
BARE_PASSWORD = re.compile(r"([^:]*://)(?!arn:)[^/?#@:\[]*:(?!\d*(?:[/?#]|$))[^@]*@")
"""The same with one of / ? # in the password, which ends the host. Digits are a port; names in S3 begin arn:."""
INNER_USER = re.compile(r"(?<=://)[^/?#]*@")  # also in an address within the path


def is_remote(name: str | os.PathLike[str]) -> bool:
    """Checks whether a name is an address of a file elsewhere.

    Args:
        name: What the user wrote. Paths that exist on this machine are none.

    Example:
        >>> [is_remote(name) for name in ("s3://bucket/a.txt", "C:/a.txt", "a:b.txt", "zip://a.txt::b.zip")]
        [True, False, False, True]
    """
    return isinstance(name, str) and bool(ADDRESS_START.match(name)) and not os.path.lexists(name)


def local_path(name: str) -> str:
    """Returns the path of a file, a folder or a pattern of this machine if its address is given.

    Args:
        name: What the user wrote. Other addresses and paths are returned as they are.

    Example:
        >>> [local_path(name) for name in ("file:///texts/a.txt", "s3://bucket/a.txt", "a.txt")]
        ['/texts/a.txt', 's3://bucket/a.txt', 'a.txt']
    """
    if not is_remote(name) or not name.lower().startswith(LOCAL) or "::" in name:
        return name
    path = os.path.expanduser(name[len(LOCAL) :])
    path = path if os.path.lexists(path) else unquote(path)  # file managers write %20 for a space
    return path[1:] if os.name == "nt" and path[2:3] == ":" else path


def is_web_address(address: str) -> bool:
    """Checks whether an address is one of a web server."""
    return address.startswith(("http://", "https://"))


def may_be_pattern(address: str) -> bool:
    """Whether an address may be a pattern, at which some files of a folder are found and others are not."""
    return "*" in address or "[" in address


def without_secrets(address: str) -> str:
    """Returns an address without what may be secret: a user, a password, and a query such as a signature.

    What is no address is returned as it is.

    >>> without_secrets("https://user:password@host/a.txt?signature=1")
    'https://host/a.txt'
    >>> without_secrets("zip://b.txt::https://host/a.zip?key=1")
    'zip://b.txt::https://host/a.zip'
    """
    if not ADDRESS_START.match(address):
        return address
    shown = list[str]()
    for link in NEXT_LINK.split(address):
        shown.append(_hide_secrets(link))
        if is_web_address(link.lower()) and shown[-1] != link and re.search("[?#]", link):
            break  # nothing is within a web page: what follows is a part of its query
    return "::".join(shown)


def has_bare_password(address: str) -> bool:
    """Checks whether an address has a password with a character that ends the host, so that it is read otherwise.

    >>> has_bare_password("https://user:pass/word@host/a.txt"), has_bare_password("https://user:pass%2Fword@host/a.txt")
    (True, False)
    """
    return bool(ADDRESS_START.match(address)) and any(
        BARE_PASSWORD.match(_without_user(link)) for link in NEXT_LINK.split(address) if _may_have_user(link)
    )


def text_without_secrets(text: str) -> str:
    """Returns a text, such as a message, in which all addresses are `without_secrets`.

    >>> text_without_secrets("No answer from https://host/a.txt?signature=1 (timeout)")
    'No answer from https://host/a.txt (timeout)'
    """
    return ADDRESS_IN_TEXT.sub(lambda address: without_secrets(address[0]), text)


def _hide_secrets(link: str) -> str:
    link = _without_user(link)
    if _may_have_user(link) and (found := BARE_PASSWORD.match(link)):
        link = found[1] + link[found.end() :]
    if _protocol(link) not in OWNERS:
        link = INNER_USER.sub("", link)
    return re.sub("[?#].*" if is_web_address(link.lower()) else r"\?[^?]*=.*", "", link, flags=re.DOTALL)


def _without_user(link: str) -> str:
    """A link without the user and the password before its host."""
    found = None if _protocol(link) in OWNERS else USER.match(link)
    return found[1] + link[found.end() :] if found else link


def _may_have_user(link: str) -> bool:
    return _protocol(link) not in WITHOUT_USERS


def _protocol(link: str) -> str:
    return link.partition("://")[0].lower()


def join_address(address: str, name: str) -> str:
    """Returns the address of a file in a folder, which may be within an archive.

    >>> join_address("s3://bucket/folder", "a.txt"), join_address("zip://folder::a.zip", "b")
    ('s3://bucket/folder/a.txt', 'zip://folder/b::a.zip')
    """
    first, *chain = address.split("::")
    return "::".join([f"{first.rstrip('/')}/{name}" if not first.endswith("://") else f"{first}{name}", *chain])


def address_of(link: str, path: str, name: str) -> str:
    """Returns the address of a file of a file system: paths lack the host, or what stands for one.

    Args:
        link: Address of another file or folder of the same file system.
        path: Path of that other file or folder.
        name: Path of the file.

    >>> address_of("sftp://host/data", "/data", "/data/a.txt"), address_of("s3://bucket/", "bucket", "bucket/a.txt")
    ('sftp://host/data/a.txt', 's3://bucket/a.txt')
    >>> address_of("github://owner:repo@main", "", "a.txt"), address_of("memory://d", "/d", "/d/a.txt")
    ('github://owner:repo@main/a.txt', 'memory:///d/a.txt')
    """
    link = link.rstrip("/") if path.strip("/") else link
    before = link.removesuffix(path)
    if "://" not in before or not link.endswith(path):
        return f"{link.partition('://')[0]}://{name}"
    if before.endswith("://"):
        return before + name
    return f"{before.removesuffix('/')}/{name.removeprefix('/')}"


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
            f"Cannot write {what} to {without_secrets(name)}: folders elsewhere cannot be replaced as a whole, so a "
            "reader could find half of one. Write to a folder of this machine, and copy it when it is complete."
        )


def folder_here(name: str, named_by: str) -> Path:
    """Returns the path of a folder of this machine, of which textgen makes and locks folders.

    Args:
        name: What the user wrote.
        named_by: The variable or the argument that holds it, for the error.

    Raises:
        ConfigError: The name is an address, which would be taken for a folder in the current one.
    """
    if is_remote(name):
        raise ConfigError(
            f"{named_by} must be a folder of this machine, not an address. Received: {without_secrets(name)!r}."
        )
    return Path(name)
