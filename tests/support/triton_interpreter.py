"""Triton kernels where there is no GPU: its interpreter, with one gap filled."""

import importlib.util
import os

import torch

HAS_TRITON = importlib.util.find_spec("triton") is not None


def enter_interpreter() -> None:
    """Call it before any kernel is imported. Does nothing where there is a GPU, or no Triton."""
    if torch.cuda.is_available() or not HAS_TRITON:
        return
    os.environ["TRITON_INTERPRET"] = "1"
    import numpy as np
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    if getattr(InterpreterBuilder, "widens_bf16", False):
        return
    plain = InterpreterBuilder.create_dot

    def widened(handle: TensorHandle) -> TensorHandle:
        # Triton 3.6's interpreter keeps bf16 as 16-bit whole numbers, and multiplies those.
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        return TensorHandle((handle.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    def create_dot(self: object, a: TensorHandle, b: TensorHandle, *others: object) -> TensorHandle:
        return plain(self, widened(a), widened(b), *others)

    InterpreterBuilder.create_dot = create_dot
    InterpreterBuilder.widens_bf16 = True
