"""Resources over HTTP: the value with its version, the job while there is none, 304 for who has it already.

Invariant: an answer says `public` only for a resource that is public and the same for everybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers
from django.utils.http import parse_etags

from asgi_app import access, jobs, wiring
from asgi_app.env import env
from asgi_app.errors import Unavailable, store_away
from asgi_app.http_caching import NotModified, Scope, age, cache_control, cache_status, demand
from asgi_app.problems import problem, problem_answer
from asgi_app.reading import Reading
from asgi_app.registry import Principal, Resource, registry
from asgi_app.views.http import api, may_see, reply
from asgi_app.views.preferences import Preferences, preferences
from cache_layer.position import Position

#: Seconds a client should wait before it looks at a job again.
_JOB_RETRY = 1
#: The same, of a job that will take longer.
_LONGEST_RETRY = 30


@api("GET", "HEAD")
async def listing(request: HttpRequest, principal: Principal) -> HttpResponse:
    """`GET /api/v1/resources`: every resource the principal may see."""
    items = [describe(resource) for resource in registry.resources.values() if await may_see(resource, principal)]
    return reply({"items": sorted(items, key=lambda item: str(item["name"])), "next": None})


@api("GET", "HEAD")
async def detail(request: HttpRequest, principal: Principal, name: str) -> HttpResponse:
    """`GET /api/v1/resources/{name}?params`: 200 the value, 202 the job, 304."""
    resource = registry.resource(name)
    params = resource.parse_query(request.META.get("QUERY_STRING", ""))
    demanded = demand(request.headers)
    # A cache has it or has it not: there is nothing to wait for.
    asked = Preferences() if demanded.only_cached else preferences(request.headers)
    known = _known(request.headers.get("If-None-Match", ""))
    reading = await wiring.node().reader.read(
        resource,
        params,
        principal,
        wait=asked.seconds(0.0 if demanded.only_cached else env().default_wait),
        newer_than=known.position if asked.wait is not None else None,
        demand=demanded,
    )
    response = await _answer(resource, params, reading, known)
    if asked.applied:
        response["Preference-Applied"] = asked.applied
    patch_vary_headers(response, _vary(resource))
    return response


@api("POST")
async def refresh(request: HttpRequest, principal: Principal, name: str) -> HttpResponse:
    """`POST /api/v1/resources/{name}/refresh?params`: 202 with the job; scope `run`."""
    resource = registry.resource(name)
    params = resource.parse_query(request.META.get("QUERY_STRING", ""))
    access.require_scope(principal, "run")
    job_id = await wiring.node().reader.refresh(resource, params, principal)
    return await accepted(job_id) if job_id else _computed_here(resource, params)


async def accepted(job_id: str) -> HttpResponse:
    """202 with the job."""
    fields = await wiring.node().desk.find(job_id)
    if fields is None:
        raise store_away()  # it was there a moment ago
    return accepted_job(fields)


def accepted_job(fields: jobs.Fields) -> HttpResponse:
    """202 with the job, where it is, and when it is worth looking again."""
    return reply(jobs.public(fields), 202, Location=f"/api/v1/jobs/{fields['id']}", Retry_After=look_again(fields))


def look_again(fields: jobs.Fields) -> str:
    """Seconds after which a job is worth another look: a good part of what it may still take."""
    eta = float(fields.get("eta") or 0)
    return str(min(_LONGEST_RETRY, max(_JOB_RETRY, round(eta))))


def _computed_here(resource: Resource, params: Any) -> HttpResponse:
    """202 for what this very process computes (offload=False): there is no job, only where the value will be."""
    topic = resource.topic(params)
    here = f"/api/v1/resources/{topic}"
    body = {
        "id": None,
        "kind": "computation",
        "name": resource.name,
        "params": resource.dump(params),
        "status": "running",
        "topic": topic,
        "result_url": here,
    }
    return reply(body, 202, Location=here, Retry_After=str(_JOB_RETRY), Millpond_Topic=topic)


def describe(resource: Resource) -> dict[str, Any]:
    """A resource as the listing shows it."""
    here = f"/api/v1/resources/{resource.name}"
    return {
        "name": resource.name,
        "doc": resource.doc,
        "parameters": resource.schema(),
        "freshness": {
            "fresh": resource.policy.fresh,
            "stale": resource.policy.stale,
            "stale_if_error": resource.policy.stale_if_error,
            "refresh": resource.refresh,
        },
        "offload": resource.offload,
        "topic": resource.name,
        "links": {"self": here, "events": f"/api/v1/events?topic={resource.name}", "refresh": f"{here}/refresh"},
    }


@dataclass(frozen=True, slots=True)
class _Known:
    """What a client says it has."""

    anything: bool
    tags: frozenset[str]

    def matches(self, position: Position) -> bool:
        return self.anything or str(position) in self.tags

    @property
    def position(self) -> Position | None:
        return next((found for tag in sorted(self.tags) if (found := Position.parse(tag))), None)


def _known(header: str) -> _Known:
    tags = parse_etags(header)
    return _Known(tags == ["*"], frozenset(tag.removeprefix("W/").strip('"') for tag in tags))


async def _answer(resource: Resource, params: Any, reading: Reading, known: _Known) -> HttpResponse:
    if reading.entry is not None:
        return _value(resource, params, reading, known)
    if reading.error is not None:
        return problem_answer({"retry_after": resource.policy.error_ttl, **reading.error})
    if reading.unattended:
        lacking = {"part": "worker", "queue": resource.queue, "job": reading.job_id}
        return problem(Unavailable("no worker is there to compute it", retry_after=2.0, extra=lacking))
    response = await accepted(reading.job_id) if reading.job_id else _computed_here(resource, params)
    response["Cache-Status"] = f"millpond; fwd=miss{'; collapsed' if reading.via == 'joined' else ''}"
    response["Millpond-Topic"] = resource.topic(params)
    return response


def _value(resource: Resource, params: Any, reading: Reading, known: _Known) -> HttpResponse:
    entry = reading.entry
    assert entry is not None
    if known.matches(reading.position):
        response: HttpResponse = NotModified()
    else:
        response = HttpResponse(entry.payload, content_type="application/json")
    scope: Scope = "public" if _for_everybody(resource) else "private"
    response["ETag"] = reading.position.etag()
    response["Age"] = str(age(reading))
    response["Cache-Control"] = cache_control(scope, reading, resource.policy)
    response["Cache-Status"] = cache_status(reading)
    response["Millpond-Topic"] = resource.topic(params)
    computed = datetime.fromtimestamp(entry.computed_at, UTC).isoformat(timespec="milliseconds")
    response["Millpond-Computed"] = computed.replace("+00:00", "Z")
    return response


def _vary(resource: Resource) -> list[str]:
    return ["Accept", "Prefer"] if _for_everybody(resource) else ["Accept", "Authorization", "Cookie", "Prefer"]


def _for_everybody(resource: Resource) -> bool:
    """Whether a cache between us and the reader may show the value to anybody (RFC 9111, section 3.5)."""
    return resource.access == "public" and resource.vary is None and env().anonymous
