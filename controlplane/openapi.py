"""Writes the API's description to docs/openapi.json, from which the web app's types are made.

`python -m controlplane.openapi [PATH]`. A test fails while the committed file is not what this would write.
"""

import argparse
import json
from pathlib import Path

from controlplane.app import create_app
from controlplane.settings import ControlPlaneSettings

COMMITTED = Path(__file__).resolve().parent.parent / "docs" / "openapi.json"


def document() -> str:
    """The description as it is committed: the same text for the same code."""
    api = create_app(ControlPlaneSettings.model_construct()).openapi()
    return json.dumps(api, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the API's description.")
    parser.add_argument("path", nargs="?", type=Path, default=COMMITTED, help="where to; by default docs/openapi.json")
    parser.parse_args().path.write_text(document(), encoding="utf-8")
