"""Errors as Django answers them: `application/problem+json` (RFC 9457), which no cache keeps."""

from __future__ import annotations

import json
import math
from typing import Any

from django.http import HttpResponse

from asgi_app.errors import MillpondError


def problem(error: MillpondError) -> HttpResponse:
    """The answer for an error."""
    return problem_answer(error.problem())


def problem_answer(body: dict[str, Any]) -> HttpResponse:
    """The answer for a problem as it was remembered."""
    response = HttpResponse(json.dumps(body), status=body["status"], content_type="application/problem+json")
    response["Cache-Control"] = "no-store"
    wait = body.get("retry_after")
    if wait is not None or body["status"] in (429, 503):
        response["Retry-After"] = str(max(1, math.ceil(wait or 1)))
    if body["status"] == 401:
        response["WWW-Authenticate"] = "Bearer"
    return response
