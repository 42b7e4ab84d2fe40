"""Which processes are Millpond's is read off their command lines."""

from __future__ import annotations

import pytest

from asgi_app.demo.host import role_of


@pytest.mark.parametrize(
    ("command", "parent", "role"),
    [
        ("/venv/bin/python3.11 /venv/bin/millpond web --port 8000", None, "web"),
        ("/venv/bin/python -m asgi_app worker --queues a,b", "up", "worker"),
        ("python -X dev -m asgi_app scheduler", None, "scheduler"),
        ("millpond up", None, "up"),
        ("/venv/bin/python -c spawn_main() --multiprocessing-fork", "web", "web"),
        ("/venv/bin/python -c spawn_main() --multiprocessing-fork", None, None),
        ("/usr/bin/python3 -c resource_tracker.main(3)", "web", None),
        ("/opt/valkey-server unixsocket:/run/s.sock", "up", "store"),
        ("/usr/bin/redis-server 127.0.0.1:6379", None, None),
        ("vi millpond web", None, None),
        ("/venv/bin/python /venv/bin/millpond shell", None, None),
        ("/venv/bin/python -m asgi_app webhooks", None, None),
        ("/venv/bin/python -m other web", None, None),
    ],
)
def test_the_role_is_what_the_command_says(command: str, parent: str | None, role: str | None) -> None:
    """Its own words first, its parent's for what it spawned; everybody else has none."""
    assert role_of(command.split(), parent) == role


def test_a_title_in_one_piece_and_no_title_at_all() -> None:
    """A store rewrites its command line into one text; a kernel thread has none."""
    assert role_of(["/opt/valkey-server *:0 [unix]"], "up") == "store"
    assert role_of([], "up") is None
