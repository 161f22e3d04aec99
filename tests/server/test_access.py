"""Keys, hosts and origins."""

from __future__ import annotations

import shlex
import socket
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from textgen.errors import ConfigError
from textgen.server.access import ANYBODY, KEYS_BYTES, Access, read_keys
from textgen.server.config import ServerConfig
from textgen.server.failures import ApiError
from textgen.server.host_names import own_names
from textgen.settings import from_dict

LOCAL, OPEN = ServerConfig(), ServerConfig(host="0.0.0.0")


def status_of(access: Access, **headers: str) -> int:
    """The status that a request with these headers gets from the check of its place."""
    try:
        access.check_place(Headers(headers))
    except ApiError as error:
        return error.status
    return 200


def test_keys_come_from_a_file_and_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# for Anna\nabc\n\n  def  \n")
    assert read_keys(str(path), {}) == ["abc", "def"]
    assert read_keys(str(path), {"TEXTGEN_API_KEY": "ghi"}) == ["ghi", "abc", "def"]
    assert read_keys(None, {}) == []


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbfabc\r\n  # old\r\n\t#older\r\ndef\r\n", b"# f\xc3\xbcr Anna\nabc\ndef"]
)
def test_a_mark_of_the_encoding_and_comments_are_no_keys(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(content)
    assert read_keys(str(tmp_path / "keys"), {}) == ["abc", "def"]


def test_keys_that_no_client_can_send_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    for key in ("schlüssel", "钥匙", "ab\x01c"):
        path.write_text(f"abc\n{key}\n", encoding="utf-8")
        with pytest.raises(ConfigError, match=r"Line 2 of .* is not a valid key") as caught:
            read_keys(str(path), {})
        assert key not in str(caught.value)
        with pytest.raises(ConfigError, match="TEXTGEN_API_KEY is not a valid key"):
            read_keys(None, {"TEXTGEN_API_KEY": key})


def test_a_file_that_is_too_large_for_keys_is_refused_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("abc\n" * (KEYS_BYTES // 4))
    assert set(read_keys(str(path), {})) == {"abc"}
    path.write_text("abc\n" * (KEYS_BYTES // 4) + "钥")
    with pytest.raises(ConfigError, match="is no file of keys, since it has more than 1,048,576 bytes"):
        read_keys(str(path), {})


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b" # nothing\n", b"\xff\xfe"])
def test_a_file_without_keys_is_an_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="key"):
        read_keys(str(path), {})
    with pytest.raises(ConfigError, match="Cannot read the keys"):
        read_keys(str(tmp_path / "missing"), {})


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer ", "Bearer wrong", "Bearer abcd", "Basic abc", "abc", "Bearer ab\xff"]
)
def test_a_wrong_key_is_refused(value: str) -> None:
    access = Access(LOCAL, ["abc", "xyz"])
    assert access.needs_key
    with pytest.raises(ApiError) as caught:
        access.owner(Headers({"Authorization": value}))
    assert caught.value.status == 401


def test_each_key_is_an_owner_and_without_keys_all_are_one() -> None:
    access = Access(LOCAL, ["abc", "xyz"])
    owners = {access.owner(Headers({"Authorization": f"Bearer {key}"})) for key in ("abc", "xyz")}
    assert len(owners) == 2
    assert "abc" not in owners
    assert Access(LOCAL).owner(Headers({"Authorization": "Bearer DUMMY_KEY"})) == ANYBODY


def test_a_local_server_has_local_names() -> None:
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"):
        assert status_of(Access(LOCAL), host=host) == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "[::2]"):
        assert status_of(Access(LOCAL), host=host) == 403
    assert status_of(Access(ServerConfig(allow_host=("novel.example",))), host="novel.example") == 200
    assert status_of(Access(LOCAL, ["abc"]), host="evil.example") == 403


@pytest.mark.parametrize("config", [LOCAL, OPEN, ServerConfig(host="0.0.0.0", allow_host=("novel.example",))])
def test_a_request_without_a_host_is_no_page(config: ServerConfig) -> None:
    """Browsers always send a host; checks of health in HTTP 1.0 send none."""
    assert status_of(Access(config)) == 200
    assert status_of(Access(config), host="") == 200
    assert {status_of(Access(config), origin=origin) for origin in ("http://evil.example", "null", "")} == {403}


