"""`trimtab status`: is everything well?"""

from trimtab.cli.output import AsJson, DataDir, age, client, number, print_facts, print_json, print_table, seconds
from trimtab.client import Json
from trimtab.connection import resolve


def status(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Health of the control plane's processes and of each pool."""
    with client(data_dir) as api:
        system, fleet = api.get("/system"), api.get("/fleet")
    if as_json:
        print_json({"url": resolve(data_dir).url, "system": system, "fleet": fleet})
        return
    print_facts(_system(system))
    print_table(
        "\nProcesses",
        ("kind", "name", "alive", "last seen"),
        [(p["kind"], p["name"], "yes" if p["alive"] else "no", age(p["at"])) for p in system["processes"]],
        "no process has reported yet",
    )
    print_table(
        "\nPools",
        ("pool", "model", "nodes ready", "in sync", "load", "TTFT p95", "ITL p95", "breach", "burn", "last decision"),
        [_pool(pool) for pool in fleet["pools"]],
        "\nno pool yet: a node that enrols makes the first",
    )


def _system(system: Json) -> list[tuple[str, object]]:
    outbox = system["outbox"]
    return [
        ("version", system["version"]),
        ("database", f"{system['database']['kind']}, revision {system['database']['revision']}"),
        *_leaders(system),
        ("Prometheus", _reachable(system["prometheus"])),
        ("Redis", _reachable(system["redis"])),
        ("outbox", f"{outbox['open']} open, {outbox['dead']} dead"),
        ("frozen pools", system["frozen_pools"]),
        *_frozen(system["frozen"]),
    ]


def _frozen(freeze: Json | None) -> list[tuple[str, object]]:
    if freeze is None:
        return []
    return [("everything is frozen", f"by {freeze['actor']}, {age(freeze['at'])}: {freeze['reason']}")]


def _leaders(system: Json) -> list[tuple[str, object]]:
    leaders, unled = system["leaders"], system["unled_pools"]
    if not leaders:
        return [("leader", "none: nothing is decided or rolled out until a controller runs")]
    shared = len(leaders) > 1
    rows: list[tuple[str, object]] = [
        ("leader", f"{each['holder']}, epoch {each['epoch']}" + (f", pools: {each['pools']}" if shared else ""))
        for each in leaders
    ]
    return [*rows, ("pools without leader", unled)] if unled else rows


def _reachable(check: Json) -> str:
    return "ok" if check["ok"] else f"not reachable: {check['detail']}"


def _pool(pool: Json) -> tuple[object, ...]:
    latest, decision = pool["latest"] or {}, pool["last_decision"]
    breach = pool["breach_probability"]
    return (
        pool["name"],
        pool["model"],
        f"{pool['ready']}/{pool['nodes']}",
        f"{pool['in_sync']}/{pool['nodes']}",
        number(latest.get("offered_rps"), "req/s"),
        seconds(latest.get("ttft_p95_s")),
        seconds(latest.get("itl_p95_s")),
        None if breach is None else f"{breach:.0%}",
        _burn(pool["error_budget"]),
        f"{decision['outcome']} ({decision['reason']}), {age(decision['at'])}" if decision else None,
    )


def _burn(budget: Json | None) -> str | None:
    """How many times faster than lasts the error budget is spent."""
    if budget is None or budget["burn_rate"] is None:
        return None
    return f"{budget['burn_rate']:.1f}x" + (", freezes" if budget["freezes"] else "")
