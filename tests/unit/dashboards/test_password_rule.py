"""The web app says while one types what the API would refuse, so both must hold to the same numbers."""

import re
from pathlib import Path

from controlplane.accounts import passwords

SOURCE = Path(__file__).parents[3] / "dashboards/admin/src/lib/password.ts"


def test_web_app_and_api_have_the_same_bounds() -> None:
    said = dict(re.findall(r"export const (\w+) = (\d+);", SOURCE.read_text()))
    names = ("MIN_LENGTH", "MAX_LENGTH", "MIN_DISTINCT")
    assert {name: int(said[name]) for name in names} == {name: getattr(passwords, name) for name in names}
