"""Simulated nodes, enrolled: they stand in SQL as nodes that are ready, and nothing of them runs yet."""

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Engine

from controlplane.db import session_scope
from controlplane.fleets import service as fleets
from inference_node.contract.messages import NodeCapabilities, NodeHardware, NodeRegistration, NodeState
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.contract.step_profile import StepFit, StepProfile, StepSample

# Step times as a node's probe and its fits tell them: with them decisions have a model to weigh settings by, as in a real fleet.
_BASE_S = {Precision.BF16: 0.012, Precision.INT8: 0.009}
_ROW_S, _TOKEN_S = 4e-4, 6e-5
_PROFILE = StepProfile(
    cells=tuple(
        StepSample(
            precision=precision, decode_rows=rows, prefill_tokens=tokens, samples=20,
            step_s=base_s + _ROW_S * rows + _TOKEN_S * tokens,
        )
        for precision, base_s in _BASE_S.items()
        for rows in (1, 2, 4, 8, 16, 32, 64)
        for tokens in (0, 128)
    ),
    fits=tuple(
        StepFit(
            precision=precision, base_s=base_s, curve=((0, 0.0), (64, 0.001), (512, 0.03)), decode_row_s=_ROW_S,
            prefill_row_s=2e-4, context_token_s=1e-7, prefill_pair_s=1e-9, samples=300, error_median=0.03,
        )
        for precision, base_s in _BASE_S.items()
    ),
)  # fmt: skip


def enrol(engine: Engine, nodes: int, pools: int, url: Callable[[int], str]) -> None:
    """node-0, node-1, ... in turn in pool-0, pool-1, ...; `url` tells where each is dialled."""
    now = datetime.now(UTC)
    with session_scope(engine) as session:
        for number in range(nodes):
            registered = fleets.register_node(session, _registration(number, url(number), pools), now=now)
            registered.node.state = NodeState.READY


def _registration(number: int, url: str, pools: int) -> NodeRegistration:
    return NodeRegistration(
        name=f"node-{number}", pool=f"pool-{number % pools}", model="simulated", url=url, admin_token="x" * 32,
        instance_id=f"node-{number}", version="0", settings=EngineSettings(), observed_generation=0,
        step_profile=_PROFILE,
        capabilities=NodeCapabilities(
            precisions=tuple(_BASE_S), max_batch_size=512, max_batched_tokens=8192, max_model_len=2048, kv_tokens=65536
        ),
        hardware=NodeHardware(device="cpu", cpu_model="simulated", cpu_cores=1, threads=1, memory_bytes=2**30),
    )  # fmt: skip
