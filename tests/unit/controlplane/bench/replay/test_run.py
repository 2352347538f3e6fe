"""Policies are compared on equal terms: same requests, same faults, same objectives."""

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np

from controlplane.bench.replay import run
from controlplane.bench.replay.arrivals import Arrivals
from controlplane.bench.replay.case import Case, Options, prepare, prepare_all, telling_windows
from controlplane.bench.replay.page import page
from tests.support.replay_tables import levels, two_levels

OPTIONS = Options(nodes=2, utilisation=0.6, seed=1)


def _case() -> Case:
    rng = np.random.default_rng(3)
    t = np.sort(rng.uniform(0, 240, 600))
    arrivals = Arrivals("made", t, rng.integers(20, 400, 600), rng.integers(5, 80, 600))
    return prepare(arrivals, levels(), OPTIONS)


def test_every_policy_meets_the_same_requests() -> None:
    case = _case()
    wanted = ("static-default", "seed-adaptive", "reactive", "random", "trimtab", "trimtab-blind", "trimtab-always")
    results = run.replay(case, levels(), OPTIONS, wanted, lambda _: None)
    assert [result.policy for result in results] == list(wanted)
    scored = int((case.arrivals.t >= case.warm_s).sum())
    assert {result.requests for result in results} == {scored}
    assert all(0 <= result.attainment <= 1 for result in results)
    assert sum(results[4].reasons.values()) > 10
    worth = [row["forecast"] for row in run.document(results, [], OPTIONS)["results"]]
    assert worth[:4] == [None] * 4
    # Three pools with the same arrivals have the same forecasts, whatever decisions make of them.
    assert [each["truths"] for each in worth[4:]] == [worth[4]["truths"]] * 3
    assert {each["cost_ratio"] for each in worth[4:]} == {worth[4]["cost_ratio"]}
    assert worth[4]["truths"] > 5


def test_static_best_is_no_worse_than_the_default_and_regret_is_against_the_oracle() -> None:
    results = run.replay(_case(), levels(), OPTIONS, ("static-default", "static-best", "oracle"), lambda _: None)
    assert results[1].attainment >= results[0].attainment
    report = run.document(results, [], OPTIONS)
    regrets = [row["regret_vs_oracle"] for row in report["results"]]
    assert regrets[2] == 0
    assert regrets[0] == round(results[2].attainment - results[0].attainment, 5)


def test_the_load_is_thinned_to_the_pool() -> None:
    case = _case()
    assert len(case.arrivals) == round(600 * case.share) or abs(len(case.arrivals) / 600 - case.share) < 0.1


def _surging() -> Arrivals:
    rng = np.random.default_rng(4)
    calm, surge = np.sort(rng.uniform(0, 900, 300)), np.sort(rng.uniform(450, 600, 120))
    t = np.sort(np.concatenate([calm, surge]))
    return Arrivals("surging", t, rng.integers(20, 400, len(t)), rng.integers(5, 80, len(t)))


def test_no_policy_but_the_fastest_spends_more_quality_than_the_budget() -> None:
    case = prepare(_surging(), two_levels(), replace(OPTIONS, nodes=1))
    names = ("static-best", "static-fastest", "reactive", "random", "trimtab", "trimtab-lossless", "oracle")
    found = {r.policy: r for r in run.replay(case, two_levels(), OPTIONS, names, lambda _: None)}
    assert case.budget == 0.05
    assert found["static-best"].quality_loss == 0
    assert (found["trimtab-lossless"].quality_loss, found["trimtab"].quality_loss > 0) == (0, True)
    for name in ("reactive", "random", "trimtab", "oracle"):
        assert found[name].quality_loss <= 1.15 * case.budget, name
    assert found["oracle"].attainment >= found["static-best"].attainment - 0.02


def test_long_traces_are_cut_into_the_windows_that_tell_most() -> None:
    rates = np.repeat([1.0, 1.0, 4.0, 1.0, 1.0, 1.0, 1.0, 1.0], 100)
    t = np.concatenate([np.arange(second, second + 1, 1 / rate) for second, rate in enumerate(rates)])
    arrivals = Arrivals("long", t, np.full(len(t), 10), np.full(len(t), 5))
    windows = telling_windows(arrivals, 200.0)
    assert windows["busiest"] in (100.0, 200.0)
    assert windows["rising"] == 100.0
    cases = prepare_all(arrivals, levels(), Options(nodes=2, window_s=200.0))
    assert [case.arrivals.name for case in cases] == ["long, busiest", "long, rising", "long, median"]
    assert len({case.policy.slo for case in cases}) == 1


def test_the_page_shows_every_policy_of_every_case_and_stands_alone() -> None:
    results = run.replay(_case(), levels(), OPTIONS, ("static-default", "trimtab"), lambda _: None)
    text = page(results, run.document(results, ["a <note>"], OPTIONS))
    root = ElementTree.fromstring(text.replace("<!doctype html>", "").replace('<meta charset="utf-8">', ""))
    assert [name.text for name in root.iter("h2")] == ["made", "Load and objectives"]
    for result in results:
        assert f"{100 * result.attainment:.2f} %" in text
    assert "a &lt;note&gt;" in text
    assert "http" not in text
