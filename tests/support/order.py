"""Files whose tests take longest go first: a process that began a long one last would keep all others waiting."""

from collections.abc import Sequence

import pytest

# As measured with four processes on two cores. Others take about a minute or less and fill what is left at the end.
LONGEST = (
    "integration/test_live_reconfiguration.py",
    "integration/test_engine_live.py",
    "e2e/test_journeys.py",
    "integration/test_kill_programme.py",
    "e2e/test_surge.py",
    "integration/test_served_quality_rollout.py",
    "integration/test_quality_guard.py",
    "integration/test_node_bench_engine.py",
    "unit/controlplane/bench/forecast/test_run.py",
    "integration/test_spike_training.py",
    "integration/test_engine_replicas.py",
    "integration/test_served_quality.py",
    "integration/test_up.py",
    "integration/test_rollouts.py",
    "integration/test_engine_families.py",
    "integration/test_node_process.py",
    "integration/test_kill_matrix.py",
    "integration/test_grafana.py",
    "unit/controlplane/decisions/test_scenarios.py",
    "unit/controlplane/forecasting/spikes/test_risk.py",
    "e2e/test_every_page.py",
    "unit/inference_node/engine/test_reconfigure.py",
    "integration/test_api.py",
    "integration/test_fleet_bench.py",
    "e2e/test_web_app.py",
    "unit/controlplane/forecasting/load/test_load.py",
)
_PLACES = {name: place for place, name in enumerate(LONGEST)}


def longest_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The order within a file, and of files that are not named, stays."""
    return sorted(
        items, key=lambda item: _PLACES.get(item.nodeid.partition("::")[0].removeprefix("tests/"), len(_PLACES))
    )
