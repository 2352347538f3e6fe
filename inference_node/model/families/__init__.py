"""The families that the own forward runs, by config.json's model_type. A family is data: see `family`.

To add one: a `Family` here, a shape in tests/support/models.py, and the parity tests say whether it is right. A family that does
something no option describes is run by transformers' own module instead, see `model.foreign`.
"""

from collections.abc import Mapping

from inference_node.model.families.family import Family
from inference_node.model.families.gemma import GEMMA3, GEMMA3_TEXT
from inference_node.model.families.glm import GLM, GLM4
from inference_node.model.families.llama import LLAMA, MISTRAL
from inference_node.model.families.qwen import QWEN2, QWEN3

FAMILIES: Mapping[str, Family] = {
    "gemma3": GEMMA3,
    "gemma3_text": GEMMA3_TEXT,
    "glm": GLM,
    "glm4": GLM4,
    "llama": LLAMA,
    "mistral": MISTRAL,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
}
