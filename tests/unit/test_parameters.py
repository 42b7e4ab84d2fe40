"""Parameters are typed, bounded and canonical: one question has one text, two questions never share a key."""

import enum
import json
import math
import random
import unicodedata
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from urllib.parse import parse_qsl, quote, quote_plus, urlencode
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from asgi_app.declaring.bounds import INT_MAX, INT_MIN, Unsuitable
from asgi_app.declaring.parameters import MAX_ERRORS, Parameter, Parameters, Params, Required
from asgi_app.errors import BadParameters

quick = settings(max_examples=60, deadline=None)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(msgspec.Struct, frozen=True):
    x: Annotated[int, Meta(ge=-9, le=9)]
    y: Annotated[int, Meta(ge=-9, le=9)] = 0
    when: datetime | None = None


class Open(msgspec.Struct, frozen=True):
    x: int


@dataclass
class Window:
    label: str


class Loose(TypedDict):
    names: list[Annotated[str, Meta(max_length=3)]]


class Pair(NamedTuple):
    left: float
    right: bool


class Mixed(msgspec.Struct):
    kinds: Annotated[set[bool], Meta(max_length=2)]


class Vague(msgspec.Struct):
    what: Annotated[tuple[Any, ...], Meta(max_length=2)]


class Tree(msgspec.Struct):
    children: "Annotated[list[Tree], Meta(max_length=2)]"


class Deep(msgspec.Struct):
    inside: Annotated[list[Open], Meta(max_length=2)]


def declared(**kinds: Any) -> Parameters:
    """`declared(days=int, region=(str, "all"))`: types, with a default where there is one."""
    pairs = {name: kind if type(kind) is tuple else (kind, Required) for name, kind in kinds.items()}
    return Parameters(Parameter.declared(name, kind, default) for name, (kind, default) in pairs.items())


def one(kind: Any, default: Any = Required) -> Parameters:
    return declared(x=(kind, default))


def value(kind: Any, text: str) -> Any:
    return one(kind).parse({"x": text}, text=True).x  # type: ignore[attr-defined]


def reasons(parameters: Parameters, query: str | bytes) -> dict[str, str]:
    with pytest.raises(BadParameters) as caught:
        parameters.parse_query(query)
    return {e["name"]: e["reason"] for e in caught.value.extra["errors"]}


# --- texts ---


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (int, "007", 7),
        (int, "-0", 0),
        (int, str(INT_MAX), INT_MAX),
        (int, str(INT_MIN), INT_MIN),
        (float, "1", 1.0),
        (float, "1.50", 1.5),
        (float, "01e2", 100.0),
        (float, ".5", 0.5),
        (bool, "true", True),
        (bool, "1", True),
        (bool, "false", False),
        (bool, "0", False),
        (str, "null", "null"),
        (str, '"a"', '"a"'),
        (str, "", ""),
        (str, "e\u0301", "\u00e9"),
        (int | None, "null", None),
        (int | None, "", None),
        (int | None, "5", 5),
        (str | None, "", ""),
        (str | None, "null", None),
        (str | None, '"null"', "null"),
        (int | str, "7", 7),
        (int | str, '"7"', "7"),
        (int | str, "seven", "seven"),
        (bool | int, "1", 1),
        (bool | int, "true", True),
        (int | float, "1", 1),
        (int | float, "1.0", 1.0),
        (Literal["a", 1, None], "1", 1),
        (Literal["a", 1, None], "a", "a"),
        (Literal["a", 1, None], "null", None),
        (Literal["1", 1], '"1"', "1"),
        (Color, "red", Color.RED),
        (Level, "2", Level.HIGH),
        (date, "2013-07-04", date(2013, 7, 4)),
        (time, "12:30:00", time(12, 30)),
        (datetime, "2013-07-04T12:00:00", datetime(2013, 7, 4, 12)),  # noqa: DTZ001
        (datetime, "2013-07-04T12:00:00+02:00", datetime(2013, 7, 4, 10, tzinfo=UTC)),
        (timedelta, "PT90S", timedelta(seconds=90)),
        (UUID, "56BA84549f564d6aa3404e9d99c1cf58", UUID("56ba8454-9f56-4d6a-a340-4e9d99c1cf58")),
        (bytes, "YWI=", b"ab"),
        (list[int], "[1, 2]", [1, 2]),
        (set[str], '["b","a","b"]', {"a", "b"}),
        (tuple[int, str], '[1,"a"]', (1, "a")),
        (dict[str, float], '{"a": 1}', {"a": 1.0}),
        (dict[Literal["a", "b"], int], '{"a": 1}', {"a": 1}),
        (Point, '{"x": 3}', Point(3)),
        (Pair, "[1.5, true]", Pair(1.5, True)),
        (Point | None, "null", None),
    ],
)
def test_text_is_read_by_the_rules_of_its_type(kind: Any, text: str, expected: Any) -> None:
    read = value(kind, text)
    assert read == expected
    assert type(read) is type(expected)


