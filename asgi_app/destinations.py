"""Where the service may send to on behalf of a user: the guard against requests into its own network (SSRF).

Invariant: whoever connects does so to an address that was judged here, out of an answer of which every address was
found good.  Nothing is resolved a second time, so a name that changes its mind meanwhile (rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

Network = IPv4Network | IPv6Network
#: The addresses of a host, as texts.  Raises OSError.
Lookup = Callable[[str], Sequence[str]]

LONGEST_URL = 2000
_PORTS = {"https": 443, "http": 80}
#: Below are services that never speak HTTP to strangers.
_LOWEST_PORT = 1024
#: What RFC 3986 lets stand in a URL.  Anything else different programs read differently.
_URL = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
#: A name that ends so is taken for an IPv4 address by some, in octal, hexadecimal or as one number (WHATWG URL).
_NUMBER_AT_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")

# From the registries of special addresses of IANA (RFC 6890), and written out: what `ipaddress` calls global depends on
# the release of Python, and some of it leads back inside.
_NOT_PUBLIC = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network; 0.0.0.0 is this machine
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; metadata of one cloud
        "127.0.0.0/8",
        "168.63.129.16/32",  # the host's own services, in one cloud
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; metadata of one cloud
        "192.0.2.0/24",  # documentation, as the next three
        "198.51.100.0/24",
        "203.0.113.0/24",
        "3fff::/20",
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved; broadcast
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
    )
)
_IPV6_UNICAST = IPv6Network("2000::/3")
#: IPv6 that carries an IPv4 address, by how many bits it is shifted: mapped, NAT64 (RFC 6052), 6to4 (RFC 3056).
_CARRIERS = ((IPv6Network("::ffff:0:0/96"), 0), (IPv6Network("64:ff9b::/96"), 0), (IPv6Network("2002::/16"), 80))

#: Resolving blocks, for as long as a stranger's name server likes: threads of its own.
_resolvers = ThreadPoolExecutor(16, thread_name_prefix="millpond names")


class Refused(ValueError):
    """The service does not send there; the message is the reason, for the user who wants it to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A URL, taken apart once, by the rules it is judged by."""

    secure: bool
    #: A name in ASCII, or an address without brackets.
    host: str
    port: int
    #: Path and query.
    target: str

    @property
    def authority(self) -> str:
        """As the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["https" if self.secure else "http"] else f"{host}:{self.port}"


def parse(url: str, *, production: bool) -> Destination:
    """Take a URL apart.  Raises Refused for one that may not be sent to wherever it leads; `production`: https only."""
    if len(url) > LONGEST_URL:
        raise Refused(f"at most {LONGEST_URL} characters")
    if not _URL.fullmatch(url):
        raise Refused("must be a URL in ASCII: names as xn--…, other characters percent-encoded")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Refused("must be a URL") from None
    if parts.scheme not in (("https",) if production else ("https", "http")):
        raise Refused("must begin with https://")
    if "@" in parts.netloc:
        raise Refused("must be without user and password")
    if "#" in url:
        raise Refused("must be without a fragment (#)")
    if port is None:
        port = _PORTS[parts.scheme]
    elif port != _PORTS[parts.scheme] and port < _LOWEST_PORT:
        raise Refused(f"the port must be {_PORTS[parts.scheme]}, or {_LOWEST_PORT} and above")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Destination(
        secure=parts.scheme == "https", host=_host(parts.hostname or "", "[" in parts.netloc), port=port, target=target
    )


def _host(host: str, bracketed: bool) -> str:
    literal = _address(host)
    named = _NAME.fullmatch(host) and not _NUMBER_AT_END.fullmatch(host)
    if (literal is None and not named) or bracketed != isinstance(literal, IPv6Address) or "%" in host:
        raise Refused("must have a host: a name, or an address in its usual form")
    return host if literal is None else str(literal)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_allowed(address: str, allowed: Sequence[Network]) -> bool:
    """Whether a connection may be made to this address: it is public, or in one of the networks of the operator."""
    found = _address(address)
    if found is None:
        return False
    inner = _carried(found)
    if any(one in network for network in allowed for one in (found, inner)):
        return True
    if isinstance(inner, IPv6Address) and inner not in _IPV6_UNICAST:
        return False
    return not any(inner in network for network in _NOT_PUBLIC)


def _carried(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address where one in this IPv6 address is what is reached in the end."""
    for network, shift in _CARRIERS:
        if address in network:
            return IPv4Address(int(address) >> shift & 0xFFFF_FFFF)
    return address


def _look_up(host: str) -> Sequence[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


async def resolve(host: str, allowed: Sequence[Network], look_up: Lookup = _look_up) -> list[str]:
    """The addresses of a host, all of them good.  Raises Refused: the same for a name that leads inside and for one
    that does not exist, because who asks need not learn which names exist inside."""
    if _address(host) is not None:
        found: Sequence[str] = [host]
    else:
        try:
            found = await asyncio.get_running_loop().run_in_executor(_resolvers, look_up, host)
        except (OSError, UnicodeError):
            found = []
    if not found or not all(is_allowed(address, allowed) for address in found):
        raise Refused("does not lead to a public address")
    return list(dict.fromkeys(found))
