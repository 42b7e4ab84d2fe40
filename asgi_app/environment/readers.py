"""Texts of the environment, read into values.  Pure: nothing here looks at the machine.

A reader takes the text of one setting and returns its value, or raises `ValueError` whose message says what is allowed.
It never repeats the text, which may be a secret: the caller decides whether to show it.
"""

import math
import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import SplitResult, urlsplit

_SIZE = re.compile(r"(\d{1,15})\s*([kmg]i?b|b)?", re.IGNORECASE)
_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_HOST = re.compile(r"\*|\.?[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")
_PACKAGE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}


def text(value: str) -> str:
    """Any text."""
    return value


def boolean(value: str) -> bool:
    """`true` or `false`, `1` or `0`.  Nothing else: a misspelt "no" must not switch something on."""
    choices = {"true": True, "1": True, "false": False, "0": False}
    if value.lower() not in choices:
        raise ValueError("must be true or false")
    return choices[value.lower()]


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number from `low` to `high`."""

    def read(value: str) -> int:
        if not re.fullmatch(r"-?\d{1,18}", value, re.ASCII) or not low <= int(value) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(value)

    return read


def seconds(low: float, high: float) -> Callable[[str], float]:
    """A number of seconds from `low` to `high`; fractions are allowed, infinity is not."""

    def read(value: str) -> float:
        reason = f"must be a number of seconds from {low:g} to {high:g}"
        try:
            number = float(value)
        except ValueError:
            raise ValueError(reason) from None
        if not math.isfinite(number) or not low <= number <= high:
            raise ValueError(reason)
        return number

    return read


def size(low: str, high: str) -> Callable[[str], int]:
    """A number of bytes from `low` to `high`, as `65536` or `64 KiB`."""

    def read(value: str) -> int:
        amount = _bytes(value)
        if amount is None or not (_bytes(low) or 0) <= amount <= (_bytes(high) or 0):
            raise ValueError(f"must be a size from {low} to {high}, as 65536 or 64 KiB")
        return amount

    return read


def _bytes(value: str) -> int | None:
    found = _SIZE.fullmatch(value)
    return int(found[1]) * _UNITS[(found[2] or "b").lower()] if found else None


def one_of(*allowed: str) -> Callable[[str], str]:
    """One of the given words."""

    def read(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"must be {' or '.join(allowed)}")
        return value

    return read


def matching(pattern: str, reason: str) -> Callable[[str], str]:
    """A text that matches `pattern` as a whole; `reason` says in words what that is."""

    def read(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(reason)
        return value

    return read


def serializer(value: str) -> str:
    """Celery's message format.  `yaml` is judged by the caller, who knows whether it was opted into."""
    if value == "pickle":
        raise ValueError(
            "pickle is refused: whoever can write to the broker could run code on every worker; use json or msgpack"
        )
    return one_of("json", "msgpack", "yaml")(value)


def cache_store(value: str) -> str:
    """Where resources are kept.  Which caches there are, Django's settings say, which are made of these ones."""
    return matching(r"[A-Za-z0-9_.-]{1,64}", "must be redis or the name of a cache, as file or memcached")(value)


def memcached(value: str) -> tuple[str, ...]:
    """Servers, separated by commas: host:port, or unix: and a path."""
    servers = _list(value)
    if not servers or not all(_is_memcached(server) for server in servers):
        raise ValueError("must be host:port or unix:/path, separated by commas, as 10.0.0.5:11211,unix:/run/m.sock")
    return servers


def _is_memcached(server: str) -> bool:
    if server.startswith("unix:"):
        return server.startswith("unix:/") and len(server) > len("unix:/")
    host, _, port = server.rpartition(":")
    return bool(_HOST.fullmatch(host.lower())) and host[0] not in "*." and port.isdecimal() and 0 < int(port) < 65536


def packages(value: str) -> tuple[str, ...]:
    """Dotted names of packages, separated by commas; one named twice counts once."""
    names = tuple(dict.fromkeys(_list(value)))
    if not all(_PACKAGE.fullmatch(name) for name in names):
        raise ValueError("must be importable packages separated by commas, as mydash,shop.live")
    return names


def networks(value: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Networks in CIDR notation, separated by commas; an address alone is a network of one."""
    try:
        return tuple(ip_network(item) for item in _list(value))
    except ValueError:
        raise ValueError(
            "must be networks as address/prefix, separated by commas, as 10.1.0.0/16,fd00:1::/32"
        ) from None


def hosts(value: str) -> tuple[str, ...]:
    """Host names as they stand in a Host header, without port, separated by commas.  IPv6 in brackets."""
    names = tuple(name.lower() for name in _list(value))
    if not names or not all(_HOST.fullmatch(name) for name in names):
        raise ValueError("must be host names without scheme or port, separated by commas, as example.org,10.0.0.5")
    return names


def origins(value: str) -> tuple[str, ...]:
    """Origins as a browser sends them: scheme, host and, where it is not the default, port.

    Normalised to that form.
    """
    return tuple(_origin(item) for item in _list(value))


def _origin(value: str) -> str:
    reason = (
        "must be origins with scheme, host and port, separated by commas, as https://example.org,http://localhost:5173"
    )
    parts = _split(value)
    if (
        parts is None
        or parts.scheme not in _DEFAULT_PORTS
        or parts.path not in ("", "/")
        or parts.query
        or parts.username
    ):
        raise ValueError(reason)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else (parts.hostname or "")
    if not _HOST.fullmatch(host) or host.startswith((".", "*")):
        raise ValueError(reason)
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def url(*schemes: str, several: bool = False) -> Callable[[str], str]:
    """A URL of one of the schemes, with a host (or, for sockets and files, a path).

    `several`: separated by semicolons.
    """

    def read(value: str) -> str:
        for item in value.split(";") if several else [value]:
            if not _is_address(_split(item), schemes):
                raise ValueError(f"must be a URL that begins with {', '.join(f'{scheme}://' for scheme in schemes)}")
        return value

    return read


_WITHOUT_HOST = {"unix", "redis+socket", "sqlite"}


def _is_address(parts: SplitResult | None, schemes: tuple[str, ...]) -> bool:
    if parts is None or parts.scheme not in schemes:
        return False
    return bool(parts.path.strip("/")) if parts.scheme in _WITHOUT_HOST else bool(parts.hostname)


def _split(value: str) -> SplitResult | None:
    """The parts of a URL, or None.  The library's own messages are dropped: they may quote a password."""
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018  (a bad port raises only when it is read)
    except ValueError:
        return None
    return parts


def _list(value: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in value.split(",") if item.strip())
