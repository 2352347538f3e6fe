"""What a step has to read and multiply, whoever does it and however well: the yardstick for how long it takes."""

from dataclasses import dataclass

from inference_node.contract.settings import Precision
from inference_node.contract.step_profile import StepShape
from inference_node.model.spec import ModelSpec

# Scales included: one of 32 bits for 128 weights or so.
_BYTES_PER_WEIGHT = {
    Precision.FP32: 4.0,
    Precision.BF16: 2.0,
    Precision.FP16: 2.0,
    Precision.FP8: 1.03,
    Precision.INT8: 1.03,
    Precision.INT4: 0.53,
}


@dataclass(frozen=True, slots=True)
class Work:
    """Bytes to move between memory and processor, and floating-point or whole-number operations, multiply and add apart."""

    bytes: float
    flops: float


NO_WORK = Work(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class WorkModel:
    """Of a dense decoder: every matrix is read once a step, whatever pruning leaves out. Activations stay in cache."""

    matrix_weights: int
    head_weights: int
    kv_values_per_token: int
    pair_flops: int

    @classmethod
    def of(cls, spec: ModelSpec) -> "WorkModel":
        head = spec.vocab_size * spec.hidden_size
        return cls(
            matrix_weights=max(0, spec.num_weights - head * (1 if spec.tied_head else 2)),
            head_weights=head,
            kv_values_per_token=2 * spec.num_layers * spec.num_key_heads * spec.head_dim,
            pair_flops=4 * spec.num_layers * spec.num_heads * spec.head_dim,  # score, then weighted sum
        )

    def of_step(self, shape: StepShape, precision: Precision, kv_value_bytes: int) -> Work:
        """The work of a step. Windows of attention are not taken off."""
        weights = (self.matrix_weights + self.head_weights) * _BYTES_PER_WEIGHT[precision]
        # A chunk reads what lies before it once, and what it writes itself.
        kv_tokens = shape.context_tokens + shape.tokens + shape.prefill_pairs // max(1, shape.prefill_tokens)
        sampled = shape.decode_rows + shape.prefill_rows
        products = 2 * (self.matrix_weights * shape.tokens + self.head_weights * sampled)
        pairs = shape.context_tokens + shape.decode_rows + shape.prefill_pairs
        return Work(
            bytes=weights + kv_tokens * self.kv_values_per_token * kv_value_bytes,
            flops=products + pairs * self.pair_flops,
        )
