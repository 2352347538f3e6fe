"""Values that are refused, each naming its field."""

import math

import pytest

from inference_node.scheduling.sampling_params import SamplingInvalid, SamplingParams


class TestSamplingParams:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("max_tokens", 0),
            ("max_tokens", True),
            ("max_tokens", 1.5),
            ("temperature", -0.1),
            ("temperature", 2.1),
            ("temperature", math.nan),
            ("temperature", "1"),
            ("top_p", 0.0),
            ("top_p", 1.1),
            ("top_k", -1),
            ("min_p", 1.5),
            ("seed", 0.5),
            ("logprobs", 21),
            ("presence_penalty", 2.5),
            ("frequency_penalty", math.inf),
            ("stop", ("",)),
            ("stop", tuple("abcdefghijklmnopq")),
            ("stop_token_ids", (-1,)),
        ],
    )
    def test_names_the_field_that_is_wrong(self, field: str, value: object) -> None:
        with pytest.raises(SamplingInvalid, match=f"^{field}: ") as caught:
            SamplingParams(**{field: value})  # type: ignore[arg-type]  # wrong on purpose
        assert caught.value.param == field

    def test_takes_the_limits_themselves(self) -> None:
        SamplingParams(temperature=0, top_p=1, min_p=1, top_k=0, logprobs=20, presence_penalty=-2, frequency_penalty=2)
