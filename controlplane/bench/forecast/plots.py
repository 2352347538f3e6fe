"""The benchmark as one HTML page: no script, no file beside it, every figure drawn as SVG from the report's own arrays."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from controlplane.bench.forecast.document import Measured
from controlplane.bench.forecast.load_race import PRODUCT, Entry
from controlplane.bench.forecast.run import Outcome
from controlplane.forecasting.spikes.thresholds import Setting

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#1d2733;background:#fff}
table{border-collapse:collapse;font-size:13px;margin:1rem 0}
td,th{padding:3px 9px;border-bottom:1px solid #dde3ea;text-align:right}
td:first-child,th:first-child,td:nth-child(2),th:nth-child(2){text-align:left}tr.own{font-weight:600}
figure{margin:1.5rem 0}figcaption{font-size:13px;color:#51606f}
svg{width:100%;height:auto;background:#f8fafc;border:1px solid #dde3ea}
"""
_WIDTH, _HEIGHT, _MARGIN = 1000, 220, 34


def page(measured: Measured) -> str:
    """The whole page."""
    document = measured.document
    parts = ["<h1>How well spikes and loads are foreseen</h1>", _facts(document)]
    for title, rows in (
        ("Warnings, scored part", document["results"]),
        ("Warnings, out of fold on the training part", document["development"]),
        ("Warnings, each service as one never seen (day 2 on)", document["strangers"]),
    ):
        if rows:
            parts += [f"<h2>{title}</h2>", _warning_table(rows)]
    if measured.spikes is not None:
        for outcome in measured.spikes.outcomes:
            if outcome.model == PRODUCT and outcome.setting is Setting.WATCH:
                parts.append(_timeline(outcome))
    if document["load"]:
        parts += ["<h2>Load forecasts</h2>", _load_table(document["load"])]
        parts += [_fan(entry) for entry in measured.race if entry.model == PRODUCT and entry.horizon_s == 300.0]
    parts += [f"<p>{escape(note)}</p>" for note in document["notes"]]
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Forecast benchmark</title>'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>"
    )


