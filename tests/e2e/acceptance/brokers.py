"""The brokers of the suite: the store, another Redis, RabbitMQ; each can be frozen, and robbed of its messages."""

from __future__ import annotations

import signal
import socket
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import amqp
import psutil
import redis

from tests.support.proxy import UP, Proxy
from tests.support.redis_servers import RedisServer

#: Where a RabbitMQ listens that tests may use.
RABBITMQ_PORT = 5672


class Broker:
    """The store itself; a deployment on it needs no setting."""

    settings: dict[str, str]

    def __init__(self, home: Path) -> None:
        self.home = home
        self.namespace = f"accept-{uuid4().hex[:8]}"
        self.settings = {"MILLPOND_NAMESPACE": self.namespace}

    def freeze(self) -> None:
        """It stays connected and does nothing."""
        self._store().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._store().send_signal(signal.SIGCONT)

    def purge(self, queue: str = "default") -> int:
        """Lose what lies there for a queue; how much it was."""
        with redis.Redis(unix_socket_path=str(self.home / "run" / "store.sock")) as client:
            return self._purge(client, queue)

    def close(self) -> None:
        """Leave nothing behind."""

    def _purge(self, client: redis.Redis, queue: str) -> int:
        lists = [key for key in client.keys(f"b:{{{self.namespace}}}:{queue}*") if client.type(key) == b"list"]
        lost = sum(int(client.llen(key)) for key in lists)
        for key in lists:
            client.delete(key)
        return lost

    def _store(self) -> psutil.Process:
        """The one that `millpond up` has started for this home."""
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if str(self.home / "run" / "store.sock") in " ".join(words) and process.status() != psutil.STATUS_ZOMBIE:
                return process
        raise AssertionError("there is no store")


class OtherRedis(Broker):
    """A Redis that is not the store."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._server = RedisServer(home / "broker")
        self._server.start()
        self.settings["MILLPOND_BROKER_URL"] = self._server.url

    def freeze(self) -> None:
        self._server.freeze()

    def thaw(self) -> None:
        self._server.thaw()

    def purge(self, queue: str = "default") -> int:
        with self._server.client() as client:
            return self._purge(client, queue)

    def close(self) -> None:
        self._server.stop()


class RabbitMQ(Broker):
    """The RabbitMQ of this machine, behind a proxy that can hold everything up."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        required(RABBITMQ_PORT, "RabbitMQ")
        self._proxy = Proxy(RABBITMQ_PORT)
        self._proxy.__enter__()
        self.settings["MILLPOND_BROKER_URL"] = f"amqp://guest:guest@127.0.0.1:{self._proxy.port}//"

    def freeze(self) -> None:
        self._proxy.hold(UP)

    def thaw(self) -> None:
        self._proxy.heal()

    def purge(self, queue: str = "default") -> int:
        with _rabbitmq() as connection:
            return connection.channel().queue_purge(f"{self.namespace}.{queue}") or 0

    def close(self) -> None:
        self._proxy.__exit__(None, None, None)
        forget(self.namespace)


def _rabbitmq() -> amqp.Connection:
    return amqp.Connection(f"127.0.0.1:{RABBITMQ_PORT}", userid="guest", password="guest")


def forget(namespace: str, *queues: str) -> None:
    """Take a deployment's queues and exchanges from RabbitMQ."""
    with _rabbitmq() as connection:
        for queue in ("default", "letters", "dead", *queues):
            with suppress(amqp.exceptions.NotFound):
                connection.channel().queue_delete(f"{namespace}.{queue}")
        for exchange in (namespace, f"{namespace}.dlx", f"{namespace}.control.pidbox", f"{namespace}.events"):
            with suppress(amqp.exceptions.NotFound):
                connection.channel().exchange_delete(exchange)


def classic_queue(name: str) -> None:
    """A queue as somebody else declares it."""
    with _rabbitmq() as connection:
        connection.channel().queue_declare(name, durable=True, auto_delete=False)


def required(port: int, name: str) -> None:
    """A service of this machine has to be there: where it is not, tests fail and are not skipped."""
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
    except OSError as error:
        raise AssertionError(f"{name} is not there, on port {port} of loopback: {error}") from None


BROKERS: dict[str, type[Broker]] = {"store": Broker, "redis": OtherRedis, "rabbitmq": RabbitMQ}
