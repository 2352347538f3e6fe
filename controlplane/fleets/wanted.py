"""What a person asks of the knobs, checked against what there is, with an error for each knob."""

from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from controlplane.errors import Invalid
from controlplane.fleets.models import Node
from inference_node.contract.messages import NodeCapabilities
from inference_node.contract.settings import KNOBS, EngineSettings, KnobValue


class InvalidSettings(Invalid):
    title = "Settings are not possible"


def wanted_settings(current: EngineSettings, wanted: Mapping[str, KnobValue]) -> EngineSettings:
    """Raises InvalidSettings that names each knob and what it may be."""
    try:
        return EngineSettings.model_validate(current.model_dump(mode="json") | dict(wanted))
    except ValidationError as error:
        errors = []
        for row in error.errors():
            knob = str(row["loc"][0]) if row["loc"] else "settings"
            unknown = f"there is no such knob: there are {', '.join(KNOBS)}"
            errors.append({"field": f"settings.{knob}", "message": unknown if knob not in KNOBS else row["msg"]})
        text = "; ".join(f"{row['field']}: {row['message']}" for row in errors)
        raise InvalidSettings(text, errors=errors) from None


def check_offered(nodes: Iterable[Node], wanted: EngineSettings) -> None:
    """Raises InvalidSettings when one of the nodes says that it cannot be set so."""
    for node in nodes:
        has = NodeCapabilities.model_validate(node.capabilities)
        problems = {
            "precision": None if wanted.precision in has.precisions else f"has {', '.join(has.precisions)}",
            "kv_precision": None if wanted.kv_precision in has.kv_precisions else f"has {', '.join(has.kv_precisions)}",
            "max_batch_size": None
            if wanted.max_batch_size <= has.max_batch_size
            else f"takes up to {has.max_batch_size}",
            "max_batched_tokens": None
            if wanted.max_batched_tokens <= has.max_batched_tokens
            else f"takes up to {has.max_batched_tokens}",
        }
        for knob, limit in problems.items():
            if limit is not None:
                message = f"{getattr(wanted, knob)} is not possible: node {node.name} {limit}"
                error = {"field": f"settings.{knob}", "message": message}
                raise InvalidSettings(f"settings.{knob}: {message}", errors=[error])
