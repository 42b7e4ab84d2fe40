"""One address, said in the words of each library that has to reach it.  Pure: nothing is opened here.

`redis-py`, `kombu`, Celery's result back ends and Django each spell the same place differently; this module is the only
one that knows how.
"""

import hashlib
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

#: bytes an AF_UNIX path may have: 108 on Linux and 104 on macOS, both with the closing zero
SOCKET_PATH_LIMIT = 103
#: connections one process keeps to PostgreSQL at most; the server's own default limit is 100 for everybody
POOL_SIZE = 10
#: seconds to wait for a connection, to the server or from the pool
CONNECT_TIMEOUT = 5
#: what the query of a sentinel:// may say
SENTINEL_QUERY = frozenset({"master_name", "min_other_sentinels", "sentinel_username", "sentinel_password"})
_TLS_FILES = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
#: seconds a sentinel may take to answer
SENTINEL_TIMEOUT = 2


def socket_path(home: Path, uid: int) -> Path:
    """Where the embedded store of `home` listens: the same answer in every process given the same home.

    A home too deep for a socket gets a short directory of its own under /tmp, named by a hash of home and user.  It is
    /tmp and not `tempfile.gettempdir()`, because two processes of one home may have different TMPDIRs.
    """
    path = home / "run" / "store.sock"
    if len(bytes(path)) <= SOCKET_PATH_LIMIT:
        return path
    name = hashlib.blake2b(f"{uid}:{home}".encode(), digest_size=8).hexdigest()
    return Path("/tmp") / f"millpond-{name}" / "store.sock"  # noqa: S108  (see above; the directory is private)


def of_socket(path: Path) -> str:
    """A store on a unix socket, for redis-py."""
    return f"unix://{quote(str(path))}?db=0"


def of_file(path: Path) -> str:
    """A SQLite database in the file `path`, which is absolute."""
    return f"sqlite:///{quote(str(path))}"


def for_kombu(url: str) -> str:
    """A broker as kombu spells it: `unix:///s.sock?db=1` is `redis+socket:///s.sock?virtual_host=1`.

    What kombu takes as options of the transport is left out, see `kombu_options`.  `rediss://` is made to check the
    certificate unless it says otherwise: kombu's own default takes any.
    """
    parts = urlsplit(url)
    if parts.scheme in ("sentinel", "amqps"):
        return parts._replace(query="").geturl()
    if parts.scheme == "rediss":
        return _checked(url)
    if parts.scheme != "unix":
        return url
    query = [("virtual_host" if name == "db" else name, value) for name, value in parse_qsl(parts.query)]
    if not any(name == "virtual_host" for name, _ in query):
        query.append(("virtual_host", "0"))
    return f"redis+socket://{parts.netloc}{parts.path}?{urlencode(query)}"


def _checked(url: str) -> str:
    if "ssl_cert_reqs" in _query(url):
        return url
    return f"{url}{'&' if urlsplit(url).query else '?'}ssl_cert_reqs=required"


def kombu_options(urls: str) -> dict[str, Any]:
    """What a broker's URLs say in their query and kombu takes as options of its transport.

    That is of `sentinel://host:26379/0?master_name=mymaster`: the name of the master, how many other sentinels must be
    known, and who we are to the sentinels (user and password before the host are those of the master).  Those that
    stand in the query of any of the URLs count for all.
    """
    query = {
        name: value for url in urls.split(";") if url.startswith("sentinel:") for name, value in _query(url).items()
    }
    if not query:
        return {}
    known = {name: query[f"sentinel_{name}"] for name in ("username", "password") if f"sentinel_{name}" in query}
    timeouts = {"socket_timeout": SENTINEL_TIMEOUT, "socket_connect_timeout": SENTINEL_TIMEOUT}
    options: dict[str, Any] = {"sentinel_kwargs": {**timeouts, **known}}
    if "master_name" in query:
        options["master_name"] = query["master_name"]
    if "min_other_sentinels" in query:
        options["min_other_sentinels"] = int(query["min_other_sentinels"])
    return options


