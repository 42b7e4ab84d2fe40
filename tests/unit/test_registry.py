"""A declaration is checked where it stands; what passed can be asked, keyed and described."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from celery.schedules import crontab
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Meta

from asgi_app.declaring.crontab import BadCrontab, normal_crontab
from asgi_app.errors import BadParameters, Misdeclared, UnknownAction, UnknownResource
from asgi_app.registry import Action, DeclarationError, Principal, Progress, Resource, action, registry, resource

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]

quick = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

PUBLIC = Principal.public()


def user(user_id: str) -> Principal:
    return Principal(user_id=user_id, username=user_id, scopes=frozenset(), is_anonymous=False, permissions=frozenset())


def progress(done: float, total: float | None = None, note: str = "") -> None:
    """Goes nowhere."""


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    with registry.isolated():
        yield


def sales(region: Annotated[str, Meta(max_length=20)] = "all", days: Annotated[int, Meta(ge=1, le=365)] = 30) -> Any:
    """Sales per day."""
    return [region, days]


def declared(function: Callable[..., Any] = sales, name: str = "sales.daily", **options: Any) -> Resource:
    resource(name, **options)(function)
    return registry.resource(name)


def refusal(function: Callable[..., Any] = sales, name: Any = "sales.daily", **options: Any) -> str:
    with pytest.raises(DeclarationError) as caught:
        resource(name, **options)(function)
    assert name not in registry.resources
    return str(caught.value)


# --- what passes ---


def test_a_declared_function_stays_as_it_was() -> None:
    assert resource("sales.daily")(sales) is sales
    assert sales("north", days=3) == ["north", 3]


def test_a_resource_has_the_defaults_of_the_contract() -> None:
    r = declared()
    assert (r.policy.fresh, r.policy.stale, r.policy.stale_if_error, r.policy.error_ttl) == (30, 300, 3600, 5)
    assert (r.offload, r.queue, r.priority, r.time_limit, r.retries) == (True, "default", 5, 60, 2)
    assert (r.tags, r.refresh, r.access, r.vary, r.on_abandon) == ((), "lazy", "public", None, "finish")
    assert (r.doc, r.function, r.is_async, r.wants_progress, r.wants_principal) == (
        "Sales per day.",
        sales,
        False,
        False,
        False,
    )


def test_an_action_needs_a_login_unless_it_says_otherwise() -> None:
    action("report.mail", queue="mail", priority=3, schedule="*/3  * * * MON")(sales)
    found = registry.action("report.mail")
    assert isinstance(found, Action)
    assert (found.access, found.queue, found.priority, found.schedule) == ("login", "mail", 3, "*/3 * * * mon")
    action("tick", schedule=2)(sales)
    assert registry.action("tick").schedule == 2.0
    action("by.hand", access="public")(sales)
    assert (registry.action("by.hand").schedule, registry.action("by.hand").access) == (None, "public")


def test_postponed_annotations_are_resolved() -> None:
    """This module has `from __future__ import annotations`, and its return types need not resolve."""

    def f(color: Literal["red"] = "red") -> Missing:
        return color

    assert declared(f).schema()["properties"]["color"] == {"enum": ["red"], "default": "red"}


def test_unknown_names_are_named() -> None:
    with pytest.raises(UnknownResource, match=r"'no\.such'"):
        registry.resource("no.such")
    with pytest.raises(UnknownAction, match=r"'no\.such'"):
        registry.action("no.such")


def test_isolated_registries_begin_empty_and_give_back_what_was() -> None:
    declared()
    with registry.isolated() as inner:
        assert inner is registry
        assert not inner.resources
        declared(name="other")
    assert set(registry.resources) == {"sales.daily"}


# --- calling ---


def test_a_function_gets_exactly_what_it_declared() -> None:
    def f(n: int, *, progress: Progress, principal: Principal) -> Any:
        return n, progress, principal

    def by_annotation(report: Progress, n: int, who: Principal | None = None) -> Any:
        return n, report, who

    def by_name(n: int, *, progress=None, principal=None) -> Any:  # type: ignore[no-untyped-def]
        return n, progress, principal

    functions: list[Callable[..., Any]] = [f, by_annotation, by_name]
    for i, function in enumerate(functions):
        r = declared(function, name=f"r{i}", vary="user")
        assert (r.wants_progress, r.wants_principal) == (True, True)
        assert list(r.schema()["properties"]) == ["n"]
        assert r.call(r.parse({"n": 3}, text=False), progress, user("7")) == (3, progress, user("7"))


def test_without_keyword_only_a_parameter_named_progress_is_a_parameter() -> None:
    def f(progress: int) -> int:
        return progress

    r = declared(f)
    assert not r.wants_progress
    assert r.call(r.parse_query("progress=3"), progress=progress, principal=PUBLIC) == 3


def test_an_async_function_gives_a_coroutine() -> None:
    async def f(n: int = 1) -> int:
        return n

    r = declared(f, offload=False)
    assert r.is_async
    assert asyncio.run(r.call(r.parse_query(""), progress, PUBLIC)) == 1


def test_a_declaration_says_what_is_tried_again_and_what_expires() -> None:
    """By default every exception is, and nothing expires; classes may come in any collection."""
    r = declared()
    assert (r.retry_on, r.fail_on, r.expires) == ((Exception,), (), None)
    r = declared(name="sales.other", retry_on=[ConnectionError], fail_on={ValueError}, expires=60)
    assert (r.retry_on, r.fail_on, r.expires) == ((ConnectionError,), (ValueError,), 60)
    action("report.mail", retry_on=(OSError,), fail_on=(ValueError,), expires=3600.0, atomic=True)(lambda: None)
    a = registry.action("report.mail")
    assert (a.retry_on, a.fail_on, a.expires, a.atomic) == ((OSError,), (ValueError,), 3600.0, True)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"retry_on": ConnectionError}, "retry_on must be a tuple of exception classes"),
        ({"retry_on": ("ConnectionError",)}, "retry_on must be a tuple of exception classes"),
        ({"fail_on": (KeyboardInterrupt,)}, "fail_on must be a tuple of exception classes"),
        ({"fail_on": (ValueError("one"),)}, "fail_on must be a tuple of exception classes"),
        ({"expires": 0}, "expires"),
        ({"expires": "soon"}, "expires"),
        ({"expires": float("nan")}, "expires"),
        ({"atomic": 1}, "atomic"),
    ],
)
def test_a_wrong_option_of_an_action_is_refused(options: dict[str, Any], reason: str) -> None:
    """With the name of what is wrong, also where a resource has the same."""
    with pytest.raises(DeclarationError, match=reason):
        action("report.mail", **options)(lambda: None)
    if "atomic" not in options:
        assert reason in refusal(**options)


def test_only_a_plain_function_is_part_of_a_transaction() -> None:
    """A coroutine runs on another thread than the transaction."""

    async def mail() -> None:
        """Nothing."""

    with pytest.raises(DeclarationError, match="atomic=True needs a plain def"):
        action("report.mail", atomic=True)(mail)


# --- what is refused ---


def test_the_message_names_file_line_and_name() -> None:
    line = inspect.getsourcelines(sales)[1]
    assert refusal(priority=10) == (
        f"{__file__}:{line}: resource 'sales.daily': priority must be 0 to 9 (whole number, 9 the most urgent), not 10"
    )


def test_all_reasons_are_given_at_once() -> None:
    def f(a, b: complex, *rest: int) -> None:  # type: ignore[no-untyped-def]
        """Nothing about it is right."""

    message = refusal(f, name="Bad", fresh=-1, queue="a b", tags="x", refresh="wached", offload=False)
    for part in ("the name must be", "fresh must", "queue must", "tags must", "refresh must", "async def"):
        assert part in message
    for part in ("parameter 'a': it has no annotation", "parameter 'b': complex cannot", "parameter 'rest': '*rest"):
        assert part in message


@pytest.mark.parametrize(
    "name", ["", "Sales", "sales.", ".sales", "a..b", "1a", "a-b", "a b", "ä", "a\n", "a" * 201, 3, None]
)
def test_a_bad_name_is_refused(name: Any) -> None:
    assert "the name must be words of a-z" in refusal(name=name)
    with pytest.raises(DeclarationError, match="the name must be words"):
        action(name)(sales)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"fresh": -1}, "fresh must be 0 to 2592000 (seconds), not -1"),
        ({"fresh": float("nan")}, "fresh must be"),
        ({"stale": "5"}, "stale must be"),
        ({"stale_if_error": 10**400}, "stale_if_error must be"),
        ({"error_ttl": 3601}, "error_ttl must be 0 to 3600"),
        ({"priority": 5.0}, "priority must be 0 to 9"),
        ({"priority": True}, "priority must be 0 to 9"),
        ({"time_limit": 0}, "time_limit must be 0.1 to 86400"),
        ({"retries": -1}, "retries must be 0 to 100"),
        ({"offload": 1}, "offload must be True or False"),
        ({"on_abandon": "finnish"}, "on_abandon must be 'finish' or 'cancel', not 'finnish'"),
        ({"queue": ""}, "queue must be"),
        ({"tags": "sales"}, "tags must be a tuple"),
        ({"tags": ("",)}, "'' is no tag"),
        ({"tags": (1,)}, "1 is no tag"),
        ({"tags": ("a\n",)}, "is no tag"),
        ({"tags": ("x" * 256,)}, "is no tag"),
        ({"tags": lambda: ()}, "tags must be a function that takes (params)"),
        ({"tags": 5}, "tags must be a tuple"),
        ({"access": "pubic"}, "access must be 'public', 'login', a Django permission"),
        ({"access": None}, "access must be"),
        ({"access": lambda principal: True}, "access must be a function that takes (principal, params)"),
        ({"vary": "users"}, "vary must be None, 'user' or a function"),
        ({"vary": lambda: ""}, "vary must be a function that takes (principal)"),
        ({"refresh": "wached"}, "refresh must be 'lazy', 'watched' or a five-field crontab line"),
        ({"refresh": None}, "refresh must be"),
        ({"refresh": "* * * *"}, "has 4"),
        ({"refresh": "61 * * * *"}, "refresh: '61' is no minute: 0 to 59"),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_allowed(options: dict[str, Any], reason: str) -> None:
    assert reason in refusal(**options)


@pytest.mark.parametrize("schedule", ["", "hourly", "* * * * * *", 0, 0.4, True, float("inf"), [], "0 0 31 2 *"])
def test_a_wrong_schedule_is_refused(schedule: Any) -> None:
    with pytest.raises(DeclarationError, match="schedule"):
        action("a", schedule=schedule)(sales)


@pytest.mark.parametrize(
    "zone", ["Europe/Berlim", "", "Europe", "localtime", "right/UTC", "../UTC", "/etc/localtime", 1]
)
def test_a_zone_that_is_no_name_of_the_iana_is_refused(zone: Any) -> None:
    assert "timezone must be an IANA name such as 'Europe/Berlin'" in refusal(refresh="0 6 * * *", timezone=zone)
    with pytest.raises(DeclarationError, match="timezone must be"):
        action("a", schedule="0 6 * * *", timezone=zone)(sales)


def test_a_misspelt_zone_is_answered_with_the_one_that_was_meant() -> None:
    assert "did you mean 'Europe/Berlin'?" in refusal(refresh="0 6 * * *", timezone="Europe/Berlim")


def test_a_zone_needs_a_crontab_line() -> None:
    assert "there is none" in refusal(timezone="Europe/Berlin")
    with pytest.raises(DeclarationError, match="there is none"):
        action("a", schedule=5, timezone="Europe/Berlin")(sales)


def test_a_schedule_says_where_its_line_is_read_and_what_becomes_of_missed_firings() -> None:
    action("a", schedule="0 6 * * *", timezone="Asia/Kolkata", catch_up="all", lateness=60)(sales)
    found = registry.action("a")
    assert (found.timezone, found.catch_up, found.lateness) == ("Asia/Kolkata", "all", 60.0)
    action("b", schedule=5)(sales)
    assert (registry.action("b").timezone, registry.action("b").catch_up, registry.action("b").lateness) == (
        "UTC",
        "last",
        3600.0,
    )
    assert declared(refresh="0 6 * * *", timezone="Europe/Berlin").timezone == "Europe/Berlin"


@pytest.mark.parametrize("options", [{"catch_up": "some"}, {"catch_up": []}, {"lateness": -1}, {"lateness": "1"}])
def test_a_wrong_way_to_catch_up_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match="must be"):
        action("a", schedule=5, **options)(sales)


def test_functions_for_keys_may_not_be_async_but_access_may() -> None:
    async def one(x: Any) -> Any:
        return x

    async def two(x: Any, y: Any) -> bool:
        return bool(x and y)

    assert "tags must be a plain function" in refusal(tags=one)
    assert "vary must be a plain function" in refusal(vary=one)
    assert declared(access=two).access is two
    assert declared(name="b", access="sales.view_sale").access == "sales.view_sale"


def test_signatures_that_have_no_named_typed_parameters_are_refused() -> None:
    def positional(n: int, /) -> None: ...

    def anything(**options: int) -> None: ...

    def unresolved(n: Missing) -> None: ...

    def twice(*, progress: Progress, more: Progress) -> None: ...

    def resumes(last_event_id: str = "") -> None: ...

    def gives(n: int = 1) -> Iterator[int]:
        yield n

    assert "'n': it is positional-only" in refusal(positional)
    assert "takes anything" in refusal(anything)
    assert "name 'Missing' is not defined" in refusal(unresolved)
    assert "progress is declared twice: progress, more" in refusal(twice)
    assert "another meaning in streams" in refusal(resumes)
    assert "it is a generator" in refusal(gives)


def test_a_default_outside_its_own_bounds_is_refused() -> None:
    def f(days: Annotated[int, Meta(ge=1)] = 0) -> None: ...

    assert "parameter 'days': its default 0 is refused: must be an integer from 1" in refusal(f)


def test_the_principal_needs_vary_in_a_resource_and_not_in_an_action() -> None:
    def f(*, principal: Principal) -> None: ...

    assert "vary='user' or a function" in refusal(f)
    assert declared(f, vary="user").wants_principal
    action("a")(f)
    assert registry.action("a").wants_principal


def test_off_the_worker_only_async_functions_run() -> None:
    assert "needs an async def" in refusal(offload=False)


def test_what_runs_by_the_clock_needs_defaults() -> None:
    def f(n: int) -> None: ...

    assert "'n' needs a default" in refusal(f, refresh="0 * * * *")
    with pytest.raises(DeclarationError, match="'n' needs a default"):
        action("a", schedule=5)(f)
    assert declared(refresh="0  * * * *").refresh == "0 * * * *"


def test_a_decorator_without_parentheses_is_refused() -> None:
    """It would quietly replace the function by another one."""
    with pytest.raises(DeclarationError, match=r"test_registry.py:\d+: the resource has no name"):
        resource(sales)  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="the action has no name"):
        action(sales)  # type: ignore[arg-type]


def test_only_functions_can_be_declared() -> None:
    class Thing:
        def __call__(self) -> None: ...

    for odd in (Thing(), print, 5):
        with pytest.raises(DeclarationError, match=r"test_registry.py:\d+: resource 'x': only a def"):
            resource("x")(odd)  # type: ignore[type-var]


def test_a_taken_name_is_refused_and_the_taker_is_named() -> None:
    def other(n: int = 1) -> None: ...

    declared()
    line = inspect.getsourcelines(sales)[1]
    with pytest.raises(DeclarationError, match=re.escape(f"the name is taken by sales at {__file__}:{line}")):
        resource("sales.daily")(other)
    assert registry.resource("sales.daily").function is sales


def test_the_same_function_imported_again_takes_the_place_of_itself(tmp_path: Path) -> None:
    source = "from asgi_app.registry import resource\n@resource('a.b')\ndef f(n: int = 1): ...\n"
    for _ in range(2):
        exec(compile(source, str(tmp_path / "resources.py"), "exec"), {"__name__": "twice"})  # noqa: S102
    assert set(registry.resources) == {"a.b"}


# --- crontab ---


@pytest.mark.parametrize(
    "line",
    ["* * * * *", "*/5 0-6/2 1,15 jan-MAR mon", "0 22-2 * * fri-mon", "59 23 31 12 6", "0 0 29 2 *", "0 0 31 1,2 *"],
)
def test_a_crontab_line_passes_and_celery_understands_it(line: str) -> None:
    crontab.from_string(normal_crontab(f"  {line.replace(' ', '   ')} "))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "has 0"),
        ("* * * * * *", "has 6"),
        ("60 * * * *", "0 to 59"),
        ("* 24 * * *", "0 to 23"),
        ("* * 0 * *", "1 to 31"),
        ("* * * 13 *", "1 to 12 or jan"),
        ("* * * * 7", "0 to 6 or sun"),
        ("* * * foo *", "1 to 12 or jan"),
        ("mon * * * *", "0 to 59"),
        ("*/0 * * * *", "at least 1"),
        ("5/2 * * * *", "a step stands after"),
        ("1,,2 * * * *", "is no minute"),
        ("-1 * * * *", "is no minute"),
        ("a-b-c * * * *", "is no minute"),
        ("١ * * * *", "is no minute"),
        ("0 0 30 feb *", "never fires"),
    ],
)
def test_a_wrong_crontab_line_is_refused_with_the_reason(line: str, reason: str) -> None:
    with pytest.raises(BadCrontab, match=re.escape(reason)):
        normal_crontab(line)


numbers = st.integers(0, 61).map(str) | st.sampled_from(["jan", "dec", "sun", "sat", "*"])
items = st.builds(
    lambda a, b, c: a + b + c, numbers, st.just("") | numbers.map("-{}".format), st.sampled_from(["", "/7", "/1"])
)


@quick
@given(st.integers(0, 4), st.lists(items, min_size=1, max_size=2).map(",".join))
def test_celery_understands_whatever_passes(position: int, text: str) -> None:
    fields = ["*"] * 5
    fields[position] = text
    try:
        normal = normal_crontab(" ".join(fields))
    except BadCrontab:
        return
    crontab.from_string(normal)


# --- topics, tags, keys ---


def test_a_topic_is_canonical_and_can_be_split() -> None:
    r = declared()
    for text in ("sales.daily", "sales.daily?", "sales.daily?region=all&days=030"):
        found, params = registry.split_topic(text)
        assert found is r
        assert r.topic(params) == "sales.daily"
    _, params = registry.split_topic("sales.daily?region=a?b&days=007")
    assert r.topic(params) == "sales.daily?days=7&region=a%3Fb"
    assert registry.split_topic(r.topic(params)) == (r, params)
    with pytest.raises(UnknownResource):
        registry.split_topic("job:1?x")
    with pytest.raises(BadParameters, match="days"):
        registry.split_topic("sales.daily?days=0")


def test_tags_are_sorted_and_each_comes_once() -> None:
    assert declared(tags=["b", "a", "b"]).tag_names(declared(name="x").parse_query("")) == ("a", "b")
    r = declared(name="f", tags=lambda params: [f"region:{params.region}", "all", "all"])
    assert r.tag_names(r.parse_query("region=a+b")) == ("all", "region:a b")


@pytest.mark.parametrize("returned", ["sales", None, 5, [1], ["a\n"], ["x" * 256], [""]])
def test_a_tags_function_that_returns_no_names_is_its_authors_error(returned: Any) -> None:
    r = declared(tags=lambda params: returned)
    with pytest.raises(Misdeclared, match=r"tags of sales\.daily returned|tags of sales\.daily must return"):
        r.tag_names(r.parse_query(""))


def test_a_function_of_the_author_that_raises_is_named_without_its_message() -> None:
    def fails(_: Any) -> Any:
        raise ValueError("secret")

    r = declared(tags=fails)
    with pytest.raises(Misdeclared) as caught:
        r.key(r.parse_query(""), PUBLIC)
    assert str(caught.value) == "tags of sales.daily raised ValueError"
    r = declared(name="v", vary=fails)
    with pytest.raises(Misdeclared, match="vary of v raised ValueError"):
        r.key(r.parse_query(""), PUBLIC)


def test_a_key_carries_what_the_cache_needs() -> None:
    r = declared(tags=("sales",), fresh=7)
    key = r.key(r.parse_query("days=3"), PUBLIC)
    assert (key.name, key.topic, key.tags, key.policy) == ("sales.daily", "sales.daily?days=3", ("sales",), r.policy)
    assert re.fullmatch("[0-9a-f]{32}", key.digest)
    assert r.key(r.parse_query("days=03&region=all"), user("7")) == key


def test_who_asks_belongs_to_the_key_only_where_it_varies() -> None:
    def digests(r: Resource, *who: Principal) -> set[str]:
        return {r.key(r.parse_query(""), principal).digest for principal in who}

    assert len(digests(declared(name="a"), PUBLIC, user("1"), user("2"))) == 1
    assert len(digests(declared(name="b", vary="user"), PUBLIC, user("1"), user("2"), user(""), user("public"))) == 5
    half = declared(name="c", vary=lambda principal: "public" if principal.is_anonymous else "user")
    assert len(digests(half, PUBLIC, user("1"), user("2"))) == 2


def test_a_vary_function_must_return_text() -> None:
    r = declared(vary=lambda principal: principal.user_id)
    with pytest.raises(Misdeclared, match=r"vary of sales\.daily must return a str, got NoneType"):
        r.key(r.parse_query(""), PUBLIC)


def test_another_default_is_another_question() -> None:
    """The canonical topic leaves defaults out, so a new default must not find the old values."""

    def before(n: int = 1) -> None: ...

    def after(n: int = 2) -> None: ...

    with registry.isolated():
        old = declared(before)
    new = declared(after)
    assert old.topic(old.parse_query("")) == new.topic(new.parse_query(""))
    assert old.key(old.parse_query(""), PUBLIC).digest != new.key(new.parse_query(""), PUBLIC).digest
    assert old.key(old.parse_query("n=5"), PUBLIC).digest != new.key(new.parse_query("n=5"), PUBLIC).digest


separators = st.text(st.sampled_from(list('ab&=?%:,|"\\\x00\n{}[]')), max_size=4)
questions = st.tuples(st.sampled_from(["a", "a.b", "ab"]), separators, separators, separators)


@quick
@given(st.lists(questions, min_size=2, max_size=6, unique=True))
def test_different_questions_never_share_a_key(asked: list[tuple[str, str, str, str]]) -> None:
    def f(x: str = "", y: str = "") -> None: ...

    with registry.isolated():
        by_name = {name: declared(f, name=name, vary=lambda p: p.username) for name in ("a", "a.b", "ab")}
        digests = {
            by_name[name].key(by_name[name].parse({"x": x, "y": y}, text=False), user(vary)).digest
            for name, x, y, vary in asked
        }
    assert len(digests) == len(asked)


# --- load ---


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str | None], str]]:
    """Writes a package with that `resources.py`; returns its name."""
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def make(source: str | None) -> str:
        name = f"mill_{tmp_path.name.replace('-', '_')}_{len(made)}"
        made.append(name)
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        if source is not None:
            (tmp_path / name / "resources.py").write_text(source)
        return name

    yield make
    for module in [m for m in sys.modules if m.partition(".")[0] in made]:
        del sys.modules[module]


Make = Callable[[str | None], str]


def test_load_imports_the_resources_of_every_package(package: Make) -> None:
    head = "from asgi_app.registry import resource\n"
    names = [package(f"{head}@resource('p{i}.x')\ndef f(n: int = 1): ...\n") for i in range(2)]
    registry.load(names)
    registry.load(names)
    assert set(registry.resources) == {"p0.x", "p1.x"}


def test_a_package_without_resources_is_named(package: Make) -> None:
    name = package(None)
    with pytest.raises(DeclarationError, match=f"^package '{name}' has no resources.py$"):
        registry.load([name])


def test_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(
        DeclarationError, match=r"package 'no_such\.thing' cannot be found: there is no module 'no_such'"
    ):
        registry.load(["no_such.thing"])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "\nimport no_such_thing\n",
            r":2: .* cannot be imported: ModuleNotFoundError: No module named 'no_such_thing'",
        ),
        ("\n\n1 / 0\n", r":3: .* cannot be imported: ZeroDivisionError: division by zero"),
        ("x = 1\ndef :\n", r":2: .* cannot be imported: invalid syntax"),
        ("import json\njson.loads('{')\n", r":2: .* cannot be imported: JSONDecodeError"),
    ],
)
def test_whatever_goes_wrong_inside_is_told_with_file_and_line(package: Make, source: str, reason: str) -> None:
    name = package(source)
    with pytest.raises(DeclarationError, match=rf"{name}.resources\.py{reason}"):
        registry.load([name])


def test_a_wrong_declaration_passes_as_it_is(package: Make) -> None:
    name = package("from asgi_app.registry import resource\n@resource('X')\ndef f(): ...\n")
    with pytest.raises(DeclarationError, match=rf"{name}.resources\.py:2: resource 'X': the name must be"):
        registry.load([name])


@pytest.mark.parametrize("name", ["", "..x", "a b"])
def test_an_impossible_package_name_is_an_error_too(name: str) -> None:
    with pytest.raises(DeclarationError):
        registry.load([name])
