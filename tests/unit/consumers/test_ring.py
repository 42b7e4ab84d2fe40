"""A log in a process: in order, without a hole, none twice; who is overrun is told."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cache_layer.history import LogPage
from cache_layer.position import Position
from cache_layer.publication import Appended, Logged
from consumers.channel import News, Subscription
from consumers.ring import Ring, as_news

EPOCH = "aaaaaaaa"


def logged(offset: int) -> Logged:
    return Logged(offset, b"%d" % offset)


def appended(offset: int, epoch: str = EPOCH) -> Appended:
    return Appended(Position(epoch, offset), logged(offset))


def page(first: int, top: int, *, epoch: str = EPOCH, life: float | None = 60.0) -> LogPage:
    return LogPage(epoch=epoch, top=top, publications=tuple(map(logged, range(first, top + 1))), life=life)


def ring(top: int = 0, kept: int = 100) -> Ring:
    made = Ring(kept, 60.0)
    made.read(page(max(1, top - kept + 1), top), now=0.0)
    return made


def follow(of: Ring, since: Position | None = None, older: list[News] | None = None) -> tuple[Subscription, Any]:
    holder: Any = None
    source: Any = None
    subscription = Subscription(of, source, holder, "t")
    of.subscriptions[subscription] = None
    subscription.older = older or []
    return subscription, subscription.take(since, 0.0)


def told(subscription: Subscription) -> list[int]:
    """Everything it is told, as offsets; -1 for lost."""
    found: list[int] = []
    while subscription.behind:
        found += [-1 if news.kind == "lost" else int(news.payload) for news in subscription.catch_up()]
    return found


def offsets(missed: list[News] | None) -> list[int] | None:
    return None if missed is None else [int(news.payload) for news in missed]


def test_what_is_published_comes_in_order() -> None:
    """To each subscription once, however slowly it takes it."""
    log = ring(3)
    early, _ = follow(log)
    for offset in range(4, 60):
        assert log.appended(appended(offset), 0.0) == (True, False)
    late, held = follow(log)
    assert held.position == Position(EPOCH, 59)
    log.appended(appended(60), 0.0)
    assert told(early) == list(range(4, 61))
    assert told(late) == [60]
    assert told(early) == []


def test_a_portion_is_handed_out_at_a_time() -> None:
    """Others have their turn in between, and the position is that of the last one handed out."""
    log = ring()
    subscription, _ = follow(log)
    for offset in range(1, 41):
        log.appended(appended(offset), 0.0)
    assert len(subscription.catch_up()) == 16
    assert subscription.sent == Position(EPOCH, 16)
    assert subscription.behind


def test_a_hole_is_not_told_before_it_is_read() -> None:
    """What came too early waits for what belongs in front of it."""
    log = ring(3)
    subscription, _ = follow(log)
    assert log.appended(appended(6), 0.0) == (False, True)
    assert log.appended(appended(7), 0.0) == (False, True)
    assert told(subscription) == []
    assert log.read(page(4, 5), now=0.0) == (True, False)
    assert told(subscription) == [4, 5, 6, 7]


def test_a_read_that_was_overtaken_is_merged() -> None:
    """Nothing twice, and what the read could not know yet is kept."""
    log = Ring(100, 60.0)
    assert log.appended(appended(5), 0.0) == (False, True)
    assert log.read(page(1, 4), now=0.0) == (True, False)
    assert log.position == Position(EPOCH, 5)
    assert log.appended(appended(5), 0.0) == (False, False)


def test_what_is_gone_from_the_store_is_a_loss() -> None:
    """Everybody who stood before it is told once, and then nothing of what came later without asking."""
    log = ring(3)
    subscription, _ = follow(log)
    assert log.read(page(10, 12), now=0.0) == (True, False)
    assert told(subscription) == [-1]
    fresh, held = follow(log)
    assert held.position == Position(EPOCH, 12)
    log.appended(appended(13), 0.0)
    assert told(fresh) == [13]


def test_a_new_epoch_is_a_loss() -> None:
    """Whether the store lost everything, or begins anew while something came already."""
    log = ring(3)
    subscription, _ = follow(log)
    assert log.appended(appended(1, "bbbbbbbb"), 0.0) == (False, True)
    log.read(page(1, 1, epoch="bbbbbbbb"), now=0.0)
    assert told(subscription) == [-1]
    assert log.position == Position("bbbbbbbb", 1)


def test_publications_of_a_third_epoch_are_read_again() -> None:
    """The read may have been before them."""
    log = ring(3)
    log.appended(appended(1, "bbbbbbbb"), 0.0)
    assert log.read(page(4, 4), now=0.0) == (True, True)


def test_who_is_overrun_is_lost() -> None:
    """The ring is bounded; a subscription that fell out of it is told so, instead of a part."""
    log = ring(0, kept=10)
    subscription, _ = follow(log)
    for offset in range(1, 300):
        log.appended(appended(offset), 0.0)
    assert told(subscription) == [-1]


def test_what_is_kept_nowhere_comes_in_its_place() -> None:
    """Between the publications it was told between."""
    log = ring(1)
    subscription, _ = follow(log)
    log.appended(appended(2), 0.0)
    log.ephemeral("join", Logged(0, b"100"))
    log.appended(appended(3), 0.0)
    assert told(subscription) == [2, 100, 3]
    assert subscription.sent == Position(EPOCH, 3)


def test_recovery() -> None:
    """All of it or nothing: no part is ever given for the whole."""
    log = ring(50)
    assert offsets(follow(log, Position(EPOCH, 48))[1].missed) == [49, 50]
    assert offsets(follow(log, Position("", 48))[1].missed) == [49, 50]
    assert offsets(follow(log, Position("", 0))[1].missed) == list(range(1, 51))
    assert offsets(follow(log, Position(EPOCH, 50))[1].missed) == []
    assert follow(log, Position(EPOCH, 51))[1].missed is None
    assert follow(log, Position("bbbbbbbb", 48))[1].missed is None
    assert follow(log)[1].missed is None


def test_what_the_store_has_forgotten_is_not_recovered() -> None:
    """A log is kept for a while after its last publication; the process remembers no longer than the store."""
    log = ring(50)
    subscription = Subscription(log, None, None, "t")  # type: ignore[arg-type]
    assert log.begin(subscription, Position(EPOCH, 48), [], 60.0).missed is None
    assert log.begin(subscription, Position(EPOCH, 50), [], 60.0).missed == []
    log.appended(appended(51), 60.0)
    assert offsets(log.begin(subscription, Position(EPOCH, 50), [], 61.0).missed) == [51]


def test_no_more_is_recovered_than_is_kept() -> None:
    """Though more is still in memory here: elsewhere it is not."""
    log = ring(50, kept=2)
    for offset in (51, 52, 53):
        log.appended(appended(offset), 0.0)
    assert offsets(follow(log, Position(EPOCH, 51))[1].missed) == [52, 53]
    assert follow(log, Position(EPOCH, 50))[1].missed is None


def test_what_this_process_does_not_hold_is_read() -> None:
    """What the store still keeps is asked for, and joined with what is here."""
    log = Ring(100, 60.0)
    log.read(page(91, 200), now=0.0)
    log._first = 191  # a byte budget that was spent
    while int(log._news[0].payload) < 191:
        log._news.popleft()
    assert log.lacks(Position(EPOCH, 150))
    assert not log.lacks(Position(EPOCH, 195))
    assert not log.lacks(Position(EPOCH, 50))
    assert not log.lacks(Position("bbbbbbbb", 150))
    whole = as_news(page(151, 200))
    assert offsets(follow(log, Position(EPOCH, 150), whole)[1].missed) == list(range(151, 201))
    part = as_news(page(160, 200))
    assert follow(log, Position(EPOCH, 150), part)[1].missed is None
    short = as_news(page(151, 180))
    assert follow(log, Position(EPOCH, 150), short)[1].missed is None


def test_large_publications_leave_early() -> None:
    """What the process holds is bounded in bytes."""
    log = ring()
    for offset in range(1, 21):
        log.appended(Appended(Position(EPOCH, offset), Logged(offset, b'"%b"' % (b"x" * 2**20))), 0.0)
    assert log._size <= 4 * 2**20 + 100
    assert log.lacks(Position(EPOCH, 3))


@given(st.lists(st.sampled_from(["publish", "lose", "read", "take", "join"]), max_size=80))
def test_never_an_untold_hole(steps: list[str]) -> None:
    """Messages get lost, reads come at any time: each subscription sees a run without a hole, or is told it is lost."""
    log, top = ring(0, kept=20), 0
    running: dict[Subscription, int] = {}
    for step in [*steps, "publish", "read", "take"]:
        if step in ("publish", "lose"):
            top += 1
            if step == "publish":
                log.appended(appended(top), 0.0)
        elif step == "read":
            here = log.position
            assert here is not None
            log.read(page(max(here.offset + 1, top - 19), top), now=0.0)
        elif step == "join":
            subscription, held = follow(log)
            running[subscription] = held.position.offset
        else:
            for subscription, at in list(running.items()):
                seen = told(subscription)
                if seen[:1] == [-1]:
                    del running[subscription], log.subscriptions[subscription]
                    continue
                assert seen == list(range(at + 1, at + 1 + len(seen)))
                running[subscription] = at + len(seen)
    assert all(at == top for at in running.values())


def test_what_the_store_told_before_the_feed_does_not_spoil_a_recovery() -> None:
    """It comes after the reply, at its place."""
    log = Ring(1000, 60.0)
    log.read(page(101, 200), now=0.0)
    since = Position(EPOCH, 50)
    assert log.lacks(since)
    subscription, held = follow(log, since, as_news(page(51, 201)))
    assert offsets(held.missed) == list(range(51, 201))
    assert log.appended(appended(201), 0.0) == (True, False)
    assert told(subscription) == [201]


def test_what_comes_too_early_is_bounded_in_bytes() -> None:
    """What finds no room is read; there is room again afterwards."""
    log = ring(1, kept=1000)
    large = bytes(262_144)
    for _ in range(2):
        for offset in range(3, 200):
            log.appended(Appended(Position(EPOCH, offset), Logged(offset, large)), 0.0)
        assert 0 < sum(len(one.data) for one in log._early.values()) <= 4 * 2**20
    log.read(page(2, 199), now=0.0)
    assert log.position == Position(EPOCH, 199)
    log.appended(appended(202), 0.0)
    assert log.read(page(200, 201), now=0.0) == (True, False)
    assert log.position == Position(EPOCH, 202)
