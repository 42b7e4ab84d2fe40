"""A resource and an action as they stand in the registry: parse, describe, key, call.

Invariant: two keys are equal exactly when name, parameters and what varies are; never by joining texts.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

from asgi_app.declaring.options import LATENESS, valid_tag
from asgi_app.declaring.parameters import Params, canonical_json
from asgi_app.declaring.signature import Principal, Progress, Signature
from asgi_app.errors import Misdeclared, shortened
from cache_layer.freshness import Policy
from cache_layer.keys import Key, digest

#: "public", "login", a Django permission, or a function (principal, params) -> bool, which may be async.
Access: TypeAlias = str | Callable[[Principal, Any], bool | Awaitable[bool]]
#: Names, or a function (params) -> names.
Tags: TypeAlias = Iterable[str] | Callable[[Any], Iterable[str]]
#: Classes of exceptions.
Exceptions: TypeAlias = Iterable[type[Exception]]
#: What of the principal belongs to the key: nothing, the user, or what a function (principal) -> str says.
Vary: TypeAlias = Literal["user"] | Callable[[Principal], str] | None

#: Whether a value is worth an alert, and what is said then.
AlertRule: TypeAlias = Callable[[Any], bool | str | None]
#: Who is told: "staff", a Django permission, usernames, or a function (params) -> users or their ids.
AlertTo: TypeAlias = str | tuple[str, ...] | Callable[[Any], Iterable[Any]]


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What resources and actions have in common."""

    name: str
    function: Callable[..., Any]
    signature: Signature
    queue: str
    #: 0 to 9, 9 the most urgent.
    priority: int
    #: Seconds for one attempt.
    time_limit: float
    #: Tries after the first, and after which exceptions there is one.
    retries: int
    retry_on: tuple[type[Exception], ...] = (Exception,)
    fail_on: tuple[type[Exception], ...] = ()
    #: Seconds within which a job must have begun; None: it may wait for ever.
    expires: float | None = None
    access: Access

    @cached_property
    def doc(self) -> str:
        """The docstring of the function, "" without one."""
        return inspect.getdoc(self.function) or ""

    @cached_property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)

    @property
    def params_type(self) -> type[Params]:
        return self.signature.parameters.type

    @property
    def wants_progress(self) -> bool:
        return self.signature.progress is not None

    @property
    def wants_principal(self) -> bool:
        return self.signature.principal is not None

    def parse(self, raw: Mapping[str, Any], *, text: bool) -> Params:
        """Parameters from JSON or Python values; `text`: from the texts of a query.

        Raises `BadParameters` naming all that are unknown, missing or wrong.
        """
        return self.signature.parameters.parse(raw, text=text)

    def dump(self, params: Params) -> dict[str, Any]:
        """The parameters as JSON builtins, complete and sorted by name; `parse(dump(p), text=False) == p`."""
        return self.signature.parameters.dump(params)

    def schema(self) -> dict[str, Any]:
        """JSON Schema 2020-12 of the parameters, made anew for the caller to change."""
        return self.signature.parameters.schema()

    def call(self, params: Params, progress: Progress, principal: Principal) -> Any:
        """Call the function with exactly what it declared: its value, or the coroutine of an `async def`."""
        arguments = {name: getattr(params, name) for name in self.signature.parameters.by_name}
        if self.signature.progress is not None:
            arguments[self.signature.progress] = progress
        if self.signature.principal is not None:
            arguments[self.signature.principal] = principal
        return self.function(**arguments)


@dataclass(frozen=True, kw_only=True)
class Resource(Declared):
    """A declared function of typed parameters whose value is cached and live."""

    policy: Policy
    #: Run on a worker; False: on the event loop of the web process.
    offload: bool
    tags: tuple[str, ...] | Callable[[Any], Iterable[str]]
    #: "lazy", "watched" or a crontab line with single spaces.
    refresh: str
    vary: Vary
    on_abandon: Literal["finish", "cancel"]
    #: IANA name: where that line is read.
    timezone: str = "UTC"
    #: Asked of each new value; whoever stands in `alert_to` is told when it begins to be true.
    alert_when: AlertRule | None = None
    alert_to: AlertTo = "staff"

    def parse_query(self, query: str | bytes) -> Params:
        """Parameters from a query string.  Raises `BadParameters`, also for a parameter that is given twice."""
        return self.signature.parameters.parse_query(query)

    def topic(self, params: Params) -> str:
        """The canonical topic: one text for one question.  `registry.split_topic` reads it back."""
        query = self.signature.parameters.query(params)
        return f"{self.name}?{query}" if query else self.name

    def tag_names(self, params: Params) -> tuple[str, ...]:
        """The tags of the value, sorted, each once.  Raises `Misdeclared` when the function of the author fails."""
        if not callable(self.tags):
            return self.tags
        tags = _ask(self.name, "tags", self.tags, params)
        if not isinstance(tags, tuple | list | set | frozenset):
            raise Misdeclared(f"tags of {self.name} must return names such as ('sales',), got {type(tags).__name__}")
        for tag in tags:
            if not valid_tag(tag):
                raise Misdeclared(f"tags of {self.name} returned {shortened(repr(tag), 60)}, which is no tag")
        return tuple(sorted(set(tags)))

    def key(self, params: Params, principal: Principal) -> Key:
        """The key of this question for this principal.  Raises `Misdeclared` when a function of the author fails."""
        version, question = self.signature.parameters.version, canonical_json(params)
        return Key(
            name=self.name,
            digest=digest(version, self.name, question, *self._varies(principal)),
            topic=self.topic(params),
            tags=self.tag_names(params),
            policy=self.policy,
        )

    def asker(self, principal: Principal) -> Principal:
        """What of a principal its computation may know: no more than the key holds.

        With `vary="user"` that is the user without the scopes of the token, which are not part of the key.
        """
        if self.vary is None:
            return Principal.public()
        return principal if callable(self.vary) else replace(principal, scopes=frozenset())

    def _varies(self, principal: Principal) -> tuple[str, ...]:
        if self.vary is None:
            return ("all",)
        if not callable(self.vary):
            return ("public",) if principal.user_id is None else ("user", principal.user_id)
        text = _ask(self.name, "vary", self.vary, principal)
        if not isinstance(text, str):
            raise Misdeclared(f"vary of {self.name} must return a str, got {type(text).__name__}")
        return ("text", text)


@dataclass(frozen=True, kw_only=True)
class Action(Declared):
    """A declared job with side effects."""

    #: A crontab line with single spaces, seconds between two runs, or None.
    schedule: str | float | None
    #: IANA name: where a crontab line is read.
    timezone: str = "UTC"
    #: What becomes of missed firings, and the seconds after which they are not made up for.
    catch_up: Literal["skip", "last", "all"] = "last"
    lateness: float = LATENESS
    #: Its changes of the database and the end of its job are one transaction.
    atomic: bool = False

    # What the attempts tell an action that was made for one job (`Registry.inner`).

    def begins(self, row: Any) -> None:
        """An attempt begins; `row` is its record."""

    def remains(self) -> bytes:
        """What an attempt that raised leaves in the record in place of a result, as JSON."""
        return b""

    def ended(self) -> None:
        """The attempt is over, and what became of it is written down."""


def _ask(name: str, option: str, function: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return function(argument)
    except Exception as error:
        raise Misdeclared(f"{option} of {name} raised {type(error).__name__}") from error
