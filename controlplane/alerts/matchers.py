"""Matchers of labels, as Alertmanager writes them: `severity="page"`, `pool!=lab`, `alertname=~"Pool.*"`, `team!~"a|b"`. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controlplane.errors import Invalid

_WRITTEN = re.compile(r'\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(=~|!~|!=|=)\s*(?:"((?:[^"\\]|\\.)*)"|([^"\s]*))\s*')


@dataclass(frozen=True, slots=True)
class Matcher:
    """operator: `=`, `!=`, `=~` or `!~`. A label that is not there is the empty text."""

    name: str
    operator: str
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        has = labels.get(self.name, "")
        if self.operator in {"=", "!="}:
            return (has == self.value) == (self.operator == "=")
        return (re.fullmatch(self.value, has) is not None) == (self.operator == "=~")


def parse(text: str) -> Matcher:
    """Raises Invalid for what is no matcher, or holds a pattern that is none."""
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise Invalid(f'{text!r} is not a matcher: write it like severity="page" or alertname=~"Pool.*"')
    name, operator, quoted, bare = found.groups()
    value = bare if quoted is None else re.sub(r"\\(.)", r"\1" if operator in {"=", "!="} else r"\\\1", quoted)
    if operator in {"=~", "!~"}:
        try:
            re.compile(value)
        except re.error as error:
            raise Invalid(f"{text!r}: the pattern is none: {error}") from None
    return Matcher(name, operator, value)


def all_match(matchers: Iterable[str], labels: Mapping[str, str]) -> bool:
    return all(parse(text).matches(labels) for text in matchers)
