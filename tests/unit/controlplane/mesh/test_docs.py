"""The policy that docs/mesh.md shows is one, and its table names the fields there are."""

import json
import re
from pathlib import Path

from controlplane.decisions.mesh_policy import MeshPolicy
from controlplane.decisions.policy import Policy

PAGE = (Path(__file__).resolve().parents[4] / "docs" / "mesh.md").read_text(encoding="utf-8")


def test_the_policy_of_the_page_is_taken() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    mesh = Policy.model_validate(json.loads(example)).rollout.mesh
    assert mesh is not None
    assert mesh.gateways == ("infra/edge",)


def test_the_page_tells_of_every_field() -> None:
    assert [name for name in MeshPolicy.model_fields if name not in PAGE] == []
