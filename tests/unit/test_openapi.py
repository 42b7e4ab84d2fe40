"""The OpenAPI document is valid, says what the service does, and tells nobody of what they may not see."""

from __future__ import annotations

import datetime
import enum
import json
import re
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
import pytest
from django.urls import get_resolver
from msgspec import Meta
from openapi_spec_validator import OpenAPIV31SpecValidator

from asgi_app import errors, jobs
from asgi_app.access import SCOPES
from asgi_app.describing.shapes import JOB, PROBLEM, STATES
from asgi_app.openapi import document
from asgi_app.registry import registry, resource

#: Of the websocket's room, which Django's URLs do not know.
STREAMS = {("GET", "/api/v1/events")}
DESCRIBED = re.compile(r"^/?(api/|livez|readyz|metrics)")


def described(*, anonymous: bool = True) -> dict[str, Any]:
    return document(
        registry.resources.values(),
        registry.actions.values(),
        version="1",
        anonymous=anonymous,
        session_cookie="sessionid",
        csrf_header="X-CSRFToken",
    )


def faults(found: Any) -> list[str]:
    """What OpenAPI's own schema has against a document."""
    return [error.message for error in OpenAPIV31SpecValidator(found).iter_errors()]


def operations(found: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(method.upper(), path): each for path, item in found["paths"].items() for method, each in item.items()}


def nameless(path: str) -> str:
    """A path with `{}` for everything that varies."""
    path = re.sub(r"(?<=/resources/)[a-z0-9_.]+|(?<=/actions/)[a-z0-9_.]+", "{}", path)
    return re.sub(r"<[^>]*>|{[^}]*}", "{}", path)


def routes() -> set[tuple[str, str]]:
    """What `urls.py` answers, by method; HEAD is GET without its body."""
    found = set()
    for pattern in get_resolver().url_patterns:
        path = str(pattern.pattern)
        if DESCRIBED.match(path):
            methods = getattr(pattern.callback, "methods", ("GET",))
            found |= {(method, nameless(f"/{path}")) for method in methods if method != "HEAD"}
    return found


def test_every_route_is_described_and_nothing_else() -> None:
    """A path or a method that is added to the URLs needs its entry in a table of `describing/`."""
    found = {(method, nameless(path)) for method, path in operations(described())}
    assert found - STREAMS == routes()


def test_the_document_is_valid() -> None:
    """By OpenAPI's own schema; references lead somewhere, and no operation's name is given twice."""
    found = described()
    assert faults(found) == []
    names = [each["operationId"] for each in operations(found).values()]
    assert len(names) == len(set(names))
    linked = re.findall(r'"operationId": "([^"]+)", "parameters"', json.dumps(found))
    assert set(linked) <= set(names)
    for pointer in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(found)):
        here: Any = found
        for part in pointer.split("/"):
            here = here[part]


def test_jobs_and_problems_have_the_members_that_are_described() -> None:
    """No more and no fewer, in the order in which they are sent."""
    record = dict.fromkeys(("id", "name", "params", "queue", "topic"), "{}")
    record |= {"kind": "computation", "status": "succeeded", "priority": "5", "version": "1", "fence": "0"}
    assert list(JOB["properties"]) == list(jobs.public(record))
    assert set(STATES) > jobs.TERMINAL
    wrong = errors.BadParameters([{"name": "a", "reason": "b"}])
    wrong.retry_after = 1.0
    assert list(PROBLEM["properties"]) == list(wrong.problem())
    assert set(PROBLEM["required"]) == set(errors.MillpondError().problem())


def test_every_operation_answers_the_errors_of_the_table() -> None:
    """By the codes of `errors.py`, with their statuses."""
    found = described()
    kinds = {kind.code: kind for kind in errors.MillpondError._by_code.values()}
    for status, name in re.findall(r'"(\d{3})": {"\$ref": "#/components/responses/([^"]+)"}', json.dumps(found)):
        codes = {"304"} if name == "not-modified" else {str(kinds[code].status) for code in name.split(".")}
        assert codes == {status}


def test_nothing_is_said_of_what_was_not_handed_in() -> None:
    """No path, link or schema names it."""
    found = document([], [], version="1", anonymous=True, session_cookie="sessionid", csrf_header="X-CSRFToken")
    text = json.dumps(found)
    assert faults(found) == []
    assert [name for name in (*registry.resources, *registry.actions) if name in text] == []


@pytest.mark.parametrize("anonymous", [True, False])
def test_who_may_call_is_said_with_the_scope(anonymous: bool) -> None:
    """Nobody's call is among the ways only where the service and the operation are open."""
    found = operations(described(anonymous=anonymous))
    assert ({} in found["GET", "/api/v1/resources/test.echo"]["security"]) is anonymous
    assert {} not in found["GET", "/api/v1/resources/test.mine"]["security"]
    run = found["POST", "/api/v1/actions/test.write"]["security"]
    assert run == [{"bearer": ["run"]}, {"session": [], "csrf": []}]
    roles = {role for each in found.values() for way in each["security"] for role in way.get("bearer", [])}
    assert roles <= set(SCOPES)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(msgspec.Struct):
    x: Annotated[int, Meta(ge=0, le=9)]
    y: Annotated[float, Meta(ge=0, le=1)] = 0.5


EVERY_TYPE = [
    (int, [0, -7]),
    (float, [0.5, 1e300]),
    (bool, [True, False]),
    (str, ["", "null", "7", '"', "ä b&c=d+e%", "[1]"]),
    (datetime.date, ["2013-07-04"]),
    (datetime.timedelta, ["P1DT3600S"]),
    (Literal["a", "b"], ["a"]),
    (Literal[1, 2], [2]),
    (Literal[1, "a", None], [1, "a", None]),
    (Colour, ["blue"]),
    (Colour | None, ["red", None]),
    (str | None, ["null", "", "7", None]),
    (int | str, [7, "7", "a"]),
    (list[int], [[], [1, 2]]),
    (tuple[str, int], [["a", 1]]),
    (dict[str, int], [{"a": 1}, {}]),
    (Point, [{"x": 1, "y": 0.25}]),
    (list[Point] | None, [[{"x": 1, "y": 0.25}], None]),
]


@pytest.mark.parametrize(("type_", "values"), EVERY_TYPE, ids=lambda each: str(each)[:40])
def test_a_parameter_of_any_type_is_sent_as_described(type_: Any, values: list[Any]) -> None:
    """As its plain text, or as JSON where it says so; the service reads the very value."""

    def one(given: Any) -> None:
        """Takes one."""

    one.__annotations__["given"] = type_
    with registry.isolated():
        resource("one")(one)
        found = described()
        assert faults(found) == []
        (parameter,) = (p for p in operations(found)["GET", "/api/v1/resources/one"]["parameters"] if "name" in p)
        assert parameter["required"]
        for value in values:
            text = json.dumps(value) if "content" in parameter or not isinstance(value, str) else value
            declared = registry.resource("one")
            read = declared.dump(declared.parse_query(f"given={quote(text)}"))
            assert json.loads(json.dumps(read)) == {"given": value}
