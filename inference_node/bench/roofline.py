"""How near decoding comes to the memory: bytes of weights that one step must read, against the measured read bandwidth."""

import json
from pathlib import Path

from inference_node.contract.settings import Precision
from inference_node.errors import Invalid

# Nominal: scales and zero points are left out, so shares of bandwidth come out lower than what was really read.
BITS = {
    Precision.FP32: 32,
    Precision.BF16: 16,
    Precision.FP16: 16,
    Precision.FP8: 8,
    Precision.INT8: 8,
    Precision.INT4: 4,
}


def weights_read(model: Path) -> int:
    """Weights that one decode step reads once: all, but of the embedding table only where it is the head, too.

    model: folder in Hugging Face format with *.safetensors. Raises Invalid when there are none.
    """
    shapes: dict[str, list[int]] = {}
    for file in sorted(model.glob("*.safetensors")):
        # Format: length of the header (u64), header as JSON (https://github.com/huggingface/safetensors#format).
        with file.open("rb") as handle:
            header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
        shapes |= {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    if not shapes:
        raise Invalid(f"{model} holds no *.safetensors; name a model folder in Hugging Face format")
    has_head = any(name.endswith("lm_head.weight") for name in shapes)
    return sum(_size(shape) for name, shape in shapes.items() if not (has_head and "embed_tokens" in name))


def weight_bytes(weights: int, precision: Precision) -> float:
    return weights * BITS[precision] / 8


def _size(shape: list[int]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
