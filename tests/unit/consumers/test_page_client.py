"""The page's one connection, run by Node on a stand-in for the stock client."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import asgi_app

_MODULES = Path(asgi_app.__file__).parent / "static" / "millpond"
_NODE = shutil.which("node")

_STAND_IN = """
const heard = {}, errors = [], said = [];
globalThis.location = { protocol: "http:", host: "x" };
console.error = (error) => errors.push(String(error?.message ?? error));
const emitter = (name) => ({
  on: (event, listener) => (heard[`${name}:${event}`] = listener),
  subscribe() {},
  unsubscribe() {},
});
globalThis.Centrifuge = class {
  constructor() { Object.assign(this, emitter("")); }
  newSubscription(topic) { return emitter(topic); }
  removeSubscription() {}
  connect() {}
  async rpc(method, data) { said.push([method, data.hidden]); }
  disconnect() {}
};
const { Live } = await import("./live.js");
const live = new Live("/connection/websocket");
"""


async def run(script: str, tmp_path: Path) -> Any:
    """What the script prints, as JSON."""
    if _NODE is None:
        pytest.skip("no node on PATH")
    shutil.copytree(_MODULES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "test.mjs").write_text(_STAND_IN + script)
    process = await asyncio.create_subprocess_exec(
        _NODE, str(tmp_path / "test.mjs"), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, wrong = await process.communicate()
    assert process.returncode == 0, wrong.decode()
    return json.loads(out)


async def test_a_view_that_throws_harms_only_its_own_panel(tmp_path: Path) -> None:
    """The others hear everything, the stock client sees no error, and the panel itself is told that it has failed."""
    found = await run(
        """
        const broken = [], well = [];
        live.onConnection(() => { throw new Error("a watcher"); });
        live.watch("a", (feed) => {
          broken.push([feed.state, feed.problem?.detail ?? null]);
          if (feed.value === 1) throw new Error("a view");
        });
        live.watch("a", (feed) => well.push([feed.state, feed.value ?? null]));
        heard[":connected"]({});
        heard["a:publication"]({ data: 1, offset: 1 });
        heard["a:publication"]({ data: 2, offset: 2 });
        console.log(JSON.stringify({ broken, well, errors, phase: live.connection.phase }));
        """,
        tmp_path,
    )
    assert found["broken"] == [
        ["pending", None],
        ["fresh", None],
        ["failed", "a view"],
        ["fresh", None],
    ]
    assert found["well"] == [["pending", None], ["fresh", 1], ["fresh", 2]]
    assert found["phase"] == "connected"
    assert found["errors"] == ["a watcher", "a watcher", "a view", "a view"]


async def test_a_tab_that_is_hidden_for_long_says_so(tmp_path: Path) -> None:
    """Not one that is hidden for a moment; at once when it is shown again; and anew on a new connection."""
    found = await run(
        """
        const later = [];
        let change;
        globalThis.document = { hidden: false, addEventListener: (_, listener) => (change = listener) };
        globalThis.setTimeout = (work, wait) => later.push({ work, wait }) - 1;
        globalThis.clearTimeout = (number) => { if (later[number]) later[number].work = () => {}; };
        const elapse = () => later.splice(0).map(({ work, wait }) => (work(), wait));
        const show = (hidden) => { document.hidden = hidden; change(); };
        const { tellWhenHidden } = await import("./hidden.js");
        heard[":connected"]({});
        tellWhenHidden(live);
        show(true), show(false);
        elapse();
        const short = [...said];
        show(true);
        const waits = elapse();
        heard[":connecting"]({ code: 1, reason: "" });
        heard[":connected"]({});
        show(false);
        console.log(JSON.stringify({ short, waits, said }));
        """,
        tmp_path,
    )
    assert found["short"] == []
    assert found["waits"] == [30_000]
    assert found["said"] == [["hidden", True], ["hidden", True], ["hidden", False]]