@pytest.mark.parametrize(
    ("kind", "text", "hint"),
    [
        (int, "1.0", "an integer from"),
        (int, "1e3", "an integer from"),
        (int, " 1", "an integer from"),
        (int, "1_000", "an integer from"),
        (int, "١", "an integer from"),
        (int, "9" * 5000, "an integer from"),
        (int, str(INT_MAX + 1), str(INT_MAX)),
        (int, "", "an integer from"),
        (int, "null", "an integer from"),
        (Annotated[int, Meta(ge=1, le=365)], "0", "an integer from 1 to 365"),
        (Annotated[int, Meta(gt=0, lt=5, multiple_of=2)], "5", "an integer above 0 below 5, a multiple of 2"),
        (float, "nan", "a finite number"),
        (float, "inf", "a finite number"),
        (float, "1e999", "a finite number"),
        (Annotated[float, Meta(ge=0)], "-1", "a finite number from 0"),
        (bool, "yes", "true or false"),
        (bool, "01", "true or false"),
        (bool, "", "true or false"),
        (str, "x" * 1001, "0 to 1000 characters"),
        (Annotated[str, Meta(pattern="^[A-Z]{2}$")], "abc", "matching ^[A-Z]{2}$"),
        (Annotated[str, Meta(min_length=2, max_length=3)], "a", "2 to 3 characters"),
        (Literal["a", 1, None], "b", "one of null, 1, a"),
        (Color, "green", "one of red, blue"),
        (date, "4.7.2013", "a date such as"),
        (date, "2013-02-30", "a date such as"),
        (datetime, "0001-01-01T00:00:00+01:00", "UTC"),
        (list[int], "1,2", "a list of 0 to 1000 items, each an integer"),
        (list[int], '[1,"a"]', "$[1]"),
        (list[int], "[" * 5000, "a list of"),
        (list[float], "[1e999]", "a list of"),
        (Annotated[list[bool], Meta(max_length=1)], "[true,true]", "0 to 1 items"),
        (dict[str, int], '{"a": "b"}', "an object of 0 to 1000 members"),
        (dict[str, int], '{"\\u00e9": 1, "e\\u0301": 2}', "twice"),
        (Point, '{"x": 10}', "$.x"),
        (int | None, "a", "or null"),
        (UUID, "1", "a UUID"),
        (timedelta, "1 day", "a duration such as"),
    ],
)
def test_a_wrong_text_is_refused_with_type_and_range(kind: Any, text: str, hint: str) -> None:
    with pytest.raises(BadParameters) as caught:
        value(kind, text)
    (error,) = caught.value.extra["errors"]
    assert error["name"] == "x"
    assert hint in error["reason"]
    assert len(error["reason"]) <= 1000


def test_float_minus_zero_is_zero() -> None:
    for text in ("-0.0", "-0", "0"):
        assert math.copysign(1.0, value(float, text)) == 1.0
    assert math.copysign(1.0, value(list[float], "[-0.0]")[0]) == 1.0


# --- queries ---

SALES = {"region": (Annotated[str, Meta(max_length=20)], "all"), "days": (Annotated[int, Meta(ge=1, le=365)], 30)}


def test_every_bad_parameter_is_named_at_once() -> None:
    """Unknown, missing, wrong, twice and badly encoded: one answer."""
    parameters = declared(**SALES, needed=int, flag=bool)
    found = reasons(parameters, "days=0&region=%zz&flag=1&flag=1&other=3")
    assert set(found) == {"days", "region", "flag", "needed", "other"}
    assert found["days"] == "must be an integer from 1 to 365"
    assert found["region"].startswith("'%zz' is not percent-encoding")
    assert found["flag"] == "is given more than once"
    assert found["needed"].startswith("is required and must be an integer from")
    assert found["other"] == "is not a parameter: there are days, flag, needed, region"


