"""Triton kernels where there is no GPU: its interpreter, with two gaps filled."""

import importlib.util
import os
from typing import Any

import torch

HAS_TRITON = importlib.util.find_spec("triton") is not None


def enter_interpreter() -> None:
    """Call it before any kernel is imported. Does nothing where there is a GPU, or no Triton."""
    if torch.cuda.is_available() or not HAS_TRITON:
        return
    os.environ["TRITON_INTERPRET"] = "1"
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter
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

    patch_tensor = interpreter._patch_lang_tensor

    def patched(tensor: type, scope: Any) -> None:
        patch_tensor(tensor, scope)
        # Scalars are arrays of one number there, which NumPy 2.4 no longer turns into a whole number by itself.
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched
    InterpreterBuilder.create_dot = create_dot
    InterpreterBuilder.widens_bf16 = True
