"""What the tests of other stores ask for: a value of a worker and one of a web process, from one slow source."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from asgi_app import action, resource, wiring
from asgi_app.registry import Principal, registry
from cache_layer.outdated import EVERYTHING, Outdated, of_keys, of_tags
from tests.support.app.resources import note

Name = Annotated[str, Meta(max_length=40)]
Seconds = Annotated[float, Meta(ge=0, le=60)]


def _read(kind: str, name: str) -> str:
    file = Path(os.environ["MILLPOND_HOME"]) / f"source-{name}"
    text = file.read_text() if file.exists() else ""
    note(f"{kind} {name} {text}")
    return text


@resource("values.there", fresh=60, tags=lambda params: (f"there.{params.name}",), refresh="watched")
def there(name: Name, seconds: Seconds = 0.0) -> str:
    """Computed by a worker: what stands in a file, read at the beginning."""
    text = _read("there", name)
    time.sleep(seconds)
    return text


@resource("values.here", fresh=60, offload=False, tags=lambda params: (f"here.{params.name}",), refresh="watched")
async def here(name: Name, seconds: Seconds = 0.0) -> str:
    """Computed by a web process: the same."""
    text = _read("here", name)
    await asyncio.sleep(seconds)
    return text


@resource("values.fails_here", offload=False, error_ttl=60)
async def fails_here(name: Name) -> str:
    """Raises, in a web process."""
    note(f"fails_here {name}")
    raise ValueError("no luck")


@resource("values.fails_there", retries=0, error_ttl=60)
def fails_there(name: Name) -> str:
    """Raises, on a worker."""
    note(f"fails_there {name}")
    raise ValueError("no luck")


@action("values.outdate", access="public")
def outdate(
    kind: Literal["tag", "key", "all"], where: Literal["there", "here"], name: Name, text: Name, soft: bool = False
) -> None:
    """Changes the source, and outdates the value that was computed from it, from a process of a worker."""
    (Path(os.environ["MILLPOND_HOME"]) / f"source-{name}").write_text(text)
    resource_ = registry.resource(f"values.{where}")
    key = resource_.key(resource_.parse({"name": name}, text=False), Principal.public())
    everything = Outdated(everything=True, soft=soft) if soft else EVERYTHING
    told = {"tag": of_tags(f"{where}.{name}", soft=soft), "key": of_keys(key, soft=soft), "all": everything}[kind]
    wiring.call(lambda node: node.cache.invalidate(told))
    note(f"outdated {kind} {where} {name} {text}")
