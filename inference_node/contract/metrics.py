"""Every metric that a node exposes: name, kind, labels, help, buckets.

The first group carries vLLM's names and label, so that dashboards, autoscalers and the Gateway API inference extension
read a Trimtab node as they read vLLM (names as of vLLM 0.1x V1, docs "Production Metrics"). The second is our own.
"""

from dataclasses import dataclass
from enum import StrEnum


class MetricKind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric family. `name` is as exposed, without `_total`, `_bucket` and the like being added twice."""

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ("model_name",)
    buckets: tuple[float, ...] = ()


_TTFT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0, 1.25, 1.5,
         1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 20.0, 40.0, 80.0)  # fmt: skip
_ITL = (0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.125, 0.15, 0.175, 0.2,
        0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0)  # fmt: skip
_E2E = (0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 120.0,
        240.0)  # fmt: skip
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
_STEP = (
    0.001,
    0.002,
    0.005,
    0.01,
    0.015,
    0.02,
    0.03,
    0.04,
    0.05,
    0.06,
    0.08,
    0.1,
    0.125,
    0.15,
    0.2,
    0.3,
    0.5,
    1.0,
    2.0,
)

C, G, H, I = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM, MetricKind.INFO  # noqa: E741

# vLLM's names -----------------------------------------------------------------------------------------------------
NUM_REQUESTS_RUNNING = MetricSpec("vllm:num_requests_running", G, "Requests in the running batch.")
NUM_REQUESTS_WAITING = MetricSpec("vllm:num_requests_waiting", G, "Requests waiting to be scheduled.")
KV_CACHE_USAGE = MetricSpec("vllm:kv_cache_usage_perc", G, "Share of KV blocks in use by requests, 0 to 1.")
CACHE_CONFIG = MetricSpec(
    "vllm:cache_config_info", I, "Shape of the KV cache.", ("model_name", "block_size", "num_gpu_blocks")
)
PROMPT_TOKENS = MetricSpec("vllm:prompt_tokens_total", C, "Prompt tokens processed.")
GENERATION_TOKENS = MetricSpec("vllm:generation_tokens_total", C, "Tokens generated.")
REQUEST_SUCCESS = MetricSpec(
    "vllm:request_success_total", C, "Requests finished, by reason.", ("model_name", "finished_reason")
)
NUM_PREEMPTIONS = MetricSpec("vllm:num_preemptions_total", C, "Running requests pushed back to waiting.")
PREFIX_CACHE_QUERIES = MetricSpec("vllm:prefix_cache_queries_total", C, "Prompt tokens looked up in the prefix cache.")
PREFIX_CACHE_HITS = MetricSpec("vllm:prefix_cache_hits_total", C, "Prompt tokens found in the prefix cache.")
TTFT = MetricSpec("vllm:time_to_first_token_seconds", H, "Arrival to first token.", buckets=_TTFT)
ITL = MetricSpec("vllm:inter_token_latency_seconds", H, "Time between two tokens of a request.", buckets=_ITL)
E2E_LATENCY = MetricSpec("vllm:e2e_request_latency_seconds", H, "Arrival to last token.", buckets=_E2E)
QUEUE_TIME = MetricSpec("vllm:request_queue_time_seconds", H, "Arrival to first scheduled.", buckets=_TTFT)
PREFILL_TIME = MetricSpec("vllm:request_prefill_time_seconds", H, "First scheduled to first token.", buckets=_TTFT)
DECODE_TIME = MetricSpec("vllm:request_decode_time_seconds", H, "First token to last token.", buckets=_E2E)
REQUEST_PROMPT_TOKENS = MetricSpec("vllm:request_prompt_tokens", H, "Prompt length of a request.", buckets=_TOKENS)
REQUEST_GENERATION_TOKENS = MetricSpec("vllm:request_generation_tokens", H, "Answer length.", buckets=_TOKENS)

# Our own ----------------------------------------------------------------------------------------------------------
REQUESTS_OFFERED = MetricSpec(
    "inference_requests_offered_total", C, "Requests that reached the node, admitted or not: the load to forecast."
)
PROMPT_TOKENS_OFFERED = MetricSpec("inference_prompt_tokens_offered_total", C, "Prompt tokens of the offered requests.")
REQUEST_ERRORS = MetricSpec(
    "inference_request_errors_total",
    C,
    "Requests that ended in a server error (5xx), by cause.",
    ("model_name", "cause"),
)
REQUESTS_REJECTED = MetricSpec("inference_requests_rejected_total", C, "Requests refused with 429: the queue was full.")
REQUESTS_CANCELLED = MetricSpec("inference_requests_cancelled_total", C, "Requests whose client went away.")
CONNECTIONS_CUT = MetricSpec(
    "inference_connections_cut_total",
    C,
    "Connections that the node closed because of how the client behaved.",
    ("model_name", "cause"),
)
STEPS = MetricSpec("inference_steps_total", C, "Engine steps run.")
STEP_SECONDS = MetricSpec("inference_step_seconds", H, "Duration of one engine step.", buckets=_STEP)
STEP_DECODE_ROWS = MetricSpec("inference_step_decode_rows_total", C, "Decode rows, summed over steps.")
STEP_PREFILL_TOKENS = MetricSpec("inference_step_prefill_tokens_total", C, "Prefill tokens, summed over steps.")
SETTINGS_GENERATION = MetricSpec("inference_settings_generation", G, "Generation of the settings in force.")
SETTINGS_KNOB = MetricSpec(
    "inference_settings_knob", G, "Numeric knobs in force, one series a knob.", ("model_name", "knob")
)
SETTINGS_INFO = MetricSpec(
    "inference_settings_info",
    I,
    "Choice knobs in force.",
    ("model_name", "precision", "kv_precision", "scheduling_policy"),
)
SETTINGS_CHANGES = MetricSpec(
    "inference_settings_changes_total",
    C,
    "Pushes received, by outcome; `lapsed`: leases that ended.",
    ("model_name", "outcome"),
)
PRUNED_RATIO = MetricSpec(
    "inference_pruned_ratio", G, "Share of the layers' weights that the last step had no use for, 0 to 1."
)
STEP_BYTES = MetricSpec(
    "inference_step_bytes_total",
    C,
    "Weights and cached keys and values that steps had to move, as if nothing was pruned.",
)
STEP_FLOPS = MetricSpec("inference_step_flops_total", C, "Operations that steps had to do, as if nothing was pruned.")
ROOFLINE_BYTES = MetricSpec("inference_roofline_bytes_per_second", G, "Memory read at best, measured on this machine.")
ROOFLINE_FLOPS = MetricSpec(
    "inference_roofline_flops_per_second", G, "Operations of bf16 or fp32 products at best, measured on this machine."
)
ROOFLINE_RATIO = MetricSpec(
    "inference_roofline_ratio",
    G,
    "Least time that the last steps' bytes and operations need at the measured rates, over the time they took.",
)
STEP_MODEL_ERROR = MetricSpec(
    "inference_step_model_error_ratio",
    G,
    "Relative error of predicted step times over the last served steps, by percentile; 0 while none was served.",
    ("model_name", "percentile"),
)
READY = MetricSpec("inference_ready", G, "1 while the node takes requests.")
BUILD = MetricSpec("inference_build_info", I, "Version of the node.", ("model_name", "version", "device"))
_REPLICA = ("model_name", "replica")
REPLICA_RUNNING = MetricSpec("inference_replica_requests_running", G, "Requests that a replica runs.", _REPLICA)
REPLICA_WAITING = MetricSpec("inference_replica_requests_waiting", G, "Requests that wait at a replica.", _REPLICA)
REPLICA_KV_USAGE = MetricSpec(
    "inference_replica_kv_usage_ratio", G, "Share of a replica's KV blocks in use by requests, 0 to 1.", _REPLICA
)
REPLICA_STEPS = MetricSpec("inference_replica_steps_total", C, "Steps that a replica ran.", _REPLICA)
REPLICA_TAKEN_OVER = MetricSpec(
    "inference_replica_requests_taken_over_total", C, "Requests that a replica took from another's queue.", _REPLICA
)
_LEVEL = ("model_name", "precision", "kv_precision", "pruning_threshold")
QUALITY_PERPLEXITY = MetricSpec(
    "inference_quality_perplexity_ratio", G, "Measured perplexity over full precision's, one series a level.", _LEVEL
)
QUALITY_KL = MetricSpec(
    "inference_quality_kl_nats", G, "Measured mean KL divergence from full precision, nats per token.", _LEVEL
)
QUALITY_TOP1 = MetricSpec(
    "inference_quality_top1_agreement", G, "Share of tokens whose likeliest successor is full precision's.", _LEVEL
)
QUALITY_CERTIFIED = MetricSpec(
    "inference_quality_certified", G, "1 for a measured level within the node's quality ceiling, else 0.", _LEVEL
)

ALL: tuple[MetricSpec, ...] = tuple(value for value in dict(globals()).values() if isinstance(value, MetricSpec))
