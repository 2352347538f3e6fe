"""Reports as tables for people: the same in a terminal and in the documentation, so that no figure is ever typed by hand."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference_node.errors import Invalid

Json = Mapping[str, Any]

_BESIDE = "Our node over peers of the same precision, and pruned over dense, repeat by repeat"


@dataclass(frozen=True, slots=True)
class Table:
    """`notes` are whole sentences below it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        lines = [f"**{self.title}**", "", _line(self.columns), _line(["---"] * len(self.columns))]
        lines += [_line(row) for row in self.rows]
        return "\n".join([*lines, "", *(f"{note}\n" for note in self.notes)])


def tables(document: Json) -> list[Table]:
    """Of one report. Raises Invalid for a document that is none, or of a kind without tables."""
    kind = str(document.get("benchmark"))
    if kind not in _KINDS:
        raise Invalid(f"this is no report with tables (benchmark: {kind}); there are: {', '.join(_KINDS)}")
    try:
        return [table for table in _KINDS[kind](document) if table.rows]
    except (KeyError, TypeError, AttributeError) as error:
        raise Invalid(f"this {kind} report lacks {error}: it is damaged, or of another version") from None


def figure(value: float | None, digits: int = 3) -> str:
    """To `digits` places that count, thousands in full; a dash for what was not measured."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def _engine(document: Json) -> list[Table]:
    load = document["load"]
    shape = f"{load['prompt_tokens']} tokens in, {load['output_tokens']} out, greedy, {load['repeats']} repeats"
    return [
        _streams(document, f"{document['model']['name']}: {shape}"),
        _ratios(document["ratios"], _BESIDE, "TTFT", "ttft_p50"),
        _prefix(document["prefix"]),
        _ratios(document["prefix_ratios"], "Shared prefix, over peers of the same precision", "warm TTFT", "ttft_warm"),
        _memory(document),
    ]


def _streams(document: Json, title: str) -> Table:
    rows = []
    for row in document["results"]:
        spread = row["output_tokens_per_s_spread"]
        ttft, tpot, itl = row["ttft_ms"], row["tpot_ms"], row["itl_ms"]
        rows.append(
            (
                row["contender"],
                str(row["concurrency"]),
                f"{figure(row['output_tokens_per_s'])} ({figure(spread['min'])} to {figure(spread['max'])})",
                "/".join(figure(ttft[at]) for at in ("p50", "p95", "p99")),
                "/".join(figure(tpot[at]) for at in ("p50", "p95", "p99")),
                "/".join(figure(itl[at]) for at in ("p50", "p95", "p99")),
                _percent(row["roofline_ratio"]),
                str(row["errors"]),
                f"{row['disturbed']}/{len(row['runs'])}",
            )
        )
    columns = (
        "engine",
        "streams",
        "output tokens/s",
        "TTFT ms p50/95/99",
        "TPOT ms p50/95/99",
        "ITL ms p50/95/99",
        "of read bandwidth",
        "errors",
        "disturbed",
    )
    return Table(title, columns, tuple(rows), _notes(document))


def _notes(document: Json) -> tuple[str, ...]:
    runs = [run for row in document["results"] for run in row["runs"]]
    hardware = document["hardware"]
    notes = [
        f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_mb']:,} MB; Trimtab "
        f"{document['versions']['trimtab']}, Python {document['versions']['python']}. Median of the undisturbed repeats "
        "(least to greatest); disturbed are repeats in which others took more than 5 % of all cores."
    ]
    if rates := [run["rates"] for run in runs if run["rates"]]:
        reads = (
            f"{size} MB {_range([rate['read_gb_s'][size] for rate in rates])} GB/s" for size in rates[0]["read_gb_s"]
        )
        tflops = _range([rate["bf16_tflops"] for rate in rates])
        notes.append(f"Measured between the runs: read bandwidth {', '.join(reads)}; bf16 product {tflops} TFLOP/s.")
    if runs:
        client = _range([100 * run["occupancy"]["client_ratio"] for run in runs])
        notes.append(f"The client took {client} % of all cores.")
    if document.get("interrupted"):
        notes.append("Interrupted: some rows stand on fewer repeats, and some are missing.")
    if document.get("silent"):
        notes.append(f"Gave no answer at some load and was left out from there on: {', '.join(document['silent'])}.")
    return tuple(notes)


def _ratios(ratios: Sequence[Json], title: str, what: str, key: str) -> Table:
    rows = [
        (
            row["contender"],
            row["peer"] + (" (best)" if row["best_peer"] else ""),
            str(row["concurrency"]),
            _ratio(row["output_tokens_per_s"]),
            _ratio(row[key]),
        )
        for row in ratios
        if row["same_precision"]
    ]
    columns = ("ours", "peer", "streams", "throughput", what)
    return Table(title, columns, tuple(rows))


def _prefix(prefix: Sequence[Json]) -> Table:
    rows = [
        (
            row["contender"],
            figure(row["ttft_cold_ms"]["p50"]),
            figure(row["ttft_warm_ms"]["p50"]),
            _ratio(row["ttft_warm_over_cold"]),
            f"{figure(row['output_tokens_per_s'])} ({_least_to_greatest(row['output_tokens_per_s_spread'])})",
            str(row["errors"]),
            f"{row['disturbed']}/{len(row['runs'])}",
        )
        for row in prefix
    ]
    columns = ("engine", "TTFT cold ms", "TTFT warm ms", "warm/cold", "output tokens/s", "errors", "disturbed")
    title = "Shared prefix: 512 shared and 32 own tokens in, 32 out; 32 requests at 8 streams"
    return Table(title, columns, tuple(rows))


def _memory(document: Json) -> Table:
    rows = [
        (
            fact["name"],
            fact["version"] or "-",
            figure(fact["ready_s"]),
            figure(fact["rss_ready_mb"], 4),
            figure(fact["peak_rss_mb"], 4),
        )
        for fact in document["contenders"]
    ]
    columns = ("engine", "version", "ready after s", "resident when ready MB", "peak resident MB")
    return Table("Memory and start", columns, tuple(rows))


def _reconfigure(document: Json) -> list[Table]:
    truth = [
        ("changes asked / applied / refused", f"{document['changes']} / {document['applied']} / {document['refused']}"),
        ("answers in all", str(document["answers"])),
        ("failed requests", str(document["failed_requests"])),
        ("truncated answers", str(document["truncated_requests"])),
        ("duplicated tokens", str(document["duplicated_tokens"])),
        ("lost tokens", str(document["lost_tokens"])),
        ("ITL p99, steady, ms", figure(document["itl_steady_ms"]["p99"])),
        ("ITL p99, while changing, ms", figure(document["itl_changing_ms"]["p99"])),
        ("ITL p99, changing over steady", figure(document["itl_p99_ratio"])),
    ]
    kinds = tuple(
        (
            row["kind"],
            str(row["applied"]),
            "/".join(figure(row["steps"][at]) for at in ("min", "p50", "max")) if row["steps"] else "-",
            "/".join(figure(row["apply_ms"][at]) for at in ("p50", "p99", "max")),
        )
        for row in document["kinds"]
    )
    hardware = document["hardware"]
    return [
        Table(
            f"{document['changes']} live changes under {document['load']['streams']} streams",
            ("what", "count or time"),
            tuple(truth),
            (f"{hardware['cpu']}, {hardware['cores']} cores; model {document['model']}.", _calm(document)),
        ),
        Table("Time to effect", ("kind of change", "applied", "steps least/p50/most", "ms p50/99/most"), kinds),
    ]


def _level(row: Json) -> str:
    """As in int8@0.25, kv int8."""
    pruned = f"@{row['pruning_threshold']:g}" if row["pruning_threshold"] else ""
    kept = "" if row["kv_precision"] == "model" else f", kv {row['kv_precision']}"
    return f"{row['precision']}{pruned}{kept}"


def _quality(document: Json) -> list[Table]:
    rows = tuple(
        (
            _level(row),
            f"{row['perplexity']:.3f}",
            f"{row['perplexity_ratio']:.4f} ± {row['perplexity_ratio_error']:.4f}",
            f"{row['kl_mean']:.4f}",
            f"{row['kl_p99']:.3f}",
            f"{100 * row['top1_agreement']:.1f} %",
            f"{row['kept_ratio']:.3f}",
            figure(row["weight_bytes"] / 1e6),
            row["standing"],
        )
        for row in document["results"]
    )
    columns = ("level", "ppl", "ratio", "KL mean", "KL p99", "top 1", "kept", "MB", "standing")
    ceiling, tokens = document["ceiling"], document["results"][0]["tokens"]
    notes = (
        f"{tokens:,} tokens of held-out text, teacher-forced. ppl: perplexity, and its ratio to bf16's ± standard "
        "error. KL: divergence from bf16 "
        "in nats per token, over its 64 likeliest tokens and the sum of the rest (a lower bound). top 1: tokens whose likeliest "
        "successor is the same. kept: weights of the layers that rows had use for. MB: weights in memory.",
        f"Certified up to {ceiling['max_perplexity_ratio']:g} of bf16's perplexity and a mean KL of {ceiling['max_kl']:g}.",
    )
    return [Table(f"Quality of {document['model']} against bf16", columns, rows, notes)]


def _calm(document: Json) -> str:
    """Whether the times of a single window can be trusted."""
    window = document["occupancy"]
    if window is None:
        return "Who else used the processor is not known: the node was not ours to look into."
    others = f"Others took {100 * (window['foreign_ratio'] + window['stolen_ratio']):.0f} % of all cores"
    return f"**{others}: the times are disturbed, the counts are not.**" if document["disturbed"] else f"{others}."


_KINDS: Mapping[str, Callable[[Json], list[Table]]] = {
    "engine": _engine,
    "reconfigure": _reconfigure,
    "quality": _quality,
}


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{100 * ratio:.0f} %"


def _ratio(ratio: Json | None) -> str:
    return "-" if ratio is None else f"{figure(ratio['median'])}x ({_least_to_greatest(ratio)})"


def _least_to_greatest(spread: Json) -> str:
    return f"{figure(spread['min'])} to {figure(spread['max'])}"


def _range(values: Sequence[float]) -> str:
    return f"{figure(statistics.median(values))} ({figure(min(values))} to {figure(max(values))})"
