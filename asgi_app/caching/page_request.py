"""The request for a page: what of it belongs to the key, and how its view is run for all who ask the same.

Invariants: two requests that share a key look the same to the view, as far as it has said by `Vary` what it looks at;
what it reads of user, session and CSRF token without saying so is noted, and a page for everybody is made without
cookies and credentials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from django.conf import settings
from django.contrib.messages.storage import default_storage
from django.http import HttpRequest
from django.utils import timezone, translation
from django.utils.functional import SimpleLazyObject

from cache_layer.keys import digest

#: What a page may vary by that is no header; names of headers hold no blanks.
SESSION, CSRF, USER = "cookie of the session", "cookie of the token", "user of the request"
#: What a reader says of the copy it has.  The view makes the page for those who have none.
_PRECONDITIONS = ("IF_MATCH", "IF_NONE_MATCH", "IF_MODIFIED_SINCE", "IF_UNMODIFIED_SINCE", "IF_RANGE", "RANGE")
_TOKEN = ("CSRF_COOKIE", "CSRF_COOKIE_NEEDS_UPDATE")


def address(request: HttpRequest) -> tuple[str, ...]:
    """What everybody's page at this address has in common: the URI as it was sent, language and time zone."""
    query = request.META.get("QUERY_STRING", "")
    language = (translation.get_language() or "") if settings.USE_I18N else ""
    zone = timezone.get_current_timezone_name() if settings.USE_TZ else ""
    return (request.scheme or "", request.get_host(), request.path, query, language, zone)


def page_tag(request: HttpRequest) -> str:
    """The tag of all pages at the path of a request, whatever their query and whoever they are for."""
    return f"page:{digest(request.get_host(), request.path)}"


def who(request: HttpRequest) -> tuple[str, ...]:
    """Who asks: a user, else the public.  Asks session and database; not for an event loop."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return ("public", "", "")
    model = getattr(user, "_meta", None)
    return ("user", model.label if model is not None else type(user).__name__, str(user.pk))


def credentials(request: HttpRequest) -> tuple[str, ...]:
    """What only the view can read of who asks, as it was sent."""
    return _said(request.headers.get("Authorization"))


def says_who(request: HttpRequest) -> bool:
    """Whether the request brings credentials or cookies of the view's own."""
    djangos = {settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME}
    return "HTTP_AUTHORIZATION" in request.META or not djangos.issuperset(request.COOKIES)


def values(request: HttpRequest, dimensions: frozenset[str]) -> tuple[str, ...]:
    """What a request says to each of the things a page varies by.  Nothing is not the same as an empty text.

    With `USER` among them not for an event loop.
    """
    cookies = {SESSION: settings.SESSION_COOKIE_NAME, CSRF: settings.CSRF_COOKIE_NAME}
    found: list[str] = []
    for name in sorted(dimensions):
        if name == USER:
            found += (name, *who(request))
            continue
        value = request.COOKIES.get(cookies[name]) if name in cookies else request.headers.get(name)
        found += (name, *_said(value))
    return tuple(found)


def _said(value: str | None) -> tuple[str, str]:
    return ("no", "") if value is None else ("yes", value)


#: Whose the pages of a view are: each user's, everybody's, or of who has the same text of a `vary` function.
Owner: TypeAlias = Literal["user", "everybody", "text"]


@dataclass(slots=True)
class Looked:
    """What a view has looked at, or done, without saying so in its response."""

    user: bool = False
    session: bool = False
    #: The response will come with the session's cookie.
    session_changed: bool = False
    #: It shows what is shown once.
    messages: bool = False
    token: bool = False
    #: Who asked has the token's cookie already.
    has_token: bool = False


class Watched:
    """A request as the view sees it when its page is made for the cache: `request`; then `looked()`."""

    def __init__(self, original: HttpRequest, *, apart: bool, owner: Owner) -> None:
        """`apart`: its reader has been answered and goes; nothing the view does to the session concerns them.

        A look at the user is nothing new where it is the owner.  For `everybody` a view sees neither cookies nor
        credentials.
        """
        self._original = original
        self._looked = Looked(has_token=_has_token(original))
        self.request = _twin(original)
        if owner == "everybody":
            _anonymise(self.request)
        if apart:
            _renew(self.request)
        if hasattr(original, "user"):
            self._show_user(noted=owner != "user")
        self._session = getattr(self.request, "session", None)
        self._accessed_before = self._session is not None and self._session.accessed
        if self._session is not None:
            self._session.accessed = False

    def looked(self) -> Looked:
        """What the view has looked at until now; to be asked once."""
        looked, session = self._looked, self._session
        if session is not None:
            looked.session, looked.session_changed = session.accessed, session.modified
            session.accessed = session.accessed or self._accessed_before
        messages = getattr(self.request, "_messages", None)
        if messages is not None:
            looked.messages = messages.added_new or (messages.used and len(messages) > 0)
        looked.token = "CSRF_COOKIE_NEEDS_UPDATE" in self.request.META
        return looked

    def hand_back(self) -> None:
        """The reader gets the view's own response: with its CSRF cookie, which Django sends by the original request."""
        self._original.META.update({name: self.request.META[name] for name in _TOKEN if name in self.request.META})

    def _show_user(self, *, noted: bool) -> None:
        user, auser = self._original.user, getattr(self._original, "auser", None)

        def look() -> Any:
            self._looked.user = noted
            return user

        async def alook() -> Any:
            self._looked.user = noted
            return await auser() if noted and auser is not None else user

        if noted:
            self.request.user = SimpleLazyObject(look)  # type: ignore[assignment]
        self.request.auser = alook


def _has_token(request: HttpRequest) -> bool:
    # In place of a cookie that is no token Django makes a new one, and says so at once.
    return settings.CSRF_COOKIE_NAME in request.COOKIES and "CSRF_COOKIE_NEEDS_UPDATE" not in request.META


def _twin(original: HttpRequest) -> HttpRequest:
    """A request for the same, without conditions and with a body in the answer."""
    # `copy` goes by way of pickling and leaves out what cannot be pickled.
    twin: HttpRequest = type(original).__new__(type(original))
    twin.__dict__.update(original.__dict__)
    twin.__dict__.pop("headers", None)  # made of META, once
    twin.META = {name: value for name, value in original.META.items() if name not in _UNWANTED}
    twin.method = twin.META["REQUEST_METHOD"] = "GET"
    return twin


_UNWANTED = frozenset({"CSRF_COOKIE_NEEDS_UPDATE", *(f"HTTP_{name}" for name in _PRECONDITIONS)})


def _anonymise(twin: HttpRequest) -> None:
    twin.META = {name: value for name, value in twin.META.items() if name not in _CREDENTIALS}
    twin.COOKIES = {}


_CREDENTIALS = frozenset({"HTTP_AUTHORIZATION", "HTTP_COOKIE"})


def _renew(twin: HttpRequest) -> None:
    """Give a request a session and messages of its own, as they are stored."""
    session = getattr(twin, "session", None)
    if session is not None:
        twin.session = type(session)(session.session_key)
    if hasattr(twin, "_messages"):
        twin._messages = default_storage(twin)
