"""Windows, forecasts, decisions and policies as clients of the real API see them."""

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controlplane.db import make_engine, session_scope
from controlplane.decisions import service as decisions
from controlplane.decisions.decide import decide
from controlplane.decisions.decision import RULES
from controlplane.decisions.error_budget import Tally
from controlplane.fleets import service as fleets
from controlplane.forecasting.merit import Merit, stored
from controlplane.forecasting.models import ForecastBandRecord, ForecastRecord, SpikeRecord, SpikeWarningRecord
from controlplane.telemetry.observation import Observation, Quality
from controlplane.telemetry.service import save_observations
from inference_node.contract.settings import EngineSettings
from tests.support.api import Api, api_server
from tests.support.decision_inputs import decision_inputs
from tests.support.ready_node import join_ready_node
from tests.support.registrations import registration

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(autouse=True)
def at_present() -> None:
    """A decision counts for a few ticks, and the other tests of a run take longer than that."""
    global NOW
    NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def api(database_url: str, tmp_path: Path) -> Iterator[Api]:
    with api_server(database_url) as running:
        yield running


@pytest.fixture
def pool_id(api: Api) -> str:
    """A pool with three windows and two decisions: a hold, then max_batch_size raised."""
    engine = make_engine(api.settings.database_url)
    with session_scope(engine) as session:
        said = registration(settings=EngineSettings(max_batch_size=4))
        node = fleets.register_node(session, said, now=NOW).node
        for index, load in enumerate((0.3, 0.3, 4.0)):
            given = decision_inputs(NOW + timedelta(seconds=5 * index), load)
            assert given.observation is not None
            save_observations(session, node.pool_id, given.observation, {node.id: given.observation})
            decisions.record_decision(session, decide(given), pool_id=node.pool_id, inputs=given, epoch=3)
        pool_id = node.pool_id
    engine.dispose()
    return pool_id


