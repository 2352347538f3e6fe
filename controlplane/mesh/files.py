"""A pool's route as a file, for those who bring it to the cluster themselves (kubectl, a repository that is watched)."""

import json
import os
import tempfile
from pathlib import Path

from controlplane.mesh.manifests import Manifest
from controlplane.mesh.wish import Wish


def document(manifests: list[Manifest]) -> Manifest:
    """One document that `kubectl apply -f` takes."""
    return {"apiVersion": "v1", "kind": "List", "items": manifests}


def text(wish: Wish) -> str:
    """JSON, which is YAML too. Pods are no part of it: kubectl could only make them anew."""
    return json.dumps(document([wish.route()]), indent=2) + "\n"


def file_name(wish: Wish) -> str:
    """`FLEET/POOL.KIND.json`; names of fleets and pools hold no slash and begin with no dot."""
    return f"{wish.pool}.{wish.mesh.kind.value}.json"


def write(folder: Path, wish: Wish) -> bool:
    """Brings the pool's file up to date, whole or not at all; whether it had to. Raises OSError."""
    path, wanted = folder / file_name(wish), text(wish)
    try:
        if path.read_text(encoding="utf-8") == wanted:
            return False
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(wanted)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return True
