"""The settings: every one has a default, takes good values and refuses bad ones; nothing secret is ever shown."""

import os
import ssl
import stat
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from asgi_app.env import SETTINGS, Env, SettingsError, available_cores, load_env
from asgi_app.environment import addresses
from asgi_app.environment.setting import unknown_settings

LONG = "correct-horse-battery-staple-0123456789-ABCDEFGHIJKLMN"
OTHER = "another-horse-battery-staple-9876543210-abcdefghijklmn"
SAFE = {"MILLPOND_ENV": "production", "MILLPOND_SECRET_KEY": LONG, "MILLPOND_ALLOWED_HOSTS": "dash.example.org"}


def load(home: Path, **settings: str) -> Env:
    """The settings given without their prefix, on a home of the test's own."""
    return load_env({"MILLPOND_HOME": str(home), **{f"MILLPOND_{name}": value for name, value in settings.items()}})


def problems(home: Path, **settings: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(home, **settings)
    return caught.value.problems


GOOD: list[tuple[str, str, Any]] = [
    ("REDIS_URL", "redis://cache:6379/1", "redis://cache:6379/1"),
    ("REDIS_URL", "rediss://:pw@cache/0", "rediss://:pw@cache/0"),
    ("REDIS_URL", "unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
    ("BROKER_URL", "amqp://guest:guest@mq//", "amqp://guest:guest@mq//"),
    (
        "BROKER_URL",
        "sentinel://a:26379/0?master_name=m;sentinel://b:26379",
        "sentinel://a:26379/0?master_name=m;sentinel://b:26379",
    ),
    ("DATABASE_URL", "sqlite:////data/m.sqlite3", "sqlite:////data/m.sqlite3"),
    ("RESULT_BACKEND", "redis://results/3", "redis://results/3"),
    ("SERIALIZER", "msgpack", "msgpack"),
    ("ALLOW_YAML", "1", True),
    ("CACHE_STORE", "redis", "redis"),
    ("CACHE_STORE", "file", "file"),
    ("MEMCACHED", "a:11211,unix:/run/m.sock", ("a:11211", "unix:/run/m.sock")),
    ("APPS", "asgi_app.demo, asgi_app.demo", ("asgi_app.demo",)),
    ("SECRET_KEY", "short is allowed outside production", "short is allowed outside production"),
    ("TOKEN_SECRET", "shared", "shared"),
    ("ENV", "development", "development"),
    ("ALLOWED_HOSTS", "Example.org, 10.0.0.5,[::1]", ("example.org", "10.0.0.5", "[::1]")),
    (
        "ALLOWED_ORIGINS",
        "https://example.org:443,http://LOCALHOST:5173/",
        ("https://example.org", "http://localhost:5173"),
    ),
    ("ALLOWED_ORIGINS", "http://[::1]:8000", ("http://[::1]:8000",)),
    ("WEB_PROCESSES", "4", 4),
    ("WORKER_CONCURRENCY", "3", 3),
    ("WORKER_POOL", "threads", "threads"),
    ("DEFAULT_WAIT", "0.25", 0.25),
    ("ANONYMOUS", "False", False),
    ("MAX_VALUE", "2 MiB", 2 * 2**20),
    ("MAX_BODY", "1000", 1000),
    ("MAX_MESSAGE", "128kib", 128 * 2**10),
    ("MAX_CONNECTIONS", "5", 5),
    ("MAX_CONNECTIONS_PER_PRINCIPAL", "2", 2),
    ("MAX_SUBSCRIPTIONS", "1", 1),
    ("COMMAND_RATE", "10", 10),
    ("QUEUE_LIMIT", "1", 1),
    ("MAX_WAITING_PER_PRINCIPAL", "0", 0),
    ("MAX_RUNNING_PER_PRINCIPAL", "3", 3),
    ("JOB_RETENTION", "3600", 3600.0),
    ("KEY_RATE", "1", 1),
    ("KEY_BYTES", "1 MiB", 2**20),
    ("NEAR", "0", 0),
    ("NEAR", "128 MiB", 2**27),
    ("SIGN_VALUES", "true", True),
    ("WEBHOOK_ALLOW", "10.1.0.0/16, fd00::1", (ip_network("10.1.0.0/16"), ip_network("fd00::1/128"))),
    ("NAMESPACE", "team-a_2", "team-a_2"),
]

BAD: list[tuple[str, str, str]] = [
    ("REDIS_URL", "http://cache", "redis://, rediss://, unix://"),
    ("REDIS_URL", "redis://", "must be a URL"),
    ("REDIS_URL", "unix://", "must be a URL"),
    ("REDIS_URL", "redis://cache:port", "must be a URL"),
    ("BROKER_URL", "sqs://queue", "amqp://"),
    ("BROKER_URL", "redis://a;http://b", "must be a URL"),
    ("BROKER_URL", "sentinel://a:26379", "?master_name=mymaster"),
    ("BROKER_URL", "sentinel://a?master_name=m&master=n", "not master"),
    ("BROKER_URL", "sentinel://a?master_name=m&min_other_sentinels=two", "whole number"),
    ("DATABASE_URL", "oracle://db", "postgresql://"),
    ("DATABASE_URL", "sqlite://", "must be a URL"),
    ("DATABASE_URL", "sqlite:///:memory:", "must be a file"),
    ("RESULT_BACKEND", "mongodb://db", "db+postgresql://"),
    ("SERIALIZER", "pickle", "could run code on every worker"),
    ("SERIALIZER", "yaml", "MILLPOND_ALLOW_YAML=true"),
    ("SERIALIZER", "xml", "json or msgpack"),
    ("ALLOW_YAML", "yes", "true or false"),
    ("CACHE_STORE", "no such", "name of a cache"),
    ("MEMCACHED", "localhost", "host:port"),
    ("APPS", "my-dash", "importable packages"),
    ("APPS", "no_such_package_here", "there is no module no_such_package_here"),
    ("APPS", "json", "there is no module json.resources"),
    ("APPS", "__main__", "there is no module __main__"),
    ("ENV", "staging", "development or production"),
    ("ALLOWED_HOSTS", "https://example.org", "without scheme or port"),
    ("ALLOWED_HOSTS", "example.org:80", "without scheme or port"),
    ("ALLOWED_ORIGINS", "example.org", "must be origins"),
    ("ALLOWED_ORIGINS", "https://*.example.org", "must be origins"),
    ("ALLOWED_ORIGINS", "https://example.org/path", "must be origins"),
    ("ALLOWED_ORIGINS", "*", "must be origins"),
    ("WEB_PROCESSES", "0", "from 1 to 256"),
    ("WORKER_CONCURRENCY", "many", "from 1 to 1024"),
    ("WORKER_POOL", "gevent", "prefork or threads"),
    ("DEFAULT_WAIT", "31", "from 0 to 30"),
    ("DEFAULT_WAIT", "nan", "from 0 to 30"),
    ("DEFAULT_WAIT", "inf", "from 0 to 30"),
    ("ANONYMOUS", "maybe", "true or false"),
    ("MAX_VALUE", "1 GiB", "from 64 B to 256 MiB"),
    ("MAX_BODY", "1.5 MiB", "as 65536 or 64 KiB"),
    ("MAX_MESSAGE", "-1", "from 64 B to 16 MiB"),
    ("MAX_CONNECTIONS", "0", "whole number"),
    ("MAX_CONNECTIONS_PER_PRINCIPAL", "1e3", "whole number"),
    ("MAX_SUBSCRIPTIONS", "٣", "whole number"),
    ("COMMAND_RATE", "0", "whole number"),
    ("QUEUE_LIMIT", "0", "whole number"),
    ("MAX_WAITING_PER_PRINCIPAL", "-1", "whole number"),
    ("MAX_RUNNING_PER_PRINCIPAL", "many", "whole number"),
    ("JOB_RETENTION", "1", "60"),
    ("KEY_RATE", "1_000", "whole number"),
    ("KEY_BYTES", "1", "64 KiB"),
    ("NEAR", "-1", "must be a size"),
    ("SIGN_VALUES", "maybe", "true or false"),
    ("WEBHOOK_ALLOW", "10.1.0.0/8", "must be networks"),
    ("WEBHOOK_ALLOW", "intranet", "must be networks"),
    ("NAMESPACE", "Team A", "a-z, 0-9"),
]


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_a_good_value_is_taken(tmp_path: Path, name: str, text: str, value: Any) -> None:
    """Each setting is read into its typed value."""
    assert getattr(load(tmp_path, **{name: text}), name.lower()) == value


@pytest.mark.parametrize(("name", "text", "reason"), BAD)
def test_a_bad_value_is_refused_with_what_is_allowed(tmp_path: Path, name: str, text: str, reason: str) -> None:
    """The message names the setting and says what is allowed."""
    (problem,) = problems(tmp_path, **{name: text})
    assert problem.startswith(f"MILLPOND_{name}")
    assert reason in problem


def test_the_tables_of_this_file_cover_every_setting() -> None:
    """No setting is added without an example of a good value; all but free texts also have a bad one."""
    names = {setting.name.removeprefix("MILLPOND_") for setting in SETTINGS}
    assert names - {"HOME"} == {name for name, _, _ in GOOD}
    assert names - {"HOME", "SECRET_KEY", "TOKEN_SECRET"} == {name for name, _, _ in BAD}


def test_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    """Without any variable the service runs on one machine, embedded, for development."""
    env = load(tmp_path)
    assert (env.redis_url, env.broker_url, env.database_url, env.result_backend) == (None, None, None, None)
    assert (env.serializer, env.cache_store, env.apps, env.env, env.anonymous) == (
        "json",
        "redis",
        (),
        "development",
        True,
    )
    assert (env.max_value, env.max_body, env.max_message) == (16 * 2**20, 2**20, 64 * 2**10)
    assert (env.max_connections, env.max_connections_per_principal) == (20000, 1000)
    assert (env.max_subscriptions, env.command_rate, env.queue_limit, env.key_rate) == (128, 200, 10000, 1000)
    assert (env.key_bytes, env.near, env.sign_values) == (256 * 2**20, 64 * 2**20, False)
    assert (env.web_processes, env.worker_concurrency, env.default_wait) == (1, available_cores(), 1.0)
    assert env.allowed_hosts == ("localhost", "127.0.0.1", "[::1]")


def test_an_empty_variable_is_an_unset_one(tmp_path: Path) -> None:
    """Compose files pass unset variables as empty texts."""
    empty = {setting.name.removeprefix("MILLPOND_"): " " for setting in SETTINGS if setting.name != "MILLPOND_HOME"}
    assert load(tmp_path, **empty) == load(tmp_path)


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    """One start, one message, every bad setting; nobody repairs them one by one."""
    found = problems(
        tmp_path, ENV="production", SERIALIZER="pickle", MAX_BODY="big", ALLOWED_ORIGINS="http://example.org"
    )
    assert [problem.split("=")[0].split(":")[0] for problem in found] == [
        "MILLPOND_SERIALIZER",
        "MILLPOND_MAX_BODY",
        "MILLPOND_SECRET_KEY",
        "MILLPOND_ALLOWED_HOSTS",
        "MILLPOND_ALLOWED_ORIGINS",
    ]


def test_no_message_or_repr_shows_a_secret(tmp_path: Path) -> None:
    """Messages end in logs, and logs are read by many."""
    secret = "hunter2hunter2"
    for setting in SETTINGS:
        if setting.secret:
            name = setting.name.removeprefix("MILLPOND_")
            for value in (secret, f"redis://u:{secret}@h:{secret}/0", f"postgresql://u:{secret}/x@h/d"):
                try:
                    shown = repr(load(tmp_path, **{name: value}))
                except SettingsError as error:
                    shown = str(error)
                assert secret not in shown


def test_every_secret_can_come_from_a_file(tmp_path: Path) -> None:
    """A file's content counts, without the line break editors leave behind."""
    (tmp_path / "secret").write_text("redis://from-file:6379/0\n")
    for setting in SETTINGS:
        if setting.secret:
            given = {f"{setting.name}_FILE": str(tmp_path / "secret"), "MILLPOND_HOME": str(tmp_path)}
            if setting.name == "MILLPOND_DATABASE_URL":
                (tmp_path / "secret").write_text("sqlite:////data/from-file\n")
            assert "from-file" in getattr(load_env(given), setting.field)
            (tmp_path / "secret").write_text("redis://from-file:6379/0\n")


def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """So is a secret that was given twice."""
    assert "cannot read" in problems(tmp_path, SECRET_KEY_FILE=str(tmp_path / "missing"))[0]
    assert "keep one of them" in problems(tmp_path, SECRET_KEY="a", SECRET_KEY_FILE="b")[0]


def test_a_plain_setting_has_no_file_form(tmp_path: Path) -> None:
    """NAME_FILE is for secrets; elsewhere it would hide where a value comes from."""
    assert load(tmp_path, ENV_FILE=str(tmp_path / "missing")).env == "development"


def test_the_generated_secret_is_kept_and_private(tmp_path: Path) -> None:
    """Every process of one home signs with the same key, and nobody else can read it."""
    first, second = load(tmp_path / "home"), load(tmp_path / "home")
    assert first.secret_key == second.secret_key
    assert len(first.secret_key) >= 50
    assert stat.S_IMODE((tmp_path / "home" / "secret_key").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["secret_key"]


def test_an_empty_generated_secret_is_not_used(tmp_path: Path) -> None:
    """A full disk may leave an empty file: an empty key would sign for anybody."""
    (tmp_path / "secret_key").touch()
    assert "is empty" in problems(tmp_path)[0]


def test_the_token_secret_follows_from_the_secret_key(tmp_path: Path) -> None:
    """All processes agree on it, and it does not give the key away."""
    env = load(tmp_path, SECRET_KEY=LONG)
    assert env.token_secret == load(tmp_path / "elsewhere", SECRET_KEY=LONG).token_secret
    assert len(env.token_secret) >= 32
    assert LONG not in env.token_secret


def test_a_safe_production_starts(tmp_path: Path) -> None:
    """With its origins following from its hosts, by https, and without a generated key."""
    env = load_env({**SAFE, "MILLPOND_HOME": str(tmp_path / "home")})
    assert env.production
    assert env.allowed_origins == ("https://dash.example.org",)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"MILLPOND_SECRET_KEY": ""}, "MILLPOND_SECRET_KEY"),
        ({"MILLPOND_SECRET_KEY": "short"}, "MILLPOND_SECRET_KEY"),
        ({"MILLPOND_SECRET_KEY": "ab" * 40}, "MILLPOND_SECRET_KEY"),
        ({"MILLPOND_SECRET_KEY": "0123456789" * 6}, "MILLPOND_SECRET_KEY"),
        ({"MILLPOND_SECRET_KEY": LONG[:27] * 2}, "MILLPOND_SECRET_KEY"),
        ({"MILLPOND_SECRET_KEY": f"django-insecure-{LONG}"}, "MILLPOND_SECRET_KEY"),
        ({"MILLPOND_SECRET_KEY": f"please-Change-Me-{LONG}"}, "MILLPOND_SECRET_KEY"),
        ({"MILLPOND_SECRET_KEY": f"{LONG}-changeme"}, "MILLPOND_SECRET_KEY"),
        ({"MILLPOND_TOKEN_SECRET": "0123456789abcdef" * 2}, "MILLPOND_TOKEN_SECRET"),
        ({"MILLPOND_TOKEN_SECRET": f"replace this {LONG}"}, "MILLPOND_TOKEN_SECRET"),
        ({"MILLPOND_TOKEN_SECRET": "short"}, "MILLPOND_TOKEN_SECRET"),
        ({"MILLPOND_TOKEN_SECRET": LONG}, "MILLPOND_TOKEN_SECRET"),
        ({"MILLPOND_ALLOWED_HOSTS": ""}, "MILLPOND_ALLOWED_HOSTS"),
        ({"MILLPOND_ALLOWED_HOSTS": "*"}, "MILLPOND_ALLOWED_HOSTS"),
        ({"MILLPOND_ALLOWED_HOSTS": ".example.org"}, "MILLPOND_ALLOWED_HOSTS"),
        ({"MILLPOND_ALLOWED_ORIGINS": "http://dash.example.org"}, "MILLPOND_ALLOWED_ORIGINS"),
        ({"MILLPOND_ALLOWED_ORIGINS": "http://localhost.example.org"}, "MILLPOND_ALLOWED_ORIGINS"),
    ],
)
def test_production_refuses_what_is_unsafe(tmp_path: Path, changed: dict[str, str], named: str) -> None:
    """And says which setting it is."""
    with pytest.raises(SettingsError) as caught:
        load_env({**SAFE, "MILLPOND_HOME": str(tmp_path), **changed})
    (problem,) = caught.value.problems
    assert problem.startswith(named)


