"""The web app can only hear the kinds of events that it names, so it must name all of them."""

import re
from pathlib import Path

from controlplane.events.kinds import EventKind

SOURCE = Path(__file__).parents[3] / "dashboards/admin/src/api/invalidation.ts"


def test_web_app_listens_to_every_kind_of_event() -> None:
    listed = SOURCE.read_text().partition("STREAM_KINDS = [")[2].partition("]")[0]
    assert set(re.findall(r'"([^"]+)"', listed)) == {kind.value for kind in EventKind} | {"tick", "reset"}
