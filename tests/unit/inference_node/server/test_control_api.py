"""The admin API over a fake engine: who may, what is answered, with which status."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from inference_node.contract.messages import (
    AckOutcome,
    NodeState,
    RejectCode,
    SettingsAck,
    SettingsPush,
    SettingsReject,
)
from inference_node.contract.settings import KNOBS, EngineSettings, Precision
from inference_node.contract.step_profile import StepProfile
from inference_node.engine.errors import SettingsRefused
from tests.support.fake_controlplane import eventually, push_of
from tests.support.served_app import ServedApp, served_app


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[ServedApp]:
    async with served_app(tmp_path) as served:
        yield served


async def put(served: ServedApp, push: SettingsPush | dict[str, Any]) -> tuple[int, Any]:
    body = push.model_dump(mode="json") if isinstance(push, SettingsPush) else push
    response = await served.client.put("/admin/v1/settings", json=body, headers=served.admin)
    return response.status_code, response.json()


class TestWhoMay:
    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "Basic tn_0123456789abcdef"},
            {"authorization": "Bearer "},
            {"authorization": "Bearer tn_0123456789abcdé".encode("latin-1").decode("latin-1")},
        ],
    )
    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", "settings"), ("PUT", "settings"), ("PATCH", "settings"), ("GET", "step-model"), ("GET", "status")],
    )
    async def test_nobody_without_the_token(
        self, served: ServedApp, headers: dict[str, str], method: str, path: str
    ) -> None:
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        response = await served.client.request(method, f"/admin/v1/{path}", headers=raw, json={"max_queue": 1})
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert served.engine.applied == []


class TestPush:
    async def test_is_acknowledged(self, served: ServedApp) -> None:
        settings = EngineSettings(max_batch_size=3)
        status, body = await put(served, push_of(settings, 1))
        ack = SettingsAck.model_validate(body)
        assert (status, ack.outcome, ack.settings) == (200, AckOutcome.APPLIED, settings)
        assert await served.metric("inference_settings_generation") == 1
        assert await served.metric('inference_settings_changes_total{outcome="applied"}') == 1

    async def test_of_a_background_knob_is_202(self, tmp_path: Path) -> None:
        async with served_app(tmp_path, preparing_after_s=0.01) as served:
            await self.prepares(served)

    async def prepares(self, served: ServedApp) -> None:
        served.engine.prepare.clear()
        status, body = await put(served, push_of(EngineSettings(precision=Precision.INT8), 1))
        assert (status, body["outcome"], body["applied_step"]) == (202, "preparing", None)
        shown = (await served.client.get("/admin/v1/settings", headers=served.admin)).json()
        assert shown["preparing"]["generation"] == 1
        served.engine.prepare.set()
        keeper = served.node.keeper
        assert keeper is not None
        await eventually(lambda: keeper.observed.generation == 1)

    @pytest.mark.parametrize(
        ("push", "status", "code"),
        [
            (push_of(EngineSettings(), 1), 409, RejectCode.STALE_GENERATION),
            (push_of(EngineSettings(), 2), 409, RejectCode.CONFLICT),
            (push_of(EngineSettings(), 3, epoch=0), 409, RejectCode.STALE_EPOCH),
            (push_of(EngineSettings(precision=Precision.INT4), 3), 422, RejectCode.NOT_SUPPORTED),
            (push_of(EngineSettings(max_batch_size=64), 3), 422, RejectCode.OUT_OF_BOUNDS),
        ],
    )
    async def test_is_refused_in_the_words_of_the_contract(
        self, served: ServedApp, push: SettingsPush, status: int, code: RejectCode
    ) -> None:
        await put(served, push_of(EngineSettings(max_batch_size=3), 2))
        got, body = await put(served, push)
        reject = SettingsReject.model_validate(body)
        assert (got, reject.code, reject.observed_generation, reject.observed_epoch) == (status, code, 2, 1)
        assert served.engine.settings.max_batch_size == 3

    async def test_tells_the_epoch_that_it_fences_by(self, served: ServedApp) -> None:
        """Also when that epoch's own push was refused: whoever lost its memory must get above it."""
        served.engine.refuse = SettingsRefused(RejectCode.OUT_OF_MEMORY, "precision", "needs 300 MB more")
        await put(served, push_of(EngineSettings(max_queue=9), 3, epoch=7))
        _, body = await put(served, push_of(EngineSettings(), 4, epoch=6))
        assert (body["code"], body["observed_epoch"]) == ("stale_epoch", 7)

    async def test_without_memory_is_409(self, served: ServedApp) -> None:
        served.engine.refuse = SettingsRefused(RejectCode.OUT_OF_MEMORY, "precision", "needs 300 MB more")
        status, body = await put(served, push_of(EngineSettings(precision=Precision.FP32), 1))
        assert (status, body["code"], body["knob"]) == (409, "out_of_memory", "precision")

    @pytest.mark.parametrize(
        ("change", "code", "knob"),
        [
            ({"max_batch_size": 0}, "out_of_bounds", "max_batch_size"),
            ({"max_batch_size": 10_000}, "out_of_bounds", "max_batch_size"),
            ({"precision": "fp7"}, "out_of_bounds", "precision"),
            ({"warp": 1}, "not_supported", "warp"),
        ],
    )
    async def test_with_settings_out_of_bounds_names_the_knob(
        self, served: ServedApp, change: dict[str, Any], code: str, knob: str
    ) -> None:
        document = push_of(EngineSettings(), 1).model_dump(mode="json")
        document["settings"] |= change
        status, body = await put(served, document)
        assert (status, body["code"], body["knob"]) == (422, code, knob)

    async def test_that_is_malformed_is_invalid(self, served: ServedApp) -> None:
        for content in (b"{", b"[]", b"", b'{"generation": 1}'):
            response = await served.client.put("/admin/v1/settings", content=content, headers=served.admin)
            assert (response.status_code, response.json()["code"]) == (422, "invalid")


