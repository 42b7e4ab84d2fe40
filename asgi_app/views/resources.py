"""Resources over HTTP: the value with its version, the job while there is none, 304 for who has it already.

Invariant: an answer says `public` only for a resource that is public and the same for everybody.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

from asgi_app import access, jobs, wiring
from asgi_app.env import env
from asgi_app.errors import Unavailable, store_away
from asgi_app.held import handed_on
from asgi_app.http_caching import NotModified, demand
from asgi_app.noticing import completion
from asgi_app.preferences import Preferences, preferences
from asgi_app.problems import problem, problem_answer
from asgi_app.reading import Reading
from asgi_app.registry import Principal, Resource, registry
from asgi_app.representation import Holding, holding, value_headers, vary
from asgi_app.views.http import api, may_see, reply

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
    had = holding(request.headers.get("If-None-Match", ""))
    reading = await (
        handed_on(request.scope, principal)  # type: ignore[attr-defined]
        or wiring.node().reader.read(
            resource,
            params,
            principal,
            wait=asked.seconds(0.0 if demanded.only_cached else env().default_wait),
            newer_than=had.position if asked.wait is not None else None,
            demand=demanded,
        )
    )
    response = await _answer(resource, params, reading, had, principal)
    if asked.applied:
        response["Preference-Applied"] = asked.applied
    patch_vary_headers(response, vary(resource))
    return response


@api("POST")
async def refresh(request: HttpRequest, principal: Principal, name: str) -> HttpResponse:
    """`POST /api/v1/resources/{name}/refresh?params`: 202 with the job; scope `run`."""
    resource = registry.resource(name)
    params = resource.parse_query(request.META.get("QUERY_STRING", ""))
    access.require_scope(principal, "run")
    job_id = await wiring.node().reader.refresh(resource, params, principal)
    return await accepted(job_id, principal) if job_id else _computed_here(resource, params)


async def accepted(job_id: str, principal: Principal) -> HttpResponse:
    """202 with the job, of whose end the principal will be notified."""
    fields = await wiring.node().desk.find(job_id)
    if fields is None:
        raise store_away()  # it was there a moment ago
    await completion.asked(fields, principal)
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


async def _answer(
    resource: Resource, params: Any, reading: Reading, had: Holding, principal: Principal
) -> HttpResponse:
    if reading.entry is not None:
        return _value(resource, params, reading, had)
    if reading.error is not None:
        return problem_answer({"retry_after": resource.policy.error_ttl, **reading.error})
    if reading.unattended:
        lacking = {"part": "worker", "queue": resource.queue, "job": reading.job_id}
        return problem(Unavailable("no worker is there to compute it", retry_after=2.0, extra=lacking))
    response = await accepted(reading.job_id, principal) if reading.job_id else _computed_here(resource, params)
    response["Cache-Status"] = f"millpond; fwd=miss{'; collapsed' if reading.via == 'joined' else ''}"
    response["Millpond-Topic"] = resource.topic(params)
    return response


def _value(resource: Resource, params: Any, reading: Reading, had: Holding) -> HttpResponse:
    entry = reading.entry
    assert entry is not None
    if had.matches(reading.position):
        response: HttpResponse = NotModified()
    else:
        response = HttpResponse(entry.payload, content_type="application/json")
    for name, value in value_headers(resource, resource.topic(params), reading):
        response[name] = value
    return response
