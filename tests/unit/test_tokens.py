"""Connection and subscription tokens: what is accepted, and as what the rest is refused."""

from __future__ import annotations

import base64
import json
import time
from types import SimpleNamespace
from typing import Any

import jwt
import pytest

from asgi_app import tokens
from asgi_app.tokens import Claims, TokenExpired, TokenInvalid, TokenMismatch

SECRET = "a secret of this test, long enough for HS256"
NOW = time.time()


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "env", lambda: SimpleNamespace(token_secret=SECRET))


def signed(algorithm: Any = "HS256", key: Any = SECRET, **claims: Any) -> str:
    return jwt.encode(claims, key, algorithm=algorithm)


def test_a_minted_token_is_read_back() -> None:
    """With everything that was put into it."""
    given: dict[str, Any] = {"info": {"name": "Ada"}, "channels": ("a", "b"), "scopes": frozenset({"read"})}
    claims = tokens.verify_connection(tokens.mint_connection("42", 60, now=NOW, **given), now=NOW)
    assert claims == Claims(sub="42", expires_at=int(NOW + 60), **given)
    assert claims.expires_in(NOW) == pytest.approx(60, abs=1)


def test_sub_and_exp_are_optional() -> None:
    """The stock suites send a bare iat, or a bare sub."""
    assert tokens.verify_connection(signed(iat=int(NOW))) == Claims(sub="", expires_at=None, info=None, channels=())
    assert tokens.verify_connection(signed(sub="42")).sub == "42"
    assert tokens.verify_connection(tokens.mint_connection("", None)).expires_in(NOW) is None


def test_no_scopes_at_all_are_not_the_same_as_no_word_of_them() -> None:
    """Other back ends do not know the claim; who was given nothing gets nothing."""
    assert tokens.verify_connection(tokens.mint_connection("42", 60, scopes=frozenset())).scopes == frozenset()
    assert tokens.verify_connection(tokens.mint_connection("42", 60)).scopes is None


def test_the_expiry_is_exact() -> None:
    """Clients refresh at that very second."""
    token = signed(exp=int(NOW))
    tokens.verify_connection(token, now=int(NOW) - 0.01)
    with pytest.raises(TokenExpired):
        tokens.verify_connection(token, now=int(NOW))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "é.é.é",
        signed(key="another secret that is long enough too", sub="42"),
        signed(algorithm="HS512", key=SECRET * 2, sub="42"),
        signed(algorithm="none", key="", sub="42"),
        signed(sub="42", channel="a"),
        signed(channels="a"),
        signed(channels=[1]),
        signed(**{"millpond:scopes": "read"}),
        signed(**{"millpond:scopes": [1]}),
        signed(exp="soon"),
        signed(exp=True),
        signed(exp=10**400),
        signed(nbf=int(NOW) + 3600),
        signed(iat=int(NOW) + 3600),
        base64.b64encode(json.dumps({"sub": "42"}).encode()).decode(),
    ],
)
def test_invalid_connection_tokens(token: str) -> None:
    """Foreign keys and algorithms, malformed claims, other purposes, other times."""
    with pytest.raises(TokenInvalid):
        tokens.verify_connection(token)


def test_a_sub_that_is_no_string_is_invalid() -> None:
    """PyJWT would not even sign it, others do."""
    head, _, _ = signed(sub="42").split(".")
    body = base64.urlsafe_b64encode(b'{"sub":42}').rstrip(b"=").decode()
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        f"{head}.{body}".encode(), SECRET.encode()
    )
    with pytest.raises(TokenInvalid):
        tokens.verify_connection(f"{head}.{body}." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode())


def test_a_little_clock_difference_is_forgiven() -> None:
    """Of the back end that minted it."""
    assert tokens.verify_connection(signed(iat=int(NOW) + 2, nbf=int(NOW) + 2, sub="42")).sub == "42"


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_short_secret_works_without_a_warning_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stock suites use `secret`; padding changes no signature."""
    token = signed(key="secret", sub="42")
    monkeypatch.setattr(tokens, "env", lambda: SimpleNamespace(token_secret="secret"))
    assert tokens.verify_connection(token).sub == "42"
    assert jwt.decode(tokens.mint_connection("7", None), "secret", algorithms=["HS256"])["sub"] == "7"


def test_subscription_tokens() -> None:
    """For one channel and one user, the public included."""
    assert tokens.verify_subscription(signed(channel="a", sub="42"), "a", "42").sub == "42"
    assert tokens.verify_subscription(signed(channel="a"), "a", "").sub == ""
    for token, channel, sub in (
        (signed(channel="a", sub="42"), "b", "42"),
        (signed(channel="a", sub="42"), "a", "43"),
        (signed(channel="a", sub="42"), "a", ""),
        (signed(channel="a"), "a", "42"),
    ):
        with pytest.raises(TokenMismatch):
            tokens.verify_subscription(token, channel, sub)
    with pytest.raises(TokenExpired):
        tokens.verify_subscription(signed(channel="a", exp=int(NOW) - 1), "a", "")
    for token in (signed(sub="42"), signed(channel=""), signed(channel=5), signed(key="x" * 40, channel="a"), "x"):
        with pytest.raises(TokenInvalid):
            tokens.verify_subscription(token, "a", "")


def test_a_subscription_token_is_minted() -> None:
    """With what others are to see, and for one connection only where that is wanted."""
    token = tokens.mint_subscription("a", "42", 60, info={"x": 1}, client="c1")
    claims = tokens.verify_subscription(token, "a", "42", client="c1")
    assert (claims.info, claims.client) == ({"x": 1}, "c1")
    assert 55 < (claims.expires_in(time.time()) or 0) <= 60
    with pytest.raises(TokenMismatch):
        tokens.verify_subscription(token, "a", "42", client="c2")
    forever = tokens.verify_subscription(tokens.mint_subscription("a", "", None), "a", "", client="c2")
    assert (forever.expires_at, forever.sub) == (None, "")
    with pytest.raises(TokenInvalid):
        tokens.verify_connection(token)