def test_production_takes_a_long_token_secret_and_local_http_origins(tmp_path: Path) -> None:
    """Another back end may mint tokens, and a developer's own machine may be an origin."""
    given = {**SAFE, "MILLPOND_TOKEN_SECRET": OTHER, "MILLPOND_ALLOWED_ORIGINS": "http://localhost:5173"}
    env = load_env({**given, "MILLPOND_HOME": str(tmp_path)})
    assert (env.token_secret, env.allowed_origins) == (OTHER, ("http://localhost:5173",))


def test_home_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that changes its directory later still finds its state."""
    monkeypatch.chdir(tmp_path)
    assert load_env({}).home == tmp_path / ".millpond"


def test_the_embedded_store_is_found_from_home_alone(tmp_path: Path) -> None:
    """Every command given the same home computes the same address, for each library in its own words."""
    home = Path("/srv/pond#1")
    env = load_env({**SAFE, "MILLPOND_HOME": str(home)})
    assert env.store_socket == home / "run" / "store.sock"
    assert env.store_url == "unix:///srv/pond%231/run/store.sock?db=0"
    assert env.broker == "redis+socket:///srv/pond%231/run/store.sock?virtual_host=0"
    assert env.database["NAME"] == "/srv/pond#1/millpond.sqlite3"


def test_a_home_too_deep_for_a_socket_gets_a_short_one() -> None:
    """AF_UNIX paths end at about 107 bytes; two homes and two users never share one."""
    deep = Path("/") / ("d" * 60) / ("e" * 60)
    path = addresses.socket_path(deep, 1000)
    assert len(bytes(path)) <= addresses.SOCKET_PATH_LIMIT
    assert path == addresses.socket_path(deep, 1000)
    assert len({path, addresses.socket_path(deep, 1001), addresses.socket_path(deep / "f", 1000)}) == 3


def test_the_broker_is_the_store_unless_named(tmp_path: Path) -> None:
    """A URL for redis-py is translated for kombu, each part of a list of them."""
    assert load(tmp_path, REDIS_URL="redis://h/1").broker == "redis://h/1"
    assert load(tmp_path, REDIS_URL="redis://h/1", BROKER_URL="amqp://mq").broker == "amqp://mq"
    assert load(tmp_path, BROKER_URL="unix://:pw@/s.sock?db=3").broker == "redis+socket://:pw@/s.sock?virtual_host=3"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("rediss://h/0", "rediss://h/0?ssl_cert_reqs=required"),
        ("rediss://h/0?ssl_ca_certs=/ca.pem", "rediss://h/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required"),
        ("rediss://h/0?ssl_cert_reqs=none", "rediss://h/0?ssl_cert_reqs=none"),
    ],
)
def test_a_certificate_is_checked_unless_told_otherwise(tmp_path: Path, given: str, meant: str) -> None:
    """Celery's own default over TLS is to take any certificate; that has to be asked for."""
    env = load(tmp_path, REDIS_URL=given, RESULT_BACKEND=given)
    assert (env.broker, env.results) == (meant, meant)


