"""uvicorn's HTTP protocol, which answers what is at hand as soon as it has read the headers.

    headers of a GET -> Hot.at_once -> the bytes of the answer, written
                                    -> None: uvicorn makes a task and a cycle for it, as for all else

The task, its context and the messages to and fro cost more than a hit.  Whatever makes a request unlike the others (a
body, an upgrade, an answer before it that is not over, a buffer that is full, a connection that is to be closed) takes
uvicorn's own way, in which `Hot.answer` gives the same answer.

Invariant: at most one answer to a request, in the order of the requests, with the bytes that uvicorn would write.
"""

from __future__ import annotations

import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from asgi_app.hot import Hot

log = logging.getLogger(__name__)

#: What must not be in a URL that is split by hand.
_QUOTED, _FRAGMENT = b"%", b"#"


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, front: Hot, **named: Any) -> None:
        super().__init__(**named)
        self._front = front
        #: The request that is being read has been answered.
        self._answered = False

    def on_headers_complete(self) -> None:
        if not (self._is_plain() and self._answer()):
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self._answered:
            self._answered = False
        else:
            super().on_message_complete()

    def _is_plain(self) -> bool:
        """Whether nothing stands in the way of writing a whole answer now."""
        parser, cycle = self.parser, self.cycle
        return (
            parser.get_method() == b"GET"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and (cycle is None or cycle.response_complete)
            and not self.flow.write_paused
            and not self.expect_100_continue
            and not self.access_log
            and not self.root_path
            and self.limit_concurrency is None
            and not self.transport.is_closing()
        )

    def _answer(self) -> bool:
        path, _, query = self.url.partition(b"?")
        if not path.startswith(b"/") or _QUOTED in path or _FRAGMENT in self.url:
            return False
        scope: Any = self.scope
        scope.update(method="GET", path=path.decode("latin-1"), query_string=query)
        try:
            answer = self._front.at_once(scope)
        except Exception:
            log.exception("a request is answered in the longer way")
            return False
        if answer is None:
            return False
        answer.write(self.transport, self.server_state.default_headers)
        self._answered = True
        self.on_response_complete()
        return True
