"""The error budget in plain words: one sentence for decisions, pages, the command line and webhooks."""

from controlplane.decisions.error_budget import Burn, Indicator
from controlplane.decisions.policy import Policy


def said(burn: Burn, policy: Policy) -> str:
    """How fast it burns, and what of; or that this is not known."""
    if burn.rate is None:
        return (
            f"How fast the error budget burns is not known: {burn.known_ratio:.0%} of {_span(burn.window_s)} are, and half is "
            "needed."
        )
    if burn.worst is None:
        return f"Nothing of the error budget was spent in {_span(burn.window_s)}."
    pace = f"{burn.rate:.1f} times too fast" if burn.rate > 1 else f"at {burn.rate:.1f} times the rate that lasts"
    return f"The error budget of {_span(burn.window_s)} burns {pace} ({_what(burn, burn.worst, policy)})."


def blocked(burn: Burn, policy: Policy) -> str:
    return (
        f"{said(burn, policy)} Above {burn.limit:g} the policy allows nothing but what protects, so nothing is relaxed or "
        "tried out."
    )


def over(burn: Burn, policy: Policy) -> str:
    if burn.limit is None:
        return f"The policy no longer limits how fast the error budget burns. {said(burn, policy)}"
    return said(burn, policy)


def _what(burn: Burn, worst: Indicator, policy: Policy) -> str:
    slo, share = policy.slo, _share(burn.bad_ratio)
    match worst:
        case Indicator.FIRST_TOKENS:
            which = f"requests waited longer than {slo.ttft_p95_s:g} s for their first token or were refused"
        case Indicator.GAPS:
            which = f"gaps between tokens took longer than {1000 * slo.itl_p95_s:g} ms"
        case Indicator.ERRORS:
            return f"{share} of requests ended in a server error, {_share(slo.error_rate)} may"
    return f"{share} of {which}, {_share(1 - slo.attainment)} may"


def _share(ratio: float) -> str:
    return f"{100 * ratio:.3g}%"


def _span(window_s: float) -> str:
    if window_s == 3600:
        return "the last hour"
    return f"the last {window_s / 60:.0f} min"
