"""Bad changes are taken back by themselves, in time, and without anybody but the canary having seen them.

One of each kind in every run, twenty in `make test-all`; with real processes: test_rollouts.py and test_kill_matrix.py.
"""

import pytest
from sqlalchemy.orm import Session

from controlplane.rollouts.phases import RolloutPhase
from tests.support.bad_changes import NODES, POLICY, STEP_S, BadChange, Fate, Harm
from tests.support.database import memory_database

SLICE, ALL = 1, 20
# Two looks, the time that is not judged, and the rhythm in which the windows come and are looked at.
_WATCHED = POLICY.rollout
TWO_INTERVALS_S = _WATCHED.settle_s + 2 * (_WATCHED.windows + 1) * _WATCHED.window_s + 2 * STEP_S

CASES = [
    pytest.param(harm, seed, marks=() if seed < SLICE else pytest.mark.slow, id=f"{harm.name.lower()}-{seed}")
    for harm in Harm
    if harm is not Harm.NONE
    for seed in range(ALL)
]


def fate_of(harm: Harm, seed: int) -> Fate:
    with memory_database() as engine, Session(engine, expire_on_commit=False) as session:
        return BadChange(session, harm, seed).run()


@pytest.mark.parametrize(("harm", "seed"), CASES)
def test_is_taken_back_within_two_intervals(harm: Harm, seed: int) -> None:
    fate = fate_of(harm, seed)
    assert fate.phase is RolloutPhase.ROLLED_BACK, fate.outcome
    assert fate.judged_s <= TWO_INTERVALS_S, fate.outcome
    assert fate.others_touched == 0, "others than the canary were sent something"
    assert fate.all_as_before


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_and_a_harmless_one_in_the_same_world_goes_through(seed: int) -> None:
    """The same world without harm: what is caught above is the harm, not the noise."""
    fate = fate_of(Harm.NONE, seed)
    assert fate.phase is RolloutPhase.COMPLETED, fate.outcome
    assert fate.others_touched == NODES - 3
