"""What the channel layer's keys and channels in the store are called; KEYS.md lists them.

Invariant: every name begins with the prefix and a colon, so that of two layers none flushes the other's.
"""

from __future__ import annotations


class LayerNames:
    """Names of one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def line(self, channel: str) -> str:
        """Unread messages of a channel that any process may read."""
        return f"{self.prefix}:q:{channel}"

    def bell(self, channel: str) -> str:
        """Where its readers are rung for."""
        return f"{self.prefix}:bell:{channel}"

    def members(self, group: str) -> str:
        """Channels of a group that are in no process that subscribes it for them."""
        return f"{self.prefix}:group:{group}"

    def group(self, group: str) -> str:
        """Where the messages of a group are told."""
        return f"{self.prefix}:g:{group}"

    def inbox(self, client: str) -> str:
        """Where a process hears of messages for single channels of it."""
        return f"{self.prefix}:in:{client}"

    def full(self, channel: str) -> str:
        """There while a channel of one process is full."""
        return f"{self.prefix}:full:{channel}"

    def everyone(self) -> str:
        """Where all processes listen."""
        return f"{self.prefix}:all"

    def everything(self) -> str:
        """A pattern for SCAN."""
        escaped = "".join(f"\\{one}" if one in "*?[]\\^" else one for one in self.prefix)
        return f"{escaped}:*"


def client_of(channel: str) -> str:
    """Which process a specific channel is of: that of `specific.<client>!<number>`."""
    return channel.partition("!")[0].rpartition(".")[2]
