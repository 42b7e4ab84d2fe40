"""The environment, parsed once into a frozen `Env`.  Everything that can be configured stands in one table, `SETTINGS`.

Invariant: whoever holds an `Env` holds a complete and valid one.  Every bad setting is reported at once, and no secret is
ever part of a message.  An empty variable counts as unset.  Every secret `NAME` may instead be the content of the file
`NAME_FILE`.
"""

import errno
import functools
import hashlib
import hmac
import importlib.machinery
import importlib.util
import math
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from asgi_app import addresses, readers

PREFIX = "MILLPOND_"
#: variables the commands of Millpond pass to their own child processes; not settings
INTERNAL = frozenset({"MILLPOND_ROLE", "MILLPOND_PARENT"})
#: characters of a secret that is safe to sign with (Django's own bar for SECRET_KEY); RFC 7518 3.2 wants 32 bytes for
#: HS256
SECRET_KEY_LENGTH, TOKEN_SECRET_LENGTH = 50, 32
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")

_REDIS = ("redis", "rediss", "unix")
_BROKERS = ("redis", "rediss", "unix", "redis+socket", "sentinel", "amqp", "amqps")
_DATABASES = ("sqlite", "postgresql", "postgres", "mysql")
_RESULTS = ("redis", "rediss", "unix", "db+postgresql", "db+mysql")
#: module a URL scheme needs, and the extra that brings it
_DRIVERS = {
    "postgresql": ("psycopg", "postgres"),
    "postgres": ("psycopg", "postgres"),
    "mysql": ("pymysql", "mysql"),
    "db+postgresql": ("sqlalchemy", "results"),
    "db+mysql": ("sqlalchemy", "results"),
}


class SettingsError(Exception):
    """The settings cannot be used.  `problems` names every one of them."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = "a setting is" if len(problems) == 1 else f"{len(problems)} settings are"
        super().__init__("\n  ".join([f"{count} wrong:", *problems]))


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
        help="Celery broker: `redis://`, `rediss://`, `sentinel://`, `unix://` socket, `amqp://`, `amqps://`",
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
        name="MILLPOND_CACHE_STORE", read=readers.cache_store, default="redis", help="where resources are kept: `redis`"
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
        help=f"signs sessions; required, with at least {SECRET_KEY_LENGTH} characters, when `MILLPOND_ENV=production`",
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
        help="processes of `millpond worker`",
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
        name="MILLPOND_KEY_RATE",
        read=readers.whole(1, 10_000_000),
        default="1000",
        help="new keys per minute per principal before 429",
    ),
    Setting(
        name="MILLPOND_NAMESPACE",
        read=readers.matching(r"[a-z0-9_-]{1,32}", "must be 1 to 32 of a-z, 0-9, _ and -"),
        default="millpond",
        help="first part of every key in the data store, so that several services can share one",
    ),
)


class Env(msgspec.Struct, frozen=True, kw_only=True):
    """All settings, valid.  Field names are the names of `SETTINGS` without their prefix; see there for meanings."""

    home: Path
    redis_url: str | None
    broker_url: str | None
    database_url: str | None
    result_backend: str | None
    serializer: Literal["json", "msgpack", "yaml"]
    allow_yaml: bool
    cache_store: str
    apps: tuple[str, ...]
    secret_key: str
    token_secret: str
    env: Literal["development", "production"]
    allowed_hosts: tuple[str, ...]
    #: exact origins beside the page's own; in production never empty
    allowed_origins: tuple[str, ...]
    web_processes: int
    worker_concurrency: int
    default_wait: float
    anonymous: bool
    max_value: int
    max_body: int
    max_message: int
    max_connections: int
    max_connections_per_principal: int
    max_subscriptions: int
    command_rate: int
    queue_limit: int
    key_rate: int
    namespace: str

    def __repr__(self) -> str:
        """Without a single value: an Env holds secrets, and reprs end in logs."""
        return f"<Env {self.env} home={self.home}>"

    @property
    def production(self) -> bool:
        return self.env == "production"

    @property
    def store_socket(self) -> Path:
        """Where the embedded store of this home listens, whether or not it runs."""
        return addresses.socket_path(self.home, os.getuid())

    @property
    def store_url(self) -> str:
        """The data store, for redis-py."""
        return self.redis_url or addresses.of_socket(self.store_socket)

    @property
    def broker(self) -> str:
        """Celery's broker, for kombu."""
        return ";".join(addresses.for_kombu(url) for url in (self.broker_url or self.store_url).split(";"))

    @property
    def results(self) -> str | None:
        """Celery's result back end, for Celery; None: there is none."""
        return addresses.for_celery_results(self.result_backend) if self.result_backend else None

    @property
    def database(self) -> dict[str, Any]:
        """Django's DATABASES["default"]."""
        return addresses.for_django(self.database_url or addresses.of_file(self.home / "millpond.sqlite3"))


@functools.cache
def env() -> Env:
    """The settings of this process, read once.  Puts the current directory on the path, for `MILLPOND_APPS`."""
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))
    settings = load_env()
    if settings.database_url is None:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)  # SQLite makes files, not directories
    return settings


