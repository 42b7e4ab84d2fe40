"""Jobs over HTTP: one, all of them, cancel, run again, forget."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils.http import parse_etags

from asgi_app import access, acting, jobs, wiring
from asgi_app.acting import visible
from asgi_app.errors import BadParameters, Denied
from asgi_app.http_caching import NotModified
from asgi_app.noticing import completion
from asgi_app.preferences import preferences
from asgi_app.registry import Principal
from asgi_app.views.following import followed
from asgi_app.views.http import api, reply
from asgi_app.views.resources import accepted, look_again

_STATUSES = ("queued", "running", "retrying", *sorted(jobs.TERMINAL))
_MOST, _LONGEST_NAME = 200, 200


@api("GET", "HEAD", "DELETE")
async def detail(request: HttpRequest, principal: Principal, job_id: str) -> HttpResponse:
    """`GET /api/v1/jobs/{id}`: the job, 200 while it exists; with `Prefer: wait=N` once it has changed or is over.
    `DELETE`: cancel, 202, or 200 when already over.
    """
    if request.method == "DELETE":
        return await _cancel(job_id, principal)
    fields = await visible(job_id, principal)
    await wiring.node().desk.want(fields)
    asked = preferences(request.headers)
    known = parse_etags(request.headers.get("If-None-Match", ""))
    if asked.wait:
        fields = await followed(fields, principal, lambda now: bool(known) and _etag(now) not in known, asked.wait)
    if fields["status"] in jobs.TERMINAL:
        await completion.seen(fields["id"], principal)
    response = _job(fields, 200)
    if response["ETag"] in {tag.removeprefix("W/") for tag in known} or known == ["*"]:
        response = NotModified.of(response)
    if asked.applied:
        response["Preference-Applied"] = asked.applied
    response["Vary"] = "Authorization, Cookie, Prefer"
    return response


@api("GET", "HEAD")
async def listing(request: HttpRequest, principal: Principal) -> HttpResponse:
    """`GET /api/v1/jobs?status=&name=&cursor=&limit=`: jobs the principal may see, newest first.

    `status` may name several states, with commas between them.  `partial` says that computations are missing, because
    the store is away.
    """
    asked = _asked(request)
    found, following, partial = await wiring.node().desk.page(
        principal,
        before=asked["cursor"],
        statuses=frozenset(filter(None, asked["status"].split(","))),
        name=asked["name"],
        most=int(asked["limit"]),
    )
    page = {"items": [jobs.public(fields) for fields in found], "next": following}
    return reply({**page, "partial": True} if partial else page)


@api("POST")
async def retry(request: HttpRequest, principal: Principal, job_id: str) -> HttpResponse:
    """`POST /api/v1/jobs/{id}/retry`: run a job again that did not succeed; 202 with the new one; scope `run`."""
    access.require_scope(principal, "run")
    fields = await visible(job_id, principal)
    return await accepted(await wiring.node().desk.retry(fields), principal)


@api("POST")
async def discard(request: HttpRequest, principal: Principal, job_id: str) -> HttpResponse:
    """`POST /api/v1/jobs/{id}/discard`: forget a job that is over; 204; scope `run`."""
    access.require_scope(principal, "run")
    fields = await visible(job_id, principal)
    if fields["kind"] == "computation" and not access.is_staff(principal):
        raise Denied("a computation is everybody's who may read it: only the staff forgets one")
    await wiring.node().desk.discard(fields)
    response = HttpResponse(status=204)
    response["Cache-Control"] = "no-store"
    return response


async def _cancel(job_id: str, principal: Principal) -> HttpResponse:
    fields, over = await acting.cancel(job_id, principal)
    return _job(fields, 200 if over else 202)


def _asked(request: HttpRequest) -> dict[str, str]:
    given = request.GET
    asked = {"status": "", "name": "", "cursor": "", "limit": "50"}
    bad = [{"name": name, "reason": f"unknown; allowed are {', '.join(asked)}"} for name in given if name not in asked]
    bad += [{"name": name, "reason": "is given twice"} for name in given if len(given.getlist(name)) > 1]
    asked |= {name: given[name] for name in asked if given.get(name)}
    if asked["status"] and not set(asked["status"].split(",")) <= set(_STATUSES):
        bad.append({"name": "status", "reason": f"one of {', '.join(_STATUSES)}, or several with commas between"})
    if len(asked["name"]) > _LONGEST_NAME or "\0" in asked["name"]:
        bad.append({"name": "name", "reason": f"the name of a resource or action, at most {_LONGEST_NAME} characters"})
    if asked["cursor"] and not jobs.is_job_id(asked["cursor"]):
        bad.append({"name": "cursor", "reason": "the `next` of a page"})
    if not (asked["limit"].isascii() and asked["limit"].isdigit() and 1 <= int(asked["limit"][:9]) <= _MOST):
        bad.append({"name": "limit", "reason": f"a whole number, 1 to {_MOST}"})
    if bad:
        raise BadParameters(bad)
    return asked


def _etag(fields: jobs.Fields) -> str:
    return f'"v{fields["version"]}"'


def _job(fields: jobs.Fields, status: int) -> HttpResponse:
    response = reply(jobs.public(fields), status, ETag=_etag(fields))
    if fields["status"] not in jobs.TERMINAL:
        response["Retry-After"] = look_again(fields)
    return response
