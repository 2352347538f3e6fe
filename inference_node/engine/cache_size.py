"""How many tokens a node's KV cache holds, by configuration and free memory."""

from inference_node.config import ConfigInvalid, NodeConfig
from inference_node.contract.settings import KvPrecision, Precision
from inference_node.engine import hardware
from inference_node.model.backend import estimate_bytes, kv_dtype, on_gpu, supported_precisions, why_not_kv
from inference_node.model.spec import ModelSpec

# Of the memory that is free before loading, the KV cache may take this share, counted in the widest precision.
_KV_SHARE = 0.4
# Prefix caching keeps what it has until the pool is full, so the pool's size is what a busy node comes to hold.
# 24,576 tokens are 128 answers of 192 tokens or 12 of 2,048; 0.57 GB for the demo model.
_KV_TOKENS_CPU = 24_576
_KV_TOKENS_GPU = 65_536
# Of a GPU's memory, what activations, graphs and libraries may take.
_GPU_STEPS = 0.08
# And what may be kept free for a second format of weights.
_GPU_SECOND = 0.2


def with_kv(spec: ModelSpec, kv: KvPrecision) -> tuple[Precision, ...]:
    """What this machine has for a cache of that form; everything where nothing goes with it, which `check` then says."""
    offered = supported_precisions(spec)
    return tuple(p for p in offered if why_not_kv(spec, p, kv) is None) or offered


def kv_room_bytes(spec: ModelSpec, precision: Precision, copies: int = 1) -> int:
    """What keys and values may take of the memory that is free. precision is the one that the node starts in; copies: of the
    weights, where each NUMA node has its own."""
    free = hardware.available_bytes()
    if not on_gpu(spec):
        return int(_KV_SHARE * max(0, free - (copies - 1) * estimate_bytes(spec, precision)))
    # A GPU is the engine's alone: all but its weights, a second format beside them and room for steps may be cache.
    second = min(estimate_bytes(spec, Precision.INT8), _GPU_SECOND * free)
    return max(0, int(free - estimate_bytes(spec, precision) - second - _GPU_STEPS * free))


def require_room(spec: ModelSpec, precision: Precision, copies: int = 1) -> None:
    """Raises ConfigInvalid when the weights do not fit into the memory that is free: a refusal is better than being killed."""
    needed, free = copies * estimate_bytes(spec, precision), hardware.available_bytes()
    if needed <= free:
        return
    narrow = min(supported_precisions(spec), key=lambda each: estimate_bytes(spec, each))
    fits = copies * estimate_bytes(spec, narrow) <= free
    ways = [f"set NODE_PRECISION={narrow.value}"] if fits else []
    ways += ["set NODE_REPLICAS=1"] if copies > 1 else []
    raise ConfigInvalid(
        f"{precision.value} weights take {needed / 1e6:.0f} MB of memory to be prepared, and {free / 1e6:.0f} MB are free: "
        f"{', '.join([*ways, 'free memory, or choose a smaller model'])}."
    )


def cache_tokens(
    config: NodeConfig, spec: ModelSpec, max_model_len: int, room_bytes: int, kv: KvPrecision, replicas: int = 1
) -> int:
    """
    Tokens that the node's KV caches are to hold together: what is configured or usual, or as many as the room affords.

    kv is the form that the node starts with. Raises ConfigInvalid when a replica's cannot hold a request of max_model_len.
    """
    # In the widest form that a live change may bring. Beside narrow keys and values that is bf16, since the way back has to be
    # open; fp32, which has no narrow ones, is then refused where it has no room.
    wide = (kv_dtype(precision, KvPrecision.MODEL) for precision in with_kv(spec, kv))
    affordable = room_bytes // max(spec.kv_bytes_per_token(dtype) for dtype in wide)
    usual = max(_KV_TOKENS_GPU if on_gpu(spec) else _KV_TOKENS_CPU, replicas * max_model_len)
    wanted = usual if config.kv_tokens is None else config.kv_tokens
    num_tokens = min(wanted, affordable)
    if num_tokens // replicas < max_model_len:
        why = f"kv_tokens={wanted}" if wanted <= affordable else f"the free memory, {affordable} tokens,"
        share = "" if replicas == 1 else f" of one of {replicas} replicas"
        raise ConfigInvalid(
            f"max_model_len={max_model_len} does not fit into the KV cache{share}: {why} is less. "
            f"Lower NODE_MAX_MODEL_LEN{'' if replicas == 1 else ' or NODE_REPLICAS'}, raise NODE_KV_TOKENS, or free memory."
        )
    return num_tokens
