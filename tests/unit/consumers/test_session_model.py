"""Whatever a client says, and in whatever order the outside answers: one answer for each command, or the end."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from consumers import effects
from consumers.effects import Close, Effect
from consumers.frames import Errors, Unsubscribes
from consumers.limits import Limits
from tests.unit.consumers.talk import VALUE, Talk, log, publications

LIMITS = Limits(subscriptions=3, command_rate=20, message=2000, replies=100)

_NAMES = st.sampled_from(["a", "b", "c", "x" * 256])
_BODIES = st.one_of(
    st.builds(lambda c, r: {"subscribe": {"channel": c, "recover": r, "flag": 3}}, _NAMES, st.booleans()),
    st.builds(lambda c: {"subscribe": {"channel": c, "token": "t"}}, _NAMES),
    st.builds(lambda c: {"unsubscribe": {"channel": c}}, _NAMES),
    st.builds(lambda c: {"sub_refresh": {"channel": c, "token": "t"}}, _NAMES),
    st.builds(
        lambda m, c: {m: {"channel": c}}, st.sampled_from(["publish", "history", "presence", "presence_stats"]), _NAMES
    ),
    st.sampled_from([{"rpc": {"method": "m"}}, {"refresh": {"token": "t"}}]),
)
_BAD = st.sampled_from(
    ["", "{}", '{"id":900}', '{"id":901,"connect":{}}', '{"send":{}}', '{"id":902,"subscribe":{}}', "x"]
)
#: A frame of the client, an answer of the outside to one of its effects, or something the server does by itself.
_STEPS = st.one_of(
    st.lists(_BODIES, min_size=1, max_size=4),
    st.tuples(st.just("answer"), st.integers(0, 20), st.booleans()),
    st.tuples(st.just("expel"), _NAMES, st.booleans()),
    st.tuples(st.just("tick"), st.floats(0, 20), st.booleans()),
)


class Model:
    """A session, the ids it owes an answer, and what it has asked of the outside."""

    def __init__(self) -> None:
        self.talk = Talk(limits=LIMITS)
        self.session = self.talk.session
        self.now = 0.0
        self.asked = Counter({1: 1})
        self.talk.say({"id": 1, "connect": {"subs": {"s": {"recover": True, "offset": 1}}}})

    def say(self, bodies: list[dict[str, Any]]) -> None:
        first = len(self.asked) + 1
        commands = [{"id": first + number, **body} for number, body in enumerate(bodies)]
        self.asked.update(command["id"] for command in commands)
        self.talk.say(*commands, now=self.now)

    def step(self, step: Any) -> None:
        if isinstance(step, list):
            self.say(step)
            return
        kind, what, well = step
        if kind == "tick":
            self.now += what
            self.talk.tick(self.now)
            if self.talk.frames and self.talk.frames[-1] == {} and well:
                self.talk.say("{}", now=self.now)
        elif kind == "expel":
            code = Unsubscribes.SERVER if well else Unsubscribes.INSUFFICIENT_STATE
            self.talk.took(self.session.expelled(what, code))
        else:
            if self.open:
                effect = self.open[what % len(self.open)]
                self.talk.does.remove(effect)
                self.talk.took(self.answer(effect, well))

    @property
    def open(self) -> list[Effect]:
        """What the outside has not answered yet."""
        return [effect for effect in self.talk.does if not isinstance(effect, effects.Unsubscribe | Close)]

    def answer(self, effect: Effect, well: bool) -> list[Effect]:
        session, now = self.session, self.now
        match effect:
            case effects.Authenticate():
                channels = ("s", "t") if well else ()
                return session.authenticated(now=now, expires_in=30.0, refreshable=well, channels=channels)
            case effects.Welcome():
                return session.welcomed({"s": log(3, publications(2, 3))} if well else {}, now=now)
            case effects.Subscribe(channel=channel, token=token) if well:
                held = VALUE if channel == "a" else log(3)
                return session.subscribed(
                    channel, held, now=now, refreshable=bool(token), expires_in=5.0 if token else None
                )
            case effects.Subscribe(channel=channel):
                return session.subscribe_failed(channel, Errors.INTERNAL)
            case effects.Call():
                failed = session.call_failed
                return session.answered(effect, b"{}") if well else failed(effect, Errors.NOT_AVAILABLE)
            case effects.Refresh(id=id_):
                return session.refreshed(id_, expires_in=None, now=now) if well else self.refused(id_)
            case effects.SubRefresh(id=id_, channel=channel):
                return session.sub_refreshed(id_, channel, expires_in=9.0, now=now) if well else self.refused(id_)
        raise AssertionError(effect)

    def refused(self, command_id: int) -> list[Effect]:
        return self.session.refresh_failed(command_id, Errors.INTERNAL)

    @property
    def answered(self) -> Counter[int]:
        return Counter(frame["id"] for frame in self.talk.frames if "id" in frame)


@settings(max_examples=200, deadline=None)
@given(st.lists(_STEPS, max_size=40), st.one_of(st.none(), _BAD))
def test_every_command_is_answered_once_or_the_connection_is_closed(steps: list[Any], bad: str | None) -> None:
    """And never twice, whatever happens."""
    model = Model()
    for step in steps:
        model.step(step)
        assert max(model.answered.values(), default=0) <= 1
    if bad is not None:
        model.talk.say(bad, now=model.now)
    while model.open and not model.talk.closed:
        model.step(("answer", 0, True))
    if model.talk.closed:
        assert model.session.next_deadline is None
        assert model.talk.say({"id": 999, "rpc": {}}).frames.count({"id": 999, "rpc": {}}) == 0
    else:
        assert model.answered == model.asked
        assert not model.session.crowded


@given(st.text() | st.lists(_BODIES.map(json.dumps) | st.text()).map("\n".join))
def test_any_text_is_taken_or_ends_the_connection(text: str) -> None:
    """Nothing that a client sends raises anything."""
    Talk().connected().say(text)
