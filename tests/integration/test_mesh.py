"""A rollout shifts traffic: the controller's and the worker's parts against a real HTTPS server, with time by the second."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from controlplane.db import session_scope
from controlplane.errors import Fenced
from controlplane.events import service as events
from controlplane.mesh.kubernetes import Kubernetes
from controlplane.mesh.manifests import Manifest
from controlplane.rollouts.phases import RolloutPhase
from controlplane.settings import ControlPlaneSettings
from tests.support.api import ADMIN_TOKEN, Api, api_server
from tests.support.database import memory_database, sqlite_url
from tests.support.kubernetes_api import TOKEN, Cluster, kubernetes_api
from tests.support.leading import take_over
from tests.support.mesh import MESH, MeshLab, mesh_lab
from tests.support.mesh_schemas import problems
from tests.support.ready_node import join_ready_node
from trimtab.cli.app import run

P = RolloutPhase
ROUTE = "/apis/networking.istio.io/v1beta1/namespaces/default/virtualservices/chat"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with kubernetes_api(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(served: Cluster) -> Cluster:
    for kept in (served.objects, served.writes, served.refuse, served.absent, served.faults):
        kept.clear()
    return served


@pytest.fixture
def engine() -> Iterator[Engine]:
    with memory_database() as engine:
        yield engine


@pytest.fixture
def settings(cluster: Cluster) -> ControlPlaneSettings:
    return ControlPlaneSettings(
        kubernetes_url=cluster.url, kubernetes_token=SecretStr(TOKEN), kubernetes_ca_file=cluster.ca_file
    )


@pytest.fixture
def lab(engine: Engine, settings: ControlPlaneSettings) -> MeshLab:
    return mesh_lab(engine, settings)


def weight(cluster: Cluster) -> int | None:
    """Percent for the new settings."""
    found = cluster.weights("chat")
    return None if found is None else found["chat-new"]


class TestTheWholeWay:
    def test_traffic_follows_the_canary_and_every_wave(self, lab: MeshLab, cluster: Cluster) -> None:
        lab.settle()
        assert cluster.weights("chat") == {"chat-old": 100, "chat-new": 0}
        rollout = lab.begin()
        lab.drive(rollout, until=P.CANARY)
        assert weight(cluster) == 0
        lab.drive(rollout, until=P.ANALYZING)
        assert weight(cluster) == 25
        lab.drive(rollout, until=P.BAKING)
        assert weight(cluster) == 100
        lab.drive(rollout, until=P.COMPLETED)
        assert cluster.weights("chat") == {"chat-old": 100, "chat-new": 0}
        told = lab.told("mesh.applied")
        assert [text.partition(" %")[0] for text in told] == [f"Traffic: {n}" for n in (0, 0, 25, 50, 75, 100, 0)]

    def test_an_abort_sends_everything_back_before_the_nodes_are(self, lab: MeshLab, cluster: Cluster) -> None:
        rollout = lab.begin()
        lab.drive(rollout, until=P.ANALYZING)
        assert weight(cluster) == 25
        lab.ask(rollout, "abort")
        lab.drive(rollout, until=P.ROLLING_BACK, obey=False)
        assert cluster.weights("chat") == {"chat-old": 100, "chat-new": 0}

    def test_an_abort_reaches_the_route_also_when_the_api_was_down(self, lab: MeshLab, cluster: Cluster) -> None:
        rollout = lab.begin()
        lab.drive(rollout, until=P.ANALYZING)
        lab.ask(rollout, "abort")
        cluster.faults[:] = [503] * 40
        lab.drive(rollout, until=P.ROLLED_BACK)
        row = lab.row()
        assert (weight(cluster), row is not None and row.error is not None) == (25, True)
        assert len(lab.told("mesh.failed")) >= 1
        cluster.faults.clear()
        lab.wait(60)
        lab.settle()
        assert weight(cluster) == 0
        assert lab.told("outbox.dead") == []

    def test_what_happens_stands_in_the_timeline_of_the_rollout(self, lab: MeshLab, cluster: Cluster) -> None:
        rollout = lab.begin()
        lab.drive(rollout, until=P.COMPLETED)
        with session_scope(lab.engine, read_only=True) as session:
            kinds = [event.kind for event in events.list_events(session, limit=200, rollout_id=rollout)]
        # Newest first: the baseline has everything again after the end.
        assert kinds[0] == "mesh.applied"
        assert kinds.index("rollout.completed") == 1


class TestHealing:
    def test_a_quiet_fleet_owes_nothing(self, lab: MeshLab, cluster: Cluster) -> None:
        lab.settle()
        lab.wait(30)
        assert lab.keep() == 0

    def test_an_edit_by_hand_is_put_right_within_a_minute_and_told_of_once(
        self, lab: MeshLab, cluster: Cluster
    ) -> None:
        lab.settle()
        cluster.objects[ROUTE]["spec"]["http"][0]["route"][1]["weight"] = 90
        lab.wait(61)
        lab.settle()
        assert weight(cluster) == 0
        assert len(lab.told("mesh.applied")) == 1

    def test_an_older_write_never_undoes_a_newer_one(self, lab: MeshLab, cluster: Cluster) -> None:
        rollout = lab.begin()
        lab.drive(rollout, until=P.ANALYZING)
        newer = cluster.objects[ROUTE]
        newer["metadata"]["annotations"]["trimtab.dev/generation"] = "900"
        lab.ask(rollout, "abort")
        lab.drive(rollout, until=P.ROLLING_BACK, obey=False)
        row = lab.row()
        assert row is not None
        assert row.generation == 901  # a database that was restored goes on above what the cluster has seen
        lab.wait(2)
        lab.settle()
        assert weight(cluster) == 0

    def test_a_deposed_controller_owes_nothing(self, lab: MeshLab) -> None:
        with session_scope(lab.engine) as session:
            take_over(session, "another")
        with pytest.raises(Fenced):
            lab.keep()

    def test_the_route_stays_when_the_policy_forgets_it(self, lab: MeshLab, cluster: Cluster) -> None:
        lab.settle()
        lab.set_mesh(None)
        lab.settle()
        assert lab.row() is None
        assert cluster.weights("chat") == {"chat-old": 100, "chat-new": 0}

    def test_a_rollout_ends_with_the_route_that_it_began_with(self, lab: MeshLab, cluster: Cluster) -> None:
        rollout = lab.begin()
        lab.drive(rollout, until=P.ANALYZING)
        lab.set_mesh(None)
        lab.ask(rollout, "abort")
        lab.drive(rollout, until=P.ROLLING_BACK, obey=False)
        assert weight(cluster) == 0


class TestPods:
    def test_carry_the_label_of_their_arm(
        self, engine: Engine, settings: ControlPlaneSettings, cluster: Cluster
    ) -> None:
        lab = mesh_lab(engine, settings, mesh=None)
        labelled = MESH.model_copy(update={"label_pods": True})
        lab.set_mesh(labelled)
        for number in (1, 2, 3):
            cluster.add_pod(f"node-{number}")
        lab.settle()
        assert [cluster.arm_of(f"node-{n}") for n in (1, 2, 3)] == ["baseline"] * 3
        assert "no pod is named node-4" in lab.told("mesh.applied")[0]

    def test_get_their_label_before_requests_and_lose_it_after(
        self, engine: Engine, settings: ControlPlaneSettings, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        labelled = MESH.model_copy(update={"label_pods": True})
        monkeypatch.setattr("tests.support.mesh.MESH", labelled)
        lab = mesh_lab(engine, settings, mesh=labelled)
        for number in (1, 2, 3, 4):
            cluster.add_pod(f"node-{number}")
        rollout = lab.begin()
        cluster.writes.clear()
        lab.drive(rollout, until=P.ANALYZING)
        assert cluster.arm_of("node-1") == "canary"
        assert cluster.writes[-1] == ROUTE
        lab.ask(rollout, "abort")
        cluster.writes.clear()
        lab.drive(rollout, until=P.ROLLED_BACK)
        assert cluster.writes[0] == ROUTE
        assert cluster.arm_of("node-1") == "baseline"


class TestRefusals:
    @pytest.mark.parametrize(
        ("what", "says"),
        [("refuse", "allow the account to get, create and patch virtualservices.networking.istio.io in namespace default"),
         ("absent", "is networking.istio.io/v1beta1 installed")],
    )  # fmt: skip
    def test_say_what_to_change(self, lab: MeshLab, cluster: Cluster, what: str, says: str) -> None:
        getattr(cluster, what).add("virtualservices")
        lab.settle()
        assert says in lab.told("mesh.failed")[0]

    def test_of_a_wrong_token_names_the_setting(self, engine: Engine, cluster: Cluster, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text("stale\n")
        settings = ControlPlaneSettings(
            kubernetes_url=cluster.url, kubernetes_token_file=file, kubernetes_ca_file=cluster.ca_file
        )
        lab = mesh_lab(engine, settings)
        lab.settle()
        assert "CONTROLPLANE_KUBERNETES_TOKEN" in lab.told("mesh.failed")[0]
        file.write_text(f"{TOKEN}\n")  # as the kubelet renews it
        lab.wait(20)
        lab.settle()
        assert cluster.weights("chat") == {"chat-old": 100, "chat-new": 0}

    def test_an_authority_that_did_not_sign_is_not_believed(
        self, engine: Engine, cluster: Cluster, tmp_path: Path
    ) -> None:
        settings = ControlPlaneSettings(
            kubernetes_url=cluster.url, kubernetes_token=SecretStr(TOKEN), kubernetes_ca_file=tmp_path / "none"
        )
        lab = mesh_lab(engine, settings)
        lab.settle()
        assert "does not answer" in lab.told("mesh.failed")[0]
        assert cluster.weights("chat") is None


class TestASilentApi:
    def test_is_asked_by_one_task_and_then_left_alone_for_a_while(
        self, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A port that nobody listens at. Its tasks must not take the workers from those that bring nodes their settings."""
        lab = mesh_lab(
            engine, ControlPlaneSettings(kubernetes_url="https://127.0.0.1:1", kubernetes_ca_file=tmp_path / "none")
        )
        asked: list[str] = []
        ask = Kubernetes.apply

        def apply(api: Kubernetes, manifest: Manifest) -> None:
            asked.append("once")
            ask(api, manifest)

        monkeypatch.setattr(Kubernetes, "apply", apply)
        lab.settle()
        for _ in range(5):
            lab.wait(2)
            lab.work()
        assert asked == ["once"]
        lab.wait(16)
        lab.settle()
        assert asked == ["once", "once"]
        assert len(lab.told("mesh.failed")) == 1


