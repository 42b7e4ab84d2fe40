"""The socket below an ASGI `send` of uvicorn, for a peer that vanished without a word.

Invariant: where there is no such socket, or no such option, nothing happens.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

#: Milliseconds after which a peer that acknowledges nothing of what was written is gone; the kernel alone takes a
#: quarter of an hour.  Longer than a stalled write may take (`writer.STALLED`, and a farewell), which is told.
_UNANSWERED = 45_000


def expect_answers(send: Any) -> None:
    """Let the kernel end the connection behind `send` when its peer does not acknowledge what is written to it."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if option is None or transport is None:
        return
    below = transport.get_extra_info("socket")
    if below is not None:
        with suppress(OSError):  # no TCP
            below.setsockopt(socket.IPPROTO_TCP, option, _UNANSWERED)
