"""What one would write without Millpond, each served by uvicorn with the same settings."""

#: What channels_redis needs of redis-py 8, beside the address: its core layer waits for five seconds on the store, as
#: long as redis-py waits for any answer, so that an idle process would lose a consumer every five seconds; and pools
#: of a hundred connections, the default, raise an error where more sockets than that come or go at once.
PATIENT = {"socket_timeout": None, "socket_connect_timeout": None, "max_connections": 10_000}
