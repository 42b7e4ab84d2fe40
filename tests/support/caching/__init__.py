"""Resources for the tests of what HTTP says of caching; `tests.support.caching.resources`."""
