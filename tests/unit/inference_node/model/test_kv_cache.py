"""The cache keeps its tokens when it changes its form."""

import torch

from inference_node.model.kv_cache import KvCache, KvLayout

LAYERS, BLOCKS, SIZE, HEADS, DIM = 2, 5, 32, 3, 64


def filled(dtype: torch.dtype) -> KvCache:
    cache = KvCache(num_layers=LAYERS, num_blocks=BLOCKS, block_size=SIZE, num_heads=HEADS, head_dim=DIM, dtype=dtype)
    cache.pages.copy_(torch.randn(cache.pages.shape, generator=torch.Generator().manual_seed(0)))
    return cache


class TestConvert:
    def test_to_tiles_and_back_is_the_same(self) -> None:
        cache = filled(torch.bfloat16)
        before = cache.pages.clone()
        cache.convert(torch.bfloat16, KvLayout.TILES, [4, 0, 2])
        assert not torch.equal(cache.pages[:, 0], before[:, 0])
        cache.convert(torch.bfloat16, KvLayout.ROWS, [4, 0, 2])
        for block in (4, 0, 2):
            assert torch.equal(cache.pages[:, block], before[:, block])
        assert cache.pages[:, 1].count_nonzero() == 0

    def test_places_in_tiles(self) -> None:
        """As csrc/attention.h reads them: keys [head][16 keys each][D / 2][16][2], then values [head][pair of keys][D][2]."""
        cache = filled(torch.bfloat16)
        rows = cache.pages[1, 3].clone()
        cache.convert(torch.bfloat16, KvLayout.TILES, [3])
        keys, values = cache.pages[1, 3].flatten().chunk(2)
        token, head, channel = 21, 2, 37
        place = head * SIZE * DIM + token // 16 * 16 * DIM + channel // 2 * 32 + token % 16 * 2 + channel % 2
        assert keys[place] == rows[token, 0, head, channel]
        place = head * SIZE * DIM + token // 2 * 2 * DIM + channel * 2 + token % 2
        assert values[place] == rows[token, 1, head, channel]

    def test_narrowing_rounds_and_widening_is_exact(self) -> None:
        cache = filled(torch.float32)
        before = cache.pages.clone()
        cache.convert(torch.bfloat16, KvLayout.TILES, [1])
        cache.convert(torch.float32, KvLayout.ROWS, [1])
        assert torch.equal(cache.pages[:, 1], before[:, 1].bfloat16().float())

    def test_eight_bits_have_a_scale_for_each_token_and_head(self) -> None:
        cache = filled(torch.bfloat16)
        cache.pages[:, 1, 7, 0, 2] *= 1000  # beside a loud token quiet ones keep their accuracy
        before = cache.pages.float().clone()
        cache.convert(torch.int8, KvLayout.TILES, [1, 3])
        assert cache.pages.nbytes * 64 * 2 == before.nbytes // 2 * (64 + 2)
        cache.convert(torch.float32, KvLayout.ROWS, [1, 3])
        # Half a step of 127 to the largest entry, whose scale is rounded up by 2^-7 at most.
        most = before.abs().amax(-1, keepdim=True) / 127 * (1 + 2**-7) / 2 * (1 + 1e-6)
        for block in (1, 3):
            assert ((cache.pages - before).abs() <= most)[:, block].all()

    def test_what_is_no_number_stays_none_and_zero_stays_zero(self) -> None:
        cache = filled(torch.bfloat16)
        cache.pages[0, 2, 5, 1, 0, 3] = float("nan")
        cache.pages[0, 2, 6, 1, 0] = 0.0
        cache.convert(torch.int8, KvLayout.TILES, [2])
        cache.convert(torch.bfloat16, KvLayout.ROWS, [2])
        assert cache.pages[0, 2, 5, 1, 0].isnan().all()
        assert cache.pages[0, 2, 6, 1, 0].count_nonzero() == 0
        assert not cache.pages[0, 2, 5, 0].isnan().any()

    def test_unwritten_pages_are_zero(self) -> None:
        cache = KvCache(num_layers=1, num_blocks=2, block_size=16, num_heads=1, head_dim=64, dtype=torch.bfloat16)
        assert cache.pages.count_nonzero() == 0
