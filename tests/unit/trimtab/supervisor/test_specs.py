"""What the processes of a local fleet are told of the user's environment."""

from pathlib import Path

import httpx2
import pytest

from trimtab.supervisor.credentials import Credentials
from trimtab.supervisor.folder import DataFolder
from trimtab.supervisor.ports import plan
from trimtab.supervisor.specs import Addresses, Fleet


def fleet(folder: Path) -> Fleet:
    ports = plan(8700, 1)
    addresses = Addresses.of(ports, prometheus="http://127.0.0.1:1", redis="redis://127.0.0.1:1/0")
    return Fleet(DataFolder(folder), ports, addresses, Credentials("admin", "enrol", "redis"), httpx2.AsyncClient())


def test_settings_of_mesh_and_identity_provider_reach_the_control_plane_and_no_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTROLPLANE_KUBERNETES_URL", "https://kubernetes.default.svc")
    monkeypatch.setenv("CONTROLPLANE_MESH_DIR", "/routes")
    monkeypatch.setenv("CONTROLPLANE_OIDC_ISSUER", "https://id.example")
    monkeypatch.setenv("CONTROLPLANE_REDIS_URL", "redis://elsewhere")
    told = fleet(tmp_path).controlplane_env()
    assert told["CONTROLPLANE_KUBERNETES_URL"] == "https://kubernetes.default.svc"
    assert told["CONTROLPLANE_MESH_DIR"] == "/routes"
    assert told["CONTROLPLANE_OIDC_ISSUER"] == "https://id.example"
    assert told["CONTROLPLANE_REDIS_URL"] == "redis://127.0.0.1:1/0"
    node = fleet(tmp_path).node_env("node-1", 8701, Path("/model"), None)
    assert not [name for name in node if name.startswith("CONTROLPLANE_")]
