"""The `millpond` command.

Its own commands are below; every other one is Django's (`millpond migrate`, `millpond shell`, …).
"""

import logging
import os
import signal
import sys
import warnings

import click

import asgi_app
from asgi_app.env import SettingsError, env
from asgi_app.environment.setting import LOCAL_HOSTS
from asgi_app.registry import DeclarationError
from asgi_app.running import lifeline

log = logging.getLogger("asgi_app")

_HOST = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
_PORT = click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port to listen on."
)
_DEFAULT_SCOPES = "read"


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every other command is Django's: see `millpond help`.",
)
@click.version_option(asgi_app.__version__, prog_name="millpond")
def cli() -> None:
    """Slow functions as live resources."""


@cli.command()
@_HOST
@_PORT
@click.option("--home", type=click.Path(file_okay=False), help="Where the state is kept (MILLPOND_HOME).")
@click.option("--demo/--no-demo", default=True, help="Whether the demo dashboards are part of it.")
def up(host: str, port: int, home: str | None, demo: bool) -> None:
    """Run everything on this machine: store, migrations, web, worker and scheduler."""
    from asgi_app.running import supervisor

    if home:
        os.environ["MILLPOND_HOME"] = home
    _answer_to(host)
    sys.exit(supervisor.up(env(), supervisor.Options(host=host, port=port, demo=demo)))


@cli.command()
@_HOST
@_PORT
@click.option("--listener", type=int, hidden=True, help="Descriptor of a socket that listens already.")
def web(host: str, port: int, listener: int | None) -> None:
    """Serve HTTP, event streams and websockets."""
    _answer_to(host)
    _begin("web")
    from asgi_app.running import web

    try:
        sys.exit(web.serve(env(), host, port, listener))
    except Exception:
        log.exception("the web process cannot start")
        sys.exit(web.STARTUP_FAILURE)


@cli.command()
@click.option("--queues", default="", help="Comma-separated queues to work on; default: every declared one.")
@click.option("--concurrency", type=click.IntRange(1, 1024), help="Processes or threads (MILLPOND_WORKER_CONCURRENCY).")
@click.option("--pool", type=click.Choice(["prefork", "threads"]), help="What jobs run in (MILLPOND_WORKER_POOL).")
def worker(queues: str, concurrency: int | None, pool: str | None) -> None:
    """Run computations and actions."""
    _begin("worker")
    from tasks import app, brokers

    _prepare_celery()
    chosen = [name.strip() for name in queues.split(",") if name.strip()] or app.queues()
    try:
        brokers.prepare(app.app, chosen)
    except brokers.QueueDiffers as error:
        log.error("the worker cannot start: %s", error)
        sys.exit(os.EX_CONFIG)
    slots = str(concurrency or env().worker_concurrency)
    arguments = ["--queues", ",".join(chosen), "--concurrency", slots, "--pool", pool or env().worker_pool]
    # gossip and mingle are for workers that watch each other; ours watch the job records instead
    switches = ["--without-gossip", "--without-mingle", "--loglevel", "INFO", "--hostname", f"worker-{os.getpid()}@%h"]
    app.app.worker_main(["--quiet", "worker", *arguments, *switches])


@cli.command()
def scheduler() -> None:
    """Run actions and refreshes at their times.  Several of them do not disturb each other."""
    _begin("scheduler")
    from tasks import schedule

    sys.exit(schedule.main())


@cli.group()
def token() -> None:
    """API tokens."""


@token.command()
@click.argument("user")
@click.option("--days", type=click.IntRange(1, 36500), help="Days until it expires; default: never.")
@click.option(
    "--scope", default=_DEFAULT_SCOPES, show_default=True, help="Comma-separated: read, run, publish, invalidate."
)
def create(user: str, days: int | None, scope: str) -> None:
    """Make an API token for the existing user USER and print it, this once."""
    _begin("token")
    from asgi_app.access import create_token

    try:
        click.echo(create_token(user, days, tuple(name.strip() for name in scope.split(",") if name.strip())))
    except ValueError as error:
        raise click.ClickException(str(error)) from None


@cli.command()
@click.argument("user")
def kick(user: str) -> None:
    """End every websocket and stream of the user USER, in all web processes.

    That is no ban: take the rights first, with `is_active`, to keep somebody out.
    """
    _begin("kick")
    from django.contrib.auth import get_user_model

    from asgi_app import control
    from cache_layer.errors import StoreUnavailable

    model = get_user_model()
    found = model._default_manager.filter(**{model.USERNAME_FIELD: user}).first()
    if found is None:
        raise click.ClickException(f"there is no user '{user}'")
    try:
        control.kick(found)
    except (StoreUnavailable, TimeoutError) as error:
        raise click.ClickException(f"nobody knows whether it has happened: {error or 'no answer'}") from None


@cli.command()
def check() -> None:
    """Look at settings, services and versions, and say of each whether it is ok or what to do."""
    os.environ["MILLPOND_ROLE"] = "check"
    from asgi_app.running import doctor

    findings = list(doctor.examine(os.environ))
    for finding in findings:
        click.echo(finding)
    sys.exit(0 if all(finding.ok for finding in findings) else 1)


def _answer_to(host: str) -> None:
    """Outside production the address it was told to listen on is one it answers to, unless hosts are configured."""
    wildcard = host in ("0.0.0.0", "::")  # noqa: S104  (compared, not bound)
    if not wildcard and os.environ.get("MILLPOND_ENV") != "production" and not os.environ.get("MILLPOND_ALLOWED_HOSTS"):
        os.environ["MILLPOND_ALLOWED_HOSTS"] = ",".join([*LOCAL_HOSTS, f"[{host}]" if ":" in host else host])


def _begin(role: str) -> None:
    """What every role does first: belong to its parent, have a name in the log, set Django up."""
    lifeline.tie_to_parent()
    os.environ["MILLPOND_ROLE"] = role
    import django

    django.setup()


def _prepare_celery() -> None:
    from celery import signals
    from celery.exceptions import SecurityWarning

    # It warns every root of pickle, which no worker of ours accepts.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    # A receiver of this signal means: logging is configured, leave it alone.
    signals.setup_logging.connect(_keep_logging, weak=False)
    parent = os.getpid()
    signals.worker_process_init.connect(lambda **_: lifeline.tie_to_parent(parent), weak=False)


def _keep_logging(**_: object) -> None:
    """Django's configuration stays; see `asgi_app/logs.py`."""


def main() -> None:
    """The console script."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "asgi_app.settings")
    if sys.argv[1:2] == ["up"]:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: os._exit(0))  # until the supervisor has started something to stop
    try:
        if len(sys.argv) > 1 and not sys.argv[1].startswith("-") and sys.argv[1] not in cli.commands:
            env()  # before Django wraps what it raises
            from django.core.management import execute_from_command_line

            execute_from_command_line(["millpond", *sys.argv[1:]])
        else:
            cli(prog_name="millpond")
    except (SettingsError, DeclarationError) as error:
        sys.exit(f"millpond: {error}")


if __name__ == "__main__":
    main()
