"""Changes of many pools through real Celery, Redis and SQL, onto nodes over HTTP: none lost, none doubled."""

import pytest

from tests.support.postgres import fresh_database, postgres_server
from trimtab.fleet_bench.run import FleetOptions, run


def test_a_small_fleet_changes_and_goes_back() -> None:
    report = run(FleetOptions(nodes=6, pools=2, workers=1, concurrency=1, timeout_s=120), lambda _: None)
    assert report["apply"]["phases"] == report["rollback"]["phases"] == {"COMPLETED": 2}
    assert (report["applies"], report["lost"], report["doubled"], report["dead_letters"]) == (12, 0, 0, 0)


@pytest.mark.prometheus
def test_ticks_are_timed_on_figures_that_can_be_true() -> None:
    report = run(FleetOptions(nodes=6, pools=2, workers=1, concurrency=1, timeout_s=120, ticks=1), lambda _: None)
    found = report["ticks"]
    assert (found["pools"], found["ticks"], len(found["tick_s"])) == (2, 1, 1)
    assert "no_data" not in found["decisions"]


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(1800)
def test_five_hundred_rollouts_of_ten_nodes() -> None:
    with postgres_server() as server, fresh_database(server) as url:
        options = FleetOptions(nodes=500, pools=50, rounds=9, database_url=url, timeout_s=600)
        report = run(options, lambda _: None)
    assert report["rollouts"] == 500
    assert (report["applies"], report["lost"], report["doubled"], report["dead_letters"]) == (5000, 0, 0, 0)
    assert report["apply"]["phases"] == {"COMPLETED": 450}
    assert report["rollback"]["phases"] == {"COMPLETED": 50}
