"""The one run of a view for all who ask the same: its response as it is stored, or why it is not.

Invariant: what comes out is nobody's own; a response that is goes to the reader whose run it was, in its `Visit`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec
from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.core.handlers.exception import response_for_exception
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from asgi_app.caching.apart import Circumstances, apart
from asgi_app.caching.page_request import Owner, Watched, says_who
from asgi_app.caching.stored_page import Varied, page_of, varies_by, why_not, within_bounds
from asgi_app.env import env
from asgi_app.errors import ComputationFailed

log = logging.getLogger(__name__)

View: TypeAlias = Callable[..., Any]
#: The view with the arguments of the URL.
Run: TypeAlias = Callable[[HttpRequest], Coroutine[Any, Any, HttpResponseBase]]

#: Exceptions by which a view refuses one reader.
_REFUSALS = (PermissionDenied, SuspiciousOperation, BadRequest)


@dataclass(slots=True)
class Learned:
    """What the responses of one view have said of all its pages."""

    #: What they vary by; one more than a page needs splits it, and harms nobody.
    dimensions: frozenset[str] = frozenset()
    #: One said it must not be served stale.
    strict: bool = False
    #: Reasons for not keeping one that were logged.
    told: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Visit:
    """One reader at one key, and what its own run of the view came to, if it was the one to run it."""

    request: HttpRequest
    #: The reader has been answered, or is gone.
    over: bool = False
    response: HttpResponseBase | None = None
    watched: Watched | None = None
    error: Exception | None = None

    def own(self) -> HttpResponseBase | None:
        """The response of its own run, for this reader alone."""
        if self.response is not None and self.watched is not None:
            self.watched.hand_back()
        return self.response


class Maker:
    """Runs one decorated view."""

    def __init__(self, view: View, name: str, learned: Learned, *, owner: Owner) -> None:
        """`owner` as `Watched` takes it."""
        self._view = view if iscoroutinefunction(view) else sync_to_async(view)
        self._name = name
        self._learned = learned
        self._owner = owner
        self._public = owner == "everybody"

    async def run(self, request: HttpRequest, args: tuple[Any, ...], kwargs: dict[str, Any]) -> HttpResponseBase:
        """The view itself."""
        response = await self._view(request, *args, **kwargs)
        if not isinstance(response, HttpResponseBase):
            raise TypeError(f"{self._name} returned {type(response).__name__}, which is no response")
        return response

    async def make(
        self, visit: Visit, run: Run, dimensions: frozenset[str], circumstances: Circumstances
    ) -> msgspec.Raw:
        """Run the view for the cache.  Raises ComputationFailed, marked, when its response may not be stored."""
        async with apart(circumstances):
            watched = Watched(visit.request, apart=visit.over, owner=self._owner)
            try:
                response = await self._run_whole(run, watched.request)
            except Exception as error:
                if isinstance(error, _REFUSALS):
                    visit.error = None if self._withheld(visit) else error
                    raise self._unkept(f"it raises {type(error).__name__}") from None
                visit.error = error
                raise
            finally:
                looked = watched.looked()
        visit.error = None
        visit.response, visit.watched = response, watched
        varied = varies_by(response, looked) - ({"authorization"} if self._owner == "user" else frozenset())
        reason = why_not(response, looked, dimensions | varied, public=self._public)
        if not reason or not self._public:  # with a token, which comes with this response, the next one may be kept
            self._learned.dimensions = within_bounds(self._learned.dimensions, varied)
        if reason:
            if visit.over or self._withheld(visit):
                visit.response = None
                response.close()
            raise self._unkept(reason)
        if not varied <= dimensions:
            return msgspec.Raw(msgspec.json.encode(Varied(sorted(dimensions | varied))))
        return self._encoded(response)

    def _withheld(self, visit: Visit) -> bool:
        """Whether the view was not shown all that the reader sent: they get what it makes of that instead."""
        return self._public and says_who(visit.request)

    async def _run_whole(self, run: Run, request: HttpRequest) -> HttpResponseBase:
        """The response with its template rendered, also of a page that is not there."""
        try:
            response = await run(request)
            render = getattr(response, "render", None)
            return await sync_to_async(render)() if callable(render) else response
        except Http404 as missing:
            return await sync_to_async(response_for_exception)(request, missing)

    def _encoded(self, response: HttpResponseBase) -> msgspec.Raw:
        assert isinstance(response, HttpResponse)
        encoded = msgspec.json.encode(page_of(response))
        if len(encoded) > env().max_value:
            raise self._unkept("it is larger than MILLPOND_MAX_VALUE")
        return msgspec.Raw(encoded)

    def _unkept(self, reason: str) -> ComputationFailed:
        if reason not in self._learned.told:
            self._learned.told.add(reason)
            log.warning("a page of %s is not kept: %s", self._name, reason)
        return ComputationFailed(f"the page is not kept: {reason}", extra={"unkept": reason})
