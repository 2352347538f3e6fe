"""What a burn rate is whatever was served: never negative, higher for each request that was missed, and the same however the
time is cut into windows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.decisions.error_budget import Ledger, Tally, burn_of, tally_of
from controlplane.decisions.policy import Guardrails, Policy, Slo
from controlplane.telemetry.observation import Observation, Quality, missing

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
counts = st.floats(0, 1e6, allow_nan=False)
shares = st.floats(0, 1)
maybe = st.none() | counts
policies = st.builds(
    lambda attainment, error_rate, limit: Policy(
        slo=Slo(attainment=attainment, error_rate=error_rate), guardrails=Guardrails(max_burn_rate=limit)
    ),
    st.floats(0.5, 0.9999),
    st.floats(0, 1),
    st.none() | st.floats(1, 100),
)


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    first, gaps, answers = draw(counts), draw(counts), draw(counts)
    return Tally(
        known_s=draw(st.floats(0, 4000)),
        first_tokens=first,
        late=draw(shares) * first,
        gaps=gaps,
        long_gaps=draw(shares) * gaps,
        answers=answers,
        errors=draw(shares) * answers,
    )


@st.composite
def windows(draw: st.DrawFn) -> list[Observation]:
    """One a minute, each with whatever figures, trusted or not."""
    found = []
    for minute in range(draw(st.integers(1, 20))):
        first, gaps = draw(maybe), draw(maybe)
        found.append(
            Observation(
                NOW + timedelta(minutes=minute),
                60.0,
                draw(st.sampled_from(Quality)),
                requests=draw(maybe),
                errors=draw(maybe),
                rejected=draw(maybe),
                ttft_count=first,
                ttft_slow=None if first is None else draw(shares) * first,
                itl_count=gaps,
                itl_slow=None if gaps is None else draw(shares) * gaps,
            )
        )
    return found


@given(tallies(), policies)
def test_is_never_negative_and_its_share_is_a_share(tally: Tally, policy: Policy) -> None:
    burn = burn_of(tally, policy)
    assert burn.rate is None or burn.rate >= 0
    assert 0 <= burn.bad_ratio <= 1
    assert 0 <= burn.known_ratio <= 1
    assert not (burn.freezes and burn.is_over)


@given(tallies(), policies, st.floats(0, 1000))
def test_grows_with_what_was_missed(tally: Tally, policy: Policy, more: float) -> None:
    """Whether a good request turns bad or a bad one comes on top; it does not shrink, and neither do errors or long gaps."""
    rate = burn_of(tally, policy).rate
    turned = replace(
        tally, late=min(tally.late + more, tally.first_tokens), errors=min(tally.errors + more, tally.answers)
    )
    again = burn_of(turned, policy).rate
    assert (rate is None) == (again is None)
    assert rate is None or again is None or again >= rate
    failed = burn_of(replace(tally, answers=tally.answers + more, errors=tally.errors + more), policy).rate
    assert rate is None or failed is None or failed >= rate - 1e-3


@given(windows(), st.integers(2, 6))
def test_is_the_same_however_time_is_cut(seen: list[Observation], parts: int) -> None:
    whole, cut = Ledger(3600.0), Ledger(3600.0)
    for window in seen:
        whole.push(window)
        each = {name: value / parts for name, value in window.to_json().items()}  # all that is drawn are counts
        length_s = window.window_s / parts
        for part in range(parts):
            end = window.window_end - timedelta(seconds=length_s * (parts - 1 - part))
            cut.push(Observation.from_json(end, length_s, window.quality, each))
    at = seen[-1].window_end
    policy = Policy(guardrails=Guardrails(burn_window_s=300.0))  # most of what is drawn is known for half of that
    one, other = burn_of(whole.total(at), policy), burn_of(cut.total(at), policy)
    assert (one.rate is None) == (other.rate is None)
    assert one.rate is None or other.rate == pytest.approx(one.rate, rel=1e-3, abs=1e-3)


@given(windows(), st.data())
def test_missing_windows_are_neither_good_nor_bad(seen: list[Observation], data: st.DataObject) -> None:
    """A ledger with missing windows in between counts what one without them counts."""
    full, gappy = Ledger(3600.0), Ledger(3600.0)
    for window in seen:
        lost = data.draw(st.booleans())
        gappy.push(missing(window.window_end, 60.0) if lost else window)
        if not lost:
            full.push(window)
    at = seen[-1].window_end
    assert gappy.total(at) == full.total(at)


@given(windows())
def test_a_ledger_holds_the_sum_of_its_windows(seen: list[Observation]) -> None:
    ledger, total = Ledger(3600.0), Tally()
    for window in seen:
        ledger.push(window)
        total = total + tally_of(window)
    held = ledger.total(seen[-1].window_end)
    assert held.first_tokens == pytest.approx(total.first_tokens, abs=0.01)
    assert held.known_s == pytest.approx(total.known_s)
    assert held.errors == pytest.approx(total.errors, abs=0.01)