def test_a_rabbitmq_over_tls_is_who_its_url_names(tmp_path: Path) -> None:
    """The certificate has to be for that host; the library's own default takes one for any."""
    env = load(tmp_path, BROKER_URL="amqps://mq/vhost?ssl_ca_certs=/ca.pem")
    assert env.broker == "amqps://mq/vhost"
    assert env.broker_tls == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None, "ca_certs": "/ca.pem"}
    assert load(tmp_path, BROKER_URL="amqp://mq").broker_tls is None


def test_what_a_sentinel_url_says_reaches_the_transport(tmp_path: Path) -> None:
    """Addresses go into the URL, the rest into the options, and the timeouts are there unasked."""
    urls = "sentinel://:pw@a:26379/1?master_name=m&sentinel_password=s&min_other_sentinels=1;sentinel://b"
    env = load(tmp_path, BROKER_URL=urls)
    assert env.broker == "sentinel://:pw@a:26379/1;sentinel://b"
    assert env.broker_options == {
        "master_name": "m",
        "min_other_sentinels": 1,
        "sentinel_kwargs": {"password": "s", "socket_timeout": 2, "socket_connect_timeout": 2},
    }
    assert load(tmp_path, BROKER_URL="redis://h").broker_options == {}


def test_result_backends_name_the_drivers_we_bring() -> None:
    """SQLAlchemy would otherwise look for psycopg2 and mysqlclient."""
    assert addresses.for_celery_results("db+postgresql://u@h/d") == "db+postgresql+psycopg://u@h/d"
    assert addresses.for_celery_results("db+mysql://u@h/d") == "db+mysql+pymysql://u@h/d"
    assert addresses.for_celery_results("redis://h/1") == "redis://h/1"


