"""The pages a person opens: templates and their security policy; every number on them arrives live through the API.

Invariant: a page holds no value of a resource, so it needs no access rule of its own and may be opened by anyone.
"""

from typing import Any

from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from asgi_app.registry import registry

#: What a page may load and reach: this origin only, no inline script or style.  `'self'` covers the websocket too.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; connect-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

#: The page shows the demo's panels when this resource is declared, else only the list of whatever is.
DEMO_RESOURCE = "flights.board"
#: Who may have the demo's report mailed, and is shown the button for it.
MAIL_PERMISSION = "demo.change_replayclock"


async def dashboards(request: HttpRequest) -> HttpResponse:
    """`/`: the live dashboards; without the demo, a panel for each declared resource."""
    user = await request.auser()
    context = {
        "demo": DEMO_RESOURCE in registry.resources,
        "username": user.get_username(),
        "staff": getattr(user, "is_staff", False),
        "user_id": "" if user.is_anonymous else str(user.pk),
        "may_mail": await user.ahas_perm(MAIL_PERMISSION),
    }
    response = render(request, "dashboards.html", context)
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response["Cache-Control"] = "private, no-cache"
    return response


async def jobs(request: HttpRequest) -> HttpResponse:
    """`/jobs`: what runs and what has run, as far as whoever looks may see it."""
    user = await request.auser()
    response = render(
        request, "jobs.html", {"username": user.get_username(), "staff": getattr(user, "is_staff", False)}
    )
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response["Cache-Control"] = "private, no-cache"
    return response


class Login(LoginView):
    """`/login`: fields `username` and `password`; then back to where one came from, or to `/`."""

    template_name = "login.html"
    next_page = "/"

    def render_to_response(self, context: dict[str, Any], **response_kwargs: Any) -> HttpResponse:
        response = super().render_to_response(context, **response_kwargs)
        response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response
