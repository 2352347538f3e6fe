"""What is done once in the life of a data folder, when the parts stand for the first time: the demo pool gets its policy."""

import json
from pathlib import Path

from controlplane.decisions.policy import demo_policy
from trimtab.client import ApiClient
from trimtab.connection import Connection

MARKER = "first_start.json"


def put_demo_policy(root: Path, connection: Connection, pool_name: str) -> bool:
    """Whether it was put now; from then on the policy is the user's. Raises CommandError when the API refuses."""
    marker = root / MARKER
    if marker.exists():
        return False
    with ApiClient(connection) as client:
        pool = next(pool for pool in client.get("/pools")["items"] if pool["name"] == pool_name)
        path = f"/pools/{pool['id']}/policy"
        version = client.put(path, demo_policy().to_json(), if_match=client.get(path)["version"])["version"]
    marker.write_text(json.dumps({"demo_policy_version": version}))
    return True
