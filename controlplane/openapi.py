"""Writes the API's description to docs/openapi.json, from which the web app's types are made, and the Python client's types.

`python -m controlplane.openapi [PATH]`; with PATH the description only. A test fails while the committed files are not what
this would write, and another while they break clients of docs/openapi.released.json, which `--release` writes when a version
is published.
"""

import argparse
import json
from pathlib import Path

from controlplane.app import create_app
from controlplane.openapi_changes import breaking_changes
from controlplane.openapi_types import module
from controlplane.settings import ControlPlaneSettings

COMMITTED = Path(__file__).resolve().parent.parent / "docs" / "openapi.json"
RELEASED = COMMITTED.with_name("openapi.released.json")
TYPES = Path(__file__).resolve().parent / "client" / "types.py"


def document() -> str:
    """The description as it is committed: the same text for the same code."""
    api = create_app(ControlPlaneSettings.model_construct()).openapi()
    return json.dumps(api, indent=1, ensure_ascii=False) + "\n"


def client_types() -> str:
    """The text of controlplane/client/types.py."""
    return module(json.loads(document()))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the API's description, or compare it with the released one.")
    parser.add_argument("path", nargs="?", type=Path, default=COMMITTED, help="where to; by default docs/openapi.json")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--against", type=Path, metavar="FILE", help="write nothing; fail if clients of FILE would break")
    what.add_argument(
        "--release", action="store_true", help=f"write {RELEASED.name}: from now on it is what clients have"
    )
    chosen = parser.parse_args()
    if chosen.against is not None:
        found = breaking_changes(json.loads(chosen.against.read_text(encoding="utf-8")), json.loads(document()))
        if found:
            raise SystemExit("\n".join(["these changes break clients:", *found]))
    elif chosen.release:
        RELEASED.write_text(json.dumps(json.loads(document()), ensure_ascii=False) + "\n", encoding="utf-8")
    else:
        chosen.path.write_text(document(), encoding="utf-8")
        if chosen.path == COMMITTED:
            TYPES.write_text(client_types(), encoding="utf-8")


if __name__ == "__main__":
    main()
