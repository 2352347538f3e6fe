"""A split as Kubernetes objects: an Istio VirtualService or a Gateway API HTTPRoute, and labels for pods. Pure.

Sources: Istio, "Virtual Service" reference (networking.istio.io/v1beta1, which every Istio since 1.5 serves); Gateway API,
"HTTPRoute" reference (gateway.networking.k8s.io/v1), with a Service as parent inside a mesh (GEP-1294, "GAMMA").
"""

from typing import Any, assert_never

from controlplane.decisions.mesh_policy import MeshKind, MeshPolicy
from controlplane.mesh.split import Arm, Split

Manifest = dict[str, Any]

ARM_LABEL = "trimtab.dev/arm"
POOL, ROLLOUT, GENERATION = "trimtab.dev/pool", "trimtab.dev/rollout", "trimtab.dev/generation"
_MANAGED_BY = {"app.kubernetes.io/managed-by": "trimtab"}


def route(
    mesh: MeshPolicy, split: Split, *, pool: str, rollout_id: str | None = None, generation: int | None = None
) -> Manifest:
    """The object that shares requests out. pool: as people name it; generation: of this state, where one is counted."""
    marks = {POOL: pool}
    if rollout_id is not None:
        marks[ROLLOUT] = rollout_id
    if generation is not None:
        marks[GENERATION] = str(generation)
    metadata = {"name": mesh.route, "namespace": mesh.namespace, "labels": dict(_MANAGED_BY), "annotations": marks}
    match mesh.kind:
        case MeshKind.ISTIO:
            head = {"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService"}
            return {**head, "metadata": metadata, "spec": _virtual_service(mesh, split)}
        case MeshKind.GATEWAY_API:
            head = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"}
            return {**head, "metadata": metadata, "spec": _http_route(mesh, split)}
        case _:
            assert_never(mesh.kind)


def pod_labels(mesh: MeshPolicy, name: str, arm: Arm) -> Manifest:
    """What is patched into the pod of this name; the services select by it."""
    metadata = {"name": name, "namespace": mesh.namespace, "labels": {ARM_LABEL: arm.value}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


def _virtual_service(mesh: MeshPolicy, split: Split) -> dict[str, Any]:
    spec: dict[str, Any] = {"hosts": list(mesh.hosts) or [mesh.baseline_service]}
    if mesh.gateways:
        spec["gateways"] = list(mesh.gateways)
    routes = [
        {"destination": {"host": service, "port": {"number": mesh.port}}, "weight": weight}
        for service, weight in _shares(mesh, split)
    ]
    return {**spec, "http": [{"name": "trimtab", "route": routes}]}


def _http_route(mesh: MeshPolicy, split: Split) -> dict[str, Any]:
    spec: dict[str, Any] = {"parentRefs": [_parent(gateway) for gateway in mesh.gateways]}
    if not mesh.gateways:
        spec["parentRefs"] = [{"group": "", "kind": "Service", "name": mesh.baseline_service, "port": mesh.port}]
    if mesh.hosts:
        spec["hostnames"] = list(mesh.hosts)
    backends = [{"name": name, "port": mesh.port, "weight": weight} for name, weight in _shares(mesh, split)]
    return {**spec, "rules": [{"backendRefs": backends}]}


def _parent(gateway: str) -> dict[str, str]:
    namespace, slash, name = gateway.rpartition("/")
    return {"name": name, "namespace": namespace} if slash else {"name": name}


def _shares(mesh: MeshPolicy, split: Split) -> tuple[tuple[str, int], ...]:
    return (mesh.baseline_service, split.baseline_weight), (mesh.canary_service, split.canary_weight)
