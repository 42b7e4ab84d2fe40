"""What users declare: resources and actions, checked when they are declared.

Invariant: whatever stands in the registry can be asked, keyed and described; a declaration that could not is refused at
start with a `DeclarationError` that names file, line and every reason.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FunctionType
from typing import Any, Literal, TypeVar

from asgi_app.declaring import options
from asgi_app.declaring.bounds import Unsuitable
from asgi_app.declaring.declared import Access, Action, AlertRule, AlertTo, Exceptions, Resource, Tags, Vary
from asgi_app.declaring.log_topics import BUILT_IN, RESERVED, LogRules
from asgi_app.declaring.log_topics import reasons as log_reasons
from asgi_app.declaring.parameters import Params
from asgi_app.declaring.signature import Principal, Progress, Signature, read_signature
from asgi_app.errors import UnknownAction, UnknownResource
from cache_layer.freshness import Policy

__all__ = [
    "Access",
    "Action",
    "DeclarationError",
    "LogRules",
    "Params",
    "Principal",
    "Progress",
    "Registry",
    "Resource",
    "action",
    "log",
    "registry",
    "resource",
]

F = TypeVar("F", bound=Callable[..., Any])
D = TypeVar("D", Resource, Action)
T = TypeVar("T")


class DeclarationError(Exception):
    """A declaration is wrong: "FILE:LINE: resource 'name': reason; reason"."""


@dataclass
class Registry:
    """All declarations of this process.  Filled while modules are imported, only read afterwards."""

    resources: dict[str, Resource] = field(default_factory=dict)
    actions: dict[str, Action] = field(default_factory=dict)
    #: By their pattern, in the order of their declaration.
    logs: dict[str, LogRules] = field(default_factory=dict)
    #: Jobs that nobody can ask for by name, as none is declared under one (`asgi_app/django_tasks.py`): what stands
    #: before the colon of their names -> what makes the action of one, and its parameters, from the fields of a record.
    inner: dict[str, Callable[[Mapping[str, str]], tuple[Action, Any]]] = field(default_factory=dict)
    #: Where they wait.
    inner_queues: set[str] = field(default_factory=set)

    def resource(self, name: str) -> Resource:
        """Raises `UnknownResource`."""
        if (found := self.resources.get(name)) is None:
            raise UnknownResource(name)
        return found

    def action(self, name: str) -> Action:
        """Raises `UnknownAction`."""
        if (found := self.actions.get(name)) is None:
            raise UnknownAction(name)
        return found

    def of_job(self, fields: Mapping[str, str]) -> tuple[Action, Any]:
        """The action of a job and its parameters, from the fields of its record.

        Raises `UnknownAction`, `BadParameters`, `Misdeclared`.
        """
        kind, colon, _ = fields["name"].partition(":")
        if colon and (make := self.inner.get(kind)) is not None:
            return make(fields)
        found = self.action(fields["name"])
        return found, found.parse(json.loads(fields["params"]), text=False)

    def queues(self) -> list[str]:
        """All queues that a declaration names, `default` among them."""
        declared = (*self.resources.values(), *self.actions.values())
        return sorted({"default", *(what.queue for what in declared), *self.inner_queues})

    def split_topic(self, topic: str) -> tuple[Resource, Params]:
        """The resource and the parameters of "name?query".  Raises `UnknownResource` or `BadParameters`."""
        name, _, query = topic.partition("?")
        found = self.resource(name)
        return found, found.parse_query(query)

    def log(self, topic: str) -> LogRules | None:
        """The rules of a log topic: the first declared pattern that matches.  None: it is no log topic."""
        if topic.startswith(RESERVED) or topic.partition("?")[0] in self.resources:
            return None
        return next((rules for rules in (*self.logs.values(), BUILT_IN) if rules.matches(topic)), None)

    def load(self, packages: Iterable[str]) -> None:
        """Import `resources` of every package.  Raises `DeclarationError` for the first that is missing or fails."""
        for package in packages:
            _import_resources(package)

    @contextmanager
    def isolated(self) -> Iterator[Registry]:
        """An empty registry for the length of a test; what stood here comes back."""
        kept = self.resources, self.actions, self.logs
        self.resources, self.actions, self.logs = {}, {}, {}
        try:
            yield self
        finally:
            self.resources, self.actions, self.logs = kept


#: The registry that `@resource` and `@action` fill.
registry = Registry()


def resource(
    name: str,
    *,
    fresh: float = 30,
    stale: float = 300,
    stale_if_error: float = 3600,
    offload: bool = True,
    queue: str = "default",
    priority: int = 5,
    time_limit: float = 60,
    retries: int = 2,
    tags: Tags = (),
    refresh: str = "lazy",
    timezone: str = "UTC",
    access: Access = "public",
    vary: Vary = None,
    on_abandon: Literal["finish", "cancel"] = "finish",
    error_ttl: float = 5,
    negative_ttl: float | None = None,
    soft_timeout: float | None = None,
    retry_on: Exceptions = (Exception,),
    fail_on: Exceptions = (),
    expires: float | None = None,
    alert_when: AlertRule | None = None,
    alert_to: AlertTo = "staff",
) -> Callable[[F], F]:
    """Declare a function as a resource; the function itself stays as it is.  Times are in seconds.

    It is tried again after exceptions of `retry_on`, but not of `fail_on`; `expires`: a job that has not begun within
    that time does not begin.
    `timezone`: where a crontab line of `refresh` is read.
    `alert_when`: asked of each value that is stored, with the value as JSON gives it.  When it begins to return true,
    or a text that says what is the matter, `alert_to` is notified: "staff", those with a Django permission, the users
    of a tuple of usernames, or whom a function (params) -> users gives.

    Raises `DeclarationError` with all that is wrong, where the function is defined.
    """
    _needs_name("resource", name)
    reasons = [
        *options.name_reasons(name),
        *options.number_reasons(fresh=fresh, stale=stale, stale_if_error=stale_if_error, error_ttl=error_ttl),
        *options.number_reasons(priority=priority, time_limit=time_limit, retries=retries),
        *options.number_reasons(**{} if negative_ttl is None else {"negative_ttl": negative_ttl}),
        *options.number_reasons(**{} if soft_timeout is None else {"soft_timeout": soft_timeout}),
        *options.flag_reasons("offload", offload),
        *options.queue_reasons(queue),
        *options.tags_reasons(tags),
        *options.access_reasons(access),
        *options.vary_reasons(vary),
        *options.choice_reasons("on_abandon", on_abandon, ("finish", "cancel")),
        *options.number_reasons(**{} if expires is None else {"expires": expires}),
        *options.exceptions_reasons(retry_on=retry_on, fail_on=fail_on),
        *options.alert_reasons(alert_when, alert_to),
    ]
    kept_refresh = _kept(options.refresh_of, refresh, "lazy", reasons)
    reasons += options.timezone_reasons(timezone, refresh not in ("lazy", "watched"))

    def declare(function: F) -> F:
        wrong = [*reasons, *_event_loop_reasons(function, offload)]
        by_the_clock = kept_refresh not in ("lazy", "watched")
        signature = _judged("resource", name, function, wrong, vary is not None, by_the_clock)
        declared = Resource(
            name=name,
            function=function,
            signature=signature,
            queue=queue,
            priority=priority,
            time_limit=time_limit,
            retries=retries,
            retry_on=tuple(retry_on),
            fail_on=tuple(fail_on),
            expires=expires,
            access=access,
            policy=Policy(
                fresh=fresh,
                stale=stale,
                stale_if_error=stale_if_error,
                error_ttl=error_ttl,
                negative_ttl=negative_ttl,
                soft_timeout=soft_timeout,
            ),
            offload=offload,
            tags=tags if callable(tags) else tuple(sorted(set(tags))),
            refresh=kept_refresh,
            timezone=timezone,
            vary=vary,
            on_abandon=on_abandon,
            alert_when=alert_when,
            alert_to=alert_to,
        )
        _add(declared, registry.resources, "resource")
        return function

    return declare


def action(
    name: str,
    *,
    queue: str = "default",
    priority: int = 5,
    time_limit: float = 60,
    retries: int = 2,
    access: Access = "login",
    schedule: str | float | None = None,
    timezone: str = "UTC",
    catch_up: Literal["skip", "last", "all"] = "last",
    lateness: float = options.LATENESS,
    retry_on: Exceptions = (Exception,),
    fail_on: Exceptions = (),
    expires: float | None = None,
    atomic: bool = False,
) -> Callable[[F], F]:
    """Declare a function as a job with side effects; the function itself stays as it is.  `schedule`: a crontab line,
    read in `timezone`, or seconds between two runs.  Of the firings that were missed while no scheduler ran, none, the
    last or all (100 at most) are made up for, those of the last `lateness` seconds.  Unlike a resource it is not public
    unless it says so: running it changes something.  `retry_on`, `fail_on` and `expires` as with a resource.

    `atomic`: it runs in one transaction of the database, which also ends its job: whatever it changes there is changed
    exactly once, however often its worker dies.

    Raises `DeclarationError` with all that is wrong, where the function is defined.
    """
    _needs_name("action", name)
    reasons = [
        *options.name_reasons(name),
        *options.number_reasons(priority=priority, time_limit=time_limit, retries=retries),
        *options.queue_reasons(queue),
        *options.access_reasons(access),
        *options.choice_reasons("catch_up", catch_up, options.CATCH_UPS),
        *options.number_reasons(lateness=lateness),
        *options.number_reasons(**{} if expires is None else {"expires": expires}),
        *options.exceptions_reasons(retry_on=retry_on, fail_on=fail_on),
        *options.flag_reasons("atomic", atomic),
    ]
    kept_schedule = _kept(options.schedule_of, schedule, None, reasons)
    reasons += options.timezone_reasons(timezone, isinstance(schedule, str))

    def declare(function: F) -> F:
        wrong = [*reasons, *_atomic_reasons(function, atomic)]
        declared = Action(
            name=name,
            function=function,
            signature=_judged("action", name, function, wrong, True, kept_schedule is not None),
            queue=queue,
            priority=priority,
            time_limit=time_limit,
            retries=retries,
            retry_on=tuple(retry_on),
            fail_on=tuple(fail_on),
            expires=expires,
            atomic=atomic,
            access=access,
            schedule=kept_schedule,
            timezone=timezone,
            catch_up=catch_up,
            lateness=float(lateness) if isinstance(lateness, int | float) else options.LATENESS,
        )
        _add(declared, registry.actions, "action")
        return function

    return declare


def log(
    pattern: str,
    *,
    access: Access = "login",
    publish: Literal[False, True] | Access = False,
    history: int = 100,
    ttl: float = 3600,
    presence: bool = False,
    join_leave: bool = False,
) -> None:
    """Declare log topics: all whose name matches `pattern`, in which `*` stands for any characters.

    What is published on one comes to all who follow it, in order and without a hole.  `history`: how many publications
    are kept for who comes back, `ttl` seconds after the last; with 0 nothing is, and what is missed is missed.
    `access`: who may follow, and read history and presence; a function gets (principal, topic).  `publish`: who of them
    may publish from a client; code on the server always may.  `presence`: clients may ask who is there; `join_leave`:
    they are told who comes and goes.

    The first declared pattern that matches a topic counts.  Raises `DeclarationError` with all that is wrong.
    """
    rules = LogRules(
        pattern=pattern,
        access=access,
        publish=publish,
        history=history,
        ttl=ttl,
        presence=presence,
        join_leave=join_leave,
    )
    wrong = list(log_reasons(rules))
    before = registry.logs.get(pattern) if isinstance(pattern, str) else None
    if before is not None and replace(before, access=access, publish=publish) != rules:
        wrong.append("the pattern is declared already, with other rules")
    if wrong:
        raise DeclarationError(f"{_place(None)}: log {pattern!r}: {'; '.join(wrong)}")
    registry.logs[pattern] = rules


def _needs_name(kind: str, name: Any) -> None:
    """`@resource` without parentheses would otherwise quietly replace the function."""
    if callable(name):
        raise DeclarationError(f"{_place(name)}: the {kind} has no name: write @{kind}('some.name')")


def _kept(read: Callable[[Any], T], option: Any, otherwise: T, reasons: list[str]) -> T:
    try:
        return read(option)
    except Unsuitable as error:
        reasons.append(str(error))
        return otherwise


def _event_loop_reasons(function: Any, offload: bool) -> Iterator[str]:
    if offload is False and not inspect.iscoroutinefunction(function):
        yield "offload=False runs on the event loop, so it needs an async def"


def _atomic_reasons(function: Any, atomic: bool) -> Iterator[str]:
    if atomic is True and inspect.iscoroutinefunction(function):
        yield "atomic=True needs a plain def: a transaction of Django belongs to a thread"


def _judged(
    kind: str, name: str, function: Callable[..., Any], known: list[str], may_take_principal: bool, unasked: bool
) -> Signature:
    """The signature, once nothing is wrong with it or with the options; `unasked`: it runs without parameters."""
    if not isinstance(function, FunctionType):
        raise DeclarationError(f"{_place(function)}: {kind} '{name}': only a def or an async def can be declared")
    signature, found = read_signature(function)
    reasons = [*known, *found]
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        reasons.append("it is a generator: return the whole value")
    if signature is not None and signature.principal is not None and not may_take_principal:
        reasons.append("it takes the principal, so say what of it belongs to the key: vary='user' or a function")
    if signature is not None and unasked:
        without = [p.name for p in signature.parameters.by_name.values() if p.default is None]
        reasons += [f"it runs by the clock, without parameters, so '{name}' needs a default" for name in without]
    if reasons or signature is None:
        raise DeclarationError(f"{_place(function)}: {kind} '{name}': {'; '.join(reasons)}")
    return signature


def _add(declared: D, into: dict[str, D], kind: str) -> None:
    """A module may be imported twice, e.g. as `__main__`; two functions of one name may not."""
    before = into.get(declared.name)
    if before is not None and _identity(before.function) != _identity(declared.function):
        taken = f"the name is taken by {before.function.__qualname__} at {_place(before.function)}"
        raise DeclarationError(f"{_place(declared.function)}: {kind} '{declared.name}': {taken}")
    into[declared.name] = declared


def _identity(function: Callable[..., Any]) -> tuple[str, str]:
    return _place(function), function.__qualname__


def _place(function: Any) -> str:
    """FILE:LINE of a function, or else of the user's code that is being run."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is not None:
        return f"{code.co_filename}:{code.co_firstlineno}"
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _import_resources(package: str) -> None:
    module = f"{package}.resources"
    try:
        importlib.import_module(module)
    except DeclarationError:
        raise
    except ModuleNotFoundError as error:
        if error.name == module:
            raise DeclarationError(f"package '{package}' has no resources.py") from error
        if error.name is not None and module.startswith(f"{error.name}."):
            raise DeclarationError(f"package '{package}' cannot be found: there is no module '{error.name}'") from error
        raise _import_failure(module, error) from error
    except Exception as error:
        raise _import_failure(module, error) from error


def _import_failure(module: str, error: Exception) -> DeclarationError:
    if isinstance(error, SyntaxError) and error.filename:
        return DeclarationError(f"{error.filename}:{error.lineno}: {module} cannot be imported: {error.msg}")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen ")]
    own = [f for f in frames if Path(f.filename).name == "resources.py"]
    place = (own or frames)[-1]
    what = f"{type(error).__name__}: {error}"
    return DeclarationError(f"{place.filename}:{place.lineno}: {module} cannot be imported: {what}")
