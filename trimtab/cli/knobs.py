"""Knobs as they are given on the command line: KNOB=VALUE."""

from typing import Any

from pydantic import ValidationError

from inference_node.contract.settings import KNOBS, EngineSettings
from trimtab.errors import UsageError


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """`["max_batch_size=8"]` to typed values. Raises UsageError naming the knob."""
    knobs: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            raise UsageError(f"--set {pair}: write it as KNOB=VALUE")
        if name not in KNOBS:
            raise UsageError(f"--set {pair}: there is no knob {name!r}; there are {', '.join(KNOBS)}")
        knobs[name] = value
    try:
        checked = EngineSettings.model_validate(knobs)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"--set {first['loc'][0]}={first['input']}: {first['msg']}") from None
    typed = checked.model_dump(mode="json")
    return {name: typed[name] for name in knobs}
