"""The shared contract between nodes and the control plane: pydantic only, nothing of ours, never torch."""

from inference_node.contract.settings import EngineSettings as EngineSettings
from inference_node.contract.settings import Precision as Precision
