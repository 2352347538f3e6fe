"""What the native step says of itself."""

import re
from importlib import resources

from inference_node.model.native_forward import stages
from inference_node.model.spec import ModelSpec

CONFIG = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
}


class TestStages:
    def test_are_what_the_source_waits_after(self) -> None:
        """One more than barriers, as nothing comes after the last stage."""
        source = (resources.files("inference_node.kernels.native") / "csrc" / "step.h").read_text()
        work = source[source.index("void work(int id)") :]
        work = work[: re.search(r"\n  }\n", work).start()]  # type: ignore[union-attr]  # a method's own closing brace
        assert len(stages(ModelSpec.from_config(CONFIG))) == work.count("team_.barrier();") + 1

    def test_are_those_of_each_layer(self) -> None:
        one, three = (stages(ModelSpec.from_config(CONFIG | {"num_hidden_layers": n})) for n in (1, 3))
        assert len(three) - len(one) == 2 * (len(one) - 3)