def test_sqlite_waits_its_turn_and_never_blocks_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WAL, transactions that begin as writers, and a busy timeout; three slashes are relative, four absolute."""
    monkeypatch.chdir(tmp_path)
    database = addresses.for_django("sqlite:///data/m.sqlite3")
    assert database["NAME"] == str(tmp_path / "data" / "m.sqlite3")
    assert addresses.for_django("sqlite:////data/m.sqlite3")["NAME"] == "/data/m.sqlite3"
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert "journal_mode=WAL" in database["OPTIONS"]["init_command"]
    assert database["OPTIONS"]["timeout"] == addresses.CONNECT_TIMEOUT


def test_a_server_database_is_taken_apart() -> None:
    """Quoted characters are decoded, options go to the driver, and PostgreSQL gets a bounded pool."""
    database = addresses.for_django("postgresql://us%40er:p%2Fw@db.example:5433/live?sslmode=require")
    assert (database["USER"], database["PASSWORD"], database["HOST"]) == ("us@er", "p/w", "db.example")
    assert (database["PORT"], database["NAME"]) == ("5433", "live")
    assert database["OPTIONS"]["sslmode"] == "require"
    assert database["OPTIONS"]["pool"]["max_size"] == addresses.POOL_SIZE
    mysql = addresses.for_django("mysql://root@localhost/live")
    assert mysql["ENGINE"] == "django.db.backends.mysql"
    assert mysql["OPTIONS"]["charset"] == "utf8mb4"


def test_packages_are_found_without_being_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading settings must not import a user's code: Django is not set up yet."""
    package = tmp_path / "outer_pkg" / "inner"
    package.mkdir(parents=True)
    for directory in (package.parent, package):
        (directory / "__init__.py").write_text("raise RuntimeError('was imported')")
    (package / "resources.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load(tmp_path, APPS="outer_pkg.inner").apps == ("outer_pkg.inner",)


def test_strangers_are_noticed_with_what_was_probably_meant() -> None:
    """A misspelt setting has no effect, and `millpond check` says so."""
    environ = {"MILLPOND_REDISURL": "x", "MILLPOND_PORT": "tcp://10.0.0.1:8000", "MILLPOND_HOME": ".", "PATH": ""}
    environ |= {"MILLPOND_SECRET_KEY_FILE": "x", "MILLPOND_ROLE": "web"}
    assert unknown_settings(environ) == {"MILLPOND_PORT": "", "MILLPOND_REDISURL": "MILLPOND_REDIS_URL"}


def test_cores_are_at_least_one_and_at_most_those_of_the_machine() -> None:
    """A container's quota counts, not the machine it runs on."""
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
