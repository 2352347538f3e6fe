"""What a supervisor says: lines for people, or one JSON object a line for programs (`--json`)."""

import contextlib
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any, TextIO


@dataclass(slots=True)
class Reporter:
    """Facts go to standard output as JSON when `as_json`; words for people go to `err`, which is standard error."""

    as_json: bool
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    started: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        return round(time.monotonic() - self.started, 2)

    def event(self, component: str, event: str, words: str, **facts: Any) -> None:
        """One thing that happened to one component. `words` is the same for a person."""
        self.note(component, words)
        if self.as_json:
            self._print(self.out, json.dumps({"component": component, "event": event, **facts}))

    def note(self, component: str, words: str) -> None:
        """Progress: for people only."""
        self._print(self.err, f"[{self.seconds():6.1f} s] {component:<12} {words}")

    def banner(self, text: str) -> None:
        if not self.as_json:
            self._print(self.out, text)

    def _print(self, stream: TextIO, text: str) -> None:
        with contextlib.suppress(OSError):  # whoever read us has gone; the fleet is stopped in good order all the same
            print(text, file=stream, flush=True)


def banner(
    *, sign_in_url: str, url: str, nodes: dict[str, str], model: str, prometheus_url: str, data_dir: str, traffic: bool
) -> str:
    """The last words of a start: every address a person may want."""
    first = next(iter(nodes.values()))
    chat = '{"model":"' + model + '","messages":[{"role":"user","content":"What is a trim tab?"}],"max_tokens":48}'
    lines = [
        "",
        "Trimtab is up.",
        "",
        f"  Web app      {sign_in_url}",
        "               signs in as admin: keep it to yourself. At first it asks for a name and password of yours, or skip it.",
        f"  API docs     {url}/docs",
        *(f"  {name:<12} {address}/v1" for name, address in nodes.items()),
        f"  Prometheus   {prometheus_url}",
        f"  Data         {data_dir}  (logs in {data_dir}/logs)",
        "",
        f"  Ask a node:  curl {first}/v1/chat/completions -H 'content-type: application/json' -d '{chat}'",
        "",
        "  Demo traffic runs: calm for about a minute, then a surge every few minutes."
        if traffic
        else "  No demo traffic: start with --demo-traffic to see surges.",
        "  Ctrl-C stops everything.",
        "",
    ]
    return "\n".join(lines)
