"""Webhooks without a network: what is signed, what matches, when it is tried again."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from asgi_app import webhooks
from asgi_app.models import Webhook

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def a_message(body: bytes, *signing: str) -> dict[str, str]:
    return webhooks.signed("0199-id", int(datetime.now(UTC).timestamp()), body, signing)


@given(st.text(max_size=50))
def test_an_independent_verifier_takes_the_signature(text: str) -> None:
    """That of Standard Webhooks itself; and not of another body, id or secret."""
    secret, body = webhooks.new_secret(), json.dumps({"text": text}).encode()
    headers = a_message(body, secret)
    verifier = standardwebhooks.Webhook(secret)
    assert verifier.verify(body, headers) == {"text": text}
    for wrong_body, wrong_headers in [(body + b" ", headers), (body, {**headers, "webhook-id": "0199-other"})]:
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            verifier.verify(wrong_body, wrong_headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(webhooks.new_secret()).verify(body, headers)


def test_the_signature_is_that_of_the_specification() -> None:
    """The example of the Standard Webhooks specification."""
    headers = webhooks.signed(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_two_secrets_sign_during_a_rotation() -> None:
    """Receivers who know either take the message; a day later the old one signs no more."""
    webhook = Webhook(secret=webhooks.new_secret())
    fields = webhooks.rotated(webhook)
    old, webhook = webhook.secret, Webhook(**fields)
    now = fields["old_secret_until"] - webhooks.ROTATION
    assert webhooks.signing_secrets(webhook, now + timedelta(hours=23)) == [webhook.secret, old]
    assert webhooks.signing_secrets(webhook, now + timedelta(hours=25)) == [webhook.secret]
    headers = a_message(b"{}", webhook.secret, old)
    assert headers["webhook-signature"].count(" ") == 1
    assert standardwebhooks.Webhook(webhook.secret).verify(b"{}", headers) == {}
    assert standardwebhooks.Webhook(old).verify(b"{}", headers) == {}


def test_a_secret_is_24_to_64_random_bytes() -> None:
    """As the specification wants them, and no two alike."""
    made = {webhooks.new_secret() for _ in range(10)}
    assert len(made) == 10
    for secret in made:
        assert secret.startswith("whsec_")
        assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) <= 64


@pytest.mark.parametrize(
    ("globs", "name", "wanted"),
    [
        (["*"], "report.mail", True),
        (["report.*"], "report.mail", True),
        (["report.*"], "report", False),
        (["report.*"], "reports.mail", False),
        (["report.mail"], "report.mail", True),
        (["report.mail"], "report.mails", False),
        (["*.mail", "demo.*"], "demo.speed", True),
        (["a*b*c"], "a.x.b.y.c", True),
        (["a*b*c"], "a.x.c", False),
        (["a*a"], "a", False),
        (["*a*"], "bab", True),
        (["**"], "x", True),
        ([], "x", False),
        (["r.port"], "report", False),
    ],
)
def test_globs_name_actions(globs: list[str], name: str, wanted: bool) -> None:
    """`*` is any number of any characters, everything else is itself."""
    assert webhooks.wants(json.dumps(globs), name) is wanted


def test_a_hostile_glob_takes_no_longer() -> None:
    """Hundreds of stars are no hundreds of nested searches."""
    assert not webhooks.wants(json.dumps(["*a" * 100]), "a" * 99 + "b")


@pytest.mark.parametrize("text", ["", "a" * 201, "Report", "a b", "[a]", "?", 5, None, ["*"]])
def test_what_is_no_glob(text: object) -> None:
    """Only what can match the name of an action."""
    assert not webhooks.is_glob(text)


def test_attempts_go_on_for_about_three_days() -> None:
    """Ten in all, further and further apart, and then no more."""
    shortest, usual, longest = (
        sum(webhooks.pause(number, luck) or 0.0 for number in range(1, 10)) for luck in (0.0, 0.5, 1.0)
    )
    assert 3.0 < usual / 86_400 < 3.5
    assert shortest == usual / 2
    assert longest == usual * 1.5
    assert webhooks.pause(1, 0.5) == 5.0
    assert webhooks.pause(10, 0.5) is None
    assert webhooks.pause(11, 0.5) is None


def test_a_message_says_what_happened_and_when() -> None:
    """Type, the time of the event, and the public object."""
    told = json.loads(webhooks.payload("job.failed", {"id": "x", "finished_at": "2030-01-01T00:00:00.000Z"}))
    assert told == {
        "type": "job.failed",
        "timestamp": "2030-01-01T00:00:00.000Z",
        "data": {"id": "x", "finished_at": "2030-01-01T00:00:00.000Z"},
    }
    assert datetime.fromisoformat(json.loads(webhooks.payload("webhook.test", {}))["timestamp"]).tzinfo is not None
