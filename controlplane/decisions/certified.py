"""Which precisions and pruning levels may be proposed: what the policy lists, and what every node measured as good. Pure."""

from controlplane.decisions.decision import NodeFacts
from controlplane.decisions.policy import CertifiedVariant, Policy
from inference_node.contract.quality import NodeQuality, QualityRecord, is_full_precision
from inference_node.contract.settings import EngineSettings, KvPrecision, Precision


def certified_variants(
    current: EngineSettings, policy: Policy, nodes: tuple[NodeFacts, ...]
) -> tuple[CertifiedVariant, ...]:
    """Those of the policy first, less what some node measured as too bad; then those that all nodes have good records of, with
    the greatest loss among them. Only records of the KV cache in force count, which no proposal changes. From reduced precision,
    full precision is always a way back where all nodes have it.

    A pruned level's step time is the slowest node's, in steps as full as the settings in force allow. Where a node has not
    timed it, the gain is not known, and so it is not proposed.
    """
    qualities = [node.capabilities.quality for node in nodes if node.capabilities is not None]
    measured = [quality for quality in qualities if quality is not None]
    kv = current.kv_precision
    listed = [variant for variant in policy.quality.certified if not any(_refuses(q, variant, kv) for q in measured)]
    found = {(variant.precision, variant.pruning_threshold): variant for variant in listed}
    if nodes and len(measured) == len(nodes):
        for record in (r for r in measured[0].records if r.kv_precision is kv):
            records = [_good(quality, record) for quality in measured]
            known = [r for r in records if r is not None]
            if len(known) == len(nodes):
                level = (record.precision, record.pruning_threshold)
                worst = max(r.loss_ratio for r in known)
                found.setdefault(level, _variant(*level, worst, _slowest(known, current.max_batch_size)))
        if not is_full_precision(current):
            found.setdefault((Precision.BF16, 0.0), _variant(Precision.BF16, 0.0, 0.0, 1.0))
    return tuple(found.values())


def loss_of(settings: EngineSettings, policy: Policy, nodes: tuple[NodeFacts, ...]) -> float:
    """What answers lose under these settings; of a level that nobody certified, the most that the policy allows."""
    if is_full_precision(settings):
        return 0.0
    wanted = (settings.precision, settings.pruning_threshold)
    known = {
        (each.precision, each.pruning_threshold): each.quality_loss_ratio
        for each in certified_variants(settings, policy, nodes)
    }
    return known.get(wanted, policy.quality.max_loss_ratio)


def _good(quality: NodeQuality, like: QualityRecord) -> QualityRecord | None:
    """This node's record of the same level, if it holds."""
    return next((r for r in quality.records if r.level == like.level and quality.holds(r)), None)


def _refuses(quality: NodeQuality, variant: CertifiedVariant, kv: KvPrecision) -> bool:
    """Whether this node would: it measured that level, or a milder one, as too bad."""
    level = (variant.precision, kv, variant.pruning_threshold)
    return any(record.is_milder(*level) and not quality.holds(record) for record in quality.records)


def _slowest(records: list[QualityRecord], rows: int) -> float | None:
    """Step time against no pruning: the pool is as fast as its slowest node; None if one did not time a pruned level."""
    ratios = [record.step_time_ratio(rows) if record.pruning_threshold > 0 else 1.0 for record in records]
    known = [ratio for ratio in ratios if ratio is not None]
    return max(known) if len(known) == len(ratios) else None


def _variant(
    precision: Precision, pruning_threshold: float, loss: float, step_time_ratio: float | None
) -> CertifiedVariant:
    return CertifiedVariant(
        precision=precision,
        pruning_threshold=pruning_threshold,
        quality_loss_ratio=loss,
        step_time_ratio=step_time_ratio,
    )