class TestFiles:
    def test_follow_the_rollout_without_any_cluster(self, engine: Engine, tmp_path: Path) -> None:
        lab = mesh_lab(engine, ControlPlaneSettings(mesh_dir=tmp_path / "routes"))
        assert lab.keep() == 1
        (file,) = (tmp_path / "routes").rglob("*.json")
        assert '"weight": 100' in file.read_text()
        assert lab.keep() == 0
        lab.drive(lab.begin(), until=P.ANALYZING)
        assert '"weight": 25' in file.read_text()
        assert [path.name for path in (tmp_path / "routes").rglob("*") if path.is_file()] == [file.name]


class TestApiAndCommand:
    @pytest.fixture
    def api(self, tmp_path: Path) -> Iterator[Api]:
        with api_server(sqlite_url(tmp_path), heartbeat_timeout_s=3600) as running:
            join_ready_node(running)
            yield running

    @pytest.fixture
    def pool_id(self, api: Api) -> str:
        found: str = api.client.get("/api/v1/pools").json()["items"][0]["id"]
        return found

    def set_policy(self, api: Api, pool_id: str) -> None:
        document = {"rollout": {"mesh": MESH.model_dump(mode="json")}}
        done = api.client.put(f"/api/v1/pools/{pool_id}/policy", json=document, headers={"If-Match": '"0"'})
        assert done.status_code == 200, done.text

    def test_a_pool_without_a_route_is_told_how_to_get_one(self, api: Api, pool_id: str) -> None:
        answer = api.client.get(f"/api/v1/pools/{pool_id}/mesh")
        assert (answer.status_code, "rollout.mesh" in answer.json()["detail"]) == (404, True)
        assert answer.json()["type"].endswith("no-mesh")

    def test_a_policy_with_a_wrong_name_is_refused_at_its_field(self, api: Api, pool_id: str) -> None:
        document = {"rollout": {"mesh": MESH.model_dump(mode="json") | {"canary_service": "Chat New"}}}
        answer = api.client.put(f"/api/v1/pools/{pool_id}/policy", json=document, headers={"If-Match": '"0"'})
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == ["rollout.mesh.canary_service"]

    def test_both_formats_are_handed_out(self, api: Api, pool_id: str) -> None:
        self.set_policy(api, pool_id)
        kinds = {}
        for kind in ("istio", "gateway_api"):
            answer = api.client.get(f"/api/v1/pools/{pool_id}/mesh", params={"format": kind}).json()
            (manifest,) = answer["manifest"]["items"]
            assert problems(manifest) == []
            kinds[kind] = manifest["kind"]
            assert (answer["baseline"]["weight"], answer["canary"]["weight"], answer["applied"]) == (100, 0, None)
        assert kinds == {"istio": "VirtualService", "gateway_api": "HTTPRoute"}
        assert api.client.get(f"/api/v1/pools/{pool_id}/mesh", params={"format": "nginx"}).status_code == 422

    def test_a_rollout_has_its_own(self, api: Api, pool_id: str) -> None:
        self.set_policy(api, pool_id)
        body = {"pool_id": pool_id, "settings": {"max_batch_size": 24}, "reason": "more load"}
        rollout = api.client.post("/api/v1/rollouts", json=body).json()["id"]
        answer = api.client.get(f"/api/v1/rollouts/{rollout}/mesh").json()
        (manifest,) = answer["manifest"]["items"]
        assert manifest["metadata"]["annotations"]["trimtab.dev/rollout"] == rollout
        assert answer["why"] == "no node has the new settings yet, or any more"

    def test_the_command_writes_what_kubectl_takes(
        self,
        api: Api,
        pool_id: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.set_policy(api, pool_id)
        monkeypatch.setenv("TRIMTAB_URL", api.url)
        monkeypatch.setenv("TRIMTAB_TOKEN", ADMIN_TOKEN)
        file = tmp_path / "route.json"
        assert run(["mesh", "export", "--format", "gateway-api", "--out", str(file)]) == 0
        assert json.loads(file.read_text())["items"][0]["kind"] == "HTTPRoute"
        capsys.readouterr()
        assert run(["mesh", "show", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["kind"] == "istio"
        assert run(["mesh", "show"]) == 0
        assert "chat-new" in capsys.readouterr().out
        assert run(["mesh", "export", "--format", "nginx"]) == 2
        assert run(["mesh", "export", "--out", str(tmp_path / "no" / "such")]) == 1
