"""Errors have one shape, say what a caller needs, and keep everything else inside."""

import json
import pickle

import pytest

from asgi_app import errors
from asgi_app.errors import (
    BadParameters,
    ComputationFailed,
    Denied,
    MillpondError,
    Unavailable,
    UnknownAction,
    UnknownResource,
    failure_of,
    from_problem,
    safe_message,
    shortened,
)

EXPECTED = {
    "BadParameters": ("bad-parameters", 400, False),
    "Unauthenticated": ("unauthenticated", 401, False),
    "Denied": ("denied", 403, False),
    "NotFound": ("not-found", 404, False),
    "UnknownResource": ("unknown-resource", 404, False),
    "UnknownAction": ("unknown-action", 404, False),
    "BadRequest": ("bad-request", 400, False),
    "MethodNotAllowed": ("method-not-allowed", 405, False),
    "Conflict": ("conflict", 409, False),
    "BodyTooSlow": ("body-too-slow", 408, True),
    "BodyTooLarge": ("body-too-large", 413, False),
    "IdempotencyMismatch": ("idempotency-mismatch", 422, False),
    "TooManyRequests": ("too-many-requests", 429, True),
    "MillpondError": ("internal-error", 500, False),
    "Misdeclared": ("misdeclared", 500, False),
    "ComputationFailed": ("computation-failed", 502, True),
    "ValueTooLarge": ("value-too-large", 502, False),
    "NotJson": ("not-json", 502, False),
    "Unavailable": ("unavailable", 503, True),
    "NotCached": ("not-cached", 504, True),
    "ComputationTimeout": ("computation-timeout", 504, True),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_error_has_its_code_status_and_retryability(name: str) -> None:
    """The codes are public: clients compare them."""
    cls = getattr(errors, name)
    assert (cls.code, cls.status, cls.retryable) == EXPECTED[name]


def test_no_error_is_missing_from_the_list() -> None:
    """A new public error is a decision, so it stands in the list above."""
    defined = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, MillpondError)}
    assert defined == set(EXPECTED)


def test_a_problem_has_the_members_of_rfc_9457_and_extras() -> None:
    error = Unavailable("the queue is full", retry_after=2.5, extra={"queue": "mail"})
    assert error.problem() == {
        "type": "unavailable",
        "title": "A part of the service cannot be reached or is full",
        "status": 503,
        "detail": "the queue is full",
        "queue": "mail",
        "retryable": True,
        "retry_after": 2.5,
    }


def test_an_extra_member_never_replaces_a_standard_one() -> None:
    problem = Denied("no", extra={"status": 200, "type": "ok", "retryable": True, "hint": "log in"}).problem()
    assert (problem["status"], problem["type"], problem["retryable"], problem["hint"]) == (
        403,
        "denied",
        False,
        "log in",
    )


def test_without_a_detail_the_title_is_the_detail() -> None:
    assert Denied().problem()["detail"] == Denied.title
    assert "retry_after" not in Denied().problem()


def test_bad_parameters_lists_and_says_every_one() -> None:
    error = BadParameters(errors=[{"name": "a", "reason": "is required"}, {"name": "b", "reason": "must be true"}])
    assert error.problem()["errors"] == [
        {"name": "a", "reason": "is required"},
        {"name": "b", "reason": "must be true"},
    ]
    assert str(error) == "a: is required; b: must be true"


@pytest.mark.parametrize("cls", [UnknownResource, UnknownAction])
def test_an_unknown_name_is_told_shortened(cls: type[MillpondError]) -> None:
    problem = cls("x" * 5000).problem()
    assert len(problem["name"]) == 100
    assert problem["name"] in problem["detail"]
    assert cls("a\ud800").problem()["name"] == "a?"


@pytest.mark.parametrize(
    "error",
    [
        MillpondError("m"),
        Denied("no", extra={"hint": 1}),
        BadParameters([{"name": "a", "reason": "r"}]),
        UnknownResource("x.y"),
        Unavailable("later", retry_after=3),
        ComputationFailed("ValueError", extra={"exception": "ValueError"}),
    ],
)
def test_a_problem_and_a_pickle_can_be_turned_back_into_the_error(error: MillpondError) -> None:
    """Workers leave problems in records; Python code that reads a value gets the exception."""
    for twin in (from_problem(json.loads(json.dumps(error.problem()))), pickle.loads(pickle.dumps(error))):  # noqa: S301
        assert type(twin) is type(error)
        assert twin.problem() == error.problem()
        assert str(twin) == str(error)


def test_a_problem_of_a_newer_version_becomes_a_plain_error() -> None:
    twin = from_problem({"type": "from-the-future", "status": 418, "detail": "tea", "pot": 1})
    assert type(twin) is MillpondError
    assert (twin.detail, twin.extra, twin.status) == ("tea", {"pot": 1}, 500)


def test_in_production_a_failure_shows_the_class_and_no_message() -> None:
    problem = failure_of(KeyError("row of alice@example.org"), show_message=False).problem()
    assert problem["type"] == "computation-failed"
    assert problem["exception"] == "KeyError"
    assert "alice" not in json.dumps(problem)


def test_in_development_a_failure_shows_its_message_in_one_line() -> None:
    error = failure_of(ValueError("no such region:\n\t'north'\x00"), show_message=True)
    assert error.detail == "ValueError: no such region: 'north'"


def test_an_error_written_for_users_passes_as_it_is() -> None:
    error = Denied("only for the north")
    assert failure_of(error, show_message=False) is error


@pytest.mark.parametrize(
    "secret",
    [
        "redis://user:hunter2@store:6379/0 refused",
        "password=hunter2 for user x",
        "{'api_key': 'hunter2'}",
        "DB_PASSWORD: hunter2",
        'token = "hunter2", retry',
    ],
)
def test_what_looks_like_a_secret_is_blotted_out(secret: str) -> None:
    shown = safe_message(RuntimeError(secret))
    assert "hunter2" not in shown
    assert "***" in shown


def test_a_message_is_bounded_and_never_raises() -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert safe_message(Rude()) == ""
    assert failure_of(Rude(), show_message=True).detail == "the computation raised Rude"
    assert len(safe_message(ValueError("x" * 10**6))) == errors.MESSAGE_LIMIT


def test_shortened_keeps_what_fits() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd", 3) == "ab…"
