"""Counting token ids in a body that nobody has parsed."""

import json

import pytest

from inference_node.server.glance import count_ids


class TestCountIds:
    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({"prompt": [1, 2, 3]}, 3),
            ({"prompt": [[4, 5], [6, 7, 8]]}, 2),
            ({"model": "m", "max_tokens": 7, "prompt": [9]}, 1),
            ({"prompt": "1, 2, 3, 4"}, 0),
            ({"prompt": ["a, b", "c"]}, 0),
            ({"prompt": []}, 0),
            ({"user": '"prompt": [1, 2, 3, 4]', "prompt": "x"}, 0),  # what looks like ids is a text
            ({"stop": "prompt", "prompt": [1, 2]}, 2),
            ({"messages": [{"role": "user", "content": "prompt"}]}, 0),
        ],
    )
    def test_finds_the_first_prompt(self, body: dict[str, object], expected: int) -> None:
        assert count_ids(json.dumps(body).encode()) == expected
        assert count_ids(json.dumps(body, indent=2, separators=(",", ":")).encode()) == expected

    def test_a_body_that_breaks_off_counts_what_is_there(self) -> None:
        assert count_ids(b'{"prompt": [1, 2, 3') == 3