def test_a_parameter_given_twice_is_refused_however_it_is_encoded() -> None:
    assert reasons(declared(**SALES), "days=3&%64ays=3") == {"days": "is given more than once"}
    assert reasons(declared(**SALES), "other=3&other=3&other=4") == {"other": "is given more than once"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("region=a+b", "a b"),
        ("region=a%20b", "a b"),
        ("region=a%2Bb", "a+b"),
        ("region=%C3%BC", "ü"),
        ("region=ü", "ü"),
        ("region=u%CC%88", "ü"),
        ("region=a=b", "a=b"),
        ("region=a;b", "a;b"),
        ("&&region=a&", "a"),
        ("region=", ""),
        ("region", ""),
        ("", "all"),
    ],
)
def test_queries_are_decoded_as_forms_are(query: str, expected: str) -> None:
    for spelling in (query, query.encode()):
        assert declared(**SALES).parse_query(spelling).region == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize("bad", ["region=%", "region=%4", "region=%GG", "region=a%-1b"])
def test_a_bad_percent_sequence_is_named(bad: str) -> None:
    assert "is not percent-encoding" in reasons(declared(**SALES), bad)["region"]


def test_bad_utf8_is_named() -> None:
    assert reasons(declared(**SALES), "region=%FF") == {"region": "is not UTF-8 once percent-decoded"}
    assert reasons(declared(**SALES), b"region=\xff") == {"region": "is not UTF-8 once percent-decoded"}
    assert reasons(declared(**SALES), "region=%ED%A0%80") == {"region": "is not UTF-8 once percent-decoded"}
    assert "in its name" in reasons(declared(**SALES), "%FF=1")["%FF"]
    assert "not valid Unicode" in reasons(declared(**SALES), "region=\ud800")[""]


def test_the_list_of_errors_is_bounded() -> None:
    query = "&".join(f"{'n' * 200}{i}=1" for i in range(1000))
    found = reasons(declared(**SALES), query)
    assert all(len(name) <= 100 for name in found)
    with pytest.raises(BadParameters) as caught:
        declared().parse_query(query)
    assert len(caught.value.extra["errors"]) == MAX_ERRORS
    assert "there are none" in caught.value.extra["errors"][0]["reason"]


# --- JSON and Python values ---


def test_json_is_strict_where_text_is_not() -> None:
    for kind, raw in ((int, "7"), (bool, 1), (str, 7), (float, "1"), (int, True), (int, 1.5), (int, None)):
        with pytest.raises(BadParameters):
            one(kind).parse({"x": raw}, text=False)


def test_a_json_number_without_fraction_is_an_integer_as_in_json_schema() -> None:
    whole = one(int).parse({"x": 7.0}, text=False).x  # type: ignore[attr-defined]
    assert (whole, type(whole)) == (7, int)
    assert one(list[int]).parse({"x": [1.0, 2]}, text=False).x == [1, 2]  # type: ignore[attr-defined]


