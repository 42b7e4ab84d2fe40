"""The tests of channels_redis, of both its layers, pass with ours; what does not is named, with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.channels_redis_suite.deviations import BETTER, CONTRADICTS_ITSELF, DEVIATIONS, NOT_RUN, RUN
from tests.support.channels_redis_suite.runner import outcomes, their_tests
from tests.support.redis_servers import RedisServer


@pytest.mark.timeout(600)
def test_their_tests_pass_with_our_layer(tmp_path: Path) -> None:
    """All but those of the list; and those of the list do not, so that it stays true."""
    files = {file.name for file in their_tests().glob("test_*.py")}
    assert files == {*RUN, *NOT_RUN}
    with RedisServer(tmp_path / "store") as server:
        became, said = outcomes(server.url.removesuffix("/0"), tmp_path)
    assert {name for name, outcome in became.items() if outcome == "failed"} == set(DEVIATIONS), said
    assert {name for name, outcome in became.items() if outcome == "xfailed"} == set(CONTRADICTS_ITSELF), said
    passed = {name for name, outcome in became.items() if outcome == "passed"}
    assert passed >= set(BETTER)
    assert len(passed) == 47
