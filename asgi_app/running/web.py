"""`millpond web`: uvicorn with this service's limits, in one process or several on one port.

Invariant: a SIGTERM ends it with exit code 0 within `GRACE` seconds, whatever the clients do.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import uvicorn

from asgi_app.env import Env
from asgi_app.running.processes import Keeper, Part, own_command, stop_ordered

log = logging.getLogger(__name__)

#: seconds requests get to end after the sockets were drained, and seconds the draining may take
REQUEST_GRACE, DRAIN_GRACE = 8.0, 6.0
GRACE = REQUEST_GRACE + DRAIN_GRACE + 2.0
#: exit code of a process that failed to start, as uvicorn has it
STARTUP_FAILURE = 3
#: seconds an idle connection is kept; longer than the usual proxies keep theirs, so that they never use one just closed
KEEP_ALIVE = 75


class Server(uvicorn.Server):
    """uvicorn that lets the application say goodbye before connections are closed.

    uvicorn alone closes all websockets in one moment, and all clients come back in the next; `drain` takes its time.
    """

    drain: Callable[[], Awaitable[None]] | None = None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, drain, then close what is left."""
        for server in self.servers:
            server.close()
        if self.drain:
            try:
                async with asyncio.timeout(DRAIN_GRACE):
                    await self.drain()
            except TimeoutError:
                log.warning("sockets were not drained within %g s", DRAIN_GRACE)
        await super().shutdown(sockets)


def serve(env: Env, host: str, port: int, listener: int | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C.

    Returns the exit code.  `listener`: descriptor of a socket that listens already.
    """
    if listener is None and env.web_processes > 1:
        return asyncio.run(_several(env, host, port))
    from asgi_app import asgi  # only now: it is the root of everything, and brings Django with it
    from asgi_app.running.protocol import Protocol

    server = Server(_config(env, asgi.application, partial(Protocol, asgi.front), host, port))
    server.drain = getattr(asgi, "drain", None)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn sends itself the signal again when it is done; a default handler would turn a clean end into code -15
        signal.signal(number, server.handle_exit)
    server.run(sockets=[socket.socket(fileno=listener)] if listener is not None else None)
    return 0 if server.started else STARTUP_FAILURE


def _config(env: Env, application: Any, http: Any, host: str, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http=http,
        host=host,
        port=port,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # The session says that a message is too large; a server that cuts it short is taken for a lost network.
        ws_max_size=4 * env.max_message,
        # costs 22 us a message and 54 KB a connection, and compression beside secrets leaks them (CRIME)
        ws_per_message_deflate=False,
        # the protocol above has pings of its own
        ws_ping_interval=None,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(REQUEST_GRACE),
    )


async def _several(env: Env, host: str, port: int) -> int:
    """One process per `MILLPOND_WEB_PROCESSES`, all accepting from one socket; one that dies is started again."""
    hurry = asyncio.Event()
    stop = stop_ordered(hurry)
    with _listener(host, port) as listening:
        command = own_command("web", "--listener", str(listening.fileno()))
        parts = [
            Part(
                name=f"web-{number}",
                command=command,
                grace=GRACE,
                fatal_code=STARTUP_FAILURE,
                pass_fds=(listening.fileno(),),
            )
            for number in range(1, env.web_processes + 1)
        ]
        keepers = [Keeper(part, os.environ, None, log.warning) for part in parts]
        for keeper in keepers:
            keeper.settled = True
            keeper.start()
        waits = [asyncio.ensure_future(wait) for wait in (stop.wait(), *(keeper.ended() for keeper in keepers))]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*(keeper.stop(hurry) for keeper in keepers))
    return 0 if stop.is_set() else STARTUP_FAILURE


def _listener(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server(address[:2], family=family, backlog=2048)
