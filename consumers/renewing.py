"""A subscription of a client whose rights were read anew: may it go on as it is?

Invariant: nothing goes on with rights that its client does not have any more, also where nobody can tell at the moment.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from asgi_app.topics import open_topic
from consumers.frames import Code, Unsubscribes
from consumers.identifying import Known
from consumers.joining import Joined
from consumers.judging import FINAL

log = logging.getLogger(__name__)

#: Seconds for one topic.
_WITHIN = 4.0


async def renewed(channel: str, joined: Joined, known: Known) -> Joined | Code:
    """The same subscription with the topic as the client may see it now, or how it has to end.

    Who sees another value under the same name now (`vary`) subscribes anew.
    """
    try:
        async with asyncio.timeout(_WITHIN):
            trusted = joined.by_token or channel in known.channels
            source = await open_topic(channel, known.identity.principal, trusted=trusted)
    except FINAL:
        return Unsubscribes.SERVER
    except Exception as error:
        log.warning("%s cannot be judged: %r", channel, error)
        return Unsubscribes.INSUFFICIENT_STATE
    if source.key != joined.source.key:
        return Unsubscribes.INSUFFICIENT_STATE
    return replace(joined, source=source)
