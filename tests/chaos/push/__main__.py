"""`python -m tests.chaos.push`: what clients are told while sockets, web processes and the store are cut, killed,
frozen and starved; then the books are checked.

Each scene has a service of its own.  Prints the seed, figures, and every broken promise in one line.  The exit code is
1 unless all were kept.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import machine
from tests.chaos.push import deploy, halfopen, kills, slow, storm
from tests.chaos.push.fleet import raise_limit
from tests.chaos.push.scene import Play, Scene

SUMMARY = "What clients are told while sockets, web processes and the store are cut, killed, frozen and starved."
SCENES: dict[str, Play] = {
    "kills": kills.play,
    "slow": slow.play,
    "storm": storm.play,
    "deploy": deploy.play,
    "halfopen": halfopen.play,
}
_SHOWN = 60


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.push", description=SUMMARY)
    parser.add_argument("--seed", type=int, help="draw the choices of an earlier run again")
    parser.add_argument("--only", choices=SCENES, action="append", help="play this scene, and not all")
    parser.add_argument("--scale", type=float, default=1.0, help="so much of the clients and the time (1)")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a good run, too")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is stopped then, too
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}\n{machine.describe()}", flush=True)
    raise_limit()
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # what a proxy cuts is meant to be cut
    home, wrong = Path(tempfile.mkdtemp(prefix="millpond-push-")), list[str]()
    for name in options.only or SCENES:
        scene = Scene(name, home / name, random.Random(f"{seed} {name}"), options.scale)
        try:
            asyncio.run(SCENES[name](scene))
        except Exception as error:
            scene.blame(f"the scene ended with {error!r}")
            raise
        finally:
            wrong += scene.wrong
    return conclude(wrong, home, keep=options.keep)


def conclude(wrong: list[str], home: Path, *, keep: bool) -> int:
    """What is wrong, if anything is."""
    for what in wrong[:_SHOWN]:
        print(f"  {what}")
    print(f"{len(wrong)} broken promises; the logs are in {home}" if wrong else "every promise was kept")
    if not wrong and not keep:
        shutil.rmtree(home, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
