"""Jobs over HTTP."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from asgi_app import access, jobs, wiring
from asgi_app.errors import NotFound
from asgi_app.registry import Principal
from asgi_app.views.http import api, reply


@api("GET", "HEAD", "DELETE")
async def detail(request: HttpRequest, principal: Principal, job_id: str) -> HttpResponse:
    """`GET /api/v1/jobs/{id}`: the job, 200 while it exists.  `DELETE`: cancel, 202, or 200 when already over."""
    if not jobs.is_job_id(job_id):
        raise NotFound("there is no such job")
    records = wiring.node().records
    fields = await jobs.check_visible(await records.get(job_id), principal)
    if request.method != "DELETE":
        return _job(fields, 200)
    access.require_scope(principal, "run")
    status = await records.cancel(job_id)
    fields = await jobs.check_visible(await records.get(job_id), principal)
    return _job(fields, 200 if status in jobs.TERMINAL else 202)


def _job(fields: jobs.Fields, status: int) -> HttpResponse:
    job = jobs.public(fields)
    response = reply(job, status, ETag=f'"v{job["version"]}"')
    if job["status"] not in jobs.TERMINAL:
        response["Retry-After"] = "1"
    return response
