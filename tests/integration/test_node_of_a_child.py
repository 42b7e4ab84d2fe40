"""A forked child has no Node: that of its parent lives on the parent's loop."""

from __future__ import annotations

import os

from asgi_app import wiring
from tests.support.paged import a_node
from tests.support.store import StoreServer


async def test_a_forked_child_makes_its_own(store_server: StoreServer) -> None:
    """And its parent keeps its own."""
    async with a_node() as mine:
        child = os.fork()
        if child == 0:
            try:
                wiring.node()
            except RuntimeError:
                os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0  # noqa: ASYNC222  (it ends at once)
        assert wiring.node() is mine
