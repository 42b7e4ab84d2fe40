"""What the cache has done, as plain counts of this process; `/metrics` shows them.

Invariant: counting costs one addition and cannot fail.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

#: How a look-up ended.  near: from this process's own memory; stored: from the store; absent: nothing there; outdated:
#: by an invalidation of its tags; unreadable: foreign, truncated, older, of another key, or wrongly signed.
Lookup = Literal["near", "stored", "absent", "outdated", "unreadable"]

lookups: Counter[Lookup] = Counter()
#: invalidations: sent to the store; queued: kept for later, the store was away; unheard: a process with values of its
#: own did not say in time that it had heard, and its values were waited out; computed here: by a web process; refused
#: here: too many at once; answered before Django: fresh values over HTTP, by the front.
Event = Literal["invalidations", "queued", "unheard", "computed here", "refused here", "answered before Django"]
events: Counter[Event] = Counter()
#: Messages of the channel layer.  delivered: to a channel here; full: there was no room; expired: nobody read it in
#: time; nobody: its channel is gone; unreadable; gap: channels that may have missed some while the store was away.
LayerEvent = Literal["delivered", "full", "expired", "nobody", "unreadable", "gap"]
layer: Counter[LayerEvent] = Counter()
#: What became of news.  told: once for each subscription; overtaken: newer news came before a slow client took it;
#: lost: a log overran a slow client, or its epoch is over, and it was told so.
Push = Literal["told", "overtaken", "lost"]
pushes: Counter[Push] = Counter()
#: Connections the server ended, by the code.
closes: Counter[int] = Counter()
