"""Blocks: taking, sharing, giving back, and which is given up first."""

import pytest

from inference_node.scheduling.block_manager import BlockManager
from tests.support.scheduling import make_sequence


def computed(blocks: BlockManager, name: str, tokens: list[int]) -> object:
    sequence = make_sequence(name, tokens)
    blocks.start_uncached(sequence, "n")
    blocks.grow(sequence, len(tokens))
    sequence.num_computed = len(tokens)
    blocks.record_computed(sequence, "n")
    return sequence


class TestBlockManager:
    def test_a_shared_block_is_kept_until_its_last_holder_goes(self) -> None:
        blocks = BlockManager(8, 2)
        computed(blocks, "one", [1, 2, 3])
        two = make_sequence("two", [1, 2, 9])
        assert blocks.adopt_prefix(two, "n") == 2
        blocks.release(two)
        assert blocks.num_used == 2 and blocks.num_cached == 0

    def test_gives_up_the_oldest_chain_first_and_of_it_the_tail(self) -> None:
        blocks = BlockManager(4, 2)
        for name, tokens in (("one", [1, 1, 2, 2]), ("two", [3, 3, 4, 4])):
            blocks.release(computed(blocks, name, tokens))  # type: ignore[arg-type]
        new = make_sequence("new", [5, 5])
        blocks.grow(new, 2)
        assert blocks.cached_prefix_tokens(make_sequence("ask", [1, 1, 2, 2, 0]), "n") == 2
        assert blocks.cached_prefix_tokens(make_sequence("ask", [3, 3, 4, 4, 0]), "n") == 4

    def test_freeing_twice_is_a_bug_that_shows(self) -> None:
        blocks = BlockManager(2, 2)
        sequence = make_sequence("a", [1, 2])
        blocks.grow(sequence, 2)
        table = list(sequence.block_table)
        blocks.release(sequence)
        sequence.block_table.extend(table)
        with pytest.raises(AssertionError, match="freed twice"):
            blocks.release(sequence)

    def test_forgetting_keeps_what_is_held_and_frees_the_rest(self) -> None:
        blocks = BlockManager(4, 2)
        computed(blocks, "held", [1, 1])
        blocks.release(computed(blocks, "gone", [2, 2]))  # type: ignore[arg-type]
        blocks.forget_cached()
        assert (blocks.num_used, blocks.num_cached, blocks.num_free) == (1, 0, 3)
        assert blocks.cached_prefix_tokens(make_sequence("ask", [1, 1, 0]), "n") == 0
