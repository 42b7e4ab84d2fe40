"""Django's settings.  They copy `Env` and decide nothing an operator could want otherwise; see `asgi_app/env.py`.

DEBUG stays off everywhere: its error page shows settings to whoever causes an error, and its query log grows.
Tracebacks are in the log.
"""

from importlib.util import find_spec
from typing import Any

from asgi_app.env import env
from asgi_app.logs import configuration

ENV = env()

DEBUG = False
SECRET_KEY = ENV.secret_key
ALLOWED_HOSTS = list(ENV.allowed_hosts)
CSRF_TRUSTED_ORIGINS = list(ENV.allowed_origins)

ROOT_URLCONF = "asgi_app.urls"
ASGI_APPLICATION = "asgi_app.asgi.application"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "asgi_app.apps.AsgiAppConfig",
    *ENV.apps,
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": ENV.database}
if DATABASES["default"]["ENGINE"] == "django.db.backends.mysql":
    import pymysql

    # Django asks for MySQLdb (mysqlclient), which has no wheels for Linux; PyMySQL has its interface.
    pymysql.install_as_MySQLdb()
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Named here so that no domain module imports the room of the tasks.
MILLPOND_DOORBELL = "tasks.submit.CeleryDoorbell"
MILLPOND_CELERY = "tasks.app.app"

# Besides the default, the caches that MILLPOND_CACHE_STORE can name.  Each value takes two or three names of one, and a
# full cache drops the versions of tags along with values, so that all with those tags are computed anew: hence far more
# than Django's 300 entries, and a tenth dropped at a time.  Files are counted at each write, rows are too, but faster.
_OPTIONS = {"MAX_ENTRIES": 10_000, "CULL_FREQUENCY": 10}
CACHES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "asgi_app.cache_backend.MillpondCache"},
    "locmem": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": "millpond",
        "OPTIONS": _OPTIONS,
    },
    "file": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": str(ENV.home / "cache"),
        "OPTIONS": _OPTIONS,
    },
    "database": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "millpond_cache",
        "OPTIONS": {**_OPTIONS, "MAX_ENTRIES": 100_000},
    },
    "dummy": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
}
if find_spec("pymemcache"):
    CACHES["memcached"] = {
        "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
        "LOCATION": list(ENV.memcached),
        "OPTIONS": {
            # Bytes as they are: what another program wrote there is not unpickled.
            "serde": None,
            "connect_timeout": 1.0,
            "timeout": 1.0,
            "no_delay": True,
            # A server that does not answer is an error each time.  By default pymemcache says "nothing there" for a
            # while, and then asks another server, where an invalidation is not found again once the first is back.
            "retry_attempts": 2**31,
            "retry_timeout": -1,
        },
    }

if find_spec("django.tasks"):  # Django 6
    TASKS: dict[str, dict[str, Any]] = {"default": {"BACKEND": "asgi_app.django_tasks.MillpondBackend"}}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "/login"
CSRF_FAILURE_VIEW = "asgi_app.views.faults.csrf_failure"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

# Mail is printed by the worker that sends it, unless a settings module of one's own names a server.
EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

# Served from where the packages keep them (asgi_app/assets.py hands them to servestatic), so that an
# installed wheel needs no `collectstatic`.  STATIC_ROOT is for those who let a web server in front serve them.
STATIC_URL = "/static/"
STATIC_ROOT = ENV.home / "static"

DATA_UPLOAD_MAX_MEMORY_SIZE = ENV.max_body
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000

# TLS ends at the proxy in front.  uvicorn believes its X-Forwarded-Proto when it comes from FORWARDED_ALLOW_IPS.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ENV.production
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if ENV.production else 0
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

LOGGING = configuration()
