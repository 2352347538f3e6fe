"""Waiting for company, only where it pays."""

from inference_node.scheduling.gather import Gatherer
from inference_node.scheduling.step_budget import StepBudget
from tests.support.scheduling import make_sequence
from tests.support.step_clock import StepClock

UNKNOWN = StepBudget(0.0, None)
# Nearly all of a step is its fixed cost, as with short prompts on a model that is read whole each time.
SHORT = StepBudget(0.0, StepClock(fixed_s=0.050, prompt_token_s=1e-6))
# Nearly all is arithmetic: run together, prompts take as long as one after the other.
LONG = StepBudget(0.0, StepClock(fixed_s=0.0, prompt_token_s=1e-3))


def gatherer(*arrivals_s: float) -> Gatherer:
    made = Gatherer()
    for at in arrivals_s:
        made.arrived(at)
    return made


class TestGatherer:
    def test_without_knowledge_it_waits_as_told(self) -> None:
        waiting = [make_sequence("a", arrived_s=1.0)]
        assert 0.0149 < gatherer(1.0).delay_s(waiting, 0.02, 1.005, UNKNOWN) < 0.0151
        assert gatherer(1.0).delay_s(waiting, 0.02, 1.021, UNKNOWN) == 0.0

    def test_does_not_wait_for_traffic_that_comes_too_rarely(self) -> None:
        waiting = [make_sequence("a", arrived_s=20.0)]
        assert gatherer(0.0, 10.0, 20.0).delay_s(waiting, 0.02, 20.0, UNKNOWN) == 0.0
        assert gatherer(19.98, 19.99, 20.0).delay_s(waiting, 0.02, 20.0, UNKNOWN) > 0.0

    def test_waits_where_company_shares_a_fixed_cost(self) -> None:
        waiting = [make_sequence("a", arrived_s=20.0)]
        busy = gatherer(19.99, 19.995, 20.0)
        assert busy.delay_s(waiting, 0.02, 20.0, SHORT) > 0.0
        assert busy.delay_s(waiting, 0.02, 20.0, LONG) == 0.0

    def test_the_more_wait_the_less_it_pays(self) -> None:
        busy = gatherer(19.98, 19.99, 20.0)
        many = [make_sequence(f"r{number}", arrived_s=20.0) for number in range(30)]
        assert busy.delay_s(many, 0.02, 20.0, SHORT) == 0.0
