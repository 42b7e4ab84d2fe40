"""What has to be done is tried until it is."""

from __future__ import annotations

import pytest

from asgi_app import wiring
from asgi_app.errors import Unavailable
from cache_layer.errors import StoreUnavailable
from tasks.persistence import insist


@pytest.mark.parametrize("failure", [StoreUnavailable("away"), Unavailable("away"), TimeoutError()])
def test_what_is_away_for_a_moment_costs_no_result(failure: Exception) -> None:
    """The store, the broker, or the event loop that a coroutine of somebody else holds up."""
    failures = [failure]

    async def work(node: wiring.Node) -> str:
        if failures:
            raise failures.pop()
        return "written"

    assert insist(work) == "written"


def test_what_is_wrong_is_not_tried_again() -> None:
    """An error of the work itself is raised at once."""
    tries: list[wiring.Node] = []

    async def work(node: wiring.Node) -> None:
        tries.append(node)
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        insist(work)
    assert len(tries) == 1
