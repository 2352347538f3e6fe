"""A page of plots of a surge: one HTML file that needs nothing else, drawn from the document alone."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _HEIGHT, _LEFT = 860, 120, 70
_BAR, _GAP, _NAMES = 16, 6, 190
_STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; max-width: 960px; margin: 2rem auto; padding: 0 1rem;
  color: #1d2433; background: #fff }
svg { width: 100%; height: auto } text { font: 12px system-ui, sans-serif; fill: #1d2433 }
.bar { fill: #8d99ae } .own { fill: #1f6feb } .best { fill: #3a7d44 } .whisker { stroke: #1d2433; stroke-width: 1.5 }
.load { stroke: #1d2433; fill: none; stroke-width: 1.2 } .wait { stroke: #c1121f; fill: none; stroke-width: 1.2 }
.met { fill: #3a7d44; opacity: .55 } .axis { stroke: #c5cad5 } .change { stroke: #1f6feb; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) {
  body { background: #14181f; color: #e6e9ef } text { fill: #e6e9ef } .load, .whisker { stroke: #e6e9ef } }
"""

Row = Mapping[str, Any]


def page(report: Mapping[str, Any]) -> str:
    """The whole document."""
    goal, load = report["objectives"], report["load"]
    words = (
        f"{report['machine']['cpu']}, {report['machine']['cores']} cores, {report['options']['nodes']} nodes, {report['model']}. "
        f"Within the objectives: first token in {goal['ttft_s']:.3f} s, {goal['mean_gap_ms']:.1f} ms between tokens. "
        f"Calm {load['calm_rps']:.2f}, surge {load['surge_rps']:.2f} requests/s. Whiskers: 95 % intervals (Wilson)."
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in report["notes"])
    courses = "".join(_course(row) for row in report["results"] if "is" not in row)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Surge</title><style>{_STYLE}</style><h1>Surge</h1>'
        f"<p>{escape(words)}</p><h2>Share of requests within the objectives</h2>{_bars(report['results'])}"
        f"{_sign(report['sign'])}<ul>{notes}</ul><h2>Course</h2><p>Requests per second (line), waiting for their first "
        "token (red), share within the objectives (green, to the top at 100 %), changes at a node (dashed); the first run of "
        "each.</p>"
        f"{courses}</html>\n"
    )


def _sign(sign: Row) -> str:
    first, second = sign["trimtab_over_static_best_points"], sign["static_best_over_default_points"]
    if first is None or second is None:
        return "<p>Not everything that the comparison needs was run.</p>"
    budget = "within" if sign["trimtab_within_budget"] else "above"
    return (
        f"<p>trimtab over static-best: {first:+.2f} points ({budget} the quality budget). static-best over default: "
        f"{second:+.2f} points.</p>"
    )


def _bars(rows: Sequence[Row]) -> str:
    scale = (_WIDTH - _NAMES - 230) / 100
    drawn = []
    for number, row in enumerate(rows):
        y = _GAP + number * (_BAR + _GAP)
        share = 100 * (row["slo_attainment"] or 0.0)
        low, high = (100 * bound for bound in row["slo_attainment_interval"])
        kind = "own" if row["policy"] == "trimtab" else "best" if "is" in row else "bar"
        loss = "" if row["quality_loss"] is None else f", quality loss {100 * row['quality_loss']:.2f} %"
        middle, left, right = y + _BAR // 2, _NAMES + low * scale, _NAMES + high * scale
        drawn.append(
            f'<text x="0" y="{y + 12}">{escape(row["policy"])}</text>'
            f'<rect class="{kind}" x="{_NAMES}" y="{y}" width="{share * scale:.1f}" height="{_BAR}"/>'
            f'<line class="whisker" x1="{left:.1f}" y1="{middle}" x2="{right:.1f}" y2="{middle}"/>'
            f'<text x="{right + 6:.1f}" y="{y + 12}">{share:.2f} %{loss}</text>'
        )
    return _svg(len(rows) * (_BAR + _GAP) + _GAP, "Share within objectives by policy", "".join(drawn))


def _course(row: Row) -> str:
    run = row["runs"][0]
    moments = run["course"]
    start, end = float(moments[0]["t_s"]), float(moments[-1]["t_s"]) + 10

    def x(t: float) -> float:
        return _LEFT + (_WIDTH - _LEFT) * (t - start) / (end - start)

    met = "".join(
        f'<rect class="met" x="{x(m["t_s"]):.1f}" y="{_HEIGHT * (1 - m["attainment"]):.1f}" '
        f'width="{x(m["t_s"] + 10) - x(m["t_s"]):.1f}" height="{_HEIGHT * m["attainment"]:.1f}"/>'
        for m in moments
        if m["attainment"] is not None
    )
    load, most_load = _line(moments, "offered_rps", x)
    wait, most_wait = _line(moments, "waiting", x)
    marks = "".join(
        f'<line class="change" x1="{x(each["t_s"]):.1f}" y1="0" x2="{x(each["t_s"]):.1f}" y2="{_HEIGHT}"/>'
        for each in run["timeline"]
        if each["what"] == "in force" and start <= each["t_s"] <= end
    )
    axis = f'<line class="axis" x1="{_LEFT}" y1="{_HEIGHT}" x2="{_WIDTH}" y2="{_HEIGHT}"/>'
    legend = (
        f'<text x="0" y="14">{most_load:.1f} req/s</text><text x="0" y="30">{most_wait:.0f} waiting</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT + 16}">{start:.0f} s</text><text x="{_WIDTH - 50}" y="{_HEIGHT + 16}">{end:.0f} s</text>'
    )
    drawn = f'{met}{axis}<path class="load" d="{load}"/><path class="wait" d="{wait}"/>{marks}{legend}'
    words = f"<h3>{escape(row['policy'])}</h3>"
    return words + _svg(_HEIGHT + 20, f"Course of {row['policy']}", drawn) + _timeline(run["timeline"])


def _timeline(entries: Sequence[Row]) -> str:
    if not entries:
        return ""
    return "<ul>" + "".join(f"<li>{each['t_s']:.0f} s: {escape(_words(each))}</li>" for each in entries) + "</ul>"


def _words(entry: Row) -> str:
    changes = ", ".join(f"{knob} {a} to {b}" for knob, (a, b) in (entry.get("changes") or {}).items())
    match entry["what"]:
        case "decision":
            return f"decided ({entry['reason']}): {changes}. {entry['words']}"
        case "in force":
            return f"in force on {entry['node']}: {changes}"
        case _:
            return f"rollout ended, {entry['phase']}: {entry['words']}"


def _line(moments: Sequence[Row], fact: str, x: Callable[[float], float]) -> tuple[str, float]:
    """The path and its highest value."""
    most = max((moment[fact] for moment in moments), default=0.0) or 1.0
    points = (f"{x(moment['t_s'] + 5):.1f} {_HEIGHT * (1 - moment[fact] / most):.1f}" for moment in moments)
    return "M" + " L".join(points), most


def _svg(height: int, title: str, content: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">{content}</svg>'