def load_env(environ: Mapping[str, str] | None = None) -> Env:
    """Read the settings from `environ` (os.environ).  Raises SettingsError naming every bad one.

    Outside production a missing secret key is generated into home, once, readable by the owner only.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    problems: list[str] = []
    for setting in SETTINGS:
        try:
            values[setting.field] = setting.value(environ)
        except ValueError as error:
            problems.append(str(error))
    problems += _unusable(values)
    if values.get("env") == "production":
        problems += _unsafe(values, environ)
    try:
        _complete(values)
    except OSError as error:
        problems.append(f"MILLPOND_HOME={values['home']}: cannot keep the secret key there: {error.strerror}")
    if problems:
        raise SettingsError(problems)
    return Env(**values)


def unknown_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that look like settings and are none, each with the name that was probably meant ("" if none is near).


    Not an error: container platforms invent variables such as MILLPOND_PORT for a service of that name.
    """
    names = {setting.name for setting in SETTINGS} | {f"{setting.name}_FILE" for setting in SETTINGS if setting.secret}
    strangers = sorted(name for name in environ if name.startswith(PREFIX) and name not in names | INTERNAL)
    return {name: next(iter(get_close_matches(name, names, 1, 0.8)), "") for name in strangers}


def _unusable(values: Mapping[str, Any]) -> Iterator[str]:
    """What is well spelled and still cannot work here."""
    if values.get("serializer") == "yaml" and not values.get("allow_yaml"):
        yield "MILLPOND_SERIALIZER='yaml': must be opted into with MILLPOND_ALLOW_YAML=true"
    if ":memory:" in (values.get("database_url") or ""):
        yield "MILLPOND_DATABASE_URL: must be a file: a database in memory cannot be shared by several processes"
    for field in ("database_url", "result_backend"):
        module, extra = _DRIVERS.get((values.get(field) or "").partition(":")[0], ("sys", ""))
        if not _importable(module):
            yield f"{PREFIX}{field.upper()}: needs {module}, install it with: pip install 'millpond[{extra}]'"
    for app in values.get("apps", ()):
        missing = next((name for name in (app, f"{app}.resources") if not _importable(name)), None)
        if missing:
            yield f"MILLPOND_APPS={app}: there is no module {missing} on the path, which has the current directory too"


def _importable(name: str) -> bool:
    """Whether a module can be found.  Unlike `importlib.util.find_spec` this never runs the packages above it."""
    path: Any = None
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        found = _find(".".join(parts[:depth]), path)
        if found is None:
            return False
        path = found.submodule_search_locations
        if path is None and depth < len(parts):
            return False
    return True


def _find(name: str, path: Any) -> importlib.machinery.ModuleSpec | None:
    if path is None:
        return importlib.util.find_spec(name)
    finders = (finder.find_spec(name, path, None) for finder in sys.meta_path if hasattr(finder, "find_spec"))
    return next((spec for spec in finders if spec is not None), None)


def _unsafe(values: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    """What production refuses, because it would open the service to strangers."""
    key, token = values.get("secret_key"), values.get("token_secret")
    if key is None:
        yield "MILLPOND_SECRET_KEY: is required in production; a generated one would differ between machines"
    elif len(key) < SECRET_KEY_LENGTH or len(set(key)) < 10:
        yield f"MILLPOND_SECRET_KEY: must be at least {SECRET_KEY_LENGTH} random characters in production"
    if token is not None and (len(token.encode()) < TOKEN_SECRET_LENGTH or len(set(token)) < 10):
        yield f"MILLPOND_TOKEN_SECRET: must be at least {TOKEN_SECRET_LENGTH} random bytes in production"
    if token is not None and token == key:
        yield "MILLPOND_TOKEN_SECRET: must differ from MILLPOND_SECRET_KEY: who mints tokens must not sign sessions"
    if not environ.get("MILLPOND_ALLOWED_HOSTS", "").strip():
        yield "MILLPOND_ALLOWED_HOSTS: is required in production, e.g. dash.example.org"
    elif any(host.startswith(("*", ".")) for host in values.get("allowed_hosts", ())):
        yield f"MILLPOND_ALLOWED_HOSTS={environ['MILLPOND_ALLOWED_HOSTS']!r}: must be exact host names in production"
    plain = [
        origin for origin in values.get("allowed_origins") or () if origin.startswith("http:") and not _local(origin)
    ]
    if plain:
        yield f"MILLPOND_ALLOWED_ORIGINS={','.join(plain)!r}: must be https in production: others could act as a user"


def _local(origin: str) -> bool:
    return urlsplit(origin).hostname in {host.strip("[]") for host in LOCAL_HOSTS}


def _complete(values: dict[str, Any]) -> None:
    """Fill in what depends on the machine or on other settings."""
    home = values["home"] = Path(values["home"]).expanduser().absolute()
    values["worker_concurrency"] = values.get("worker_concurrency") or available_cores()
    production = values.get("env") == "production"
    if values.get("allowed_origins") is None:
        values["allowed_origins"] = tuple(f"https://{host}" for host in values.get("allowed_hosts", ()) if production)
    if values.get("secret_key") is None and not production:
        values["secret_key"] = _generated_secret(home / "secret_key")
    if values.get("token_secret") is None:
        signer = (values.get("secret_key") or "").encode()
        values["token_secret"] = hmac.new(signer, b"millpond: token secret", hashlib.sha256).hexdigest()


def available_cores() -> int:
    """Cores this process may use: its CPU affinity, and the quota of its container (cgroup v2)."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(usable, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or no quota ("max 100000")
        return usable


def _generated_secret(path: Path) -> str:
    """The secret in `path`, which is created when missing.  Of several processes that create it at once, one wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(64))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # unlike a rename this never replaces the key another process just made
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    secret = path.read_text(encoding="ascii").strip()
    if not secret:
        raise OSError(errno.EINVAL, f"{path.name} is empty, delete it")
    return secret