class TestDecisions:
    def test_are_listed_with_reasons_and_replay_identically(self, api: Api, pool_id: str) -> None:
        found = api.client.get("/api/v1/decisions", params={"pool_id": pool_id}).json()["items"]
        assert [(d["outcome"], d["reason"], d["repeats"]) for d in found] == [
            ("APPLY", "breach_predicted", 1),
            ("HOLD", "within_slo", 2),
        ]
        applied = found[0]
        assert applied["pool"] == "main"
        assert applied["epoch"] == 3
        assert applied["changes"]["max_batch_size"] == [4, applied["chosen"]["max_batch_size"]]
        assert applied["candidates"][0]["changes"] == {}
        assert applied["candidates"][0]["predicted"]["ttft_p95_s"] > 0
        assert api.client.get(f"/api/v1/decisions/{applied['id']}").json() == applied
        for decision in found:
            again = api.client.get(f"/api/v1/decisions/{decision['id']}/replay").json()
            assert again["identical"] is True
            assert again["decision"]["explanation"] == decision["explanation"]

    def test_pages_by_cursor(self, api: Api, pool_id: str) -> None:
        first = api.client.get("/api/v1/decisions", params={"limit": 1}).json()
        second = api.client.get("/api/v1/decisions", params={"limit": 1, "cursor": first["next_cursor"]}).json()
        assert [first["items"][0]["outcome"], second["items"][0]["outcome"]] == ["APPLY", "HOLD"]
        assert second["next_cursor"] is None

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/api/v1/decisions/nobody", 404),
            ("/api/v1/decisions?pool_id=nobody", 404),
            ("/api/v1/decisions?outcome=MAYBE", 422),
            ("/api/v1/decisions?cursor=bm9uc2Vuc2U", 422),
            ("/api/v1/pools/nobody/policy", 404),
            ("/api/v1/pools/nobody/forecasts", 404),
            ("/api/v1/nodes/nobody/observations", 404),
        ],
    )
    def test_what_is_not_there_is_a_problem_document(self, api: Api, path: str, status: int) -> None:
        answer = api.client.get(path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"

    def test_need_a_sign_in(self, api: Api) -> None:
        assert api.anonymous.get("/api/v1/decisions").status_code == 401


class TestErrorBudget:
    def _see(self, database_url: str, pool_id: str, second: int, late: float) -> None:
        served = Tally(known_s=3600.0, first_tokens=1000.0, late=late, answers=1000.0)
        given = replace(decision_inputs(NOW + timedelta(seconds=second)), served=served, rules=RULES)
        engine = make_engine(database_url)
        with session_scope(engine) as session:
            decisions.record_decision(session, decide(given), pool_id=pool_id, inputs=given, epoch=3)
        engine.dispose()

    def test_is_shown_with_the_pool_told_as_events_and_measured(
        self, api: Api, pool_id: str, database_url: str
    ) -> None:
        where = 'fleet="default",pool="main"'
        shown = api.client.get(f"/api/v1/pools/{pool_id}").json()
        assert (shown["slo"]["attainment"], shown["error_budget"]["burn_rate"]) == (0.95, None)
        assert "controlplane_error_budget_burn_rate{" not in api.anonymous.get("/metrics").text
        self._see(database_url, pool_id, 60, late=170)
        budget = api.client.get(f"/api/v1/pools/{pool_id}").json()["error_budget"]
        assert (budget["burn_rate"], budget["limit"], budget["freezes"]) == (3.4, 2.0, True)
        assert (budget["worst"], budget["bad_ratio"]) == ("first_tokens", 0.17)
        assert "burns 3.4 times too fast" in budget["detail"]
        text = api.anonymous.get("/metrics").text
        assert f"controlplane_error_budget_burn_rate{{{where}}} 3.4" in text
        assert f"controlplane_slo_burning{{{where}}} 1.0" in text
        self._see(database_url, pool_id, 65, late=10)
        assert f"controlplane_slo_burning{{{where}}} 0.0" in api.anonymous.get("/metrics").text
        told = api.client.get("/api/v1/events", params={"pool_id": pool_id}).json()["items"]
        kinds = [event["kind"] for event in told if event["kind"].startswith("slo")]
        assert kinds == ["slo.recovered", "slo.burning"]

    def test_people_are_warned_and_not_stopped(self, api: Api, pool_id: str, database_url: str) -> None:
        self._see(database_url, pool_id, 60, late=170)
        wanted = {"pool_id": pool_id, "settings": {"max_batch_size": 5}, "reason": "we know"}
        join_ready_node(api, "node-2")
        plan = api.client.post("/api/v1/rollouts", json=wanted | {"dry_run": True})
        assert plan.status_code == 200, plan.text
        assert "burns 3.4 times too fast" in plan.json()["notes"][0]
        begun = api.client.post("/api/v1/rollouts", json=wanted)
        assert begun.status_code == 201, begun.text
        assert "burns 3.4 times too fast" in begun.json()["timeline"][0]["message"]
        checks = api.client.post(f"/api/v1/pools/{pool_id}/what-if", json={"settings": {"max_batch_size": 5}}).json()
        assert "error_budget" in [check["name"] for check in checks["then"]["checks"]]

    def test_the_policy_says_how_fast_is_too_fast(self, api: Api, pool_id: str) -> None:
        path = f"/api/v1/pools/{pool_id}/policy"
        before = api.client.get(path)
        document = before.json()["document"]
        assert document["guardrails"]["max_burn_rate"] == 2.0
        document["guardrails"]["max_burn_rate"] = 0.2
        wrong = api.client.put(path, json=document, headers={"If-Match": before.headers["ETag"]})
        assert wrong.status_code == 422
        assert "max_burn_rate" in wrong.text
        document["guardrails"]["max_burn_rate"] = None
        right = api.client.put(path, json=document, headers={"If-Match": before.headers["ETag"]})
        assert right.status_code == 200, right.text
        assert api.client.get(path).json()["document"]["guardrails"]["max_burn_rate"] is None


class TestObservationsAndForecasts:
    def test_windows_come_oldest_first(self, api: Api, pool_id: str) -> None:
        since = (NOW - timedelta(seconds=1)).isoformat()
        found = api.client.get(f"/api/v1/pools/{pool_id}/observations", params={"since": since}).json()["items"]
        assert [window["offered_rps"] for window in found] == [0.3, 0.3, 4.0]
        assert found[0]["ttft_p95_s"] is None
        assert found[0]["window_end"].endswith("Z")

    def test_forecasts_come_newest_first_and_latest_by_metric(self, api: Api, pool_id: str) -> None:
        found = api.client.get(f"/api/v1/pools/{pool_id}/forecasts", params={"metric": "ttft_p95_s"}).json()["items"]
        assert len(found) == 3
        assert found[0]["made_at"] > found[-1]["made_at"]
        latest = api.client.get(f"/api/v1/pools/{pool_id}/forecasts/latest").json()
        assert latest["ttft_p95_s"]["id"] == found[0]["id"]
        assert latest["ttft_p95_s"]["model"] == "fluid"
        assert latest["offered_rps"]["points"][0].keys() == {"at", "q10", "q50", "q90"}

    def test_forecasts_are_held_against_what_came(self, api: Api, pool_id: str, database_url: str) -> None:
        point = {"q10": 4.0, "q50": 5.0, "q90": 6.0}
        engine = make_engine(database_url)
        with session_scope(engine) as session:
            for ago_s, rps in ((900, 3.0), (840, 5.5)):
                at = NOW - timedelta(seconds=ago_s)
                save_observations(session, pool_id, Observation(at, 60.0, Quality.OK, offered_rps=rps), {})
            session.add(
                ForecastRecord(
                    pool_id=pool_id, metric="offered_rps", made_at=NOW - timedelta(seconds=900), model="last_value",
                    step_s=60.0, points=[point], scores={},
                )
            )  # fmt: skip
        engine.dispose()
        found = api.client.get(f"/api/v1/pools/{pool_id}/forecasts/quality", params={"span_s": 1200}).json()
        assert found["metric"] == "offered_rps"
        (minute,) = [h for h in found["horizons"] if h["horizon_s"] == 60.0]
        assert minute == {
            "horizon_s": 60.0, "scored": 1, "coverage_80": 1.0, "error": 0.5, "last_value_error": 2.5, "bias": -0.5,
        }  # fmt: skip
        track = api.client.get(f"/api/v1/pools/{pool_id}/forecasts/track", params={"span_s": 1200}).json()
        assert track["points"][0] == point | {
            "at": (NOW - timedelta(seconds=840)).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "model": "last_value",
            "came": 5.5,
        }
        assert track["stints"][0]["model"] == "last_value"
        refused = api.client.get(f"/api/v1/pools/{pool_id}/forecasts/quality", params={"span_s": 5})
        assert refused.status_code == 422


class TestForecastMerit:
    def test_is_told_with_its_reasons_and_as_metrics(self, api: Api, pool_id: str) -> None:
        path = f"/api/v1/pools/{pool_id}/forecasts/quality"
        assert api.client.get(path).json()["merit"] is None
        merit = Merit(may_act=True, truths=50, cost=9.0, newest_cost=12.0, loss=3.0, newest_loss=4.0, threats=4.0, right=3.0,
                      threats_seen=4)  # fmt: skip
        engine = make_engine(api.settings.database_url)
        with session_scope(engine) as session:
            session.add(
                ForecastBandRecord(pool_id=pool_id, metric="offered_rps", at=NOW, sides=[], merit=stored(merit))
            )
            session.add(ForecastBandRecord(pool_id=pool_id, metric="offered_rps_newest", at=NOW, sides=[], merit=None))
        engine.dispose()
        told = api.client.get(path).json()["merit"]
        assert (told["may_act"], told["truths"], told["threats"]) == (True, 50, 4)
        assert (told["cost_ratio"], told["loss_ratio"], told["precision"]) == (0.75, 0.75, 0.75)
        assert "cost 0.75 times" in told["explanation"]
        assert api.client.get(path, params={"metric": "ttft_p95_s"}).json()["merit"] is None
        lines = api.anonymous.get("/metrics").text.splitlines()
        assert any(line.startswith("controlplane_forecast_may_act{") and line.endswith(" 1.0") for line in lines)
        assert any(line.startswith("controlplane_forecast_cost_ratio{") and line.endswith(" 0.75") for line in lines)


class TestSpikeWarnings:
    def test_are_listed_judged_and_counted(self, api: Api, pool_id: str) -> None:
        engine = make_engine(api.settings.database_url)
        with session_scope(engine) as session:
            for hours, verdict in ((1, "right"), (2, "false"), (3, "neutral"), (4, "open")):
                at = NOW - timedelta(hours=hours)
                onset_at = at + timedelta(seconds=150) if verdict == "right" else None
                session.add(
                    SpikeWarningRecord(
                        pool_id=pool_id, setting="watch", at=at, probability=0.4, threshold=0.3, model="fluid", lead_s=300.0,
                        load_ratio=1.08, explanation="load 1.08 x capacity within 10 min", verdict=verdict,
                        onset_at=onset_at, ended_at=None if verdict == "open" else at + timedelta(seconds=700),
                    )
                )  # fmt: skip
            for hours, lead_s in ((1, 150.0), (5, None)):
                session.add(
                    SpikeRecord(
                        pool_id=pool_id, onset_at=NOW - timedelta(hours=hours), ended_at=NOW, watch_lead_s=lead_s,
                        page_lead_s=None,
                    )
                )  # fmt: skip
        engine.dispose()
        page = api.client.get(f"/api/v1/pools/{pool_id}/forecasts/warnings", params={"limit": 3}).json()
        assert [row["verdict"] for row in page["items"]] == ["open", "neutral", "false"]
        rest = api.client.get(
            f"/api/v1/pools/{pool_id}/forecasts/warnings", params={"cursor": page["next_cursor"]}
        ).json()
        assert [row["verdict"] for row in rest["items"]] == ["right"] and rest["next_cursor"] is None
        quality = api.client.get(f"/api/v1/pools/{pool_id}/forecasts/quality").json()["warnings"]
        watch = next(each for each in quality if each["setting"] == "watch")
        counted = ("warnings", "right", "late", "false", "neutral", "unjudged", "spikes", "foreseen")
        assert [watch[key] for key in counted] == [4, 1, 0, 1, 1, 1, 2, 1]
        assert (watch["precision"], watch["recall"], watch["lead_s"]) == (0.5, 0.5, 150.0)
        low, high = watch["precision_interval"]
        assert low < 0.1 and high > 0.9  # two warnings say next to nothing, and it shows
        text = api.client.get("/metrics").text
        where = 'fleet="default",pool="main",setting="watch"'
        assert f"controlplane_spike_warning_precision_ratio{{{where}}} 0.5" in text
        assert f'controlplane_spike_warnings{{{where},verdict="false"}} 1.0' in text


class TestScaling:
    def test_is_a_whole_number_of_nodes_with_what_stands_behind_it(self, api: Api, pool_id: str) -> None:
        found = api.client.get(f"/api/v1/pools/{pool_id}/scaling").json()
        assert (found["pool"], found["nodes_ready"], found["utilisation"]) == ("main", 1, 0.8)
        wanted = math.ceil(found["planned_rps"] / (0.8 * found["node_rps"]))
        assert found["nodes_wanted"] == max(1, wanted) > 1  # 4 requests a second are beyond one node with a batch of 4

    def test_without_a_decision_no_number_is_given(self, api: Api, pool_id: str) -> None:
        engine = make_engine(api.settings.database_url)
        with session_scope(engine) as session:
            other = fleets.register_node(session, registration("alone", pool="empty"), now=NOW).node.pool_id
        engine.dispose()
        refused = api.client.get(f"/api/v1/pools/{other}/scaling")
        assert refused.status_code == 409
        assert "no decision was made" in refused.json()["detail"]


class TestPolicy:
    def test_is_read_changed_and_guarded_by_its_etag(self, api: Api, pool_id: str) -> None:
        path = f"/api/v1/pools/{pool_id}/policy"
        read = api.client.get(path)
        assert (read.json()["version"], read.headers["etag"]) == (0, '"0"')
        document = read.json()["document"] | {"slo": {"ttft_p95_s": 0.7, "itl_p95_s": 0.2, "error_rate": 0.02}}
        changed = api.client.put(path, json=document, headers={"If-Match": '"0"'})
        assert (changed.status_code, changed.headers["etag"]) == (200, '"1"')
        assert api.client.get(path).json()["document"]["slo"]["ttft_p95_s"] == 0.7
        assert api.client.put(path, json=document).status_code == 428
        assert api.client.put(path, json=document, headers={"If-Match": '"0"'}).status_code == 412
        assert api.client.put(path, json=document, headers={"If-Match": "W/x"}).status_code == 422

    def test_a_wrong_document_names_the_field(self, api: Api, pool_id: str) -> None:
        path = f"/api/v1/pools/{pool_id}/policy"
        answer = api.client.put(path, json={"autonomy": {"max_bach_size": "auto"}}, headers={"If-Match": '"0"'})
        assert answer.status_code == 422
        assert "max_bach_size" in answer.json()["detail"]
        assert api.client.get(path).json()["version"] == 0

    def test_its_versions_say_who_set_what(self, api: Api, pool_id: str) -> None:
        path = f"/api/v1/pools/{pool_id}/policy"
        for version, ttft_s in enumerate((0.7, 0.8)):
            document = {"slo": {"ttft_p95_s": ttft_s}}
            api.client.put(path, json=document, headers={"If-Match": f'"{version}"'}).raise_for_status()
        found = api.client.get(f"/api/v1/pools/{pool_id}/policies").json()["items"]
        assert [(v["version"], v["document"]["slo"]["ttft_p95_s"]) for v in found] == [(2, 0.8), (1, 0.7)]
        assert {v["created_by"] for v in found} == {"bootstrap admin"}

    def test_is_described_for_forms(self, api: Api) -> None:
        found = api.client.get("/api/v1/policy-schema").json()
        slo = found["document_schema"]["$defs"]["Slo"]["properties"]["ttft_p95_s"]
        assert (slo["type"], slo["exclusiveMinimum"], slo["default"]) == ("number", 0, 1.5)
        assert "in seconds" in slo["description"]
        assert found["defaults"]["slo"]["ttft_p95_s"] == 1.5

    def test_is_tried_on_the_past_and_changes_nothing(self, api: Api, pool_id: str) -> None:
        path = f"/api/v1/pools/{pool_id}/policy"
        document = api.client.get(path).json()["document"]
        same = api.client.post(f"{path}/dry-run", json={"document": document}).json()
        assert (same["decisions"], same["looked_at"], same["proposed"], same["would_propose"]) == (2, 2, 1, 1)
        assert (same["differing"], same["differences"]) == (0, [])
        document["autonomy"] |= dict.fromkeys(document["autonomy"], "observe")
        found = api.client.post(f"{path}/dry-run", json={"document": document, "hours": 2}).json()
        assert (found["proposed"], found["would_propose"], found["differing"]) == (1, 0, 1)
        (other,) = found["differences"]
        assert (other["outcome"], other["would_outcome"]) == ("APPLY", "HOLD")
        assert other["changes"]["max_batch_size"][0] == 4
        assert other["would_change"] == {}
        assert api.client.get(f"/api/v1/decisions/{other['decision_id']}").json()["outcome"] == "APPLY"
        assert api.client.get(path).json()["version"] == 0

    def test_a_trial_of_a_wrong_document_names_the_field(self, api: Api, pool_id: str) -> None:
        body = {"document": {"slo": {"ttft_p95_s": -1}}}
        answer = api.client.post(f"/api/v1/pools/{pool_id}/policy/dry-run", json=body)
        assert answer.status_code == 422
        assert "ttft_p95_s" in answer.json()["detail"]


class TestWhatIf:
    def test_agrees_with_the_newest_decision_and_proposes_nothing_by_itself(self, api: Api, pool_id: str) -> None:
        decision = api.client.get("/api/v1/decisions", params={"pool_id": pool_id}).json()["items"][0]
        chosen = decision["candidates"][1]
        wanted = {knob: pair[1] for knob, pair in chosen["changes"].items()}
        found = api.client.post(f"/api/v1/pools/{pool_id}/what-if", json={"settings": wanted}).json()
        assert found["decision_id"] == decision["id"]
        assert found["then"]["predicted"] == chosen["predicted"] | {"breach_probability": None}
        assert found["now"]["predicted"] == decision["candidates"][0]["predicted"] | {"breach_probability": None}
        assert found["changes"] == chosen["changes"]
        assert api.client.get("/api/v1/rollouts").json()["items"] == []

    def test_names_the_knob_that_is_not_possible(self, api: Api, pool_id: str) -> None:
        answer = api.client.post(f"/api/v1/pools/{pool_id}/what-if", json={"settings": {"max_batch_size": 0}})
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == ["settings.max_batch_size"]

    def test_is_saved_as_a_proposal_that_waits_for_somebody_else(self, api: Api, pool_id: str) -> None:
        join_ready_node(api, pool="main")
        body = {"pool_id": pool_id, "settings": {"max_batch_size": 6}, "reason": "what-if", "propose": True}
        made = api.client.post("/api/v1/rollouts", json=body).json()
        assert made["approvals_needed"] == 1
        vote = {"settings_hash": made["to_revision"]["content_hash"]}
        assert api.client.post(f"/api/v1/rollouts/{made['id']}/approve", json=vote).status_code == 403


class TestEffect:
    def test_of_what_changed_nothing_there_is_none(self, api: Api, pool_id: str) -> None:
        for decision in api.client.get("/api/v1/decisions", params={"pool_id": pool_id}).json()["items"]:
            found = api.client.get(f"/api/v1/decisions/{decision['id']}/effect").json()
            assert (found["standing"], found["stretches"]) == ("no_change", [])