def test_python_values_are_taken_and_checked_like_json() -> None:
    parameters = declared(day=date, color=Color, at=Point, when=datetime, ids=set[int])
    moment = datetime(2020, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    raw = {"day": date(2020, 1, 2), "color": Color.RED, "at": Point(3), "when": moment, "ids": {2, 1}}
    params = parameters.parse(raw, text=False)
    assert params == parameters.parse(parameters.dump(params), text=False)
    assert parameters.dump(params) == {
        "at": {"when": None, "x": 3, "y": 0},
        "color": "red",
        "day": "2020-01-02",
        "ids": [1, 2],
        "when": "2020-01-01T10:00:00Z",
    }


@pytest.mark.parametrize("raw", [Point(99), object(), b"ab", float("nan"), "\ud800", {1, "a"}, lambda: 1])
def test_python_values_that_break_the_rules_are_refused(raw: Any) -> None:
    for kind in (Point, str, list[float] | float):
        with pytest.raises(BadParameters):
            one(kind).parse({"x": raw}, text=False)


def test_a_set_given_for_a_list_has_one_order() -> None:
    """Otherwise every process would make another key of it."""
    parameters = one(list[str])
    assert parameters.dump(parameters.parse({"x": {"c", "a", "b"}}, text=False)) == {"x": ["a", "b", "c"]}


def test_nesting_without_end_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(BadParameters, match="nested too deeply"):
        one(list[list[int]]).parse({"x": deep}, text=False)


def test_all_errors_of_a_body_are_named_too() -> None:
    with pytest.raises(BadParameters) as caught:
        declared(**SALES, needed=int).parse({"days": 0, "other": 1}, text=False)
    assert [e["name"] for e in caught.value.extra["errors"]] == ["days", "needed", "other"]


# --- types and defaults ---


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Any, "say what is in it"),
        (list, "say what is in it"),
        (dict, "say what is in it"),
        (complex, "complex cannot be read from JSON"),
        (object, "object cannot be read from JSON"),
        (Decimal, "Decimal cannot be bounded"),
        (list[complex], "complex cannot be read"),
        (str | date, "more than one str-like type"),
        (set[int | str], "items of a set"),
        (set[tuple[int, int]], "items of a set"),
        (set[Color], "items of a set"),
        (set[datetime], "items of a set"),
        (set[Literal["a", 1]], "items of a set"),
        (set, "say what is in it"),
        (Mixed, "Mixed.kinds: the items of a set"),
        (Vague, "Vague.what: Any"),
        (dict[int, int], "keys of a dict"),
        (dict[Color, int], "keys of a dict"),
        (dict[Literal["a", 1], int], "keys of a dict"),
        (Open, "Open.x has no bounds"),
        (Window, "Window.label has no bound"),
        (Loose, "Loose.names has no bound"),
        (Deep, "Open.x has no bounds"),
        (Tree, "contains itself"),
        (Literal["e\u0301"], "NFC"),
        (Literal[True], "take bool"),
        (Literal[2**70], "not currently supported"),
        (Annotated[str, Meta(ge=1)], "numeric type"),
        (Annotated[int, Meta(le=2**64)], "int64"),
    ],
)
def test_a_type_that_cannot_be_read_or_bounded_is_refused(kind: Any, reason: str) -> None:
    with pytest.raises(Unsuitable, match=reason):
        one(kind)


@pytest.mark.parametrize(
    ("kind", "default"),
    [(int, None), (int, "1"), (Annotated[int, Meta(ge=1)], 0), (str, "x" * 1001), (float, math.inf), (Color, "green")],
)
def test_a_default_must_be_a_value_of_its_type(kind: Any, default: Any) -> None:
    with pytest.raises(Unsuitable, match=r"its default .* is refused"):
        one(kind, default)


def test_defaults_are_canonical_and_never_shared() -> None:
    parameters = declared(ids=(list[int], [1]), name=(str, "e\u0301"), at=(Point, Point(1)), none=(int | None, None))
    first, second = parameters.parse_query(""), parameters.parse_query("")
    assert first == second
    assert (first.name, first.at, first.none) == ("\u00e9", Point(1), None)  # type: ignore[attr-defined]
    first.ids.append(2)  # type: ignore[attr-defined]
    assert second.ids == parameters.parse_query("").ids == [1]  # type: ignore[attr-defined]


def test_parameters_are_frozen() -> None:
    params = declared(**SALES).parse_query("")
    with pytest.raises(AttributeError):
        params.days = 3  # type: ignore[attr-defined]


# --- schema ---


