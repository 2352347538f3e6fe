"""Launches that begin before the one ahead of them has ended.

At one row a step is some 300 launches of a few microseconds, and what each costs beside its work, the way into the
multiprocessors and the first loads, is a fifth of the step. Programmatic dependent launch (CUDA C++ Programming Guide, section of
that name; from compute capability 9.0 on) lets programs start early and do what needs nothing of the launch before: they ask
for what they are about to read and no launch writes, and then wait. Asked for as a pipelined loop does it, into shared memory,
this costs next to nothing; lines asked for into the L2 cache take time of the programs.

A product lets the next launch begin when it is through itself: told to begin at once, all programs of the product after that
would wait on the device beside the one that runs. Attention alone may begin at once (`at_once`): it takes keys and values into
registers meanwhile, and holds the product after it back until it has waited itself.

Every kernel that is launched so waits, in all its programs, before it reads or writes what a step computes: then the launch
before it has ended, and so have all before that one. Ahead of the wait it may only touch what no launch of a step writes.
"""

import functools
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

_FROM = (9, 0)
# With many rows launches are long, and cuBLAS' own, which do not begin early, are in between: 128 rows took 1 % longer.
MOST_ROWS = 2
# Of the L2 cache.
LINE_BYTES = tl.constexpr(128)


def options(x: Tensor, rows: int | None = None) -> dict[str, Any]:
    """Of a launch for that many rows (x's own if not told) on its device: EARLY for the kernel, and what tells the driver."""
    if x.is_cuda and (x.shape[0] if rows is None else rows) <= MOST_ROWS and _can_overlap(x.device.index):
        return {"EARLY": True, "launch_pdl": True}
    return {"EARLY": False}


@functools.cache
def _can_overlap(device: int) -> bool:
    return torch.cuda.get_device_capability(device) >= _FROM


@triton.jit
def let_next_begin(EARLY: tl.constexpr):
    if EARLY:
        gdc_launch_dependents()


@triton.jit
def wait_for_last(EARLY: tl.constexpr):
    """No read or write of what steps compute may stand before it."""
    if EARLY:
        gdc_wait()


@triton.jit
def ask_for(pointers):
    """The cache lines of these addresses, into L2. They have to be of this process; nothing waits for them."""
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;",
        "=r,l",
        [pointers.to(tl.int64)],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )
