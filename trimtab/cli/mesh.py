"""`trimtab mesh`: how a service mesh shares requests out between old and new settings."""

import json
from pathlib import Path
from typing import Annotated

import typer

from controlplane.client.types import MeshKind, MeshOut
from trimtab.cli import completion
from trimtab.cli.output import (
    AsJson,
    DataDir,
    PoolName,
    age,
    client,
    only_pool,
    pool_id,
    print_facts,
    print_json,
    print_table,
)
from trimtab.client import ApiClient
from trimtab.errors import CommandError, UsageError

app = typer.Typer(help="Traffic beside settings: Istio and Gateway API routes.", no_args_is_help=True)
Rollout = Annotated[
    str | None,
    typer.Argument(
        help="Id of a rollout; without it the pool's state now.", show_default=False, autocompletion=completion.rollouts
    ),
]
Format = Annotated[
    str | None,
    typer.Option("--format", help="istio or gateway-api; by default as the policy says.", show_default=False),
]
_KINDS: dict[str, MeshKind] = {"istio": "istio", "gateway-api": "gateway_api", "gateway_api": "gateway_api"}


@app.command("show")
def show(rollout: Rollout = None, pool: PoolName = None, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """The weights, the nodes of both arms, and whether the cluster has them."""
    with client(data_dir) as api:
        document = _read(api, rollout, pool, None)
    if as_json:
        print_json(document)
        return
    applied = document["applied"]
    facts: list[tuple[str, object]] = [
        ("pool", document["pool"]),
        ("rollout", document["rollout_id"]),
        ("route", document["kind"]),
        ("why", document["why"]),
    ]
    if applied is not None:
        known = f"generation {applied['applied_generation']} of {applied['generation']}, {age(applied['applied_at'])}"
        facts += [("in force", known), ("error", applied["error"])]
    print_facts(facts)
    arms = (("baseline", document["baseline"]), ("canary", document["canary"]))
    rows = [(name, arm["service"], f"{arm['weight']} %", ", ".join(arm["nodes"]) or None) for name, arm in arms]
    print_table("\nArms", ("arm", "service", "requests", "nodes"), rows, "")


@app.command("export")
def export(
    rollout: Rollout = None,
    pool: PoolName = None,
    kind: Format = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A file; by default standard output.", show_default=False)
    ] = None,
    as_json: AsJson = True,
    data_dir: DataDir = None,
) -> None:
    """The route as a document for `kubectl apply --server-side -f -`: JSON, with and without --json."""
    if kind is not None and kind not in _KINDS:
        raise UsageError(f"--format {kind}: there are istio and gateway-api")
    with client(data_dir) as api:
        document = _read(api, rollout, pool, None if kind is None else _KINDS[kind])
    if out is None:
        print_json(document["manifest"])
        return
    try:
        out.write_text(json.dumps(document["manifest"], indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"--out {out}: {error.strerror or error}") from None


def _read(api: ApiClient, rollout: str | None, pool: str | None, kind: MeshKind | None) -> MeshOut:
    if rollout is None:
        return api.pool_mesh(pool_id(api, pool) or only_pool(api), kind=kind)
    if pool is not None:
        raise UsageError("name a rollout or a --pool, not both")
    return api.rollout_mesh(rollout, kind=kind)
