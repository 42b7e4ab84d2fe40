"""Deltas, put together again by the decoder of the JavaScript client as it is published."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumers import fossil
from tests.support.clients import fetching
from tests.support.clients.javascript import VERSIONS

#: A line {base, data} -> a line with what the client would tell its application, as JSON text.
_DECODE = """
const { Centrifuge } = require("node:module").createRequire(process.argv[1] + "/package.json")(process.argv[2]);
const codec = new Centrifuge("ws://127.0.0.1", { websocket: class {} })._codec;
require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const { base, data } = JSON.parse(line);
  const { newPrevValue } = codec.applyDeltaIfNeeded({ data: base }, undefined);
  const { newData } = codec.applyDeltaIfNeeded({ data, delta: true }, newPrevValue);
  process.stdout.write(JSON.stringify(newData) + "\\n");
});
"""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=5),
    max_leaves=40,
)


class Decoder:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def told(self, base: Any, news: Any) -> Any:
        """What the application is told of `news` by a client that holds `base`."""
        one, other = _text(base), _text(news)
        line = {"base": one, "data": fossil.encode(one.encode(), other.encode()).decode()}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@pytest.fixture(scope="module", params=VERSIONS)
def decoder(request: pytest.FixtureRequest) -> Iterator[Decoder]:
    command = [fetching.node(), "-e", _DECODE, str(fetching.packages()), f"centrifuge-{request.param}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Decoder(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(json_values, min_size=1, max_size=20), value=json_values, data=st.data())
def test_it_tells_what_was_published(decoder: Decoder, rows: list[Any], value: Any, data: st.DataObject) -> None:
    """Unlike texts, like ones, and the same: the application is told the news."""
    at = data.draw(st.integers(0, len(rows) - 1))
    changed = [*rows[:at], value, *rows[at + data.draw(st.integers(0, 1)) :]]
    assert decoder.told(rows, changed) == changed
    assert decoder.told(value, rows) == rows
    assert decoder.told(rows, rows) == rows


def test_it_reads_what_a_large_text_gives(decoder: Decoder) -> None:
    """Sizes, offsets and checksums of more digits; characters beyond 16 bits."""
    luck = random.Random(5)
    rows = [{"flight": f"✈ {luck.randrange(10**9)} 🌍", "delay": luck.random()} for _ in range(2000)]
    later = [row | {"delay": luck.random()} if luck.random() < 0.2 else row for row in rows[7:]]
    assert decoder.told(rows, later) == later
