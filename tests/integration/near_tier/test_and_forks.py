"""A forked child has no copies and no connection until it asks for its own, and does its parent no harm."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.store import StoreServer

#: A process by itself, for a fork copies everything that the test run holds.
_SCRIPT = """
import os, sys, threading, time, redis
from tests.support.near import copied, started, until
url, name = sys.argv[1:]

def child(tier, fetch):
    assert tier.mode == "stopped" and not tier.open
    assert tier.get(name) is None and tier.stats.entries == 0
    assert not tier.keep(fetch, name, b"x", cost=1, until=time.monotonic() + 60)
    assert tier.fetch([name]) is None
    tier.forget(name)
    tier.start()
    until(lambda: tier.open, "tracking of its own")
    with redis.Redis.from_url(url) as client:
        copied(tier, client, name)
        client.set(name, "of the child", px=60_000)
        until(lambda: tier.get(name) is None, "told")
    tier.stop()

with redis.Redis.from_url(url) as client, started(url) as tier:
    client.set(name, "value", px=60_000)
    copied(tier, client, name)
    fetch = tier.fetch([name + "-other"])
    held, over = threading.Event(), threading.Event()

    def holder():
        with tier._lock:
            held.set()
            over.wait(30)

    thread = threading.Thread(target=holder)
    thread.start()
    held.wait(30)
    pid = os.fork()
    if not pid:
        try:
            child(tier, fetch)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    over.set()
    thread.join()
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
    until(lambda: tier.get(name) is None, "the child's write is told here too")
    assert tier.stats.flushes == 0, "the connection of the parent outlives the child"
    assert tier.keep(fetch, name + "-other", b"x", cost=1, until=time.monotonic() + 60)
    assert tier.get(name + "-other") == b"x"
    print("done")
"""


def test_a_child_starts_afresh_and_the_parent_goes_on(store_server: StoreServer, namespace: str) -> None:
    """Also when a thread held the tier's lock at the fork, and after the child ended its inherited descriptors."""
    name = f"c:{{{namespace}}}:name"
    command = [sys.executable, "-c", _SCRIPT, store_server.url, name]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
