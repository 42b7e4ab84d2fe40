"""Actions, invalidation, publishing: what changes something, over HTTP."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from asgi_app import access, acting, jobs, publishing, wiring
from asgi_app.acting import visible
from asgi_app.errors import BadParameters
from asgi_app.noticing import completion
from asgi_app.preferences import preferences
from asgi_app.registry import Principal
from asgi_app.views.following import followed
from asgi_app.views.http import api, body_object, reply
from asgi_app.views.resources import accepted, accepted_job
from cache_layer.outdated import of_tags

_MOST_TAGS = 1000


@api("POST")
async def run(request: HttpRequest, principal: Principal, name: str) -> HttpResponse:
    """`POST /api/v1/actions/{name}`: 202 with the job; the body is the object of its parameters; scope `run`.

    `Idempotency-Key`: same key and body, the same job; another body, 422.  `Prefer: wait=N`: the answer is held until
    the job is over, or for N seconds.
    """
    key = request.headers.get("Idempotency-Key")
    job_id = await acting.run(name, body_object(request), principal, idempotency_key=key)
    asked = preferences(request.headers)
    if not asked.wait:
        response = await accepted(job_id, principal)
    else:
        fields = await visible(job_id, principal)
        fields = await followed(fields, principal, lambda now: False, asked.wait)
        if fields["status"] in jobs.TERMINAL:
            await completion.seen(job_id, principal)
        response = accepted_job(fields)
    if asked.applied:
        response["Preference-Applied"] = asked.applied
    return response


@api("POST")
async def invalidate(request: HttpRequest, principal: Principal) -> HttpResponse:
    """`POST /api/v1/invalidate {"tags": [...]}`: 200 when no older value is served any more; scope `invalidate`."""
    access.require_scope(principal, "invalidate")
    body = body_object(request)
    tags = body.get("tags")
    bad = [{"name": name, "reason": "unknown; allowed is tags"} for name in sorted(set(body) - {"tags"})]
    if not isinstance(tags, list) or not all(isinstance(tag, str) and 0 < len(tag) <= 255 for tag in tags):
        tags = []
        bad.append({"name": "tags", "reason": "a list of names of 1 to 255 characters"})
    elif len(tags) > _MOST_TAGS:
        bad.append({"name": "tags", "reason": f"at most {_MOST_TAGS} names"})
    if bad:
        raise BadParameters(bad)
    await wiring.node().cache.invalidate(of_tags(*tags))
    return reply({"tags": sorted(set(tags))})


@api("POST")
async def publish(request: HttpRequest, principal: Principal) -> HttpResponse:
    """`POST /api/v1/publish {"topic": ..., "data": ...}`: 200 once the log has it; scope `publish`."""
    access.require_scope(principal, "publish")
    body = body_object(request)
    bad = [
        {"name": name, "reason": "unknown; allowed are topic and data"}
        for name in sorted(set(body) - {"topic", "data"})
    ]
    if not isinstance(body.get("topic"), str):
        bad.append({"name": "topic", "reason": "the name of a log topic"})
    if "data" not in body:
        bad.append({"name": "data", "reason": "missing; any JSON"})
    if bad:
        raise BadParameters(bad)
    position = await publishing.publish(body["topic"], body["data"])
    return reply({"topic": body["topic"], **({"epoch": position.epoch, "offset": position.offset} if position else {})})
