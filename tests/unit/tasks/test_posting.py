"""What a receiver says about being left alone."""

from __future__ import annotations

import pytest

from tasks.posting import retry_after

NOW = 1_893_456_000.0  # 2030-01-01


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (b"120", 120.0),
        (b" 0 ", 0.0),
        (b"Tue, 01 Jan 2030 00:01:00 GMT", 60.0),
        (b"Mon, 31 Dec 2029 23:59:00 GMT", 0.0),
        (b"9" * 400, 999_999_999.0),
        (None, None),
        (b"", None),
        (b"-5", None),
        (b"1.5", None),
        (b"soon", None),
        (b"\xb2", None),
        (b"\xff\xfe", None),
    ],
)
def test_a_retry_after_is_seconds_or_a_date(header: bytes | None, seconds: float | None) -> None:
    """Anything else means nothing."""
    assert retry_after(header, NOW) == seconds
