from typing import Any

import pytest
from pydantic import ValidationError

from controlplane.decisions.mesh_policy import MeshKind, MeshPolicy
from controlplane.mesh.manifests import pod_labels, route
from controlplane.mesh.split import Arm, Split
from tests.support.mesh_schemas import problems

SPLIT = Split(25, {"node-1": Arm.CANARY, "node-2": Arm.BASELINE}, "1 of 4")
NAMES = {"route": "chat", "baseline_service": "chat-old", "canary_service": "chat-new", "port": 8000}


def mesh(kind: MeshKind, **changes: object) -> MeshPolicy:
    return MeshPolicy.model_validate({"kind": kind, **NAMES, **changes})


def made(kind: MeshKind, **changes: object) -> dict[str, Any]:
    return route(mesh(kind, **changes), SPLIT, pool="demo/chat", rollout_id="0190", generation=7)


class TestBothKinds:
    @pytest.mark.parametrize("kind", MeshKind)
    @pytest.mark.parametrize("gateways", [(), ("edge",), ("infra/edge", "edge")])
    @pytest.mark.parametrize("hosts", [(), ("chat.example.com", "*.example.org")])
    def test_are_what_the_published_schemas_ask_for(
        self, kind: MeshKind, gateways: tuple[str, ...], hosts: tuple[str, ...]
    ) -> None:
        assert problems(made(kind, gateways=gateways, hosts=hosts)) == []

    @pytest.mark.parametrize("kind", MeshKind)
    def test_say_whose_they_are_and_what_generation(self, kind: MeshKind) -> None:
        metadata = made(kind, namespace="prod")["metadata"]
        assert (metadata["name"], metadata["namespace"]) == ("chat", "prod")
        assert metadata["annotations"] == {
            "trimtab.dev/pool": "demo/chat", "trimtab.dev/rollout": "0190", "trimtab.dev/generation": "7",
        }  # fmt: skip

    def test_the_schemas_would_find_a_wrong_field(self) -> None:
        for kind, path in ((MeshKind.ISTIO, "http"), (MeshKind.GATEWAY_API, "rules")):
            wrong = made(kind)
            wrong["spec"][path][0]["weigth"] = 3
            assert problems(wrong)
            wrong = made(kind)
            wrong["spec"][path] = "all"
            assert problems(wrong)


class TestVirtualService:
    def test_shares_requests_out_by_weight(self) -> None:
        spec = made(MeshKind.ISTIO, hosts=("chat.example.com",), gateways=("infra/edge",))["spec"]
        assert (spec["hosts"], spec["gateways"]) == (["chat.example.com"], ["infra/edge"])
        assert spec["http"][0]["route"] == [
            {"destination": {"host": "chat-old", "port": {"number": 8000}}, "weight": 75},
            {"destination": {"host": "chat-new", "port": {"number": 8000}}, "weight": 25},
        ]

    def test_without_a_host_it_takes_requests_to_the_baseline_service(self) -> None:
        spec = made(MeshKind.ISTIO)["spec"]
        assert (spec["hosts"], "gateways" in spec) == (["chat-old"], False)


class TestHttpRoute:
    def test_shares_requests_out_by_weight(self) -> None:
        spec = made(MeshKind.GATEWAY_API, gateways=("infra/edge", "near"))["spec"]
        assert spec["parentRefs"] == [{"name": "edge", "namespace": "infra"}, {"name": "near"}]
        assert spec["rules"] == [
            {"backendRefs": [
                {"name": "chat-old", "port": 8000, "weight": 75}, {"name": "chat-new", "port": 8000, "weight": 25},
            ]}
        ]  # fmt: skip

    def test_without_a_gateway_it_takes_requests_to_the_baseline_service(self) -> None:
        parents = made(MeshKind.GATEWAY_API)["spec"]["parentRefs"]
        assert parents == [{"group": "", "kind": "Service", "name": "chat-old", "port": 8000}]


def test_a_pod_is_told_its_arm() -> None:
    pod = pod_labels(mesh(MeshKind.ISTIO, namespace="prod"), "node-1", Arm.CANARY)
    assert pod["metadata"] == {"name": "node-1", "namespace": "prod", "labels": {"trimtab.dev/arm": "canary"}}


class TestPolicy:
    @pytest.mark.parametrize(
        ("field", "value", "says"),
        [
            ("baseline_service", "chat-new", "two services"),
            ("baseline_service", "9lives", "no name of a Service"),
            ("namespace", "Prod", "no Kubernetes name"),
            ("route", "a/../b", "no Kubernetes name"),
            ("gateways", ["a/b/c"], "no Kubernetes name"),
            ("hosts", ["exa mple"], "no Kubernetes name"),
            ("step_weights", [50, 20], "must not fall"),
            ("step_weights", [101], "less than or equal to 100"),
            ("port", 0, "greater than or equal to 1"),
            ("services", [], "Extra inputs"),
        ],
    )
    def test_names_what_is_wrong(self, field: str, value: object, says: str) -> None:
        with pytest.raises(ValidationError, match=says):
            mesh(MeshKind.ISTIO, **{field: value})
