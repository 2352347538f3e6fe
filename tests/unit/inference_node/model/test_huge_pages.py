"""Weights' memory: tensors side by side, on borders of cache lines, alive as long as they are held."""

import gc

import torch

from inference_node.model.huge_pages import HugePages


class TestHugePages:
    def test_tensors_do_not_overlap_and_begin_on_lines(self) -> None:
        pages = HugePages()
        made = [pages.empty((3, 7), torch.uint8), pages.empty((5,), torch.float32), pages.empty((2, 2), torch.bfloat16)]
        for value, tensor in enumerate(made):
            tensor.fill_(value + 1)
        for value, tensor in enumerate(made):
            assert tensor.data_ptr() % 64 == 0
            assert bool((tensor == value + 1).all())

    def test_what_does_not_fit_begins_another_chunk(self) -> None:
        pages = HugePages()
        small, large, after = (pages.empty((size,), torch.uint8) for size in (100, 65 << 20, 100))
        large.fill_(7)
        after.fill_(8)
        small.fill_(9)
        assert (int(large[-1]), int(large[0]), int(after[0]), int(small[-1])) == (7, 7, 8, 9)
        assert large.data_ptr() % (2 << 20) == 0

    def test_memory_outlives_the_one_who_made_it(self) -> None:
        pages = HugePages()
        kept = pages.empty((1000,), torch.int32)
        kept.copy_(torch.arange(1000, dtype=torch.int32))
        del pages
        gc.collect()
        assert int(kept.sum()) == 499_500
