"""What the API looks like from outside, in OpenAPI's words; `asgi_app/openapi.py` puts it together."""
