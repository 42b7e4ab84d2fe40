"""The way of a request to a cached page: its key, what is there, and what is done where nothing may be.

Invariant: whoever cannot be given a page from the cache gets the response of a run of the view for themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, TypeAlias

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_cache_control, patch_vary_headers
from django.utils.encoding import escape_uri_path
from django.utils.http import parse_http_date_safe

from asgi_app import wiring
from asgi_app.caching.apart import Circumstances
from asgi_app.caching.bypass import bypass, is_store_away
from asgi_app.caching.page_making import Learned, Maker, Run, View, Visit
from asgi_app.caching.page_request import USER, Owner, address, credentials, page_tag, values, who
from asgi_app.caching.stored_page import Page, Varied, read, readable, within_bounds
from asgi_app.caching.unkept import made
from asgi_app.declaring import options
from asgi_app.errors import (
    MillpondError,
    Misdeclared,
    NotCached,
    TooManyRequests,
    Unavailable,
    from_problem,
)
from asgi_app.http_caching import NotModified, age, cache_control, cache_status, demand
from asgi_app.inline import Inline
from asgi_app.invalidation import invalidate_after_commit
from asgi_app.problems import problem
from asgi_app.reading import Reading
from asgi_app.registry import Principal
from asgi_app.submitting import Question
from cache_layer.errors import StoreUnavailable
from cache_layer.freshness import Demand, Policy
from cache_layer.keys import Key, digest

log = logging.getLogger(__name__)

#: "user", or a function (request) -> str that is called in a thread.
Vary: TypeAlias = Literal["user"] | Callable[[HttpRequest], str]
Tags: TypeAlias = Iterable[str] | Callable[[HttpRequest], Iterable[str]]

#: The name of all pages in the store; no resource can have it.
_NAME = "@page"
#: Raised when the stored form changes.
_FORM = "1"
#: Seconds beyond its time limit that a reader waits for a view.
_PATIENCE = 1.0
#: How often a reader learns something new about what the page varies by, until it runs the view for itself.
_LESSONS = 4
_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Pages:
    """The pages of one decorated view."""

    def __init__(
        self, view: View, name: str, policy: Policy, *, tags: Tags, vary: Vary, public: bool, time_limit: float
    ) -> None:
        """As `cached_page` takes them; `name` is for the log."""
        self._name = name
        self._policy = policy
        self._tags = tags
        self._vary = vary
        self._public = public
        self._time_limit = time_limit
        self._learned = Learned()
        owner: Owner = "everybody" if public else "text" if callable(vary) else "user"
        self._maker = Maker(view, name, self._learned, owner=owner)

    async def answer(self, request: HttpRequest, args: tuple[Any, ...], kwargs: dict[str, Any]) -> HttpResponseBase:
        """The page from the cache, or the view's own response."""
        run = partial(self._maker.run, args=args, kwargs=kwargs)
        return await (self._get(request, run) if request.method in ("GET", "HEAD") else self._change(request, run))

    # --- changes

    async def _change(self, request: HttpRequest, run: Run) -> HttpResponseBase:
        """Another method; one that changes something outdates the pages of the path (RFC 9111, section 4.4)."""
        response = await run(request)
        if request.method in _UNSAFE and 200 <= response.status_code < 400:
            try:
                await sync_to_async(invalidate_after_commit)((page_tag(request),))
            except StoreUnavailable:
                log.exception("%s was changed, and its pages wait for the store", escape_uri_path(request.path))
        response.headers.setdefault("Cache-Status", "millpond; fwd=method")
        return response

    # --- reading

    async def _get(self, request: HttpRequest, run: Run) -> HttpResponseBase:
        """The page from the cache, or the view's own response."""
        demanded = demand(request.headers)
        owner = () if self._public else await sync_to_async(self._owner)(request)
        for _ in range(_LESSONS):
            response = await self._look(request, run, owner, demanded)
            if response is not None:
                return response
        return await self._aside(request, run, "unsettled")

    def _owner(self, request: HttpRequest) -> tuple[str, ...]:
        if not callable(self._vary):
            return (*who(request), *credentials(request))
        text = self._vary(request)
        if not isinstance(text, str):
            raise Misdeclared(f"vary of {self._name} must return a str, got {type(text).__name__}")
        return ("text", text)

    async def _look(
        self, request: HttpRequest, run: Run, owner: tuple[str, ...], demanded: Demand
    ) -> HttpResponseBase | None:
        """An answer, or None when something was learned and the key is another one now."""
        visit = Visit(request)
        dimensions = self._learned.dimensions
        said = await sync_to_async(values)(request, dimensions) if USER in dimensions else values(request, dimensions)
        question = self._question(visit, run, owner, dimensions, said)
        try:
            reading = await self._ask(question, visit, demanded)
        except NotCached as refusal:
            return problem(refusal)
        except (Unavailable, TooManyRequests) as refusal:
            return await self._without_cache(visit, run, refusal)
        if reading.error is not None and "unkept" in reading.error:
            return self._delivered(visit) or await self._aside(request, run, "not-stored")
        if reading.entry is not None:
            return await self._from_entry(visit, run, reading, reading.entry.payload)
        if visit.error is not None:
            raise visit.error
        if reading.error is not None:
            raise _PageFailed(from_problem(reading.error).detail)
        return self._delivered(visit) or await self._aside(request, run, "late")

    def _question(
        self, visit: Visit, run: Run, owner: tuple[str, ...], dimensions: frozenset[str], said: tuple[str, ...]
    ) -> Question:
        request, policy = visit.request, self._policy
        if self._learned.strict:
            policy = Policy(fresh=policy.fresh, stale=0, stale_if_error=0, error_ttl=policy.error_ttl)
        key = Key(
            name=_NAME,
            digest=digest(_FORM, self._name, *address(request), *owner, *said),
            topic=f"page {escape_uri_path(request.path)}",
            tags=tuple(sorted({page_tag(request), *self._tag_names(request)})),
            policy=policy,
        )
        make = partial(self._maker.make, visit, run, dimensions, Circumstances.of_now())
        inline = Inline(name=self._name, time_limit=self._time_limit, work=partial(made, key, make))
        return Question(inline, None, _asker(owner), key, trusted=False)

    def _tag_names(self, request: HttpRequest) -> Iterable[str]:
        if not callable(self._tags):
            return self._tags
        names = tuple(self._tags(request))
        if not all(options.valid_tag(name) for name in names):
            raise Misdeclared(f"tags of {self._name} returned what is no tag: {names!r}")
        return names

    async def _ask(self, question: Question, visit: Visit, demanded: Demand) -> Reading:
        async def answer(node: wiring.Node) -> Reading:
            wait = 0.0 if demanded.only_cached else self._time_limit + _PATIENCE
            try:
                return await node.reader.answer(question, wait=wait, demand=demanded)
            finally:
                visit.over = True  # on the Node's own loop: before anything begins behind the answer

        return await wiring.acall(answer)

    async def _from_entry(self, visit: Visit, run: Run, reading: Reading, payload: bytes) -> HttpResponseBase | None:
        found = read(payload)
        if isinstance(found, Varied):
            self._learned.dimensions = within_bounds(self._learned.dimensions, frozenset(found.dimensions))
            return self._delivered(visit)
        if not found.strict or reading.state == "fresh":
            return self._answer(visit.request, reading, found)
        if self._learned.strict:  # declared stale before its time, it would be shown while it is made again
            return self._delivered(visit) or await self._aside(visit.request, run, "stale")
        self._learned.strict = True
        return None

    def _answer(self, request: HttpRequest, reading: Reading, page: Page) -> HttpResponseBase:
        response = page.response()
        response.headers.setdefault("ETag", reading.position.etag())
        response["Age"] = str(age(reading))
        response["Cache-Status"] = cache_status(reading)
        if not response.has_header("Cache-Control"):
            response["Cache-Control"] = cache_control("public" if self._public else "private", reading, self._policy)
        elif reading.state == "stale":
            response["Cache-Control"] = readable(response["Cache-Control"])
            patch_cache_control(response, max_age=age(reading))
        if not self._public:
            patch_cache_control(response, private=True)
            patch_vary_headers(response, ["Authorization", "Cookie"])
        modified = parse_http_date_safe(response.get("Last-Modified", ""))
        chosen = get_conditional_response(request, etag=response["ETag"], last_modified=modified, response=response)
        assert chosen is not None
        return NotModified.of(response) if chosen.status_code == 304 else chosen

    # --- what is not from the cache

    def _delivered(self, visit: Visit) -> HttpResponseBase | None:
        """What this reader's own run of the view came to."""
        if visit.error is not None:
            raise visit.error
        response = visit.own()
        return None if response is None else self._marked(response, "fwd=miss")

    async def _aside(self, request: HttpRequest, run: Run, detail: str) -> HttpResponseBase:
        return self._marked(await run(request), f"fwd=bypass; detail={detail}")

    async def _without_cache(self, visit: Visit, run: Run, refusal: MillpondError) -> HttpResponseBase:
        """The view, when the store is away or takes no more keys of this reader; but not when too many views run."""
        own = self._delivered(visit)
        if own is not None:
            return own
        if isinstance(refusal, Unavailable) and not is_store_away(refusal):
            return problem(refusal)
        try:
            slot = bypass()
        except Unavailable as full:
            return problem(full)
        with slot:
            return await self._aside(visit.request, run, "store-away" if is_store_away(refusal) else "quota")

    def _marked(self, response: HttpResponseBase, status: str) -> HttpResponseBase:
        """A response that was not stored here; nor shall it be where nobody looks as closely."""
        response["Cache-Status"] = f"millpond; {status}"
        if not response.has_header("Cache-Control"):
            response["Cache-Control"] = "private, no-cache"
        elif not self._public:
            patch_cache_control(response, private=True)
        return response


class _PageFailed(Exception):
    """The view has failed for another reader a moment ago: as if it had failed here."""


def _asker(owner: tuple[str, ...]) -> Principal:
    """Whose quota of new keys a page counts in: not in that of the API, or a crawler could use that up."""
    # What somebody says to be has a new quota each time they invent something else.
    name = f"page:{digest(*owner[:3])}" if owner[:1] == ("user",) else "page:public"
    return Principal(user_id=name, username="", scopes=frozenset(), is_anonymous=False, permissions=frozenset())
