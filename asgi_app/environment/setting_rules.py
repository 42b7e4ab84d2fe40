"""What settings may not be, although each is well spelled: what cannot work here, and what production refuses.

Invariant: rules only look.  They change nothing, open no connection and run none of the user's code.
"""

import contextlib
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from asgi_app.environment import addresses

#: characters of a secret that is safe to sign with: Django's own bar for SECRET_KEY, and RFC 7518 3.2's for HS256
SECRET_KEY_LENGTH, TOKEN_SECRET_LENGTH = 50, 32
#: different characters a random secret has at least
VARIETY = 10
#: what examples and generated projects say in place of a secret
_PLACEHOLDER = re.compile(r"^django-insecure-|(change|replace)[\W_]*(me|this|it)", re.IGNORECASE)

#: module a URL scheme needs, and the extra that brings it
_DRIVERS = {
    "postgresql": ("psycopg", "postgres"),
    "postgres": ("psycopg", "postgres"),
    "mysql": ("pymysql", "mysql"),
    "db+postgresql": ("sqlalchemy", "results"),
    "db+mysql": ("sqlalchemy", "results"),
}


def unusable(values: Mapping[str, Any]) -> Iterator[str]:
    """What is well spelled and still cannot work here."""
    if values.get("serializer") == "yaml" and not values.get("allow_yaml"):
        yield "MILLPOND_SERIALIZER='yaml': must be opted into with MILLPOND_ALLOW_YAML=true"
    if ":memory:" in (values.get("database_url") or ""):
        yield "MILLPOND_DATABASE_URL: must be a file: a database in memory cannot be shared by several processes"
    for field in ("database_url", "result_backend"):
        module, extra = _DRIVERS.get((values.get(field) or "").partition(":")[0], ("sys", ""))
        if not _importable(module):
            yield f"MILLPOND_{field.upper()}: needs {module}, install it with: pip install 'millpond[{extra}]'"
    if reason := addresses.sentinel_reason(values.get("broker_url") or ""):
        yield f"MILLPOND_BROKER_URL: {reason}"
    for app in values.get("apps", ()):
        missing = next((name for name in (app, f"{app}.resources") if not _importable(name)), None)
        if missing:
            yield f"MILLPOND_APPS={app}: there is no module {missing} on the path, which has the current directory too"


def _importable(name: str) -> bool:
    """Whether a module can be found.  Unlike `importlib.util.find_spec` this never runs the packages above it."""
    path: Any = None
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        found = _find(".".join(parts[:depth]), path)
        if found is None:
            return False
        path = found.submodule_search_locations
        if path is None and depth < len(parts):
            return False
    return True


def _find(name: str, path: Any) -> importlib.machinery.ModuleSpec | None:
    if path is None:
        with contextlib.suppress(ValueError):  # a module without a spec, such as __main__
            return importlib.util.find_spec(name)
        return None
    finders = (finder.find_spec(name, path, None) for finder in sys.meta_path if hasattr(finder, "find_spec"))
    return next((spec for spec in finders if spec is not None), None)


def unsafe(values: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    """What production refuses, because it would open the service to strangers."""
    key, token = values.get("secret_key"), values.get("token_secret")
    if key is None:
        yield "MILLPOND_SECRET_KEY: is required in production; a generated one would differ between machines"
    elif len(key) < SECRET_KEY_LENGTH or _guessable(key):
        yield f"MILLPOND_SECRET_KEY: must be at least {SECRET_KEY_LENGTH} random characters in production"
    if token is not None and (len(token.encode()) < TOKEN_SECRET_LENGTH or _guessable(token)):
        yield f"MILLPOND_TOKEN_SECRET: must be at least {TOKEN_SECRET_LENGTH} random bytes in production"
    if token is not None and token == key:
        yield "MILLPOND_TOKEN_SECRET: must differ from MILLPOND_SECRET_KEY: who mints tokens must not sign sessions"
    if not environ.get("MILLPOND_ALLOWED_HOSTS", "").strip():
        yield "MILLPOND_ALLOWED_HOSTS: is required in production, e.g. dash.example.org"
    elif any(host.startswith(("*", ".")) for host in values.get("allowed_hosts", ())):
        yield f"MILLPOND_ALLOWED_HOSTS={environ['MILLPOND_ALLOWED_HOSTS']!r}: must be exact host names in production"
    plain = [
        origin for origin in values.get("allowed_origins") or () if origin.startswith("http:") and not _local(origin)
    ]
    if plain:
        yield f"MILLPOND_ALLOWED_ORIGINS={','.join(plain)!r}: must be https in production: others could act as a user"


def _guessable(secret: str) -> bool:
    """Whether it was written rather than drawn: few different characters, a placeholder, or a block said again."""
    repeated = any(secret.startswith(secret[period:]) for period in range(1, len(secret) // 2 + 1))
    return repeated or len(set(secret)) < VARIETY or _PLACEHOLDER.search(secret) is not None


def _local(origin: str) -> bool:
    return urlsplit(origin).hostname in {"localhost", "127.0.0.1", "::1"}
