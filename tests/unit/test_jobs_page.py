"""What the page of the jobs keeps and says, run by Node: its pure modules, without a browser."""

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

_TOOLS = """
import { Book, PAGE } from "./jobs/book.js";
import * as words from "./jobs/job.js";
const job = (id, more = {}) => ({ id: String(id).padStart(4, "0"), name: "a", kind: "action", status: "queued",
  version: 1, attempt: 0, params: {}, history: [], position: null, created_at: "2026-01-01T00:00:00Z", ...more });
const many = (from, to) => Array.from({ length: from - to + 1 }, (_, index) => job(from - index));
const page = (items, next = null) => ({ items, next });
const ids = (book) => book.shown.map(Number);
"""


async def run(script: str, tmp_path: Path) -> Any:
    """What the script gives to `say`, as JSON."""
    if _NODE is None:
        pytest.skip("no node on PATH")
    shutil.copytree(_MODULES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "test.js").write_text(
        f"{_TOOLS}const say = (what) => console.log(JSON.stringify(what));\n{script}", encoding="utf-8"
    )
    process = await asyncio.create_subprocess_exec(
        _NODE, str(tmp_path / "test.js"), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, wrong = await process.communicate()
    assert process.returncode == 0, wrong.decode()
    return json.loads(out)


async def test_an_older_version_of_a_job_changes_nothing(tmp_path: Path) -> None:
    """Pushes and listings come in any order: the newest version stays; the same version may bring another place."""
    found = await run(
        """
        const book = new Book("all");
        book.top(page([job(1, { version: 5, status: "running" })]), 0, true);
        const older = book.tell(job(1, { version: 4 }), 1);
        const status = book.job("0001").status;
        const newer = book.tell(job(1, { version: 6, status: "succeeded" }), 2);
        book.top(page([job(1, { version: 5, status: "running" })]), 3, true);
        say([older, status, newer, book.job("0001").status, words.newer(job(1), job(1, { position: 3 })).position]);
        """,
        tmp_path,
    )
    assert found == [False, "running", True, "succeeded", 3]


async def test_new_jobs_wait_until_somebody_asks_for_them(tmp_path: Path) -> None:
    """While somebody is at the list they are counted and not shown; in calm they come by themselves."""
    found = await run(
        """
        const book = new Book("all");
        const seen = [];
        const note = () => seen.push([ids(book), book.news.count]);
        book.top(page([job(1)]), 0, false); note();
        book.top(page([job(3), job(2), job(1)]), 1, false); note();
        book.open(2); note();
        book.top(page([job(4), job(3), job(2), job(1)]), 3, true); note();
        say(seen);
        """,
        tmp_path,
    )
    assert found == [[[1], 0], [[1], 2], [[3, 2, 1], 0], [[4, 3, 2, 1], 0]]


async def test_what_is_shown_has_no_holes(tmp_path: Path) -> None:
    """When more came than a page holds, the older part is given up, and `older` begins where the page ends."""
    found = await run(
        """
        const book = new Book("all");
        book.top(page(many(10, 1)), 0, true);
        book.top(page(many(99, 50), "0050"), 1, false);
        const news = book.news;
        book.open(2);
        const [first, next] = [ids(book), book.next];
        book.older(page(many(49, 1)), 3);
        say([news, first.length, first.at(-1), next, ids(book).length, book.next]);
        """,
        tmp_path,
    )
    assert found == [{"count": 50, "more": True}, 50, 50, "0050", 99, None]


async def test_a_list_that_is_left_alone_does_not_grow(tmp_path: Path) -> None:
    """What comes in at the top goes out at the bottom, where it can be asked for again."""
    found = await run(
        """
        const book = new Book("all");
        for (let top = PAGE; top <= 500; top += 10) book.top(page(many(top, top - PAGE + 1), "x"), top, true);
        say([ids(book).length, ids(book)[0], book.next, Number(book.next) === ids(book).at(-1)]);
        """,
        tmp_path,
    )
    assert found == [50, 500, "0451", True]


async def test_a_job_that_has_left_the_listing_is_seen_to_end(tmp_path: Path) -> None:
    """Of the live ones, one that has ended stays for ten seconds; one below the page that was read is not judged, and
    none by a page that is not complete."""
    found = await run(
        """
        const book = new Book("live");
        book.top(page([job(3), job(2)], "0002"), 0, true);
        book.older(page([job(1)]), 0);
        const after = (now) => { book.top(page([job(2)], "0002"), now, true); return ids(book); };
        const seen = [after(1000), after(10_000)];
        book.top({ items: [job(2)], next: "0002", partial: true }, 20_000, true);
        seen.push(ids(book), after(31_000), after(42_000));
        say(seen);
        """,
        tmp_path,
    )
    assert found == [[3, 2, 1], [3, 2, 1], [3, 2, 1], [3, 2, 1], [2, 1]]


async def test_words_for_what_a_job_does(tmp_path: Path) -> None:
    """Place, progress, time left, trouble and attempts, each in words a person reads."""
    found = await run(
        """
        const running = job(1, { status: "running", attempt: 2, started_at: "2026-01-01T00:00:10Z", eta: 30,
          progress: { done: 4, total: 10, percent: 40, note: "step 4" },
          history: [{ attempt: 1, outcome: "died", detail: null, worker: "w",
            started_at: "2026-01-01T00:00:01Z", ended_at: "2026-01-01T00:00:03Z" }] });
        const tried = job(1, { status: "retrying", attempt: 1 });
        const now = Date.parse("2026-01-01T00:00:15Z");
        say({
          places: [job(1, { position: 1 }), job(1, { position: 7 }), job(1), tried].map(words.placeOf),
          progress: words.progressOf(running),
          left: words.leftOf(running, now - 5000, now),
          times: words.timesOf(running, now),
          problem: words.problemOf(running),
          attempts: words.attemptsOf(running, now).map(({ attempt, outcome, took }) => [attempt, outcome, took]),
          parameters: words.parametersOf(job(1, { params: { a: "x", b: [1], c: "y".repeat(200) } })).length,
        });
        """,
        tmp_path,
    )
    assert found["places"] == ["next in its queue", "number 7 in its queue", "waits", "waits for attempt 2"]
    assert found["progress"] == {"percent": 40, "text": "40 % · 4 of 10 · step 4"}
    assert found["left"] == "about 25 s left"
    assert found["times"] == "runs for 5 s"
    assert found["problem"] == "worker died"
    assert found["attempts"] == [[2, "running", 5000], [1, "worker died", 2000]]
    assert found["parameters"] == 121
