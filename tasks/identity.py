"""Who this worker is: one name for its parent process and all processes it starts.

Invariant: no two lives of a worker share a name, so that what an earlier one held is never taken for this one's.
"""

from __future__ import annotations

import os
import secrets
import socket

#: Says the name to the processes of a worker; no setting.
WORKER = "MILLPOND_WORKER"


def process_name() -> str:
    """This process, as its roles name it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def become_worker() -> str:
    """Give this process a name as a worker, which its children have too."""
    os.environ[WORKER] = f"{process_name()}:{secrets.token_hex(4)}"
    return os.environ[WORKER]


def worker_name() -> str:
    """The worker this process belongs to."""
    return os.environ.get(WORKER) or process_name()
