"""What the tests take from a package that Python has in itself since 3.11."""

from asyncio import timeout

__all__ = ["timeout"]
