"""What in a new API description would break a client written against an old one.

A client breaks when what it sends is no longer taken, or what it reads is no longer there. So requests may only widen and
answers may only narrow: a new optional field is fine in both, a field gone from an answer or newly required in a request is not.
New words in an enumeration of an answer are allowed: clients are told to expect words that they do not know.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]
Direction = Literal["request", "response"]

_METHODS = ("get", "post", "put", "patch", "delete", "head", "options")
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def breaking_changes(old: Json, new: Json) -> list[str]:
    """One sentence each, in the order of the old description; empty when every client of the old one can stay as it is."""
    return list(_Comparison(old, new).paths())


@dataclass(frozen=True, slots=True)
class _Comparison:
    old: Json
    new: Json

    def paths(self) -> Iterator[str]:
        for path, item in self.old["paths"].items():
            for method in _METHODS:
                if method not in item:
                    continue
                at = f"{method.upper()} {path}"
                after = self.new["paths"].get(path, {}).get(method)
                if after is None:
                    yield f"{at}: is gone"
                else:
                    yield from self._operation(at, item[method], after)

    def _operation(self, at: str, old: Json, new: Json) -> Iterator[str]:
        yield from self._parameters(at, old.get("parameters", []), new.get("parameters", []))
        before, after = old.get("requestBody"), new.get("requestBody")
        if after is not None and after.get("required") and not (before or {}).get("required"):
            yield f"{at}: a body is required now"
        if before is not None:
            yield from self._contents(f"{at} body", before, after or {}, "request")
        for status, answer in old["responses"].items():
            if not status.startswith("2"):
                continue  # which error it is stands in the problem document, whose shape all share
            if status not in new["responses"]:
                yield f"{at}: no longer answers {status}"
            else:
                yield from self._contents(f"{at} {status}", answer, new["responses"][status], "response")

    def _parameters(self, at: str, old: list[Json], new: list[Json]) -> Iterator[str]:
        before = {(row["in"], row["name"].lower()): row for row in old}
        after = {(row["in"], row["name"].lower()): row for row in new}
        for key, row in before.items():
            where = f"{at} {key[0]} parameter {row['name']}"
            if key not in after:
                yield f"{where}: is gone"
                continue
            if after[key].get("required") and not row.get("required"):
                yield f"{where}: is required now"
            yield from self._schema(where, row.get("schema", {}), after[key].get("schema", {}), "request", ())
        for key, row in after.items():
            if key not in before and row.get("required"):
                yield f"{at} {key[0]} parameter {row['name']}: is new and required"

    def _contents(self, at: str, old: Json, new: Json, direction: Direction) -> Iterator[str]:
        for media, content in old.get("content", {}).items():
            if media not in new.get("content", {}):
                yield f"{at}: {media} is gone"
            else:
                after = new["content"][media].get("schema", {})
                yield from self._schema(at, content.get("schema", {}), after, direction, ())

    def _schema(self, at: str, old: Json, new: Json, direction: Direction, seen: tuple[Any, ...]) -> Iterator[str]:
        pair = (old.get("$ref"), new.get("$ref"))
        if all(pair) and pair in seen:
            return
        seen = (*seen, pair)
        # What must be understood on the other side: all that clients may send, all that they may be answered.
        if direction == "request":
            must, known = _alternatives(old, self.old), _alternatives(new, self.new)
        else:
            must, known = _alternatives(new, self.new), _alternatives(old, self.old)
        for one in must:
            match = _match(one, known)
            if match is None:
                says = "no longer takes {}" if direction == "request" else "may be {} now"
                yield f"{at}: {says.format(_kind(one))}"
                continue
            before, after = (one, match) if direction == "request" else (match, one)
            yield from self._alike(at, before, after, direction, seen)

    def _alike(self, at: str, old: Json, new: Json, direction: Direction, seen: tuple[Any, ...]) -> Iterator[str]:
        if direction == "request":
            yield from _narrowed(at, old, new)
        before, after = old.get("properties", {}), new.get("properties", {})
        was, must = set(old.get("required", ())), set(new.get("required", ()))
        for name, schema in before.items():
            if name not in after:
                if direction == "response" or new.get("additionalProperties") is False:
                    yield f"{at}: {name} is gone"
            else:
                yield from self._schema(f"{at}: {name}", schema, after[name], direction, seen)
        if direction == "request":
            yield from (f"{at}: {name} is required now" for name in sorted(must - was))
        else:
            yield from (f"{at}: {name} may be absent now" for name in sorted((was - must) & set(after)))
        for part in ("items", "additionalProperties"):
            if isinstance(old.get(part), dict) and isinstance(new.get(part), dict):
                yield from self._schema(f"{at} {part}", old[part], new[part], direction, seen)


def _alternatives(schema: Json, api: Json) -> list[Json]:
    """The schema without references, as the list of what it may be."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rsplit("/", 1)[-1]
        return [{"x-name": name, **one} for one in _alternatives(api["components"]["schemas"][name], api)]
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return [one for part in schema[word] for one in _alternatives(part, api)]
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": kind} for kind in schema["type"]]
    return [schema]


def _kind(schema: Json) -> str:
    return str(schema.get("type", "anything"))


def _match(one: Json, known: list[Json]) -> Json | None:
    """The alternative of the other side that stands for this one: of the same name, else of the same kind."""
    alike = [other for other in known if _kind(other) in (_kind(one), "anything")]
    wider = [other for other in known if (_kind(one), _kind(other)) == ("integer", "number")]
    named = [other for other in alike if "x-name" in one and other.get("x-name") == one["x-name"]]
    return next(iter([*named, *alike, *wider]), None)


def _narrowed(at: str, old: Json, new: Json) -> Iterator[str]:
    words = set(map(str, old.get("enum", ()))) - set(map(str, new.get("enum", ())))
    if "enum" in new and words:
        yield f"{at}: no longer takes {', '.join(sorted(words))}"
    if "enum" in new and "enum" not in old:
        yield f"{at}: takes only {', '.join(map(str, new['enum']))} now"
    for name in _LOWER:
        if name in new and (name not in old or new[name] > old[name]):
            yield f"{at}: {name} is {new[name]} now"
    for name in _UPPER:
        if name in new and (name not in old or new[name] < old[name]):
            yield f"{at}: {name} is {new[name]} now"
    if "pattern" in new and new["pattern"] != old.get("pattern"):
        yield f"{at}: must match {new['pattern']} now"
