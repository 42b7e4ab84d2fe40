"""What Django itself refuses: under /api/ as a problem, elsewhere as its page.

Invariant: no answer under /api/ is HTML.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views import defaults
from django.views.csrf import csrf_failure as django_csrf_failure

from asgi_app.errors import BadRequest, Denied, MillpondError, NotFound
from asgi_app.problems import problem


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400: a Host that is not allowed, a path that cannot be read."""
    return problem(BadRequest()) if _api(request) else defaults.bad_request(request, exception)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403."""
    return problem(Denied()) if _api(request) else defaults.permission_denied(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404: no such path."""
    if _api(request):
        return problem(NotFound("there is nothing at this path; /api/v1/resources lists what there is"))
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """500."""
    return problem(MillpondError()) if _api(request) else defaults.server_error(request)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403: a form without its token."""
    if _api(request):
        return problem(Denied(f"CSRF: {reason}"))
    page: HttpResponse = django_csrf_failure(request, reason=reason)
    return page


def _api(request: HttpRequest) -> bool:
    return request.path.startswith(("/api", "//api", "/livez", "/readyz"))
