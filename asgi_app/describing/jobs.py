"""The operations on jobs.  Pure."""

from __future__ import annotations

from asgi_app.describing.common import ACCEPTED_HEADERS, BASE, JOB_LINKS, NO_STORE
from asgi_app.describing.operations import Operation, answer, parameter
from asgi_app.describing.shapes import JOB_ID, STATES, Schema, listing, ref
from asgi_app.errors import BadParameters, Conflict, Denied, Misdeclared, NotFound, TooManyRequests

JOB = ref("schemas", "Job")
_ID = (ref("parameters", "JobId"),)
_HEADERS = ("Cache-Control", "ETag", "Retry-After")
_SEEN = ("Preference-Applied", "Vary")
#: An empty one is none: forms send them.
_NONE = {"allowEmptyValue": True}
_PARTIAL: Schema = {"const": True, "description": "There: computations are missing, because the store is away."}
_FILTERS = (
    parameter(
        "status",
        "query",
        f"Only jobs in this state, or in one of several with commas between them: {', '.join(STATES)}.",
        {"type": "string", "pattern": f"^({'|'.join(STATES)})(,({'|'.join(STATES)}))*$", "examples": ["failed,dead"]},
        **_NONE,
    ),
    parameter(
        "name",
        "query",
        "Only of this resource or action.",
        {"type": "string", "maxLength": 200, "pattern": r"^[^\u0000]*$"},
        **_NONE,
    ),
    parameter("cursor", "query", "The `next` of the page before.", JOB_ID, **_NONE),
    parameter(
        "limit",
        "query",
        "Jobs of a page, at the most.",
        {"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
        **_NONE,
    ),
)


def _job(doc: str, *more: str) -> Schema:
    return answer(doc, JOB, headers=(*_HEADERS, *more), links=JOB_LINKS)


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="GET",
        path=f"{BASE}/jobs",
        id="listJobs",
        group="Jobs",
        doc="The jobs one may see, newest first.\n\nA page may be short, or empty, and have a next one nevertheless.",
        parameters=_FILTERS,
        answers={200: answer("A page of them.", listing(JOB, partial=_PARTIAL), headers=NO_STORE)},
        errors=(BadParameters,),
    ),
    Operation(
        method="GET",
        path=f"{BASE}/jobs/{{id}}",
        id="readJob",
        group="Jobs",
        doc="A job.\n\nOther people's jobs do not exist. With `Prefer: wait=N` it answers once the job is over, or, "
        "with If-None-Match, once it has changed.",
        parameters=(*_ID, ref("parameters", "Prefer"), ref("parameters", "IfNoneMatch")),
        answers={
            200: _job("The job, while it exists.", *_SEEN),
            304: answer("It has not changed.", headers=(*_HEADERS, *_SEEN)),
        },
        errors=(NotFound,),
    ),
    Operation(
        method="DELETE",
        path=f"{BASE}/jobs/{{id}}",
        id="cancelJob",
        group="Jobs",
        doc="Cancel a job.\n\nA computation that others wait for goes on for them.",
        parameters=_ID,
        answers={200: _job("It was over."), 202: _job("It has been told to end.")},
        errors=(NotFound,),
        scope="run",
        public=False,
    ),
    Operation(
        method="POST",
        path=f"{BASE}/jobs/{{id}}/retry",
        id="retryJob",
        group="Jobs",
        doc="Run a job again that is over without success.\n\nThe new one has an id of its own.",
        parameters=_ID,
        answers={202: answer("The new job.", JOB, headers=ACCEPTED_HEADERS, links=JOB_LINKS)},
        errors=(BadParameters, Denied, NotFound, Conflict, TooManyRequests, Misdeclared),
        scope="run",
        public=False,
    ),
    Operation(
        method="POST",
        path=f"{BASE}/jobs/{{id}}/discard",
        id="discardJob",
        group="Jobs",
        doc="Forget a job that is over.\n\nComputations are everybody's who may read them: only the staff forgets one.",
        parameters=_ID,
        answers={204: answer("It is forgotten.", headers=NO_STORE)},
        errors=(Denied, NotFound, Conflict),
        scope="run",
        public=False,
    ),
)
