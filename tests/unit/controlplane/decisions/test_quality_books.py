"""The books of the quality budget count answered tokens, however windows come, and whoever keeps them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.decisions.policy import CertifiedVariant, Policy, Quality
from controlplane.decisions.quality_books import Stretch, TokenBook, book_of, spent_ratio
from inference_node.contract.settings import EngineSettings, Precision

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
EXACT = EngineSettings(precision=Precision.BF16)
FAST = EXACT.replace(precision=Precision.INT4.value)
HOUR_S = 3600.0
POLICY = Policy(
    quality=Quality(
        max_loss_ratio=0.1,
        average_loss_ratio=0.03,
        average_over_s=HOUR_S,
        certified=(
            CertifiedVariant(precision=Precision.BF16, quality_loss_ratio=0.0),
            CertifiedVariant(precision=Precision.INT4, quality_loss_ratio=0.06),
        ),
    )
)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def fast_for(seconds: float) -> list[Stretch]:
    """Exact for days, and fast since `seconds` ago."""
    return [Stretch(ago(seconds), (FAST,)), Stretch(ago(10 * HOUR_S), (EXACT,))]


def book(calm: float, surge: float, surge_s: float, *, span_s: float = HOUR_S, window_s: float = 15.0) -> TokenBook:
    """`calm` tokens per second, and `surge` of them in the last surge_s seconds."""
    ends = [span_s - window_s * number for number in range(int(span_s / window_s) + 1)]
    return book_of(span_s, [(ago(end), window_s, surge if end < surge_s else calm) for end in ends])


def found(newest_first: Sequence[Stretch], book: TokenBook | None) -> float | None:
    return spent_ratio(newest_first, POLICY, [], NOW, book)


def test_without_a_budget_there_are_no_books() -> None:
    assert spent_ratio(fast_for(900), Policy(), [], NOW, book(1, 1, 0)) is None


def test_an_even_load_counts_by_time_and_a_surge_by_what_it_answered() -> None:
    by_time = 0.06 * 900 / HOUR_S
    assert found(fast_for(900), None) == pytest.approx(by_time)
    assert found(fast_for(900), book(50, 50, 900)) == pytest.approx(by_time)
    # A quarter of the time, at three times the rate: half of the tokens.
    assert found(fast_for(900), book(50, 150, 900)) == pytest.approx(0.03)


def test_a_pool_that_answers_nothing_counts_by_time() -> None:
    assert found(fast_for(900), book(0, 0, 0)) == pytest.approx(0.06 / 4)
    assert found(fast_for(900), TokenBook(HOUR_S)) == pytest.approx(0.06 / 4)


def test_what_was_not_measured_counts_as_the_average_of_what_was() -> None:
    half = book_of(HOUR_S, [(ago(15 * n), 15.0, 80.0 if n < 60 else None) for n in range(240, -1, -1)])
    assert found(fast_for(900), half) == pytest.approx(0.06 / 4)


def test_nothing_was_lost_before_the_pool_began() -> None:
    assert found([Stretch(ago(900), (FAST,))], book(50, 50, 0)) == pytest.approx(0.06 / 4)
    assert found([], book(50, 50, 0)) == 0.0


def test_while_two_may_be_in_force_the_worse_counts_whichever_was_wished_for() -> None:
    for pair in ((FAST, EXACT), (EXACT, FAST)):
        under_way = [Stretch(ago(900), pair), Stretch(ago(10 * HOUR_S), (EXACT,))]
        assert found(under_way, book(50, 50, 0)) == pytest.approx(0.06 / 4)


@pytest.mark.parametrize(
    ("over_s", "fast_s", "share"), [(86_400, 21_600, 0.25), (3600, 1800, 0.5), (3600, 21_600, 1.0)]
)
def test_the_average_is_over_as_long_as_the_policy_says(over_s: float, fast_s: float, share: float) -> None:
    quality = POLICY.quality.model_copy(update={"average_over_s": over_s})
    policy = POLICY.model_copy(update={"quality": quality})
    assert spent_ratio(fast_for(fast_s), policy, [], NOW) == pytest.approx(0.06 * share)


def test_windows_that_overlap_or_come_again_count_once() -> None:
    overlapping = TokenBook(HOUR_S)
    for number in range(720, -1, -1):
        overlapping.push(ago(5.0 * number), 15.0, 50.0)
        overlapping.push(ago(5.0 * number), 15.0, 9999.0)
        overlapping.push(ago(5.0 * number + 5.0), 15.0, 9999.0)
    assert overlapping.between(ago(1800), NOW) == pytest.approx((50.0 * 1800, 1800.0))


def test_what_is_out_of_the_span_is_let_go_of_and_the_rest_stays_right() -> None:
    rates = [float(7 * number % 311) for number in range(2000)]
    kept = TokenBook(1800.0)
    for number, rate in enumerate(rates):
        kept.push(NOW + timedelta(seconds=15 * number), 15.0, rate)
    end = NOW + timedelta(seconds=15 * 1999)
    assert len(kept._ends) < 120 + 256 + 2
    for count in (1, 37, 120):
        stretch = (end - timedelta(seconds=15 * count), end)
        assert kept.between(*stretch) == pytest.approx((15 * sum(rates[-count:]), 15.0 * count))


windows = st.lists(
    st.tuples(
        st.floats(min_value=0.5, max_value=120, allow_nan=False),  # since the window before
        st.none() | st.floats(min_value=0, max_value=1e5, allow_nan=False),
    ),
    min_size=1,
    max_size=900,
)


@given(windows, st.floats(min_value=0, max_value=1), st.floats(min_value=0, max_value=1))
def test_any_stretch_of_the_span_holds_what_its_windows_say(
    steps: list[tuple[float, float | None]], one: float, other: float
) -> None:
    """Whatever was let go of in between, and wherever the stretch begins and ends."""
    window_s, at, kept = 15.0, -sum(step for step, _ in steps), TokenBook(1800.0)
    pieces, first = list[tuple[float, float, float]](), True
    for step, rate in steps:
        at += step
        kept.push(NOW + timedelta(seconds=at), window_s, rate)
        if rate is not None:
            pieces.append((at - (window_s if first else min(step, window_s)), at, rate))
        first = False
    low, high = sorted((-1800.0 * one, -1800.0 * other))
    shares = [(max(0.0, min(end, high) - max(start, low)), rate) for start, end, rate in pieces]
    tokens, seconds = kept.between(NOW + timedelta(seconds=low), NOW + timedelta(seconds=high))
    assert seconds == pytest.approx(sum(part for part, _ in shares), abs=1e-3)
    assert tokens == pytest.approx(sum(part * rate for part, rate in shares), rel=1e-6, abs=1.0)
