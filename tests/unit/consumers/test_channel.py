"""Snapshots and live publications of one topic, in every order they can overtake each other."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from cache_layer.position import Position
from consumers.channel import Channel, News, Subscription
from consumers.effects import Held
from tests.unit.consumers.stand_ins import EPOCH, PUBLIC, FakeSource, snapshot


class Ear:
    """A holder that is always behind: it takes what is new only when the test says so."""

    identity = PUBLIC

    def touch(self, subscription: Subscription) -> None:
        pass

    def expel(self, subscription: Subscription, error: Exception) -> None:
        pass


def follow(channel: Channel) -> Subscription:
    return Subscription(channel, FakeSource(), Ear(), "t")


def live(channel: Channel, offset: int, epoch: str = EPOCH) -> bool:
    return channel.published(Position(epoch, offset), b"%d" % offset, fresh=60.0, now=0.0)


def kinds(news: list[News]) -> list[str]:
    return [f"{one.kind}:{one.payload.decode()}" for one in news]


def test_every_interleaving_of_a_read_and_publications_ends_at_the_newest() -> None:
    """The store goes through offsets 1..5; a read sees one of them, and may end before or after any publication."""
    for begin, see, end in ((b, s, e) for b in range(6) for s in range(b, 6) for e in range(s, 6)):
        channel = Channel()
        subscription = follow(channel)
        told: list[int] = []
        mark = 0
        # Step n of the store: publication n is delivered at once; the read begins, looks and ends between two steps.
        for step in range(6):
            if step:
                live(channel, step)
            if step == begin:
                mark = channel.mark()
            if step == end:
                result = channel.read(snapshot(see, None if see == 0 else b""), mark, now=0.0)
                assert result[1] is (see == 0 and end > begin)
            told += [one.position.offset for one in subscription.catch_up() if one.position]
        assert told == sorted(set(told)), (begin, see, end)
        assert told[-1] == 5


def test_late_delivery_of_publications_after_a_read_never_goes_back() -> None:
    """A read that saw offset 3 comes first, the publications 1 to 4 after it: only 4 is news."""
    channel = Channel()
    subscription = follow(channel)
    channel.read(snapshot(3), channel.mark(), now=0.0)
    assert kinds(subscription.catch_up()) == ["value:3"]
    assert [live(channel, offset) for offset in (1, 2, 3, 4)] == [False, False, False, True]
    assert kinds(subscription.catch_up()) == ["value:4"]


@given(st.lists(st.tuples(st.sampled_from("lr"), st.integers(1, 6)), max_size=20), st.data())
def test_positions_of_an_epoch_never_go_back(events: list[tuple[str, int]], data: st.DataObject) -> None:
    """Whatever is read or published in whatever order, a subscriber sees offsets grow."""
    channel = Channel()
    subscription = follow(channel)
    told: list[int] = []
    mark = channel.mark()
    for kind, offset in events:
        if kind == "l":
            live(channel, offset)
        else:
            channel.read(snapshot(offset, data.draw(st.sampled_from([b"", None]))), mark, now=0.0)
        if data.draw(st.booleans()):
            mark = channel.mark()
        if data.draw(st.booleans()):
            told += [one.position.offset for one in subscription.catch_up() if one.position]
    assert told == sorted(told)


def test_a_new_epoch_is_followed_and_the_old_one_is_not_come_back_to() -> None:
    """The store lost its history: what still arrives of the old one is late."""
    channel = Channel()
    subscription = follow(channel)
    live(channel, 7)
    live(channel, 1, "bbbbbbbb")
    assert kinds(subscription.catch_up()) == ["value:1"]
    assert not live(channel, 8)
    assert channel.position == Position("bbbbbbbb", 1)


def test_of_two_epochs_during_a_read_nobody_knows_the_newer() -> None:
    """So it is read again, and the second read counts."""
    channel = Channel()
    channel.read(snapshot(3), channel.mark(), now=0.0)
    mark = channel.mark()
    live(channel, 4)
    assert channel.read(snapshot(1, epoch="bbbbbbbb"), mark, now=0.0) == (False, True)
    assert channel.read(snapshot(1, epoch="bbbbbbbb"), channel.mark(), now=0.0) == (True, False)
    assert channel.position == Position("bbbbbbbb", 1)


def test_a_placeholder_position_does_not_end_an_epoch() -> None:
    """A value expires and nothing is known of its topic for a while; what is computed then still counts."""
    channel = Channel()
    subscription = follow(channel)
    live(channel, 7)
    subscription.catch_up()
    channel.read(snapshot(0, None, epoch="00000000"), channel.mark(), now=0.0)
    assert channel.value is None
    assert channel.position == Position(EPOCH, 7)
    assert live(channel, 8)
    assert kinds(subscription.catch_up()) == ["value:8"]


def test_the_same_value_again_disturbs_nobody() -> None:
    """It was recomputed and is fresh again; those who hold it hear nothing, those without one get it."""
    channel = Channel()
    holder = follow(channel)
    live(channel, 2)
    holder.catch_up()
    assert not live(channel, 2)
    assert holder.catch_up() == []
    channel.read(snapshot(2, None), channel.mark(), now=0.0)
    late = follow(channel)
    held = late.take(None, 0.0)
    assert isinstance(held, Held)
    assert held.value is None
    assert live(channel, 2)
    assert kinds(late.catch_up()) == ["value:2"]
    assert holder.catch_up() == []


def test_a_slow_subscriber_gets_the_newest_value_only() -> None:
    """And of the signals since, the newest of each kind, in their order."""
    channel = Channel()
    subscription = follow(channel)
    for offset in (1, 2, 3):
        channel.signalled("progress", b"%d" % offset)
        live(channel, offset)
    channel.signalled("progress", b"10")
    channel.signalled("stale", b"{}")
    channel.signalled("progress", b"20")
    assert kinds(subscription.catch_up()) == ["value:3", "stale:{}", "progress:20"]
    assert subscription.catch_up() == []


def test_a_signal_older_than_the_value_is_never_handed_out() -> None:
    """Progress of a computation that is done says nothing any more."""
    channel = Channel()
    subscription = follow(channel)
    channel.signalled("progress", b"1")
    channel.signalled("error", b"{}")
    live(channel, 1)
    assert kinds(subscription.catch_up()) == ["value:1"]


def test_a_failure_found_by_a_read_is_told_once() -> None:
    """However often it is found again, and until a value ends it."""
    channel = Channel()
    subscription = follow(channel)
    failed = snapshot(0, None, state="failed", error={"type": "computation-failed", "retry_after": 7})
    assert channel.read(failed, channel.mark(), now=0.0) == (True, False)
    assert channel.read(failed, channel.mark(), now=0.0) == (False, False)
    assert kinds(subscription.catch_up()) == ['error:{"type":"computation-failed","retry_after":7}']
    assert channel.retry_after == 7.0
    live(channel, 1)
    assert channel.signals == {}
    assert channel.state == "fresh"


def test_a_form_is_made_once_per_spelling_and_version() -> None:
    """Thousands of subscribers share the same text."""
    made: list[str] = []

    def make(name: str, news: News) -> str:
        made.append(name)
        return f"{name}={news.payload.decode()}"

    channel = Channel()
    live(channel, 1)
    assert channel.value is not None
    forms = [channel.value.form(make, name) for name in ("a", "b", "a", "b")]
    assert forms == ["a=1", "b=1", "a=1", "b=1"]
    assert made == ["a", "b"]


def test_raw_newlines_never_reach_a_frame() -> None:
    """They separate commands and events; in JSON they are blanks."""
    channel = Channel()
    channel.signalled("error", b'{\r\n"a":1}')
    assert channel.signals["error"].payload == b'{  "a":1}'


def test_epochs_in_any_order_end_at_the_last_read() -> None:
    """A read that nothing overtook is the truth, even of an epoch left before."""
    for first, second in combinations(("aaaaaaaa", "bbbbbbbb", "cccccccc"), 2):
        channel = Channel()
        for epoch in (first, second, first):
            channel.read(snapshot(1, epoch=epoch), channel.mark(), now=0.0)
            assert channel.position == Position(epoch, 1)
        assert live(channel, 2, first)
