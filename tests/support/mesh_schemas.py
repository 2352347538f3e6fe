"""The published schemas of mesh objects, read strictly: an unknown field is an error, as with `fieldValidation=Strict`."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

_FOLDER = Path(__file__).parent / "crds"
_FILES = {"HTTPRoute": "httproute.v1.json", "VirtualService": "virtualservice.v1beta1.json"}


def problems(document: dict[str, Any]) -> list[str]:
    """What is wrong with it by its kind's schema; empty when nothing is."""
    return [
        f"{list(error.instance_path)}: {error.message}" for error in _validator(document["kind"]).iter_errors(document)
    ]


@cache
def _validator(kind: str) -> jsonschema_rs.Draft7Validator:
    return jsonschema_rs.Draft7Validator(_strict(json.loads((_FOLDER / _FILES[kind]).read_text())))


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value) for key, value in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        made.setdefault("additionalProperties", False)
    return made
