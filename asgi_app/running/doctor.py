"""`millpond check`: what does this installation stand on, and does it stand?

Every finding is ok, or says what to do.  Nothing is changed, and nothing waits longer than a few seconds.
"""

import asyncio
import io
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from asgi_app.env import Env, SettingsError, env
from asgi_app.environment.setting import unknown_settings
from asgi_app.running import embedded
from cache_layer.keys import Names
from cache_layer.tracking import Refused, Route

#: seconds a service may take to answer
PATIENCE = 2.0
_PACKAGES = ("Django", "channels", "celery", "redis", "uvicorn", "msgspec")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    name: str
    ok: bool
    #: what was found, and where it is not ok what to do
    text: str

    def __str__(self) -> str:
        return f"{self.name:<10} {'ok' if self.ok else 'WRONG':<6} {self.text}"


def examine(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Look at everything, the cheapest first.

    Stops after the settings when they are wrong: all else depends on them.
    """
    yield Finding(
        "versions",
        True,
        ", ".join(f"{name} {version(name)}" for name in _PACKAGES) + f", Python {platform.python_version()}",
    )
    try:
        settings = env()
    except SettingsError as error:
        yield from (Finding("settings", False, problem) for problem in error.problems)
        return
    yield Finding("settings", True, f"{settings.env}, home {settings.home}")
    for name, meant in unknown_settings(environ).items():
        yield Finding(
            "settings", True, f"{name} is not a setting{f', did you mean {meant}?' if meant else ' and has no effect'}"
        )
    yield from _store_and_roles(settings)
    yield _broker(settings)
    yield from _django(settings)


def _store_and_roles(settings: Env) -> Iterator[Finding]:
    try:
        yield from asyncio.run(_ask_store(settings))
    except (RedisError, OSError) as error:
        where = (
            "at MILLPOND_REDIS_URL"
            if settings.redis_url
            else f"at {settings.store_socket}: is `millpond up` running with this home?"
        )
        yield Finding("store", False, f"no answer ({type(error).__name__}) {where}")
        yield _program(settings)
    else:
        yield _near(settings)


async def _ask_store(settings: Env) -> list[Finding]:
    options: dict[str, Any] = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE, "decode_responses": True}
    async with Redis.from_url(settings.store_url, retry=Retry(NoBackoff(), 0), **options) as client:
        info = await client.info("server")
        names = Names(settings.namespace)
        alive = {role: bool(await client.exists(names.role(role))) for role in ("worker", "scheduler")}
    return [_version(info), *(_role(role, present) for role, present in alive.items())]


def _version(info: Mapping[str, Any]) -> Finding:
    product = "Valkey" if "valkey_version" in info else "Redis"
    number = str(info.get("valkey_version") or info["redis_version"])
    enough = tuple(int(part) for part in number.split(".")[:2]) >= embedded.OLDEST
    wanted = "" if enough else f": {'.'.join(map(str, embedded.OLDEST))} or newer is needed"
    return Finding("store", enough, f"{product} {number}{wanted}")


def _role(role: str, present: bool) -> Finding:
    return Finding(
        role,
        present,
        "alive" if present else f"shows no sign of life: start one with `millpond {role}`, or all with `millpond up`",
    )


def _near(settings: Env) -> Finding:
    """Whether web processes can keep values in their own memory: the store must tell them what changes."""
    if settings.cache_store != "redis":
        return Finding("near", True, "off: values are not kept in the store (MILLPOND_CACHE_STORE)")
    if not settings.near:
        return Finding("near", True, "off: every value is read from the store (MILLPOND_NEAR=0)")
    try:
        Route(url=settings.store_url, prefixes=Names(settings.namespace).tracked()).connect(lambda _: None).close()
    except Refused as error:
        return Finding("near", True, f"off: the store refuses tracking ({error}), every value is read from it")
    except (RedisError, OSError) as error:
        return Finding("near", False, f"no answer ({type(error).__name__}) to a tracking connection")
    return Finding("near", True, f"on: {settings.near // 2**20} MiB a web process, coherent by tracking")


def _program(settings: Env) -> Finding:
    """Whether `millpond up` would find a store to start."""
    if settings.redis_url:
        return Finding("embedded", True, "not needed")
    try:
        return Finding("embedded", True, f"`millpond up` would start {embedded.find_server()}")
    except embedded.NoStore as error:
        return Finding("embedded", False, str(error))


def _broker(settings: Env) -> Finding:
    if settings.broker_url is None:
        return Finding("broker", True, "the store")
    from kombu import Connection

    try:
        patience = "read_timeout" if settings.on_rabbitmq else "socket_timeout"
        options = {patience: PATIENCE, **settings.broker_options}
        with Connection(
            settings.broker, connect_timeout=PATIENCE, transport_options=options, ssl=settings.broker_tls or False
        ) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=int(PATIENCE))
            return Finding("broker", True, f"{connection.transport.driver_type} answers{_not_checked(settings)}")
    except Exception as error:  # each transport has errors of its own, and all mean the same here
        return Finding("broker", False, f"no answer ({type(error).__name__}) at MILLPOND_BROKER_URL")


def _not_checked(settings: Env) -> str:
    loose = settings.broker.startswith("rediss:") and "ssl_cert_reqs=none" in settings.broker.lower()
    return ", its certificate is not checked (ssl_cert_reqs=none)" if loose else ""


def _django(settings: Env) -> Iterator[Finding]:
    import django
    from django.core.checks import ERROR, run_checks

    try:
        django.setup()
    except Exception as error:  # whatever the modules in MILLPOND_APPS do when they are imported
        yield Finding("apps", False, f"{type(error).__name__}: {error}")
        return
    serious = [message for message in run_checks() if message.level >= ERROR]
    yield from (Finding("apps", False, str(message)) for message in serious)
    if not serious:
        yield Finding("apps", True, "declarations are valid")
    yield _database()
    yield _values(settings.cache_store)


def _database() -> Finding:
    from django.core.management import call_command
    from django.db import Error, connection

    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        pending = io.StringIO()
        call_command("showmigrations", plan=True, stdout=pending, no_color=True)
    except (Error, OSError) as error:
        return Finding("database", False, f"no answer ({type(error).__name__}): see MILLPOND_DATABASE_URL")
    missing = pending.getvalue().count("[ ]")
    state = f"{missing} migrations are pending: run `millpond migrate`" if missing else "all migrations are applied"
    return Finding("database", not missing, f"{connection.display_name}, {state}")


def _values(alias: str) -> Finding:
    """Where the values are kept, and whether it answers."""
    from asgi_app import stores

    if alias == stores.REDIS:
        return Finding("values", True, "kept in the store")
    try:
        return Finding("values", True, f"kept in {stores.probe(alias)}")
    except Exception as error:  # each back end has errors of its own, and all mean the same here
        return Finding(
            "values", False, f"no answer ({type(error).__name__}: {error}) of {alias}: see MILLPOND_CACHE_STORE"
        )
