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


def _method(source: str, name: str) -> str:
    """From its name to its own closing brace."""
    begin = source.index(name)
    end = re.compile(r"\n  }\n").search(source, begin)
    assert end is not None
    return source[begin : end.start()]


class TestStages:
    def test_are_what_the_source_waits_after(self) -> None:
        """One more than barriers, as nothing comes after the last stage. Entering a part of a layer ends with one of them."""
        source = (resources.files("inference_node.kernels.native") / "csrc" / "step.h").read_text()
        work, enter = (_method(source, name) for name in ("void work(", "const Rows& enter("))
        assert enter.count("team_.barrier();") == 1
        barriers = work.count("team_.barrier();") + work.count("= enter(")
        assert len(stages(ModelSpec.from_config(CONFIG))) == barriers + 1

    def test_are_those_of_each_layer(self) -> None:
        one, three = (stages(ModelSpec.from_config(CONFIG | {"num_hidden_layers": n})) for n in (1, 3))
        assert len(three) - len(one) == 2 * (len(one) - 3)
