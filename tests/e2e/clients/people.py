"""Users of a service, and what they do over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.service import Service
from tests.support.shell import Shell

_PASSWORD = "correct horse battery staple"
_CODE = """
import json
from django.contrib.auth import get_user_model
made = [get_user_model().objects.create_user(name, password={password!r}) for name in {names!r}]
print(json.dumps({{user.username: str(user.pk) for user in made}}))
"""


@dataclass(frozen=True)
class People:
    """Users who can log in: name -> id."""

    service: Service
    _shell: Shell
    ids: dict[str, str]
    #: An API token of the first of them, who may everything.
    api_token: str

    @classmethod
    @contextmanager
    def of(cls, service: Service, *names: str) -> Iterator[People]:
        """Make them."""
        with Shell(service) as shell:
            said = shell.run(_CODE.format(names=names, password=_PASSWORD))
            scopes = "read,run,publish,invalidate"
            token = service.command("token", "create", names[0], "--scope", scopes).strip()
            yield cls(service, shell, json.loads(said.splitlines()[-1]), token)

    async def cookies(self, name: str) -> dict[str, str]:
        """Of a session in which that user is logged in."""
        async with httpx.AsyncClient(base_url=self.service.url) as browser:
            await browser.get("/login")
            form = {"username": name, "password": _PASSWORD, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
            done = await browser.post("/login", data=form, headers={"Origin": self.service.url})
            assert done.status_code == 302, done.text
            return dict(browser.cookies)

    async def log_out(self, cookies: dict[str, str]) -> None:
        """End such a session."""
        headers = {"Origin": self.service.url, "X-CSRFToken": cookies["csrftoken"]}
        async with httpx.AsyncClient(base_url=self.service.url, cookies=cookies, headers=headers) as browser:
            assert (await browser.post("/logout")).status_code == 302

    async def publish(self, topic: str, *items: Any) -> None:
        """Publish each on a log, in this order."""
        for data in items:
            await self.post("publish", topic=topic, data=data)

    async def invalidate(self, *tags: str) -> None:
        await self.post("invalidate", tags=tags)

    async def post(self, path: str, **body: Any) -> Any:
        """Over the API, in the name of the first; the answer's JSON."""
        headers = {"Authorization": f"Bearer {self.api_token}"}
        async with httpx.AsyncClient(timeout=20) as client:
            answer = await client.post(f"{self.service.url}/api/v1/{path}", json=body, headers=headers)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def shell(self, code: str) -> str:
        """Run code on the server; the last line it prints."""
        said = await asyncio.to_thread(self._shell.run, code)
        return (said.splitlines() or [""])[-1]

    async def notify(self, name: str, *titles: str) -> None:
        """Put notifications into a user's inbox."""
        await self.shell(f"from asgi_app import notify\nfor title in {titles!r}: notify({self.ids[name]!r}, title)")

    async def write(self, name: str, text: str) -> None:
        """Change what `test.source` and `test.watched` show, and say so."""
        file = self.service.home / f"source-{name}"
        await asyncio.to_thread(file.write_text, text)
        await self.invalidate(f"source.{name}")
