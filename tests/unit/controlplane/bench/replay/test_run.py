"""Policies are compared on equal terms: same requests, same faults, same objectives."""

import numpy as np

from controlplane.bench.replay import run
from controlplane.bench.replay.arrivals import Arrivals
from tests.support.replay_tables import table

OPTIONS = run.Options(nodes=2, utilisation=0.6, seed=1)


def _case() -> run.Case:
    rng = np.random.default_rng(3)
    t = np.sort(rng.uniform(0, 240, 600))
    arrivals = Arrivals("made", t, rng.integers(20, 400, 600), rng.integers(5, 80, 600))
    return run.prepare(arrivals, table(), OPTIONS)


def test_every_policy_meets_the_same_requests() -> None:
    case = _case()
    wanted = ("static-default", "seed-adaptive", "reactive", "random", "trimtab", "trimtab-blind")
    results = run.replay(case, table(), OPTIONS, wanted, lambda _: None)
    assert [result.policy for result in results] == list(wanted)
    assert {result.requests for result in results} == {len(case.arrivals)}
    assert all(0 <= result.attainment <= 1 for result in results)
    assert sum(results[4].reasons.values()) > 10


def test_static_best_is_no_worse_than_the_default_and_regret_is_against_the_oracle() -> None:
    results = run.replay(_case(), table(), OPTIONS, ("static-default", "static-best", "oracle"), lambda _: None)
    assert results[1].attainment >= results[0].attainment
    report = run.document(results, [], OPTIONS)
    regrets = [row["regret_vs_oracle"] for row in report["results"]]
    assert regrets[2] == 0
    assert regrets[0] == round(results[2].attainment - results[0].attainment, 5)


def test_the_load_is_thinned_to_the_pool() -> None:
    case = _case()
    assert 0 < case.share <= 1
    assert len(case.arrivals) <= 600
