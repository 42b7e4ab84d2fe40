"""Lost messages of the channel layer are counted, and spoken of in the log, but not for each one.

Invariant: at most one line in ten seconds, and no loss is left out of the sums that the lines name.
"""

from __future__ import annotations

import logging
import time

from cache_layer import metrics

log = logging.getLogger(__name__)

#: Seconds between two lines.
_PAUSE = 10.0
_WHY = {
    "full": "their channels were full: consumers do not keep up, or `capacity` is too small",
    "nobody": "nobody reads their channels any more",
    "unreadable": "they could not be read: another serializer_format, other keys, or a foreign sender",
    "gap": "the connection to the store was lost; how many messages nobody knows, these are channels",
}


class Losses:
    """The losses of one layer in this process; threads may share it."""

    def __init__(self) -> None:
        self._sums: dict[str, int] = {}
        self._spoken: dict[str, float] = {}

    def note(self, reason: metrics.LayerEvent, count: int, where: str) -> None:
        """`count` messages were lost; `where`: a channel or group for the line in the log."""
        if not count:
            return
        metrics.layer[reason] += count
        self._sums[reason] = self._sums.get(reason, 0) + count
        now = time.monotonic()
        if now - self._spoken.get(reason, -_PAUSE) >= _PAUSE:
            self._spoken[reason] = now
            log.warning("%d messages were lost, the last for %s: %s", self._sums.pop(reason), where, _WHY[reason])
