"""`notify` for other code: it can be imported before Django's models.

Invariant: nothing is decided here; see `notices.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asgi_app.notices import Level


def notify(
    user_or_id: Any,
    title: str,
    body: str = "",
    level: Level = "info",
    data: Any = None,
    collapse: str | None = None,
    *,
    expires: float | None = None,
) -> int:
    """Put a notification into somebody's inbox, and tell their connections after the commit; its id.

    `user_or_id`: a user, or the id of one, or of whoever a token names.  `level`: debug, info, success, warning or
    error.  `data`: what JSON can say, for code that shows it.  `collapse`: it takes the place of the one before with
    the same key.  `expires`: seconds after which it is not shown any more.

    It is written in the caller's transaction, and locks that inbox until the commit: a transaction that tells several
    people uses `notify_all`, or tells them in one and the same order everywhere, as with all rows that are locked.
    Raises ValueError that names what is wrong, and DatabaseError.
    """
    from asgi_app import notices

    return notices.put([notices.user_id_of(user_or_id)], notices.draft(title, body, level, data, collapse, expires))[0]


def notify_all(
    users_or_ids: Iterable[Any],
    title: str,
    body: str = "",
    level: Level = "info",
    data: Any = None,
    collapse: str | None = None,
    *,
    expires: float | None = None,
) -> list[int]:
    """`notify` several, in an order in which no two transactions wait for each other; their ids, as they were given."""
    from asgi_app import notices

    ids = [notices.user_id_of(one) for one in users_or_ids]
    return notices.put(ids, notices.draft(title, body, level, data, collapse, expires))


async def anotify(
    user_or_id: Any,
    title: str,
    body: str = "",
    level: Level = "info",
    data: Any = None,
    collapse: str | None = None,
    *,
    expires: float | None = None,
) -> int:
    """See `notify`; in a transaction of its own, for a coroutine is in none.  Raises ValueError, Unavailable."""
    from asgi_app import notices, rows

    user_id, draft = notices.user_id_of(user_or_id), notices.draft(title, body, level, data, collapse, expires)
    return (await rows.in_database(notices.put, [user_id], draft))[0]
