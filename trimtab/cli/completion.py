"""What the shell may complete: words that are known here, and names that a reachable control plane tells.

Completion must never get in the way: without an answer in a moment there is nothing to propose, and no word about it.
"""

from collections.abc import Callable, Iterable

from inference_node.contract.settings import KNOBS
from trimtab.client import ApiClient
from trimtab.connection import resolve
from trimtab.errors import CommandError

Proposals = list[tuple[str, str]]  # the word, and what it is
PATIENCE_S = 2.0
_LATEST = 20


def pools(incomplete: str) -> Proposals:
    return _asked(incomplete, lambda api: ((pool["name"], pool["model"]) for pool in api.pools()))


def nodes(incomplete: str) -> Proposals:
    return _asked(incomplete, lambda api: ((node["name"], f"{node['pool']}, {node['health']}") for node in api.nodes()))


def rollouts(incomplete: str) -> Proposals:
    """The latest, newest first."""
    return _asked(
        incomplete, lambda api: ((row["id"], f"{row['phase']}: {row['reason']}") for row in api.rollouts(limit=_LATEST))
    )


def knobs(incomplete: str) -> Proposals:
    """`KNOB=`; the value is for who types."""
    return [row for knob in KNOBS.values() if (row := (f"{knob.name}=", knob.help))[0].startswith(incomplete)]


def _asked(incomplete: str, ask: Callable[[ApiClient], Iterable[tuple[str, str]]]) -> Proposals:
    try:
        with ApiClient(resolve(None), timeout_s=PATIENCE_S) as api:
            return [row for row in ask(api) if row[0].startswith(incomplete)]
    except CommandError:
        return []
