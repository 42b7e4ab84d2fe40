"""Where the channel layer's stores are: the `hosts` of channels_redis as URLs, and which of them has what.

Invariant: the same name is always on the same one of the same list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode
from zlib import crc32

#: What an entry of `hosts` may be: a URL, (host, port), or a dict with `address` or `host`, `port` and what redis-py
#: takes in the query of a URL.
Host = str | tuple[str, int] | Mapping[str, Any]

_SPACE = 4096
_PLACE = ("address", "host", "port", "db", "username", "password", "ssl", "path", "unix_socket_path")


def urls(hosts: Sequence[Host]) -> tuple[str, ...]:
    """For redis-py.  Raises ValueError for what is no list, and for what a URL cannot say."""
    if isinstance(hosts, str | bytes):
        raise ValueError("hosts must be a list, even if there is only one")
    return tuple(_url(host) for host in hosts)


def index(name: str, count: int) -> int:
    """Which of `count` stores has `name`."""
    if count == 1:
        return 0
    return (crc32(name.encode()) % _SPACE) * count // _SPACE


def _url(host: Host) -> str:
    if isinstance(host, str):
        return host
    if not isinstance(host, Mapping):
        return f"redis://{host[0]}:{int(host[1])}/0"
    if "sentinels" in host or "master_name" in host:
        raise ValueError("hosts: sentinels are not supported; name the master, or a proxy that follows it")
    query = {name: _text(name, value) for name, value in host.items() if name not in _PLACE}
    address = str(host["address"]) if "address" in host else _place(host)
    if not query:
        return address
    return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}"


def _place(host: Mapping[str, Any]) -> str:
    user, password = (quote(str(host.get(part) or ""), safe="") for part in ("username", "password"))
    who = f"{user}:{password}@" if user or password else ""
    db = int(host.get("db") or 0)
    if socket := host.get("path") or host.get("unix_socket_path"):
        return f"unix://{who}{quote(str(socket))}?db={db}"
    scheme = "rediss" if host.get("ssl") else "redis"
    return f"{scheme}://{who}{host.get('host', 'localhost')}:{int(host.get('port', 6379))}/{db}"


def _text(name: str, value: object) -> str:
    if value is None and name == "ssl_cert_reqs":
        return "none"
    if not isinstance(value, str | int | float):
        raise ValueError(
            f"hosts: {name}={value!r} cannot be said in a URL; give the URL with what redis-py reads of it"
        )
    return str(value)
