"""Redis, and nothing above it: entries, leases, tags, job records and topics in the store.

Invariant: nothing here imports Django, Channels or Celery, and no exception of the Redis client leaves this package.
"""
