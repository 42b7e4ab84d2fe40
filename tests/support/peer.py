"""A client of the websocket that says exactly what it is told, on the ASGI application in this process."""

from __future__ import annotations

import json
from typing import Any

from asgiref.testing import ApplicationCommunicator

from consumers import routing

CONNECT = {"id": 1, "connect": {}}
#: Its methods carry no types.
Communicator: Any = ApplicationCommunicator


class Peer:
    """A client on an open socket."""

    def __init__(self, *, subprotocols: list[str] | None = None, headers: dict[str, str] | None = None) -> None:
        scope = {
            "type": "websocket",
            "path": "/connection/websocket",
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
            "subprotocols": subprotocols or [],
        }
        self.app = Communicator(routing.application, scope)
        #: The result of the connect.
        self.greeting: dict[str, Any] = {}
        #: Pushes that nobody has asked for yet.
        self.pushed: list[dict[str, Any]] = []
        self._last_id = 1

    async def open(self) -> dict[str, Any]:
        await self.app.send_input({"type": "websocket.connect"})
        return await self.output()

    async def output(self) -> dict[str, Any]:
        message: dict[str, Any] = await self.app.receive_output(2)
        return message

    async def say(self, *commands: dict[str, Any] | str) -> None:
        text = "\n".join(c if isinstance(c, str) else json.dumps(c) for c in commands)
        await self.app.send_input({"type": "websocket.receive", "text": text})

    async def hears(self) -> list[Any]:
        message = await self.output()
        assert message["type"] == "websocket.send", message
        return [json.loads(line) for line in message["text"].split("\n")]

    async def close_code(self) -> tuple[int, str]:
        while (message := await self.output())["type"] != "websocket.close":
            assert message["type"] == "websocket.send"
        return message["code"], message["reason"]

    async def leave(self) -> None:
        await self.app.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.app.wait(2)

    async def connected(self) -> Peer:
        await self.open()
        await self.say(CONNECT)
        assert "connect" in (await self.hears())[0]
        return self

    async def asks(self, **method: dict[str, Any]) -> Any:
        """Say one command; the result in its reply, or the error.  What is pushed before it is kept in `pushed`."""
        self._last_id += 1
        await self.say({"id": self._last_id, **method})
        return await self.answer(self._last_id)

    async def answer(self, command_id: int) -> Any:
        """What is answered to a command: the result, or the error."""
        while True:
            reply = None
            for message in await self.hears():
                if message.get("id") == command_id:
                    reply = next(value for name, value in message.items() if name != "id")
                elif "push" in message:
                    self.pushed.append(message["push"])
            if reply is not None:
                return reply

    async def pushes(self, count: int) -> list[dict[str, Any]]:
        """The next pushes, oldest first."""
        while len(self.pushed) < count:
            self.pushed += [message["push"] for message in await self.hears() if "push" in message]
        told, self.pushed = self.pushed[:count], self.pushed[count:]
        return told