BELOW = SettingsRefused(RejectCode.QUALITY, "precision", "int8 is below this node's quality ceiling")


class TestQuality:
    async def test_tells_records_and_ceiling(self, served: ServedApp) -> None:
        shown = (await served.client.get("/admin/v1/quality", headers=served.admin)).json()
        assert (shown["max_perplexity_ratio"], shown["max_kl"]) == (1.15, 0.3)
        assert [(r["precision"], r["pruning_threshold"], r["kl_mean"]) for r in shown["records"]] == [
            ("int8", 0.0, 0.009)
        ]

    async def test_below_the_ceiling_is_409_and_force_overrides(self, served: ServedApp) -> None:
        served.engine.needs_force = BELOW
        wanted = EngineSettings(precision=Precision.INT8)
        status, body = await put(served, push_of(wanted, 1))
        assert (status, body["code"], body["knob"]) == (409, "quality", "precision")
        status, body = await put(served, push_of(wanted, 2, force=True))
        assert (status, body["outcome"], body["forced"]) == (200, "applied", True)

    async def test_an_edit_may_force_too(self, served: ServedApp) -> None:
        served.engine.needs_force = BELOW
        edit: dict[str, Any] = {"json": {"precision": "int8"}, "headers": served.admin}
        refused = await served.client.patch("/admin/v1/settings", **edit)
        assert (refused.status_code, refused.json()["code"]) == (409, "quality")
        forced = await served.client.patch("/admin/v1/settings?force=true", **edit)
        assert (forced.status_code, forced.json()["forced"]) == (200, True)


