"""The real demo model, converted once for all tests of this machine."""

import os
from pathlib import Path

from inference_node.demo_model import ensure_demo_model


def demo_model_folder() -> Path:
    """Cached under $TRIMTAB_TEST_CACHE, by default ~/.cache/trimtab. Raises DemoModelError when the package is missing."""
    return ensure_demo_model(Path(os.environ.get("TRIMTAB_TEST_CACHE", "~/.cache/trimtab")).expanduser())
