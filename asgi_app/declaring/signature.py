"""What the signature of a declared function says: its parameters, and whether it wants progress or the principal."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any, Protocol, get_args, get_origin, get_type_hints

from asgi_app.declaring.bounds import Unsuitable
from asgi_app.declaring.parameters import Parameter, Parameters, Required


class Progress(Protocol):
    """Reports how far a computation is.  Raises when the job was cancelled, which ends the function."""

    def __call__(self, done: float, total: float | None = None, note: str = "") -> None:
        """`done` of `total` in any unit; `total` is None while it is not known."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a user, a token, or the public."""

    #: Id of the user as text; None: nobody is known.
    user_id: str | None
    username: str
    #: What a token allows: read, run, publish, invalidate.
    scopes: frozenset[str]
    is_anonymous: bool
    #: Django permissions, "app.codename".
    permissions: frozenset[str]

    @staticmethod
    def public() -> Principal:
        """Nobody in particular."""
        return _PUBLIC


_PUBLIC = Principal(user_id=None, username="", scopes=frozenset(), is_anonymous=True, permissions=frozenset())


@dataclass(frozen=True)
class Signature:
    """What to pass to a declared function."""

    parameters: Parameters
    #: Name under which the function takes its `Progress`; None: it does not.
    progress: str | None
    #: Name under which the function takes its `Principal`; None: it does not.
    principal: str | None


_GIVEN: dict[str, Any] = {"progress": Progress, "principal": Principal}
#: Query parameters with a meaning of their own at one of the doors.
_TAKEN = frozenset({"last_event_id"})


def read_signature(function: Callable[..., Any]) -> tuple[Signature | None, list[str]]:
    """The signature of a function, or None with all the reasons why it cannot be declared."""
    found = [_read(parameter, function) for parameter in inspect.signature(function).parameters.values()]
    reasons = [item for item in found if isinstance(item, str)]
    given = {role: [name for r, name in _roles(found) if r == role] for role in _GIVEN}
    reasons += [f"{role} is declared twice: {', '.join(names)}" for role, names in given.items() if len(names) > 1]
    if reasons:
        return None, reasons
    parameters = Parameters(item for item in found if isinstance(item, Parameter))
    return Signature(parameters, *(next(iter(given[role]), None) for role in _GIVEN)), []


def _roles(found: list[Parameter | tuple[str, str] | str]) -> Iterator[tuple[str, str]]:
    return (item for item in found if isinstance(item, tuple))


def _read(parameter: inspect.Parameter, function: Callable[..., Any]) -> Parameter | tuple[str, str] | str:
    """A parameter; or (role, name) of what Millpond passes itself; or the reason why it is refused."""
    name = parameter.name
    if parameter.kind is parameter.KEYWORD_ONLY and name in _GIVEN:
        return name, name
    try:
        hint = _hint(parameter, function)
        for role, cls in _GIVEN.items():
            if _mentions(hint, cls):
                return _given(role, parameter)
        return Parameter.declared(name, hint, Required if parameter.default is parameter.empty else parameter.default)
    except Unsuitable as error:
        return f"parameter '{name}': {error}"


def _given(role: str, parameter: inspect.Parameter) -> tuple[str, str]:
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise Unsuitable("it is positional-only, but parameters have names")
    return role, parameter.name


def _hint(parameter: inspect.Parameter, function: Callable[..., Any]) -> Any:
    """The resolved annotation, also under `from __future__ import annotations`."""
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise Unsuitable(f"'{parameter}' takes anything; every parameter needs a name and a type")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise Unsuitable("it is positional-only, but parameters have names")
    if parameter.name in _TAKEN:
        raise Unsuitable("this name has another meaning in streams")
    if parameter.annotation is parameter.empty:
        raise Unsuitable("it has no annotation; write its type, e.g. 'days: int = 30'")
    carrier = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return get_type_hints(carrier, globalns=scope, include_extras=True)[parameter.name]
    except Exception as error:
        raise Unsuitable(f"its annotation cannot be resolved: {error}") from error


def _mentions(hint: Any, cls: Any) -> bool:
    if get_origin(hint) is Annotated:
        return _mentions(get_args(hint)[0], cls)
    return hint is cls or any(arg is cls for arg in get_args(hint))