class TestEdit:
    async def test_changes_some_knobs_and_drifts(self, served: ServedApp) -> None:
        await put(served, push_of(EngineSettings(max_batch_size=3), 1))
        response = await served.client.patch("/admin/v1/settings", json={"max_queue": 5}, headers=served.admin)
        assert response.status_code == 200 and response.json()["settings"]["max_queue"] == 5
        shown = (await served.client.get("/admin/v1/settings", headers=served.admin)).json()
        assert shown["drifted"] and shown["settings"]["max_batch_size"] == 3

    async def test_of_nothing_is_refused(self, served: ServedApp) -> None:
        response = await served.client.patch("/admin/v1/settings", json={}, headers=served.admin)
        assert response.status_code == 422


class TestShow:
    async def test_settings_with_every_knob(self, served: ServedApp) -> None:
        shown = (await served.client.get("/admin/v1/settings", headers=served.admin)).json()
        assert [knob["name"] for knob in shown["knobs"]] == list(KNOBS)
        assert EngineSettings.model_validate(shown["settings"]) == served.engine.settings
        assert shown["capabilities"]["precisions"] == ["fp32", "bf16", "int8"]

    async def test_how_wrong_predicted_step_times_were(self, served: ServedApp) -> None:
        assert await served.metric('inference_step_model_error_ratio{percentile="50"}') == 0.02
        assert await served.metric('inference_step_model_error_ratio{percentile="95"}') == 0.07

    async def test_step_model(self, served: ServedApp) -> None:
        response = await served.client.get("/admin/v1/step-model", headers=served.admin)
        assert StepProfile.model_validate(response.json()) == served.engine.step_profile()

    async def test_status_answers_while_loading_too(self, tmp_path: Path) -> None:
        async with served_app(tmp_path, ready=False) as loading:
            loading.node.doing, loading.node.progress = "loading weights", 0.5
            status = (await loading.client.get("/admin/v1/status", headers=loading.admin)).json()
            assert (status["state"], status["doing"], status["stats"]) == ("starting", "loading weights", None)
            response = await loading.client.get("/admin/v1/settings", headers=loading.admin)
            assert response.status_code == 503


class TestProbes:
    async def test_a_ready_node(self, served: ServedApp) -> None:
        for path in ("/livez", "/readyz", "/health", "/ping"):
            assert (await served.client.get(path)).status_code == 200
        assert await served.metric("inference_ready") == 1
        assert (await served.client.get("/version")).json() == {"version": "0.0.0"}

    async def test_a_loading_node_is_alive_but_not_ready(self, tmp_path: Path) -> None:
        async with served_app(tmp_path, ready=False) as loading:
            assert (await loading.client.get("/livez")).status_code == 200
            assert (await loading.client.get("/health")).status_code == 503
            ready = await loading.client.get("/readyz")
            assert ready.status_code == 503 and ready.json()["status"] == "starting"
            assert (await loading.chat()).status_code == 503
            assert await loading.metric('inference_request_errors_total{cause="starting"}') == 1

    async def test_a_draining_node_is_not_ready(self, served: ServedApp) -> None:
        served.node.state = NodeState.DRAINING
        assert (await served.client.get("/readyz")).json() == {"status": "draining"}
        assert await served.metric("inference_ready") == 0

    @pytest.mark.parametrize(("names", "prefix"), [("inference", "inference_"), ("vllm", "vllm:")])
    async def test_metrics_can_be_narrowed(self, served: ServedApp, names: str, prefix: str) -> None:
        text = (await served.client.get(f"/metrics?names={names}")).text
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        assert lines and all(line.startswith(prefix) for line in lines)

    async def test_metrics_refuse_another_name(self, served: ServedApp) -> None:
        assert (await served.client.get("/metrics?names=all_of_them")).status_code == 400

    async def test_the_openapi_document_is_whole(self, served: ServedApp) -> None:
        document = (await served.client.get("/openapi.json")).json()
        assert {"/v1/chat/completions", "/v1/completions", "/admin/v1/settings", "/metrics"} <= set(document["paths"])
        push = document["paths"]["/admin/v1/settings"]["put"]
        assert push["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/SettingsPush")