def kombu_tls(urls: str) -> dict[str, Any] | None:
    """How `amqps://` is to be spoken, for kombu; None for other brokers.

    The certificate has to be valid, and for the host that the URL names: the library's own default takes one for any.
    `?ssl_ca_certs=`, `ssl_certfile=` and `ssl_keyfile=` are files, as with `rediss://`.
    """
    ours = [_query(url) for url in urls.split(";") if url.startswith("amqps:")]
    if not ours:
        return None
    named = {name.removeprefix("ssl_"): value for query in ours for name, value in query.items() if name in _TLS_FILES}
    return {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None, **named}


def sentinel_reason(urls: str) -> str:
    """What is wrong with the query of a broker's sentinel:// URLs; "" for nothing."""
    ours = [_query(url) for url in urls.split(";") if url.startswith("sentinel:")]
    names = {name for query in ours for name in query}
    if not ours:
        return ""
    if "master_name" not in names:
        return "needs the name of the master, as sentinel://10.0.0.5:26379/0?master_name=mymaster"
    if unknown := sorted(names - SENTINEL_QUERY):
        return f"sentinel:// knows {', '.join(sorted(SENTINEL_QUERY))}, not {', '.join(unknown)}"
    if not all(query.get("min_other_sentinels", "0").isdecimal() for query in ours):
        return "min_other_sentinels must be a whole number"
    return ""


def for_celery_results(url: str) -> str:
    """A result back end as Celery spells it, with the database drivers our extras bring."""
    for plain, with_driver in (("db+postgresql:", "db+postgresql+psycopg:"), ("db+mysql:", "db+mysql+pymysql:")):
        if url.startswith(plain):
            return with_driver + url.removeprefix(plain)
    return for_kombu(url)


def for_django(url: str) -> dict[str, Any]:
    """Django's DATABASES entry for `sqlite:///file`, `postgresql://…` or `mysql://…`."""
    scheme = urlsplit(url).scheme
    return {"sqlite": _sqlite, "postgresql": _postgresql, "postgres": _postgresql, "mysql": _mysql}[scheme](url)


def _sqlite(url: str) -> dict[str, Any]:
    path = unquote(urlsplit(url).path)
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(Path(path.removeprefix("/")).absolute()),  # sqlite:///name is relative, sqlite:////name is not
        "OPTIONS": {
            # WAL: readers never wait for the writer.  `synchronous` stays FULL, SQLite's own default: what was answered
            # 202 must survive a power cut too.
            "init_command": "PRAGMA journal_mode=WAL",
            # A transaction that begins as a reader and then writes fails at once with "database is locked", whatever
            # the timeout; one that begins as a writer waits its turn.
            "transaction_mode": "IMMEDIATE",
            "timeout": CONNECT_TIMEOUT,
        },
    }


def _postgresql(url: str) -> dict[str, Any]:
    pool = {"min_size": 0, "max_size": POOL_SIZE, "timeout": CONNECT_TIMEOUT}
    options = {"connect_timeout": CONNECT_TIMEOUT, "application_name": "millpond", **_query(url), "pool": pool}
    # CONN_HEALTH_CHECKS makes the pool replace connections that died, e.g. when the server was restarted.
    return {"ENGINE": "django.db.backends.postgresql", **_server(url), "OPTIONS": options, "CONN_HEALTH_CHECKS": True}


def _mysql(url: str) -> dict[str, Any]:
    options = {
        "charset": "utf8mb4",
        "connect_timeout": CONNECT_TIMEOUT,
        "isolation_level": "read committed",
        # Django sets it on PostgreSQL only, and here reads what the database's clock says as UTC all the same.
        "init_command": "SET time_zone = '+00:00'",
        **_query(url),
    }
    return {"ENGINE": "django.db.backends.mysql", **_server(url), "OPTIONS": options}


def _server(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "NAME": unquote(parts.path.removeprefix("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": str(parts.port or ""),
    }


def _query(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))
