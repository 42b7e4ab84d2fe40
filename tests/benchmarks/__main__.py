"""`python -m tests.benchmarks`: run the comparisons, print their figures, and write them to RESULTS.md.

A machine that is shared gives other absolute figures in every run: look at the ratios of one run, and at the CPU
microseconds.  Nothing is asserted.  A comparison is a module with `measure(home, seconds, rounds) -> Table`.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import (
    connections,
    fanout,
    growth,
    hits,
    l2clients,
    latency,
    machine,
    offload,
    scaling,
    stampede,
    start,
)
from tests.benchmarks.table import Table

RESULTS = Path(__file__).with_name("RESULTS.md")
COMPARISONS: dict[str, Callable[[Path, float, int], Table]] = {
    "hits": hits.measure,
    "fanout": fanout.measure,
    "connections": connections.measure,
    "offload": offload.measure,
    "stampede": stampede.measure,
    "l2clients": l2clients.measure,
    "growth": growth.measure,
    "latency": latency.measure,
    "start": start.measure,
    "scaling": scaling.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of one round of one case (2)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each case (3)")
    parser.add_argument("--only", choices=COMPARISONS, help="one comparison, printed and not written to RESULTS.md")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is stopped then, too
    where = machine.describe()
    print(where, flush=True)
    tables: list[Table] = []
    failed: list[str] = []
    for name in [options.only] if options.only else COMPARISONS:
        try:
            with tempfile.TemporaryDirectory(prefix="mpb-") as home:  # short enough for the path of a socket
                tables.append(COMPARISONS[name](Path(home), options.seconds, options.rounds))
        except Exception:
            traceback.print_exc()
            failed.append(name)  # the others are worth having
            continue
        print(f"\n{tables[-1].markdown()}", flush=True)
        if not options.only:
            RESULTS.write_text(_document(where, tables, options.seconds, options.rounds))
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


def _document(where: str, tables: list[Table], seconds: float, rounds: int) -> str:
    command = f"make bench                # python -m tests.benchmarks --seconds {seconds:g} --rounds {rounds}"
    head = (
        "# Side by side\n\nMeasured on a machine with other work to do: the ratios of one run and the CPU microseconds "
        "mean something, the absolute rates do not. What is compared with what, and how, stands in the module of "
        f"each comparison.\n\n    {command}\n\n{where}\n"
    )
    return "\n".join([head, *(f"{table.markdown()}\n" for table in tables)])


if __name__ == "__main__":
    main()
