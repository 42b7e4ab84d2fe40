"""A store that does not track costs the near copies and says so; nothing else changes."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import redis

from cache_layer import tracking
from cache_layer.near import Near
from tests.support.near import BUDGET, PREFIX, copied, read, until
from tests.support.store import StoreServer

NAME = f"{PREFIX}name"


@pytest.fixture
def client(server: StoreServer) -> Iterator[redis.Redis]:
    """The administrator; a user `near` may do everything but track."""
    with redis.Redis.from_url(server.url) as made:
        rights = ("~*", "&*", "+@all", "-client|tracking")
        set_user(made, "reset", "on", ">secret", *rights)
        made.set(NAME, "value", px=60_000)
        yield made


def tier_of(server: StoreServer, password: str, max_staleness: float = 1.0) -> Near:
    url = f"unix://near@{server.socket}?db=0&password={password}"
    return Near(url, [PREFIX], budget=BUDGET, max_staleness=max_staleness)


def set_user(client: redis.Redis, *rules: str) -> None:
    client.execute_command("ACL", "SETUSER", "near", *rules)  # type: ignore[no-untyped-call]


def refusals(client: redis.Redis) -> int:
    """How often the store says it refused tracking."""
    counts: dict[str, dict[str, int]] = client.info("commandstats")
    return counts.get("cmdstat_client|tracking", {}).get("rejected_calls", 0)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == tracking.__name__ and record.levelno == logging.WARNING
    ]


def test_a_refusal_is_a_mode_and_one_warning(
    server: StoreServer,
    client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The store is asked again, now and then; reads go to it as if there were no near tier."""
    monkeypatch.setattr(tracking, "_REFUSED_PAUSE", 0.02)
    before = refusals(client)
    tier = tier_of(server, "secret")
    tier.start()
    try:
        until(lambda: tier.mode.startswith("refused: NOPERM"), "refused")
        until(lambda: refusals(client) > before + 3, "asked again")
        assert not tier.open
        assert tier.fetch([NAME]) is None
        assert read(tier, client, NAME) == b"value"
        assert tier.get(NAME) is None
        (warning,) = warnings(caplog)
        assert "NOPERM" in warning
    finally:
        tier.stop()


def test_what_is_permitted_later_is_used_then(
    server: StoreServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No restart is needed."""
    monkeypatch.setattr(tracking, "_REFUSED_PAUSE", 0.02)
    tier = tier_of(server, "secret")
    tier.start()
    try:
        until(lambda: tier.mode.startswith("refused: "), "refused")
        set_user(client, "+client|tracking")
        until(lambda: tier.open, "tracking")
        assert tier.mode == "tracking"
        copied(tier, client, NAME)
    finally:
        tier.stop()


def test_a_wrong_password_is_a_refusal(
    server: StoreServer, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """What the store says is told, the password is not; and stopping does not wait for the next attempt."""
    tier = tier_of(server, "hush-hush")
    tier.start()
    try:
        until(lambda: tier.mode.startswith("refused: "), "refused")
        assert "hush-hush" not in tier.mode + "".join(warnings(caplog))
    finally:
        tier.stop()
    assert tier.mode == "stopped"


def test_rights_taken_away_end_the_copies(
    server: StoreServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proof of life that is refused is none."""
    tier = tier_of(server, "secret", max_staleness=0.2)
    set_user(client, "+client|tracking")
    tier.start()
    try:
        until(lambda: tier.open, "tracking")
        copied(tier, client, NAME)
        set_user(client, "-ping", "-client|tracking")
        until(lambda: tier.mode.startswith("refused: "), "refused")
        assert tier.get(NAME) is None
        assert tier.stats.entries == 0
    finally:
        tier.stop()
