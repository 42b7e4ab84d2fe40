"""What subscriptions with deltas are told, put together again as the stock clients do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from centrifuge.fossil import apply_delta
from hypothesis import given
from hypothesis import strategies as st

from cache_layer.position import Position
from consumers import delta, fossil
from consumers.channel import Channel, News, Subscription
from tests.unit.consumers.stand_ins import EPOCH, PUBLIC, FakeSource

ROWS = [{"carrier": f"№ {number}", "flights": 7 * number} for number in range(40)]


class Ear:
    identity = PUBLIC

    def touch(self, subscription: Subscription) -> None:
        pass

    def expel(self, subscription: Subscription, error: Exception) -> None:
        pass


def follow(channel: Channel, name: str = "t") -> Subscription:
    subscription = Subscription(channel, FakeSource(), Ear(), name)
    assert delta.begin(subscription, ()) == []
    return subscription


def encoded(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def make(name: str, news: News, data: bytes, is_delta: bool) -> str:
    flag = ',"delta":true' if is_delta else ""
    return f'{{"channel":{json.dumps(name)},"data":{data.decode()}{flag}}}'


class Client:
    """The base of a stock client, and what its application is told."""

    def __init__(self) -> None:
        self.base: bytes | None = None
        self.deltas = self.told = 0

    def take(self, frame: str) -> Any:
        return self.read(json.loads(frame))

    def read(self, publication: dict[str, Any]) -> Any:
        data = publication["data"].encode()
        if publication.get("delta"):
            assert self.base is not None, "a delta without a base"
            data = bytes(apply_delta(self.base, data))
        self.deltas += "delta" in publication
        self.told += 1
        self.base = data
        return json.loads(data)


def news_of(value: Any, order: int) -> News:
    return News("value", encoded(value), Position(EPOCH, order), order)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=30,
)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Values and signals, most of them like the one before; "" is a moment at which a slow client reads."""
    rows: list[Any] = [draw(json_values) for _ in range(draw(st.integers(1, 30)))]
    history: list[tuple[str, Any]] = []
    for _ in range(draw(st.integers(1, 15))):
        kind = draw(st.sampled_from(["value", "value", "value", "progress", "error", "", ""]))
        if kind == "value":
            rows = list(rows)
            rows[draw(st.integers(0, len(rows) - 1))] = draw(json_values)
            history.append((kind, rows))
        else:
            history.append((kind, draw(json_values) if kind else None))
    return [*history, ("", None)]


@given(histories(), st.lists(json_values, max_size=3))
def test_clients_are_told_exactly_what_was_published(history: list[tuple[str, Any]], replied: list[Any]) -> None:
    """One reads at once, one now and then: both see the payloads of what they are told, whatever was skipped."""
    channel = Channel()
    clients = {follow(channel): Client(), follow(channel): Client()}
    prompt, slow = clients
    told = [news_of(value, 0) for value in replied]
    for subscription, client in clients.items():
        assert [client.read({"data": json.loads(data)}) for data in delta.begin(subscription, told)] == replied
    for offset, (kind, value) in enumerate(history, start=1):
        if kind == "value":
            channel.published(Position(EPOCH, offset), encoded(value), fresh=60.0, now=0.0)
        elif kind:
            channel.signalled(kind, encoded(value))
        for subscription in (prompt,) if kind else (prompt, slow):
            for news in subscription.catch_up():
                heard = clients[subscription].take(delta.frame(subscription, news, make))
                assert heard == json.loads(news.payload)


def test_like_values_are_told_as_deltas() -> None:
    """After the first, a value like the one before is told by its difference, in a fraction of the bytes."""
    channel, client = Channel(), Client()
    subscription = follow(channel)
    sizes = []
    for offset in range(1, 6):
        frame = delta.frame(subscription, news_of([*ROWS, offset], offset), make)
        assert client.take(frame) == [*ROWS, offset]
        sizes.append(len(frame))
    assert client.deltas == 4
    assert max(sizes[1:]) < sizes[0] / 10