def test_the_schema_shows_the_bounds_that_are_enforced() -> None:
    described = Annotated[int, Meta(ge=1, description="how many")]
    kinds = {"n": int, "text": (str, "all"), "items": list[str], "members": dict[str, bool], "f": (float, 1.5)}
    schema = declared(**kinds, d=described, raw=bytes, ids=(set[int], {2, 1}), c=Color, p=(Point, Point(1))).schema()
    own = schema["properties"]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["c", "d", "items", "members", "n", "raw"]
    assert own["n"] == {"type": "integer", "minimum": INT_MIN, "maximum": INT_MAX}
    assert own["d"] == {"type": "integer", "minimum": 1, "maximum": INT_MAX, "description": "how many"}
    assert own["text"] == {"type": "string", "maxLength": 1000, "default": "all"}
    assert own["items"] == {"type": "array", "items": {"type": "string", "maxLength": 1000}, "maxItems": 1000}
    assert own["members"]["maxProperties"] == 1000
    assert own["members"]["propertyNames"] == {"maxLength": 1000}
    assert own["f"]["default"] == 1.5
    assert own["ids"]["default"] == [1, 2]
    assert "uniqueItems" not in own["ids"]
    assert own["c"] == {"$ref": "#/$defs/Color"}
    assert own["p"]["default"] == {"when": None, "x": 1, "y": 0}
    assert schema["$defs"]["Point"]["properties"]["x"]["maximum"] == 9
    assert json.loads(json.dumps(schema)) == schema


def test_the_version_follows_types_and_defaults_and_nothing_else() -> None:
    same = declared(**SALES).version
    assert declared(**dict(reversed(SALES.items()))).version == same
    assert declared(**{**SALES, "days": (Annotated[int, Meta(ge=1, le=366)], 30)}).version != same
    assert declared(**{**SALES, "days": (SALES["days"][0], 31)}).version != same
    assert declared(**SALES, more=(int, 0)).version != same


# --- canonical text (Hypothesis) ---

texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["null", "true", "007", '"', "a&b=c", "%41+"]
)
ints = st.integers(INT_MIN, INT_MAX)
floats = st.floats(allow_nan=False, allow_infinity=False)
instants = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001
aware = instants.flatmap(lambda at: st.sampled_from([at.replace(tzinfo=UTC), at]))
points = st.builds(Point, st.integers(-9, 9), st.integers(-9, 9), st.none() | aware)
KINDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "int": (int, ints),
    "float": (float, floats),
    "bool": (bool, st.booleans()),
    "str": (str, texts),
    "maybe_int": (int | None, st.none() | ints),
    "maybe_str": (str | None, st.none() | texts),
    "scalar": (bool | int | float | str | None, st.none() | st.booleans() | ints | floats | texts),
    "literal": (Literal["1", 1, "null", None, '"1"'], st.sampled_from(["1", 1, "null", None, '"1"'])),
    "color": (Color, st.sampled_from(Color)),
    "level": (Level | str, st.sampled_from(Level) | texts),
    "date": (date, st.dates()),
    "datetime": (datetime, aware),
    "time": (time, st.times()),
    "timedelta": (timedelta, st.timedeltas(timedelta(-9999), timedelta(9999))),
    "uuid": (UUID, st.uuids()),
    "bytes": (bytes, st.binary(max_size=9)),
    "list": (list[int | str], st.lists(ints | texts, max_size=4)),
    "dates": (list[datetime], st.lists(aware, max_size=3)),
    "set": (frozenset[str], st.frozensets(texts, max_size=4)),
    "choices": (set[Literal["b", "a"]], st.sets(st.sampled_from(["a", "b"]))),
    "days": (set[date], st.sets(st.dates(), max_size=3)),
    "numbers": (frozenset[float], st.frozensets(floats, max_size=3)),
    "by_choice": (dict[Literal["b", "a"], UUID], st.dictionaries(st.sampled_from(["a", "b"]), st.uuids())),
    "dict": (dict[str, float], st.dictionaries(st.text("ab\u00e9=&,", max_size=3), floats, max_size=3)),
    "tuple": (tuple[int, str], st.tuples(ints, texts)),
    "point": (Point, points),
    "list_or_text": (list[Point] | str, st.lists(points, max_size=2) | texts),
}


def sample(name: str) -> st.SearchStrategy[Any]:
    return KINDS[name][1]


@pytest.mark.parametrize("name", KINDS)
def test_the_canonical_query_is_read_back_as_the_same_parameters(name: str) -> None:
    kind, values = KINDS[name]
    parameters = declared(x=kind)

    @quick
    @given(values)
    def check(raw: Any) -> None:
        params = parameters.parse({"x": raw}, text=False)
        query = parameters.query(params)
        again = parameters.parse_query(query)
        assert again == params
        assert msgspec.json.encode(again, order="sorted") == msgspec.json.encode(params, order="sorted")
        assert parameters.query(again) == query
        assert parameters.parse(parameters.dump(params), text=False) == params
        assert parameters.parse(json.loads(json.dumps(parameters.dump(params))), text=False) == params

    check()


