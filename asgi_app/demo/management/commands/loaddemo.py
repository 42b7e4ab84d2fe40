"""`millpond loaddemo`: loads the demo's flights, once."""

import time
from typing import Any

from django.core.management.base import BaseCommand

from asgi_app.demo.load import load

_WIDTH = 40


class Command(BaseCommand):
    """Draws a bar on a terminal; elsewhere prints a line for every tenth, to be found by grep in a log."""

    help = "Load the 336,776 flights of 2013 that the demo stands on; does nothing when they are there."
    _told = 0

    def handle(self, *args: Any, **options: Any) -> None:
        """Load and report."""
        begun = time.monotonic()
        written = load(self._draw if self.stdout.isatty() else self._tell)
        if written:
            self.stdout.write(f"demo: {written} flights loaded in {time.monotonic() - begun:.1f} s")
        else:
            self.stdout.write("demo: the flights are already loaded")

    def _draw(self, done: int, total: int) -> None:
        filled = _WIDTH * done // total
        bar = "█" * filled + "░" * (_WIDTH - filled)
        self.stdout.write(f"\rdemo: {bar} {done:>7} of {total} flights", ending="" if done < total else "\n")
        self.stdout.flush()

    def _tell(self, done: int, total: int) -> None:
        tenth = done * 10 // total
        if tenth > self._told:
            self._told = tenth
            self.stdout.write(f"demo: loading flights {done}/{total} ({done * 100 // total}%)")
