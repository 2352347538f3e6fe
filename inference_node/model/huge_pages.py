"""Memory for weights in pages of 2 MB, where the system has them to give."""

import contextlib
import math
import mmap

import torch
from torch import Tensor

_HUGE = 2 << 20
_CHUNK = 64 << 20
_LINE = 64


class HugePages:
    """Hands out tensors that lie side by side. A step walks through all weights, one page of 4 KB after the other: translating
    their addresses costs a tenth of the time of reading them, and hardware fetches ahead within a page only.

    The memory lives as long as any tensor in its chunk of at least 64 MB. Where the system gives no large pages, it is ordinary.
    """

    def __init__(self) -> None:
        self._memory: mmap.mmap | None = None
        self._next = self._end = 0

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor of this shape on a border of 64 bytes; zeros, but nobody should rely on it. Raises MemoryError."""
        size = math.prod(shape) * dtype.itemsize
        if self._memory is None or self._next + size > self._end:
            self._grow(size)
        assert self._memory is not None
        tensor = torch.frombuffer(self._memory, dtype=dtype, count=math.prod(shape), offset=self._next).view(shape)
        self._next += -(-size // _LINE) * _LINE
        return tensor

    def _grow(self, size: int) -> None:
        wanted = max(_CHUNK, -(-size // _HUGE) * _HUGE)
        try:
            self._memory = mmap.mmap(-1, wanted + _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise MemoryError(f"{wanted} bytes for weights: {error.strerror}") from None
        with contextlib.suppress(OSError, AttributeError):
            self._memory.madvise(mmap.MADV_HUGEPAGE)
        begins = torch.frombuffer(self._memory, dtype=torch.uint8, count=1).data_ptr()
        self._next = -begins % _HUGE
        self._end = self._next + wanted
