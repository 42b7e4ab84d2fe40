"""A child process that ends when its parent does, also when the parent was killed and could say nothing.

On Linux the kernel does it (`PR_SET_PDEATHSIG`); elsewhere a thread looks for its parent every half second.  The module
imports nothing of Millpond, so that it also runs as a script: `python -I lifeline.py COMMAND …` becomes a COMMAND tied
in this way, for programs that are not ours, such as the store.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

#: the process a child belongs to; a child compares it with its parent, for that one may have died before the tie
PARENT = "MILLPOND_PARENT"
#: seconds between two looks where the kernel does not help
LOOK_EVERY = 0.5
_PR_SET_PDEATHSIG = 1


def tie_to_parent(parent: int | None = None) -> None:
    """From now on this process is killed when `parent` (default: the one named by the environment) is gone.

    Without a parent, as for a command typed by hand, nothing happens.  Has to be called again in every process forked
    from here: the tie is not inherited.
    """
    parent = parent or int(os.environ.pop(PARENT, "0"))
    if not parent:
        return
    if not _ask_kernel():
        threading.Thread(target=_watch, args=(parent,), name="lifeline", daemon=True).start()
    if os.getppid() != parent:
        _die()


def _ask_kernel() -> bool:
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY)
    _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _run_tied(command: list[str]) -> int:
    """Become `command`, tied to the parent.  Where the kernel cannot tie it, stay beside it and watch."""
    parent = int(os.environ.pop(PARENT))
    if _ask_kernel():
        if os.getppid() != parent:
            _die()
        os.execv(command[0], command)  # noqa: S606  (the tie survives the exec)
    with subprocess.Popen(command) as child:
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        while child.poll() is None and os.getppid() == parent:
            time.sleep(LOOK_EVERY)
        child.terminate()
        return child.wait()


if __name__ == "__main__":
    sys.exit(_run_tied(sys.argv[1:]))
