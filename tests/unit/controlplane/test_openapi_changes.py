"""Which changes of an API description break a client, each made to a small one; and the committed one against the released."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from controlplane.openapi import RELEASED, document
from controlplane.openapi_changes import breaking_changes

Json = dict[str, Any]
TEXT, NOTHING = {"type": "string"}, {"type": "null"}


def api() -> Json:
    thing = {
        "type": "object",
        "properties": {
            "id": TEXT,
            "note": {"anyOf": [TEXT, NOTHING]},
            "parts": {"type": "array", "items": {"$ref": REF}},
        },
        "required": ["id", "note"],
    }
    wish = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"size": {"type": "integer", "minimum": 1, "maximum": 8}, "colour": {"enum": ["red", "blue"]}},
        "required": ["size"],
    }
    get = {
        "parameters": [{"in": "query", "name": "limit", "schema": {"type": "integer"}}],
        "responses": {"200": {"content": {"application/json": {"schema": {"$ref": REF}}}}},
    }
    post = {
        "requestBody": {"required": True, "content": {"application/json": {"schema": wish}}},
        "responses": {"201": {"content": {"application/json": {"schema": {"$ref": REF}}}}},
    }
    return {"paths": {"/things": {"get": get, "post": post}}, "components": {"schemas": {"Thing": thing}}}


REF = "#/components/schemas/Thing"


def thing(api: Json) -> Any:
    return api["components"]["schemas"]["Thing"]


def wish(api: Json) -> Any:
    return api["paths"]["/things"]["post"]["requestBody"]["content"]["application/json"]["schema"]


def get(api: Json) -> Any:
    return api["paths"]["/things"]["get"]


BREAKING: dict[str, Callable[[Json], Any]] = {
    "GET /things: is gone": lambda a: a["paths"]["/things"].pop("get"),
    "GET /things: no longer answers 200": lambda a: get(a).update(responses={}),
    "GET /things 200: id is gone": lambda a: thing(a)["properties"].pop("id"),
    "GET /things 200: note may be absent now": lambda a: thing(a).update(required=["id"]),
    "GET /things 200: id: may be null now": lambda a: thing(a)["properties"].update(id={"anyOf": [TEXT, NOTHING]}),
    "GET /things 200: id: may be integer now": lambda a: thing(a)["properties"].update(id={"type": "integer"}),
    "GET /things query parameter limit: is gone": lambda a: get(a).update(parameters=[]),
    "GET /things query parameter limit: is required now": lambda a: get(a)["parameters"][0].update(required=True),
    "GET /things query parameter pool: is new and required": lambda a: get(a)["parameters"].append(
        {"in": "query", "name": "pool", "required": True}
    ),
    "GET /things query parameter limit: maximum is 5 now": lambda a: get(a)["parameters"][0]["schema"].update(
        maximum=5
    ),
    "POST /things body: colour is required now": lambda a: wish(a)["required"].append("colour"),
    "POST /things body: size is gone": lambda a: wish(a)["properties"].pop("size"),
    "POST /things body: colour: no longer takes blue": lambda a: wish(a)["properties"]["colour"].update(enum=["red"]),
    "POST /things body: size: no longer takes integer": lambda a: wish(a)["properties"].update(size=TEXT),
    "POST /things body: size: minimum is 2 now": lambda a: wish(a)["properties"]["size"].update(minimum=2),
}
HARMLESS: dict[str, Callable[[Json], Any]] = {
    "a new path": lambda a: a["paths"].update({"/others": {}}),
    "a new field in an answer": lambda a: thing(a)["properties"].update(at=TEXT),
    "a field of an answer that is never absent any more": lambda a: thing(a)["required"].append("parts"),
    "a field of an answer that is never null any more": lambda a: thing(a)["properties"].update(note=TEXT),
    "a new optional field in a request": lambda a: wish(a)["properties"].update(shape=TEXT),
    "a wider bound": lambda a: wish(a)["properties"]["size"].update(maximum=16),
    "a number where an integer was asked for": lambda a: wish(a)["properties"]["size"].update(type="number"),
    "a new word in a request": lambda a: wish(a)["properties"]["colour"].update(enum=["red", "blue", "green"]),
    "a new optional parameter": lambda a: get(a)["parameters"].append({"in": "query", "name": "pool"}),
    "no change": lambda a: None,
}


@pytest.mark.parametrize("says", BREAKING)
def test_what_breaks_a_client_is_named(says: str) -> None:
    new = copy.deepcopy(api())
    BREAKING[says](new)
    assert says in breaking_changes(api(), new)


@pytest.mark.parametrize("what", HARMLESS)
def test_what_no_client_notices_is_let_pass(what: str) -> None:
    new = copy.deepcopy(api())
    HARMLESS[what](new)
    assert breaking_changes(api(), new) == []


def test_clients_of_the_released_api_can_stay_as_they_are() -> None:
    found = breaking_changes(json.loads(RELEASED.read_text(encoding="utf-8")), json.loads(document()))
    assert found == [], (
        "these break clients: mend them, or publish a new version with `python -m controlplane.openapi --release`"
    )