def _facts(document: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    return (
        f"<p>Trained on {escape(document['train'])}, scored on {escape(document['test'] or 'the last third of each')}; "
        f"seed {document['seed']}; {escape(versions)}.</p>"
    )


def _table(head: Sequence[str], rows: Iterable[tuple[bool, Sequence[object]]]) -> str:
    out = ["<table><thead><tr>", *(f"<th scope='col'>{escape(name)}</th>" for name in head), "</tr></thead><tbody>"]
    for own, cells in rows:
        out.append(f"<tr{' class=own' if own else ''}>")
        out += [f"<td>{'-' if cell is None else escape(str(cell))}</td>" for cell in cells]
        out.append("</tr>")
    return "".join([*out, "</tbody></table>"])


def _warning_table(rows: Sequence[dict[str, Any]]) -> str:
    head = (
        "trace",
        "model",
        "setting",
        "precision",
        "95 %",
        "recall",
        "95 %",
        "F1",
        "95 %",
        "lead s",
        "a day",
        "spikes",
    )
    return _table(head, ((row["model"] == PRODUCT, _warning_cells(row)) for row in rows))


def _warning_cells(row: dict[str, Any]) -> list[object]:
    interval = row["intervals"]
    return [
        row["trace"] + ("" if row["seen"] else " (never seen)"),
        row["model"],
        row["setting"],
        _two(row["precision"]),
        _range(interval["precision"]),
        _two(row["recall"]),
        _range(interval["recall"]),
        _two(row["f1"]),
        _range(interval["f1"]),
        None if row["lead_time_s"]["p50"] is None else f"{row['lead_time_s']['p50']:.0f}",
        f"{row['warnings_per_day']:.1f}",
        row["spikes"],
    ]


def _load_table(rows: Sequence[dict[str, Any]]) -> str:
    head = ("trace", "model", "ahead s", "MASE", "wQL", "80 % band", "90 % band", "fit ms", "predict ms")
    cells = (
        (
            row["model"] == PRODUCT,
            (
                row["trace"],
                row["model"],
                f"{row['horizon_s']:.0f}",
                f"{row['mase']:.3f}",
                f"{row['wql']:.4f}",
                f"{100 * row['coverage_80']:.1f} %",
                f"{100 * row['coverage_90']:.1f} %",
                f"{row['fit_ms']:.0f}",
                f"{row['predict_ms']:.3f}",
            ),
        )
        for row in rows
    )
    return _table(head, cells)


def _timeline(outcome: Outcome) -> str:
    """Latency over the SLO on a log axis, spikes shaded, warnings as ticks: right ones dark, false ones red."""
    case = outcome.case
    start, stop = case.start, len(case.trace)
    log = np.log10(np.maximum(np.nan_to_num(case.trace["ttft_p99"][start:stop]), 1e-3) / case.truth.slo_s)
    low, high = -1.5, max(1.0, float(log.max()))
    scale_x = (_WIDTH - 2 * _MARGIN) / max(stop - start - 1, 1)

    def x(window: float) -> float:
        return _MARGIN + (window - start) * scale_x

    def y(value: float) -> float:
        return _HEIGHT - _MARGIN - (min(max(value, low), high) - low) / (high - low) * (_HEIGHT - 2 * _MARGIN)

    shapes = [
        f'<rect x="{x(begin):.1f}" y="{_MARGIN}" width="{max(1.5, (end - begin) * scale_x):.1f}" '
        f'height="{_HEIGHT - 2 * _MARGIN}" fill="#f6c9a8"/>'
        for begin, end in case.truth.spikes
        if begin >= start
    ]
    # The largest of each pixel's windows: a spike must not vanish between two points.
    width = max(1, (stop - start) // (_WIDTH - 2 * _MARGIN))
    points = " ".join(
        f"{x(start + i):.1f},{y(float(log[i : i + width].max())):.1f}" for i in range(0, stop - start, width)
    )
    shapes.append(f'<polyline points="{points}" fill="none" stroke="#2f5d8a" stroke-width="1"/>')
    shapes.append(
        f'<line x1="{_MARGIN}" x2="{_WIDTH - _MARGIN}" y1="{y(0):.1f}" y2="{y(0):.1f}" stroke="#b33" stroke-dasharray="4 3"/>'
    )
    onsets = case.truth.onsets
    for window in outcome.raised:
        later = onsets[onsets > window]
        right = len(later) > 0 and (later[0] - window) * case.trace.step_s <= 600
        shapes.append(
            f'<path d="M{x(window):.1f} {_HEIGHT - _MARGIN} l-4 14 h8 z" fill="{"#1d2733" if right else "#d62828"}"/>'
        )
    verdict = outcome.verdict
    text = (
        f"{case.name}: p99 time to first token over the SLO ({case.truth.slo_s:.2f} s, dashed), logarithmic, "
        f"{verdict.days:.1f} days. Shaded: "
        f"spikes. Triangles: warnings of the watch setting, red where no spike followed."
    )
    return _figure(shapes, text)


def _fan(entry: Entry) -> str:
    """The last day at most: what came, the median forecast five minutes before, and the 80 % band."""
    shown = min(len(entry.actual), 1440)
    actual, quantiles = entry.actual[-shown:], entry.quantiles[-shown:]
    top = float(max(np.nanmax(quantiles[:, 3]), actual.max(), 1.0))

    def points(values: Any) -> list[str]:
        return [
            f"{_MARGIN + i * (_WIDTH - 2 * _MARGIN) / max(shown - 1, 1):.1f},"
            f"{_HEIGHT - _MARGIN - float(value) / top * (_HEIGHT - 2 * _MARGIN):.1f}"
            for i, value in enumerate(values)
        ]

    band = " ".join([*points(quantiles[:, 1]), *reversed(points(quantiles[:, 3]))])
    shapes = [
        f'<polygon points="{band}" fill="#bcd4ec"/>',
        f'<polyline points="{" ".join(points(quantiles[:, 2]))}" fill="none" stroke="#2f5d8a"/>',
        f'<polyline points="{" ".join(points(actual))}" fill="none" stroke="#1d2733" stroke-width="0.7"/>',
    ]
    text = f"{entry.trace}: requests per minute (dark), forecast five minutes before (blue) and its 80 % band; 0 to {top:.0f}."
    return _figure(shapes, text)


def _figure(shapes: Sequence[str], text: str) -> str:
    drawing = "".join(shapes)
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(text)}">{drawing}</svg>'
        f"<figcaption>{escape(text)}</figcaption></figure>"
    )


def _two(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def _range(interval: Sequence[float] | None) -> str | None:
    return None if interval is None else f"{interval[0]:.2f}-{interval[1]:.2f}"
