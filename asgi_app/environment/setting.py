"""Everything that can be configured, in one table: name, type, default, help.  README shows the same table.

Invariant: a setting is read from the environment alone, and a secret is never part of a message.  An empty variable
counts as unset.  Every secret `NAME` may instead be the content of the file that `NAME_FILE` names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from asgi_app.environment import readers

PREFIX = "MILLPOND_"
#: variables the commands of Millpond pass to their own child processes; not settings
INTERNAL = frozenset({"MILLPOND_ROLE", "MILLPOND_PARENT"})

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")

_REDIS = ("redis", "rediss", "unix")
_BROKERS = ("redis", "rediss", "unix", "redis+socket", "sentinel", "amqp", "amqps")
_DATABASES = ("sqlite", "postgresql", "postgres", "mysql")
_RESULTS = ("redis", "rediss", "unix", "db+postgresql", "db+mysql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of the table."""

    name: str
    help: str
    #: text -> value; raises ValueError with what is allowed
    read: Callable[[str], Any] = readers.text
    #: what an unset variable means, as text; None: unset stays None
    default: str | None = None
    #: how the default reads to a person, where `default` does not say it
    shown: str = ""
    #: never shown, and readable from NAME_FILE
    secret: bool = False

    @property
    def field(self) -> str:
        return self.name.removeprefix(PREFIX).lower()

    @property
    def default_text(self) -> str:
        return self.shown or self.default or "(none)"

    def value(self, environ: Mapping[str, str]) -> Any:
        """The value in this environment.  Raises ValueError with the whole line to report."""
        try:
            given = self._given(environ)
            return None if given is None else self.read(given)
        except ValueError as error:
            shown = "" if self.secret else f"={environ.get(self.name, '')!r}"
            raise ValueError(f"{self.name}{shown}: {error}") from None

    def _given(self, environ: Mapping[str, str]) -> str | None:
        direct = environ.get(self.name, "").strip()
        file = environ.get(f"{self.name}_FILE", "").strip() if self.secret else ""
        if direct and file:
            raise ValueError(f"is set together with {self.name}_FILE: keep one of them")
        return (_content(Path(file)) if file else direct) or self.default


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None


SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="MILLPOND_HOME",
        default=".millpond",
        help="state of a single-machine run: database file, generated secret, sockets, logs",
    ),
    Setting(
        name="MILLPOND_REDIS_URL",
        read=readers.url(*_REDIS),
        shown="(embedded)",
        secret=True,
        help="the data store: `redis://`, `rediss://` or `unix://`; unset: `millpond up` starts a private Valkey",
    ),
    Setting(
        name="MILLPOND_BROKER_URL",
        read=readers.url(*_BROKERS, several=True),
        shown="the data store",
        secret=True,
        help="Celery broker: `redis://`, `rediss://`, `sentinel://…?master_name=…`, `unix://` socket, `amqp://`, "
        "`amqps://`",
    ),
    Setting(
        name="MILLPOND_DATABASE_URL",
        read=readers.url(*_DATABASES),
        shown="SQLite in home",
        secret=True,
        help="`sqlite:///`, `postgresql://` (extra `postgres`) or `mysql://` (extra `mysql`)",
    ),
    Setting(
        name="MILLPOND_RESULT_BACKEND",
        read=readers.url(*_RESULTS),
        secret=True,
        help="Celery result backend for plain Celery tasks of your own: `redis://`, or with the extra `results` "
        "`db+postgresql://`, `db+mysql://`",
    ),
    Setting(
        name="MILLPOND_SERIALIZER",
        read=readers.serializer,
        default="json",
        help="Celery message format: `json` or `msgpack`; `yaml` needs `MILLPOND_ALLOW_YAML`; `pickle` is refused",
    ),
    Setting(
        name="MILLPOND_ALLOW_YAML",
        read=readers.boolean,
        default="false",
        help="opt-in for `yaml` messages: slow to parse, and small ones can expand to very large ones",
    ),
    Setting(
        name="MILLPOND_CACHE_STORE",
        read=readers.cache_store,
        default="redis",
        help="where values are kept: `redis`, or one of Django's `CACHES`: `locmem`, `file`, `database`, `memcached` "
        "(extra `memcached`), `dummy`, or one of your own; asgi_app/STORES.md says what each promises",
    ),
    Setting(
        name="MILLPOND_MEMCACHED",
        read=readers.memcached,
        default="127.0.0.1:11211",
        help="servers of the cache `memcached`: `host:port` or `unix:/path`, comma-separated",
    ),
    Setting(
        name="MILLPOND_APPS",
        read=readers.packages,
        default="",
        shown="(empty)",
        help="comma-separated importable packages with a `resources.py`; the current directory is on the path",
    ),
    Setting(
        name="MILLPOND_SECRET_KEY",
        shown="generated in home",
        secret=True,
        help="signs sessions; required, with at least 50 characters, when `MILLPOND_ENV=production`",
    ),
    Setting(
        name="MILLPOND_TOKEN_SECRET",
        shown="derived from the secret key",
        secret=True,
        help="HS256 key of connection and subscription tokens, so that another back end may mint them; "
        "long in production",
    ),
    Setting(
        name="MILLPOND_ENV",
        read=readers.one_of("development", "production"),
        default="development",
        help="`production` refuses to start with an unsafe setting and says which",
    ),
    Setting(
        name="MILLPOND_ALLOWED_HOSTS",
        read=readers.hosts,
        default=",".join(LOCAL_HOSTS),
        shown="localhost",
        help="exact host names the service answers to, comma-separated; required in production",
    ),
    Setting(
        name="MILLPOND_ALLOWED_ORIGINS",
        read=readers.origins,
        shown="the same origin",
        help="exact origins (scheme, host, port) whose pages may use the session cookie, comma-separated; "
        "in production the default is https on every allowed host",
    ),
    Setting(
        name="MILLPOND_WEB_PROCESSES",
        read=readers.whole(1, 256),
        default="1",
        help="processes of `millpond web`, all on one port",
    ),
    Setting(
        name="MILLPOND_WORKER_CONCURRENCY",
        read=readers.whole(1, 1024),
        shown="cores",
        help="processes of `millpond worker`, or threads",
    ),
    Setting(
        name="MILLPOND_WORKER_POOL",
        read=readers.one_of("prefork", "threads"),
        default="prefork",
        help="what a worker runs jobs in: `prefork`, processes, which can be ended one by one; `threads` of one "
        "process, for work that waits for others",
    ),
    Setting(
        name="MILLPOND_DEFAULT_WAIT",
        read=readers.seconds(0, 30),
        default="1",
        help="seconds a GET without `Prefer` is held before it becomes a 202",
    ),
    Setting(
        name="MILLPOND_ANONYMOUS",
        read=readers.boolean,
        default="true",
        help="whether the public may connect (HTTP and websocket without credentials, public resources only)",
    ),
    Setting(
        name="MILLPOND_MAX_VALUE",
        read=readers.size("64 B", "256 MiB"),
        default="16 MiB",
        help="a resource's encoded value, in bytes or as `16 MiB`",
    ),
    Setting(name="MILLPOND_MAX_BODY", read=readers.size("64 B", "256 MiB"), default="1 MiB", help="an HTTP body"),
    Setting(
        name="MILLPOND_MAX_MESSAGE", read=readers.size("64 B", "16 MiB"), default="64 KiB", help="a websocket command"
    ),
    Setting(
        name="MILLPOND_MAX_CONNECTIONS",
        read=readers.whole(1, 1_000_000),
        default="20000",
        help="websockets and streams per process",
    ),
    Setting(
        name="MILLPOND_MAX_CONNECTIONS_PER_PRINCIPAL",
        read=readers.whole(1, 1_000_000),
        default="1000",
        help="websockets and streams per user or token and process; not counted for the public",
    ),
    Setting(
        name="MILLPOND_MAX_SUBSCRIPTIONS",
        read=readers.whole(1, 100_000),
        default="128",
        help="subscriptions per connection",
    ),
    Setting(
        name="MILLPOND_COMMAND_RATE",
        read=readers.whole(1, 100_000),
        default="200",
        help="commands per second per connection, bursts of twice that",
    ),
    Setting(
        name="MILLPOND_QUEUE_LIMIT",
        read=readers.whole(1, 10_000_000),
        default="10000",
        help="waiting jobs per queue before 503",
    ),
    Setting(
        name="MILLPOND_MAX_WAITING_PER_PRINCIPAL",
        read=readers.whole(0, 10_000_000),
        default="1000",
        help="waiting jobs of one user before 429, over all queues; `0`: any number; not counted for the public",
    ),
    Setting(
        name="MILLPOND_MAX_RUNNING_PER_PRINCIPAL",
        read=readers.whole(0, 10_000_000),
        default="0",
        help="jobs of one user that run at once, the others wait; `0`: any number; not counted for the public",
    ),
    Setting(
        name="MILLPOND_JOB_RETENTION",
        read=readers.seconds(60, 10 * 365 * 86400),
        default="604800",
        shown="7 days",
        help="seconds for which a job of an action is kept after its end, and its Idempotency-Key; one by the clock "
        "that went well: an hour",
    ),
    Setting(
        name="MILLPOND_KEY_RATE",
        read=readers.whole(1, 10_000_000),
        default="1000",
        help="new keys per minute per principal before 429",
    ),
    Setting(
        name="MILLPOND_KEY_BYTES",
        read=readers.size("64 KiB", "1024 GiB"),
        default="256 MiB",
        help="bytes of values of new keys per minute per principal before 429",
    ),
    Setting(
        name="MILLPOND_NEAR",
        read=readers.size("0", "64 GiB"),
        default="64 MiB",
        help="bytes of values each web process keeps in its own memory, coherent with the store; `0`: none",
    ),
    Setting(
        name="MILLPOND_SIGN_VALUES",
        read=readers.boolean,
        default="false",
        help="sign every value in the store (HMAC-SHA256), and take no unsigned one",
    ),
    Setting(
        name="MILLPOND_WEBHOOK_ALLOW",
        read=readers.networks,
        default="",
        shown="(empty)",
        help="networks webhooks may be sent to although they are not public, comma-separated, as `10.1.0.0/16`",
    ),
    Setting(
        name="MILLPOND_NAMESPACE",
        read=readers.matching(r"[a-z0-9_-]{1,32}", "must be 1 to 32 of a-z, 0-9, _ and -"),
        default="millpond",
        help="first part of every key in the data store, so that several services can share one",
    ),
)


def unknown_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that look like settings and are none, each with the name that was probably meant ("" if none is near).


    Not an error: container platforms invent variables such as MILLPOND_PORT for a service of that name.
    """
    names = {setting.name for setting in SETTINGS} | {f"{setting.name}_FILE" for setting in SETTINGS if setting.secret}
    strangers = sorted(name for name in environ if name.startswith(PREFIX) and name not in names | INTERNAL)
    return {name: next(iter(get_close_matches(name, names, 1, 0.8)), "") for name in strangers}
