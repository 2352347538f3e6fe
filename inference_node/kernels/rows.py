"""Which numbers of rows a matrix product may be run with, so that a row's result does not depend on its batch-mates.

A library picks another inner loop for 1, 3 or 300 rows, and with it another order of summation: the same row then differs in
its last bit, and a greedy answer with it. The sizes that share one order are found by trying (docs/adr/0002); a step is padded
to such a size, or cut into pieces of them.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

# The order of summation that all others must equal. 64 rows: the smallest size whose order large prefill products share,
# both with AVX-512 in fp32 and with AMX tiles in bf16 (measured on Sapphire Rapids with oneDNN 3.x of torch 2.13).
_REFERENCE = 64
_LARGEST = 512
_STRIDE = 32
# Two orders of summation differ in about one of 10,000 results in bf16 (measured), in far more in fp32.
_TRIED_RESULTS = 200_000
_SMALL = (1, 2, 4, 8, 16, 24, 32, 40, 48)
CANDIDATES = (*_SMALL, *range(_REFERENCE, _LARGEST + 1, _STRIDE))


class RowSizes:
    """The sizes that are equal for one product, and how to make any other number of rows from them."""

    def __init__(self, sizes: Iterable[int]) -> None:
        self.sizes = frozenset(sizes) | {_REFERENCE}
        self._descending = sorted((size for size in self.sizes if size >= _REFERENCE), reverse=True)
        self._pieces: dict[int, tuple[int, ...] | None] = {}

    def pieces(self, rows: int) -> tuple[int, ...] | None:
        """Sizes that add up to `rows`, few and large; None when there are none.

        Small sizes stand alone only: each further piece reads the whole weight again, which costs more than padding.
        """
        if rows not in self._pieces:
            found: tuple[int, ...] | None = (rows,) if rows in self.sizes else None
            for size in self._descending if found is None else ():
                if size <= rows - _REFERENCE and (rest := self.pieces(rows - size)) is not None:
                    found = (size, *rest)
                    break
            self._pieces[rows] = found
        return self._pieces[rows]


class RowPlan:
    """Rows to compute a step with, for all of a model's products at once."""

    def __init__(self, products: Iterable[RowSizes]) -> None:
        self._products = tuple(products)
        self._padded: dict[int, int] = {}

    def pad(self, rows: int) -> int:
        """The smallest size, from `rows` up, that every product can be run with."""
        if rows not in self._padded:
            size = rows
            while any(product.pieces(size) is None for product in self._products):
                size += 1
            self._padded[rows] = size
        return self._padded[rows]


ANY_SIZE = RowSizes(range(1, _LARGEST + 1))


def find_equal_sizes(
    product: Callable[[Tensor], Tensor], in_features: int, dtype: torch.dtype, largest: int = _LARGEST
) -> RowSizes:
    """Tries each candidate size on random rows and keeps those whose rows equal the reference's bit by bit.

    product: [M, in_features] to [M, N]. `largest` bounds the work for wide products. Some milliseconds to a tenth of a second.
    """
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(_LARGEST, in_features, generator=generator).to(dtype)
    features = product(rows[:_REFERENCE]).shape[1]
    enough = max(2 * _REFERENCE, -(-_TRIED_RESULTS // features))
    rows = rows[: max(enough, largest)]
    expected = torch.cat([product(piece) for piece in torch.split(rows, _REFERENCE)])
    equal: list[int] = []
    for size in CANDIDATES:
        if size > largest:
            break
        # All windows of this size, not the first alone.
        whole = min(max(enough, size), rows.shape[0]) // size * size
        found = torch.cat([product(piece) for piece in torch.split(rows[:whole], size)])
        if torch.equal(found, expected[:whole]):
            equal.append(size)
    return RowSizes(equal)
