"""What comes before a phase's own work: abort, a canary that failed, guards, other requests, the freeze. Pure.

Each returns the step to take instead, or None.
"""

from controlplane.rollouts import guards, judging, served
from controlplane.rollouts.actions import Answer, NodeMove, Note, Step
from controlplane.rollouts.analysis import Report, Verdict
from controlplane.rollouts.moves import completed, give_up, now_do, pause, promote, resume
from controlplane.rollouts.phases import NodeState, PausedBy, RolloutPhase, Verb
from controlplane.rollouts.snapshot import RolloutSnapshot

P = RolloutPhase
_FREEZABLE = {P.BASELINING, P.CANARY, P.ANALYZING, P.PROMOTING}
_PROMOTABLE = {P.ANALYZING, P.PROMOTING, P.BAKING}


def abort(rollout: RolloutSnapshot) -> Step | None:
    """A person gives up: before all else, also before a promote that came in earlier."""
    if rollout.request not in {Verb.ABORT, Verb.ROLLBACK}:
        return None
    words = f"{rollout.request_actor} asked to {'abort' if rollout.request is Verb.ABORT else 'roll back'}"
    if rollout.request_reason:
        words += f": {rollout.request_reason}"
    return give_up(rollout, words, actor=rollout.request_actor, answered=rollout.request)


def lost_canary(rollout: RolloutSnapshot) -> Step | None:
    """A canary that refuses, vanishes or restarts under the new settings has failed, whatever its figures were."""
    for node in rollout.canaries:
        if not node.touched:
            continue
        if node.refusal is not None:
            marked = NodeMove(node.id, NodeState.REJECTED, node.refusal)
            return give_up(rollout, f"canary {node.name} refused the new settings: {node.refusal}", first=(marked,))
        if not node.reachable:
            marked = NodeMove(node.id, NodeState.UNREACHABLE, "no heartbeat")
            words = f"canary {node.name} has not been heard of since it was sent the new settings"
            return give_up(rollout, words, first=(marked,))
        if node.instance_id != node.instance_at_dispatch:
            words = f"canary {node.name} restarted under the new settings"
            marked = NodeMove(node.id, NodeState.QUARANTINED, "it restarted under the new settings")
            return give_up(rollout, words, first=(marked,) if node.crashed else ())
    return None


def guard(rollout: RolloutSnapshot) -> Step | None:
    """Hard guards hold in a pause, too."""
    pre, plan = rollout.pre(), rollout.plan
    alone = tuple(judging.without_control(pair) for pair in pre)
    words = guards.fired(pre, rollout.post(), plan) or guards.fired(alone, rollout.watched(), plan)
    if words is None and rollout.answers_at_stake:
        words = served.fired(rollout.served, plan.policy.served)
    if words is None:
        return None
    report = Report(Verdict.FAIL, f"guard: {words}", judging.served_answers(rollout))
    return give_up(rollout, words, first=(Note(report),))


def request(rollout: RolloutSnapshot) -> Step | None:
    """Pause, resume or promote; what is no longer possible is answered, not forgotten."""
    verb, actor = rollout.request, rollout.request_actor
    if verb is None or rollout.phase is P.VALIDATING:  # that lasts one step; the request is met after it
        return None
    because = f": {rollout.request_reason}" if rollout.request_reason else ""
    at = rollout.paused_from if rollout.phase is P.PAUSED else rollout.phase
    if verb is Verb.PAUSE and rollout.phase is not P.PAUSED and P.PAUSED in judging.moves(rollout.phase):
        move = pause(rollout, PausedBy.PERSON, f"{actor} paused it{because}", actor)
        return now_do((Answer(verb), move))
    if verb is Verb.RESUME and rollout.phase is P.PAUSED and rollout.paused_from is not None:
        return now_do((Answer(verb), resume(rollout, f"{actor} resumed it{because}", actor)))
    if verb is Verb.PROMOTE and at in _PROMOTABLE and (rollout.phase is P.PAUSED or at is not P.PROMOTING):
        if at is P.BAKING:
            return now_do((Answer(verb), completed(rollout, f"{actor} ended the watch early{because}", actor)))
        return now_do((Answer(verb), *promote(rollout, f"{actor} promoted it{because}", actor)))
    return now_do((Answer(verb, refused=f"{verb.value} is not possible in {rollout.phase.value}"),))


def freeze(rollout: RolloutSnapshot) -> Step | None:
    """A frozen pool changes no further; what leads back goes on."""
    if rollout.frozen_reason is None or rollout.phase not in _FREEZABLE or rollout.is_direct:
        return None
    return now_do((pause(rollout, PausedBy.FREEZE, f"the pool was frozen ({rollout.frozen_reason})"),))