def test_the_reply_s_last_publication_is_the_first_base() -> None:
    """A subscription whose reply ended with a value is told the next one as a delta of it."""
    subscription, client = follow(Channel()), Client()
    for data in delta.begin(subscription, [news_of([1], 1), news_of(ROWS, 2)]):
        last = client.read({"data": json.loads(data)})
    assert last == ROWS
    assert client.take(delta.frame(subscription, news_of([*ROWS, "new"], 3), make)) == [*ROWS, "new"]
    assert client.deltas == 1


@pytest.mark.parametrize("text", ["Рейс задержан", "🛫🛬", "é", "\u2028", "\x7f", 'a"\\b\n', "\U0010ffff"])
def test_texts_are_ascii_and_the_same_json(text: str) -> None:
    """Whatever the characters, escaped by hand or not: no byte above 127, and the application sees the same."""
    for payload in (encoded({text: [text]}), json.dumps({text: [text]}).encode()):
        [data] = delta.begin(follow(Channel()), [News("value", payload, None, 1)])
        assert data.isascii()
        assert json.loads(json.loads(data)) == {text: [text]}


def test_a_signal_in_between_becomes_the_base() -> None:
    """The client's base is whatever it was told last, kept or not."""
    channel, client = Channel(), Client()
    subscription = follow(channel)
    for order, value in enumerate([ROWS, {"percent": 10}, ROWS, [*ROWS, 1], {"percent": 20}, [*ROWS, 2]], start=1):
        assert client.take(delta.frame(subscription, news_of(value, order), make)) == value
    assert client.deltas == 1


def test_a_delta_is_made_once_for_all_with_the_same_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand subscriptions cost one delta and share one frame, under each name."""
    made: list[bytes] = []
    encode = fossil.encode

    def counted(base: bytes, news: bytes) -> bytes:
        made.append(base)
        return encode(base, news)

    monkeypatch.setattr(fossil, "encode", counted)
    channel = Channel()
    subscriptions = [follow(channel, name) for name in ["t", "u"] * 50]
    for news in (news_of(ROWS, 1), news_of([*ROWS, 1], 2)):
        frames = {id(frame): frame for frame in [delta.frame(one, news, make) for one in subscriptions]}
        assert len(frames) == 2
    assert len(made) == 1


def test_few_bases_are_served_and_the_others_told_in_whole() -> None:
    """As many slow clients as there may be, each at a value of its own: the event loop makes three deltas."""
    channel = Channel()
    subscriptions, clients = [], []
    for number in range(12):
        subscription, client = follow(channel), Client()
        client.take(delta.frame(subscription, news_of([*ROWS, number], number), make))
        subscriptions.append(subscription)
        clients.append(client)
    newest = news_of([*ROWS, "newest"], 20)
    for subscription, client in zip(subscriptions, clients, strict=True):
        assert client.take(delta.frame(subscription, newest, make)) == [*ROWS, "newest"]
    assert sum(client.deltas for client in clients) == delta.BASES
    assert len(newest.steps) <= delta.BASES + 1


def test_what_is_too_long_is_told_in_whole_and_is_no_base() -> None:
    channel, client = Channel(), Client()
    subscription = follow(channel)
    long = "x" * delta.LONGEST
    for order, value in enumerate([ROWS, long, long, ROWS, [*ROWS, 1]], start=1):
        assert client.take(delta.frame(subscription, news_of(value, order), make)) == value
    assert client.deltas == 1


def test_after_a_frame_that_could_not_be_made_the_next_is_whole() -> None:
    """Frames made before it may not have been written either."""

    def fail(name: str, news: News, data: bytes, is_delta: bool) -> str:
        raise RuntimeError

    channel, client = Channel(), Client()
    subscription = follow(channel)
    client.take(delta.frame(subscription, news_of(ROWS, 1), make))
    delta.frame(subscription, news_of([*ROWS, "lost"], 2), make)
    with pytest.raises(RuntimeError):
        delta.frame(subscription, news_of([*ROWS, "fails"], 3), fail)
    assert client.take(delta.frame(subscription, news_of([*ROWS, 4], 4), make)) == [*ROWS, 4]
    assert client.deltas == 0
