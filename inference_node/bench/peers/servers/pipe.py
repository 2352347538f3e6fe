"""The engine's end of the pipe to the door: requests as lines of JSON on standard input, tokens as lines on standard output."""

import json
import os
import select
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_STDIN, _STDOUT, _STDERR = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Request:
    """One completion: greedy, and of exactly `max_tokens`, the end of text being a token like any other."""

    number: int
    prompt: tuple[int, ...]
    max_tokens: int


class Pipe:
    """encode: text to ids, for prompts that come as text. decode: one id to its text; remembered, so asked once per id."""

    def __init__(self, encode: Callable[[str], Sequence[int]], decode: Callable[[int], str]) -> None:
        self._encode, self._decode = encode, decode
        self._texts: dict[int, str] = {}
        self._rest = b""
        # Libraries print what they like to standard output; the door shall read nothing but ours.
        self._out = os.dup(_STDOUT)
        os.dup2(_STDERR, _STDOUT)
        self._write({"ready": True})

    def requests(self, wait: bool) -> list[Request]:
        """What has come since the last call; with `wait`, at least one. Ends the process when the door is gone."""
        lines = self._lines(wait)
        while wait and not lines:
            lines = self._lines(wait)
        return [self._request(json.loads(line)) for line in lines]

    def send(self, pieces: Sequence[tuple[int, Sequence[int], bool]]) -> None:
        """(request's number, its new tokens, whether it has ended) of all that a step brought."""
        if pieces:
            self._write(
                [[number, len(tokens), "".join(map(self._text, tokens)), ended] for number, tokens, ended in pieces]
            )

    def _request(self, document: dict[str, Any]) -> Request:
        prompt = document["prompt"]
        ids = tuple(self._encode(prompt)) if isinstance(prompt, str) else tuple(prompt)
        self._write([[document["number"], -len(ids), "", False]])  # below 0: the length of its prompt
        return Request(document["number"], ids, document["max_tokens"])

    def _lines(self, wait: bool) -> list[bytes]:
        if not select.select([_STDIN], [], [], None if wait else 0)[0]:
            return []
        data = os.read(_STDIN, 1 << 20)
        if not data:
            sys.exit(0)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines

    def _text(self, token: int) -> str:
        """Token by token: a character of several tokens comes out as replacement signs, which costs nothing to time."""
        if (text := self._texts.get(token)) is None:
            # An empty text would be no token to the client.
            text = self._texts[token] = self._decode(token) or "\N{REPLACEMENT CHARACTER}"
        return text

    def _write(self, document: object) -> None:
        data = json.dumps(document, separators=(",", ":")).encode() + b"\n"
        while data:
            data = data[os.write(self._out, data) :]


def options(*names: str) -> dict[str, str]:
    """`--name value` pairs of the command line; exits with a line when one is missing."""
    given = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=False))
    if missing := [name for name in names if f"--{name}" not in given]:
        sys.exit(f"missing: {', '.join(f'--{name}' for name in missing)}")
    return {name: given[f"--{name}"] for name in names}
