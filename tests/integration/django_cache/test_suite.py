"""Django's own tests of caches, cached pages and sessions pass on our back end, in every way it can be used."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from tests.integration.django_suite import runner
from tests.integration.django_suite.configurations import CONFIGURATIONS, PAGES, SESSIONS
from tests.support.sources import source_or_skip
from tests.support.store import StoreServer

#: Tests of one class about the cache API, skipped ones too; and of all classes about pages and sessions, in six ways.
_API_TESTS = 54
_OTHER_TESTS = 6 * 259


@pytest.mark.timeout(600)
def test_django_s_own_tests_pass(store_server: StoreServer, tmp_path: Path) -> None:
    """All of them, and nothing is skipped but what the table of `configurations.py` names."""
    theirs = source_or_skip("Django", version("Django"), f"django-{version('Django')}") / "tests"
    outcomes, printed = runner.run(theirs, store_server.url.partition("?")[0], tmp_path)
    failed = {name: found["failed"] for name, found in outcomes.items() if "failed" in found}
    assert not failed, printed[-8000:]
    assert "ResourceWarning" not in printed, printed[-8000:]
    for configuration in CONFIGURATIONS:
        found = outcomes.pop(f"{configuration.name}Tests")
        assert sorted(found["skipped"]) == sorted(configuration.skipped.values())
        assert len(found["passed"]) + len(found["skipped"]) >= _API_TESTS
    assert len(outcomes) == 6 * (len(PAGES) + len(SESSIONS))
    assert not [found["skipped"] for found in outcomes.values() if "skipped" in found]
    assert sum(len(found["passed"]) for found in outcomes.values()) >= _OTHER_TESTS
