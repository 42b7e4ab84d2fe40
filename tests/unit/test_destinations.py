"""What a user may let the service send to: public addresses, however written, and those the operator allows."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_network

import pytest

from asgi_app.destinations import Destination, Refused, is_allowed, parse, resolve

PUBLIC = [
    "8.8.8.8",
    "172.15.255.255",
    "172.32.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "192.0.1.1",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:82f::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",  # 6to4 of 8.8.8.8
]
INSIDE = [
    "0.0.0.0",  # noqa: S104  (nothing is bound)
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.251",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",  # "IPv4-compatible"
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",  # "IPv4-translated"
    "64:ff9b::127.0.0.1",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",  # Teredo
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::",  # 6to4 of 127.0.0.1
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "not an address",
    "",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    """Those of the internet, in IPv4, in IPv6, and in IPv6 that carries IPv4."""
    assert is_allowed(address, ())


@pytest.mark.parametrize("address", INSIDE)
def test_all_others_are_not(address: str) -> None:
    """Neither as they are, nor wrapped up in another form."""
    assert not is_allowed(address, ())


def test_the_operator_allows_networks() -> None:
    """Just those, whichever way their addresses are written."""
    allowed = (ip_network("10.1.0.0/16"), ip_network("fd00:1::/32"))
    assert is_allowed("10.1.2.3", allowed)
    assert is_allowed("::ffff:10.1.2.3", allowed)
    assert is_allowed("fd00:1::5", allowed)
    assert is_allowed("8.8.8.8", allowed)
    assert not is_allowed("10.2.0.1", allowed)
    assert not is_allowed("127.0.0.1", allowed)
    assert not is_allowed("fd00:2::5", allowed)


GOOD_URLS = [
    ("https://example.org", Destination(secure=True, host="example.org", port=443, target="/")),
    ("https://EXAMPLE.org/a?b=c", Destination(secure=True, host="example.org", port=443, target="/a?b=c")),
    ("https://example.org?b=c", Destination(secure=True, host="example.org", port=443, target="/?b=c")),
    ("https://example.org:8443/", Destination(secure=True, host="example.org", port=8443, target="/")),
    (
        "https://xn--mllerei-n2a.example/x",
        Destination(secure=True, host="xn--mllerei-n2a.example", port=443, target="/x"),
    ),
    ("https://8.8.8.8/", Destination(secure=True, host="8.8.8.8", port=443, target="/")),
    ("https://[2606:4700::0:1]/", Destination(secure=True, host="2606:4700::1", port=443, target="/")),
    ("http://example.org/", Destination(secure=False, host="example.org", port=80, target="/")),
    ("https://1.example.org/", Destination(secure=True, host="1.example.org", port=443, target="/")),
]


@pytest.mark.parametrize(("url", "parts"), GOOD_URLS)
def test_a_url_is_taken_apart_once(url: str, parts: Destination) -> None:
    """Into just what is connected to and asked for."""
    assert parse(url, production=False) == parts


BAD_URLS = [
    "",
    "example.org",
    "//example.org/",
    "ftp://example.org/",
    "file:///etc/passwd",
    "gopher://example.org/",
    "https://",
    "https:///path",
    "https:example.org",
    "https://user@example.org/",
    "https://user:secret@example.org/",
    "https://@example.org/",
    "https://example.org@10.0.0.1/",
    "https://example.org/#fragment",
    "https://example.org#@10.0.0.1/",
    "https://example.org\\@10.0.0.1/",
    "https://example.org /",
    "https://example.org/\r\nX-Injected: 1",
    "https://example.org/\x00",
    "\thttps://example.org/",
    "https://exämple.org/",
    "https://example.org/ä",
    "https://１２７.0.0.1/",
    "https://127。0。0。1/",
    "https://example.org:22/",
    "https://example.org:80/",
    "https://example.org:0/",
    "https://example.org:65536/",
    "https://example.org:x/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://127.0.0.1./",
    "https://example.org./",
    "https://example..org/",
    "https://-example.org/",
    "https://exa%6dple.org/",
    "https://[::1/",
    "https://[fe80::1%25eth0]/",
    "https://[v1.x]/",
    "https://[example.org]/",
    "https://[8.8.8.8]/",
    f"https://{'a' * 64}.org/",
    "https://example.org/" + "a" * 2000,
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_can_be_read_in_two_ways_is_refused(url: str) -> None:
    """As is one with a password, another scheme, or a port where other things listen than web servers."""
    with pytest.raises(Refused):
        parse(url, production=False)


def test_production_sends_over_tls_only() -> None:
    """Elsewhere plain http is for trying it out."""
    with pytest.raises(Refused, match="https"):
        parse("http://example.org/", production=True)
    assert parse("https://example.org/", production=True).secure


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://example.org/", "example.org"),
        ("https://example.org:8443/", "example.org:8443"),
        ("http://example.org:8080/", "example.org:8080"),
        ("https://[2606:4700::1]:8443/", "[2606:4700::1]:8443"),
    ],
)
def test_the_host_header_is_what_the_url_says(url: str, authority: str) -> None:
    """The port stands there where it is not the usual one."""
    assert parse(url, production=False).authority == authority


def answering(*answers: Sequence[str]) -> tuple[Callable[[str], Sequence[str]], list[str]]:
    """A name server that says one after the other, and what it was asked."""
    asked: list[str] = []
    left = iter(answers)

    def look_up(host: str) -> Sequence[str]:
        asked.append(host)
        return next(left)

    return look_up, asked


async def test_all_addresses_of_a_name_have_to_be_good() -> None:
    """One inside is enough to refuse: which of them is taken, the name's owner would decide."""
    look_up, _ = answering(["8.8.8.8", "2606:4700::1", "8.8.8.8"], ["8.8.8.8", "10.0.0.1"], [])
    assert await resolve("both.example", (), look_up) == ["8.8.8.8", "2606:4700::1"]
    with pytest.raises(Refused):
        await resolve("both.example", (), look_up)
    with pytest.raises(Refused):
        await resolve("both.example", (), look_up)


async def test_a_name_inside_and_none_at_all_are_refused_alike() -> None:
    """Else who registers webhooks could learn the names of the network."""

    def unknown(host: str) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    inside, _ = answering(["10.0.0.1"])
    with pytest.raises(Refused) as one:
        await resolve("db.internal", (), inside)
    with pytest.raises(Refused) as other:
        await resolve("no.such", (), unknown)
    assert str(one.value) == str(other.value)


async def test_a_name_is_asked_for_once() -> None:
    """What is connected to is what was judged, whatever the name server says next (rebinding)."""
    look_up, asked = answering(["8.8.8.8"], ["127.0.0.1"])
    assert await resolve("rebinding.example", (), look_up) == ["8.8.8.8"]
    assert asked == ["rebinding.example"]


async def test_an_address_is_judged_without_asking_anybody() -> None:
    """It is its own answer."""
    look_up, asked = answering()
    assert await resolve("8.8.8.8", (), look_up) == ["8.8.8.8"]
    with pytest.raises(Refused):
        await resolve("127.0.0.1", (), look_up)
    assert asked == []


async def test_localhost_is_refused_by_the_machines_own_resolver() -> None:
    """The resolver that is used when none is given."""
    with pytest.raises(Refused):
        await resolve("localhost", ())
    assert await resolve("localhost", (ip_network("127.0.0.0/8"), ip_network("::1/128")))