@pytest.mark.parametrize("host", ["evil.example:80", "[::2]", "a b", "-'\u00e9", "a..b", "a" * 300])
def test_the_advice_for_a_host_that_is_refused_can_be_followed(host: str) -> None:
    with pytest.raises(ApiError, match="refuses requests to the host name") as caught:
        Access(LOCAL).check_place(Headers({"host": host}))
    message = str(caught.value)
    if "--allow-host" in message:
        (given,) = shlex.split(message.partition("--allow-host ")[2].removesuffix("."))
        assert from_dict(ServerConfig, {"allow_host": [given]}).allow_host
    else:
        assert "It is not a valid one: send the name or the address of this server" in message
    assert ("--allow-host" in message) == (host not in ("a b", "-'\u00e9", "a..b"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine called Box in the network lan.example."""
    monkeypatch.setattr(socket, "gethostname", lambda: "Box")
    monkeypatch.setattr(socket, "getfqdn", lambda: "box.lan.example")


def test_a_machine_whose_name_no_resolver_takes_has_its_short_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> str:
        raise UnicodeError("label too long")

    monkeypatch.setattr(socket, "gethostname", lambda: "a" * 64)
    monkeypatch.setattr(socket, "getfqdn", fails)
    assert own_names() == {"a" * 64, "a" * 64 + ".local"}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.7:8000", 200),
        ("[2001:DB8::7]:8000", 200),
        ("localhost:8000", 200),
        ("box:8000", 200),
        ("BOX.local:8000", 200),
        ("box.lan.example", 200),
        ("rebound.example:8000", 403),
        ("192.0.2.7.evil.example", 403),
        ("box.evil.example", 403),
    ],
)
def test_a_server_on_the_network_without_keys_has_addresses_and_the_names_of_its_machine(
    machine: None, host: str, expected: int
) -> None:
    """A page of somebody else, whose name leads here, would be a page of this server."""
    assert status_of(Access(OPEN), host=host, origin=f"http://{host}") == expected
    assert status_of(Access(OPEN, ["abc"]), host=host, origin=f"http://{host}") == 200, "it does not know the key"


def test_a_name_that_is_refused_can_be_allowed(machine: None) -> None:
    with pytest.raises(ApiError, match=r"name 'novel[.]example'[.] To allow it, .* --allow-host novel[.]example[.]$"):
        Access(OPEN).check_place(Headers({"host": "novel.example"}))
    assert status_of(Access(OPEN)) == 200, "a browser always sends a host"
    for host in ("novel.example", "Novel.Example"):
        assert status_of(Access(ServerConfig(host=host)), host="novel.example") == 200


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("Example.org", "example.org"),
        ("example.org:8443", "example.org"),
        ("example.org.", "example.org."),
        ("my_box", "my_box"),
        ("192.0.2.7:80", "192.0.2.7"),
        ("::1", "::1"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("[2001:db8::7]:8443", "2001:db8::7"),
    ],
)
def test_a_host_that_is_allowed_is_found_as_browsers_send_it(given: str, host: str) -> None:
    access = Access(ServerConfig(allow_host=(given,)))
    assert status_of(access, host=f"[{host}]:8443" if ":" in host else f"{host}:8443") == 200


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("https://Example.org", "https://example.org"),
        ("HTTPS://example.org:443/", "https://example.org"),
        ("http://example.org:80", "http://example.org"),
        ("http://example.org:443", "http://example.org:443"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("chrome-extension://abc", "chrome-extension://abc"),
        ("null", "null"),
        ("*", "https://anything.example"),
    ],
)
def test_an_origin_that_is_allowed_is_found_as_browsers_send_it(given: str, origin: str) -> None:
    access = Access(ServerConfig(allow_origin=(given,)))
    assert access.allows(origin)
    assert given == "*" or not access.allows("https://other.example")


@pytest.mark.parametrize(
    ("name", "given"),
    [
        *(("allow_host", given) for given in (
            "", "*", "*.example.org", ".example.org", "https://example.org", "example.org/", "example.org:",
            "example.org:x", "example.org:65536", "a b", "münchen.example", "[::1", "[x]", "me@example.org",
        )),
        *(("allow_origin", given) for given in (
            "", "example.org", "example.org:443", "//example.org", "https://", "https:///", "https://example.org/page",
            "https://example.org?", "https://example.org#", "https://me@example.org", "https://*.example.org",
            "https://example.org:x", "https://a b", "1http://example.org", "https://münchen.example",
        )),
    ],
)  # fmt: skip
def test_what_matches_no_request_is_refused(name: str, given: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} '.*' matches no request: it.* must .*example.org"):
        from_dict(ServerConfig, {name: ["https://fine.example" if name == "allow_origin" else "fine.example", given]})


def test_a_server_on_the_network_that_has_names_has_no_others() -> None:
    """A name of somebody else that leads here would make its pages pages of this server."""
    named = Access(ServerConfig(host="0.0.0.0", allow_host=("novel.example",)))
    for host in ("novel.example:8000", "Novel.Example", "localhost:8000"):
        assert status_of(named, host=host, origin=f"http://{host}") == 200
    assert status_of(named, host="rebound.example:8000", origin="http://rebound.example:8000") == 403


def test_pages_of_other_sites_are_refused_unless_they_are_allowed() -> None:
    access = Access(LOCAL)
    assert status_of(access, host="localhost:8000", origin="http://localhost:8000") == 200
    for origin in ("http://evil.example", "http://localhost:9999", "null", "http://[", ""):
        assert status_of(access, host="localhost:8000", origin=origin) == 403
    with pytest.raises(ApiError, match=r"To allow them, start it with --allow-origin http://evil[.]example[.]$"):
        access.check_place(Headers({"host": "localhost:8000", "origin": "http://evil.example"}))
    assert access.cross_origin_headers("http://evil.example") == {}
    friendly = Access(ServerConfig(allow_origin=("https://friend.example/",)))
    assert status_of(friendly, host="localhost", origin="https://friend.example") == 200
    headers = friendly.cross_origin_headers("https://friend.example")
    assert headers["Access-Control-Allow-Origin"] == "https://friend.example"
    assert friendly.cross_origin_headers(None) == {}
    assert status_of(Access(ServerConfig(allow_origin=("*",))), host="localhost", origin="http://x.example") == 200


def test_a_page_that_is_allowed_may_send_the_headers_that_it_asks_for() -> None:
    friendly = Access(ServerConfig(allow_origin=("https://friend.example",)))
    asked = "authorization, X-Stainless-Lang,x-stainless-os, a b, \x00, é, x\r\ny: z, ,"
    allowed = friendly.cross_origin_headers("https://friend.example", asked)["Access-Control-Allow-Headers"]
    assert allowed == "Authorization, Content-Type, authorization, X-Stainless-Lang, x-stainless-os"
    assert friendly.cross_origin_headers("https://evil.example", asked) == {}
