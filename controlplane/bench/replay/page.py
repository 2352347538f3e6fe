"""A page of plots of a replay: one HTML file that needs nothing else, drawn from the results alone."""

from collections.abc import Callable, Sequence
from html import escape
from itertools import pairwise
from typing import Any, Literal

from controlplane.bench.replay.run import Moment, Result

_WIDTH, _HEIGHT, _LEFT = 860, 120, 60
_BAR, _GAP = 16, 6
_STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; max-width: 960px; margin: 2rem auto; padding: 0 1rem;
  color: #1d2433; background: #fff }
svg { width: 100%; height: auto } text { font: 12px system-ui, sans-serif; fill: #1d2433 }
.bar { fill: #8d99ae } .own { fill: #1f6feb } .best { fill: #3a7d44 } .load { stroke: #1d2433; fill: none; stroke-width: 1.2 }
.wait { stroke: #c1121f; fill: none; stroke-width: 1.2 } .fast { fill: #ffd166; opacity: .55 } .axis { stroke: #c5cad5 }
@media (prefers-color-scheme: dark) {
  body { background: #14181f; color: #e6e9ef } text { fill: #e6e9ef } .load { stroke: #e6e9ef } }
"""


def page(results: Sequence[Result], report: dict[str, Any]) -> str:
    """The whole document. results: of every policy, by case in their order."""
    cases: dict[str, list[Result]] = {}
    for result in results:
        cases.setdefault(result.trace, []).append(result)
    options = ", ".join(f"{name} {value}" for name, value in report["options"].items())
    parts = [_case(name, own) for name, own in cases.items()]
    notes = "".join(f"<li>{escape(note)}</li>" for note in report["notes"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Replay</title><style>{_STYLE}</style>'
        f"<h1>Replay</h1><p>Share of requests within their objectives, by policy. {escape(options)}.</p>"
        f"{''.join(parts)}<h2>Load and objectives</h2><ul>{notes}</ul></html>\n"
    )


def _case(name: str, results: Sequence[Result]) -> str:
    own = next((result for result in results if result.policy == "trimtab"), results[-1])
    return f"<h2>{escape(name)}</h2>{_bars(name, results)}{_course(own)}"


def _bars(name: str, results: Sequence[Result]) -> str:
    height = len(results) * (_BAR + _GAP) + _GAP
    scale = (_WIDTH - 330) / 100
    rows = []
    for number, result in enumerate(results):
        y = _GAP + number * (_BAR + _GAP)
        kind = "own" if result.policy.startswith("trimtab") else "best" if result.policy == "oracle" else "bar"
        share = 100 * result.attainment
        rows.append(
            f'<text x="0" y="{y + 12}">{escape(result.policy)}</text>'
            f'<rect class="{kind}" x="120" y="{y}" width="{share * scale:.1f}" height="{_BAR}"/>'
            f'<text x="{126 + share * scale:.1f}" y="{y + 12}">{share:.2f} %, '
            f"quality loss {100 * result.quality_loss:.2f} %</text>"
        )
    return _svg(height, f"Share within objectives by policy, {name}", "".join(rows))


def _course(result: Result) -> str:
    """Offered load and waiting requests over time, shaded where a level other than the first one was in force."""
    moments = result.moments
    if not moments:
        return ""
    end = moments[-1].t or 1.0
    exact = moments[0].level

    def x(t: float) -> float:
        return _LEFT + (_WIDTH - _LEFT) * t / end

    shade = "".join(
        f'<rect class="fast" x="{x(before.t):.1f}" y="0" width="{x(after.t) - x(before.t):.1f}" height="{_HEIGHT}"/>'
        for before, after in pairwise(moments)
        if after.level != exact
    )
    load, most_load = _line(moments, "offered_rps", x)
    wait, most_wait = _line(moments, "waiting", x)
    axis = f'<line class="axis" x1="{_LEFT}" y1="{_HEIGHT}" x2="{_WIDTH}" y2="{_HEIGHT}"/>'
    legend = (
        f'<text x="0" y="14">{most_load:.0f} req/s</text><text x="0" y="{_HEIGHT}">0</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT + 16}">0 s</text><text x="{_WIDTH - 50}" y="{_HEIGHT + 16}">{end:.0f} s</text>'
    )
    words = (
        f"<p>{escape(result.policy)}: offered load (line), waiting requests (red, up to {most_wait:.0f}), "
        f"a faster level in force (shaded); {result.changes} changes.</p>"
    )
    drawn = f'{shade}{axis}<path class="load" d="{load}"/><path class="wait" d="{wait}"/>{legend}'
    return words + _svg(_HEIGHT + 20, f"Course of {result.policy} on {result.trace}", drawn)


def _line(
    moments: Sequence[Moment], fact: Literal["offered_rps", "waiting"], x: Callable[[float], float]
) -> tuple[str, float]:
    """The path and its highest value; what was not seen leaves a hole."""
    values = [getattr(moment, fact) for moment in moments]
    most = max((value for value in values if value is not None), default=0.0) or 1.0
    path, is_down = [], False
    for moment, value in zip(moments, values, strict=True):
        if value is None:
            is_down = False
            continue
        path.append(f"{'L' if is_down else 'M'}{x(moment.t):.1f} {_HEIGHT * (1 - value / most):.1f}")
        is_down = True
    return " ".join(path), most


def _svg(height: int, title: str, content: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">{content}</svg>'
