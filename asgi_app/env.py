"""The environment, parsed once into a frozen `Env`.

Invariant: whoever holds an `Env` holds a complete and valid one.  Every bad setting is reported at once, and no secret
is part of a message.  What can be set stands in `asgi_app/environment/setting.py`, what may not be in
`asgi_app/environment/setting_rules.py`.
"""

import errno
import functools
import hashlib
import hmac
import importlib
import math
import os
import secrets
import sys
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal

import msgspec

from asgi_app.environment import addresses
from asgi_app.environment.setting import SETTINGS as SETTINGS
from asgi_app.environment.setting_rules import unsafe, unusable

#: Packages of ours with names a user's directory may have, too.  They are imported before it is on the path: what is
#: installed editable is looked for after the whole path, so that being last on it is not enough.
_OURS = ("cache_layer", "consumers", "tasks")


class SettingsError(Exception):
    """The settings cannot be used.  `problems` names every one of them."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = "a setting is" if len(problems) == 1 else f"{len(problems)} settings are"
        super().__init__("\n  ".join([f"{count} wrong:", *problems]))


class Env(msgspec.Struct, frozen=True, kw_only=True):
    """All settings, valid.  Field names are the names of `SETTINGS` without their prefix; see there for meanings."""

    home: Path
    redis_url: str | None
    broker_url: str | None
    database_url: str | None
    result_backend: str | None
    serializer: Literal["json", "msgpack", "yaml"]
    allow_yaml: bool
    #: `redis`, or one of Django's CACHES
    cache_store: str
    memcached: tuple[str, ...]
    apps: tuple[str, ...]
    secret_key: str
    token_secret: str
    env: Literal["development", "production"]
    allowed_hosts: tuple[str, ...]
    #: exact origins beside the page's own; in production never empty
    allowed_origins: tuple[str, ...]
    web_processes: int
    worker_concurrency: int
    worker_pool: Literal["prefork", "threads"]
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
    #: jobs of one user; 0: any number
    max_waiting_per_principal: int
    max_running_per_principal: int
    #: seconds
    job_retention: float
    key_rate: int
    key_bytes: int
    #: bytes; 0: none
    near: int
    sign_values: bool
    #: besides public addresses
    webhook_allow: tuple[IPv4Network | IPv6Network, ...]
    namespace: str

    def __repr__(self) -> str:
        """Without a single value: an Env holds secrets, and reprs end in logs."""
        return f"<Env {self.env} home={self.home}>"

    @property
    def production(self) -> bool:
        return self.env == "production"

    @property
    def value_secret(self) -> bytes:
        """What values in the store are signed with; b"": they are not."""
        signer = self.secret_key.encode()
        return hmac.digest(signer, b"millpond: values", "sha256") if self.sign_values else b""

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
    def broker_options(self) -> dict[str, Any]:
        """What the broker's URL says besides where it is, for kombu's transport."""
        return addresses.kombu_options(self.broker_url or "")

    @property
    def broker_tls(self) -> dict[str, Any] | None:
        """How `amqps://` is to be spoken, for kombu."""
        return addresses.kombu_tls(self.broker_url or "")

    @property
    def on_rabbitmq(self) -> bool:
        """Whether the broker speaks AMQP."""
        return self.broker.startswith("amqp")

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
    for package in _OURS:
        importlib.import_module(package)
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
    problems += unusable(values)
    if values.get("env") == "production":
        problems += unsafe(values, environ)
    try:
        _complete(values)
    except OSError as error:
        problems.append(f"MILLPOND_HOME={values['home']}: cannot keep the secret key there: {error.strerror}")
    if problems:
        raise SettingsError(problems)
    return Env(**values)


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
