"""Files whose tests take longest go first: a process that began a long one last would keep all others waiting."""

from collections.abc import Sequence

import pytest

# As measured with four processes on two cores, in seconds together: from 440 to 60. Others fill what is left at the end.
LONGEST = (
    "integration/test_engine_live.py",
    "e2e/test_journeys.py",
    "integration/test_kill_programme.py",
    "integration/test_live_reconfiguration.py",
    "integration/test_quality_guard.py",
    "integration/test_node_bench_engine.py",
    "e2e/test_surge.py",
    "integration/test_served_quality.py",
    "integration/test_up.py",
    "integration/test_rollouts.py",
    "integration/test_grafana.py",
    "integration/test_kill_matrix.py",
    "integration/test_node_process.py",
    "integration/test_engine_replicas.py",
    "e2e/test_every_page.py",
    "e2e/test_web_app.py",
    "integration/test_api.py",
    "integration/test_served_quality_rollout.py",
    "unit/controlplane/decisions/test_scenarios.py",
    "integration/test_engine_families.py",
    "integration/test_fleet_bench.py",
    "integration/test_decisions_api.py",
    "integration/test_oidc.py",
    "integration/test_spike_training.py",
)
_PLACES = {name: place for place, name in enumerate(LONGEST)}


def longest_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The order within a file, and of files that are not named, stays."""
    return sorted(
        items, key=lambda item: _PLACES.get(item.nodeid.partition("::")[0].removeprefix("tests/"), len(_PLACES))
    )
