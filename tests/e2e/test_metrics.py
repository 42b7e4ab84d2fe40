"""`/metrics`: what a web process counts, as Prometheus reads it."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.test_reading_over_http import token_of
from tests.support.service import Service, until


def scrape(service: Service) -> dict[tuple[str, str], float]:
    """(name, the one label beside the process) -> value."""
    response = service.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            (label,) = [value for name, value in sample.labels.items() if name != "process"] or [""]
            assert family.name.startswith(("millpond_jobs", "millpond_workers")) or int(sample.labels["process"]) > 0
            found[sample.name, label] = sample.value
    return found


def test_hits_are_counted_by_where_they_come_from(service: Service) -> None:
    """The first read asks the store; later ones are answered from this process's own memory, and it says so."""
    path = "/api/v1/resources/test.echo?text=metrics"
    assert service.get(path, Prefer="wait=20").status_code == 200

    def near() -> bool:
        assert service.get(path).status_code == 200
        seen = scrape(service)  # of whichever process answers
        held = seen.get(("millpond_cache_lookups_total", "near"), 0) and seen["millpond_near_entries", ""]
        return bool(held and seen["millpond_near_mode", "tracking"] and seen["millpond_near_open", ""])

    until(near, "a process has answered from its own memory")


def test_an_invalidation_is_heard_by_the_process_that_holds_the_value(service: Service) -> None:
    """It is counted by the process that sent it, and each that holds values says that it has dropped them."""
    headers = {"Authorization": f"Bearer {token_of(service, 'invalidate')}"}
    answer = httpx.post(f"{service.url}/api/v1/invalidate", json={"tags": ["nobody"]}, headers=headers, timeout=10)
    assert answer.status_code == 200
    name = "millpond_cache_events_total"
    until(lambda: scrape(service).get((name, "invalidations"), 0) > 0, "a process has sent one")


def test_jobs_are_counted_for_the_whole_cluster(service: Service) -> None:
    """What workers do is shown by any web process: jobs created, taken and succeeded, workers, and how many wait."""
    before = scrape(service).get(("millpond_jobs_total", "succeeded"), 0)
    assert service.get("/api/v1/resources/test.echo?text=counted", Prefer="wait=20").status_code == 200
    until(lambda: scrape(service).get(("millpond_jobs_total", "succeeded"), 0) > before, "it is counted")
    seen = scrape(service)
    assert seen["millpond_jobs_total", "taken"] >= seen["millpond_jobs_total", "succeeded"]
    assert seen["millpond_workers", ""] == 1
    assert ("millpond_jobs_waiting", "default") in seen
