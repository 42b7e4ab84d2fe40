"""`millpond up` and its parts: starting, readiness, order, stopping, and looking whether all is well."""
