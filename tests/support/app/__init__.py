"""Resources and actions for the tests; `tests.support.app.resources`."""
