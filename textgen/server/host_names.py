"""Names of hosts and origins, as browsers send them."""

from __future__ import annotations

import ipaddress
import re
import socket
from contextlib import suppress

ANY, OPAQUE = "*", "null"  # the value for all origins, and the origin of pages without one
DEFAULT_PORTS = {"http": 80, "https": 443}
HOST = re.compile(r"([a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")  # host, port
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")


def host_in(header: str) -> str:
    """Returns the name in a Host header, without its port, in lower case; an IP address in its shortest form.

    Example:
        >>> host_in("[0::1]:8000"), host_in("LocalHost:8000")
        ('::1', 'localhost')
    """
    name = header[1:].partition("]")[0] if header.startswith("[") else header.partition(":")[0]
    return _shortest(name.lower())


def host_name(given: str) -> str:
    """Returns a host name that a user gives, as `host_in` finds it in requests. A port is left out.

    Example:
        >>> host_name("Example.org:8443"), host_name("::1")
        ('example.org', '::1')

    Raises:
        ValueError: No request can have this host.
    """
    return _parts(given)[0]


def origin_of(given: str) -> str:
    """Returns an origin that a user gives, as browsers send it.

    Example:
        >>> origin_of("https://Example.org:443/"), origin_of("http://localhost:3000")
        ('https://example.org', 'http://localhost:3000')

    Raises:
        ValueError: No browser sends this origin.
    """
    if given in (ANY, OPAQUE):
        return given
    scheme, has_scheme, rest = given.lower().partition("://")
    if not has_scheme or not SCHEME.fullmatch(scheme):
        raise ValueError("it must begin with its scheme, such as https://example.org")
    host, port = _parts(rest.removesuffix("/"))
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" + (f":{port}" if port not in (None, DEFAULT_PORTS.get(scheme)) else "")


def is_address(name: str) -> bool:
    """Whether a host is an IP address: unlike a name, no page can make it resolve to another machine."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def own_names() -> set[str]:
    """Returns the names of this machine: short, with its domain, and that of multicast DNS."""
    names = {socket.gethostname().lower()}
    with suppress(OSError, UnicodeError):  # as for a label that is too long for DNS
        names.add(socket.getfqdn().lower())
    short = {name.partition(".")[0] for name in names if not is_address(name)}
    return names | short | {f"{name}.local" for name in short}


def _parts(given: str) -> tuple[str, int | None]:
    """Returns a host and its port, if there is one. Raises `ValueError` for what is neither."""
    if is_address(given):
        return _shortest(given), None
    found = HOST.fullmatch(given.lower())
    if not found or (found[1].startswith("[") and not is_address(found[1][1:-1])) or int(found[2] or 0) > 65535:
        raise ValueError("its host must be a name such as example.org or an IP address, with or without a port")
    return host_in(found[1]), int(found[2]) if found[2] else None


def _shortest(name: str) -> str:
    return str(ipaddress.ip_address(name)) if is_address(name) else name
