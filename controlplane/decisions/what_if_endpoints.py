"""What if: settings and load tried on the performance model. Nothing is changed and nothing kept."""

from fastapi import APIRouter

from controlplane.accounts.dependencies import require
from controlplane.accounts.roles import Role
from controlplane.decisions import service
from controlplane.decisions.decision import DecisionInputs
from controlplane.decisions.models import DecisionRecord
from controlplane.decisions.what_if import Answer, Question, what_if
from controlplane.decisions.what_if_schemas import OutlookOut, WhatIfIn, WhatIfLoadOut, WhatIfOut
from controlplane.dependencies import ReadSession
from controlplane.errors import Conflict
from controlplane.fleets import service as fleets
from controlplane.fleets.wanted import wanted_settings
from controlplane.idempotency.route import IdempotentRoute
from controlplane.problem import declared
from inference_node.contract.step_profile import StepProfile

router = APIRouter(tags=["decisions"], route_class=IdempotentRoute)


class ModelNotReady(Conflict):
    title = "The performance model is not ready"


@router.post(
    "/pools/{pool_id}/what-if", dependencies=[require(Role.VIEWER)], responses=declared(401, 403, 404, 409, 422)
)
def what_if_settings(pool_id: str, body: WhatIfIn, session: ReadSession) -> WhatIfOut:
    """What other settings, or another load, would come to, beside the settings in force. Changes nothing.

    It is computed from what the pool's newest decision was made from, by the same model, so that it says the same.
    """
    pool = fleets.get_pool(session, pool_id)
    record = service.latest_decision(session, pool.id)
    if record is None:
        raise ModelNotReady(
            f"pool {pool.name!r}: no decision has been made yet; the controller makes the first in seconds"
        )
    inputs = DecisionInputs.from_json(record.inputs)
    question = Question(
        wanted_settings(inputs.settings, body.settings), body.offered_rps, body.prompt_tokens, body.generation_tokens
    )
    profiles = [StepProfile.model_validate(node.step_profile or {}) for node in fleets.list_nodes(session, pool.id)]
    found = what_if(inputs, profiles, question)
    if isinstance(found, str):
        raise ModelNotReady(found)
    return _answer(record, pool.name, inputs, question, found)


def _answer(record: DecisionRecord, pool: str, inputs: DecisionInputs, asked: Question, found: Answer) -> WhatIfOut:
    seen = inputs.observation
    return WhatIfOut(
        pool_id=record.pool_id,
        pool=pool,
        decision_id=record.id,
        at=inputs.now,
        load=WhatIfLoadOut(
            offered_rps=found.rate,
            prompt_tokens=found.workload.prompt_tokens,
            generation_tokens=found.workload.generation_tokens,
            waiting=found.load.waiting,
            horizon_s=found.load.horizon_s,
            likely_rps=found.load.likely_rps,
            planned_rps=found.load.planned_rps,
            observed_rps=None if seen is None else seen.offered_rps,
        ),
        changes=inputs.settings.changed(asked.settings),
        error_ratio=found.error_ratio,
        residual_windows=found.residual_windows,
        now=OutlookOut.model_validate(found.now),
        then=None if found.then is None else OutlookOut.model_validate(found.then),
        unknown=found.unknown,
    )
