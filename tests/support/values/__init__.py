"""Resources for the tests of where values are kept; `tests.support.values.resources`."""
