"""Python types of the API's answers and bodies, written from its description for controlplane/client/types.py.

TypedDicts and not models: a client must not choke on a field or a word that a newer control plane has added.
"""

import re
import textwrap
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
_WIDTH = 120
_PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
# What only nodes and Prometheus speak.
_LEFT_OUT = ("/api/v1/agents", "/api/v1/sd", "/livez", "/readyz", "/metrics")


def module(api: Json) -> str:
    """The text of a Python module, in the shape that the formatter wants."""
    schemas = api["components"]["schemas"]
    used: set[str] = set()
    for path, item in api["paths"].items():
        if not path.startswith(_LEFT_OUT):
            used |= _reached(item, schemas)
    names = sorted(name for name in used if not name.startswith("Page_"))
    words = [name for name in names if "enum" in schemas[name]]
    parts = [_words(name, schemas[name]) for name in words]
    classes = [_class(name, schemas[name]) for name in names if name not in words]
    head = (
        '"""Shapes of the API\'s answers and bodies. Written by `python -m controlplane.openapi`; not by hand."""\n\n'
        "from __future__ import annotations\n\n"
        "from typing import Any, Literal, NotRequired, TypedDict\n"
    )
    return "\n\n\n".join([head + "\n" + "\n".join(parts), *classes]) + "\n"


def _reached(part: Any, schemas: Json, known: set[str] | None = None) -> set[str]:
    known = set() if known is None else known
    if isinstance(part, dict):
        name = _name_of(part)
        if name is not None and name not in known:
            known.add(name)
            _reached(schemas[name], schemas, known)
        for inner in part.values():
            _reached(inner, schemas, known)
    elif isinstance(part, list):
        for inner in part:
            _reached(inner, schemas, known)
    return known


def _name_of(schema: Json) -> str | None:
    found = schema.get("$ref")
    return found.rsplit("/", 1)[-1] if isinstance(found, str) else None


def _python(name: str) -> str:
    """`controlplane__rollouts__plan__Role` to `RolloutsPlanRole`: two rooms may use one word. `Role-Input` to `RoleInput`."""
    parts = [part for part in re.split(r"__|-", name) if part != "controlplane"]
    return "".join(part[:1].upper() + part[1:] for part in parts)


def _words(name: str, schema: Json) -> str:
    words = [f'"{word}"' if isinstance(word, str) else str(word) for word in schema["enum"]]
    line = f"{_python(name)} = Literal[{', '.join(words)}]"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([f"{_python(name)} = Literal[", *(f"    {word}," for word in words), "]"])


def _class(name: str, schema: Json) -> str:
    lines = [f"class {_python(name)}(TypedDict):"]
    if text := " ".join(schema.get("description", "").split()):
        lines += _docstring(text)
    always = set(schema.get("required", ()))
    for field, inner in schema.get("properties", {}).items():
        # What has a default is always in an answer; as a body's field it may be left out.
        kind = _type(inner)
        line = f"    {field}: {kind if field in always else f'NotRequired[{kind}]'}"
        lines.append(line)
    if len(lines) == 1:
        lines.append("    pass")
    return "\n".join(lines)


def _docstring(text: str) -> Iterator[str]:
    rows = textwrap.wrap(text, _WIDTH - 12)
    if len(rows) == 1:
        yield f'    """{rows[0]}"""'
    else:
        yield f'    """{rows[0]}'
        yield from (f"    {row}" for row in rows[1:])
        yield '    """'
    yield ""


def _type(schema: Json) -> str:
    name = _name_of(schema)
    if name is not None:
        return _python(name)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return _either([_type(part) for part in schema[word]])
    if "const" in schema:
        return f"Literal[{_literal(schema['const'])}]"
    if "enum" in schema:
        return f"Literal[{', '.join(map(_literal, schema['enum']))}]"
    match schema.get("type"):
        case "array" if "prefixItems" in schema:
            kinds = [_type(part) for part in schema["prefixItems"]]
            return f"list[{_either(kinds)}]"  # JSON has no tuples
        case "array":
            return f"list[{_type(schema.get('items', {}))}]"
        case "object":
            values = schema.get("additionalProperties")
            return f"dict[str, {_type(values) if isinstance(values, dict) else 'Any'}]"
        case str() as kind:
            return _PLAIN[kind]
    return "Any"


def _literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _either(kinds: list[str]) -> str:
    return " | ".join(dict.fromkeys(kinds))