MIXED = declared(
    n=(int, 7),
    f=(float, 1.0),
    flag=(bool, True),
    text=(str, "all"),
    maybe=(int | None, None),
    items=(list[str], ["a"]),
    when=(datetime, datetime(2020, 1, 1, tzinfo=UTC)),
)


def spellings(params: Params, rng: random.Random) -> list[tuple[str, str]]:
    """The same question as somebody else might write it."""
    p: Any = params
    n = f"{'-' if p.n < 0 else ''}{'0' * rng.randrange(3)}{abs(p.n)}"
    f = repr(p.f) if rng.random() < 0.5 or not p.f.is_integer() or abs(p.f) > 1e15 else str(int(p.f))
    flag = rng.choice(["true", "1"] if p.flag else ["false", "0"])
    text = unicodedata.normalize(rng.choice(["NFC", "NFD"]), p.text)
    maybe = rng.choice(["null", ""]) if p.maybe is None else str(p.maybe)
    items = json.dumps(p.items, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 1]))
    when = p.when.astimezone(timezone(timedelta(hours=rng.randrange(-9, 9)))).isoformat()
    written = {"n": n, "f": f, "flag": flag, "text": text, "maybe": maybe, "items": items, "when": when}
    kept = [(k, v) for k, v in written.items() if not MIXED.by_name[k].is_default(getattr(p, k)) or rng.random() < 0.5]
    rng.shuffle(kept)
    return kept


@quick
@given(ints, floats, st.booleans(), texts, st.none() | ints, st.lists(texts, max_size=3), aware, st.randoms())
def test_every_spelling_of_a_question_has_one_canonical_query(
    n: int, f: float, flag: bool, text: str, maybe: int | None, items: list[str], when: datetime, rng: random.Random
) -> None:
    raw = {"n": n, "f": f, "flag": flag, "text": text, "maybe": maybe, "items": items}
    params = MIXED.parse({**raw, "when": when.replace(tzinfo=UTC)}, text=False)
    encode = rng.choice([quote, quote_plus])
    query = "&".join(f"{quote(k)}={encode(v)}" for k, v in spellings(params, rng))
    assert MIXED.query(MIXED.parse_query(query)) == MIXED.query(params)


def test_defaults_are_left_out_and_names_are_sorted() -> None:
    parameters = declared(**SALES, b=(int | None, 1))
    assert parameters.query(parameters.parse_query("days=30&region=all")) == ""
    assert parameters.query(parameters.parse_query("region=n%20%26&days=007&b=")) == "b=null&days=7&region=n%20%26"


@quick
@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), texts))
def test_a_canonical_query_is_plain_form_data_to_everybody_else(raw: dict[str, str]) -> None:
    """Other programs read it with their own tools."""
    parameters = declared(a=(str, "0"), b=(str, "0"), c=(str, "0"))
    params = parameters.parse(raw, text=False)
    read = dict(parse_qsl(parameters.query(params), keep_blank_values=True, strict_parsing=False))
    assert {"a": "0", "b": "0", "c": "0", **read} == parameters.dump(params)
    assert parameters.parse_query(urlencode(raw)) == params


@quick
@given(st.binary(max_size=40) | st.text(max_size=40))
def test_no_query_does_anything_but_parse_or_name_what_is_wrong(query: str | bytes) -> None:
    try:
        MIXED.parse_query(query)
    except BadParameters as error:
        problem = error.problem()
    else:
        return
    assert problem["errors"]
    assert json.dumps(problem, ensure_ascii=False).encode()


@quick
@given(
    st.text(max_size=20) | st.from_regex(r"[\[{\"0-9a-z:,.eE+\-]{0,12}", fullmatch=True), st.sampled_from(sorted(KINDS))
)
def test_any_text_is_either_refused_or_has_a_canonical_form(text: str, name: str) -> None:
    parameters = declared(x=KINDS[name][0])
    try:
        params = parameters.parse({"x": text}, text=True)
    except BadParameters:
        return
    assert parameters.parse_query(parameters.query(params)) == params
