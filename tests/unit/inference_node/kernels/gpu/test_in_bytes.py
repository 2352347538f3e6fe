"""What makes activations rounds them to bytes as a launch of its own would."""

import pytest
import torch
from torch import Generator, Tensor

from inference_node.kernels.gpu.activation import gated
from inference_node.kernels.gpu.attention import DecodeScratch, decode_attention, goes_in_bytes
from inference_node.kernels.gpu.in_bytes import InBytes, as_bytes
from inference_node.kernels.gpu.norm import add_norm

pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning")


def assert_same(found: Tensor | InBytes, rows: Tensor | InBytes) -> None:
    assert isinstance(found, InBytes)
    assert isinstance(rows, Tensor)
    expected = as_bytes(rows)
    assert torch.equal(found.scales, expected.scales)
    assert torch.equal(found.codes, expected.codes)
    assert int((found.codes != 0).sum()) > found.codes.numel() // 4


@pytest.mark.parametrize("width", [160, 256])
def test_norm(draw: Generator, device: torch.device, width: int) -> None:
    residual, delta = (torch.randn(2, width, generator=draw, device=device).bfloat16() for _ in range(2))
    gain, tau = torch.ones(width, device=device), torch.tensor([0.3], device=device)

    def normed(*, in_bytes: bool) -> Tensor | InBytes:
        kept, real = (torch.tensor([n], device=device, dtype=torch.int32) for n in (0, 2))
        rows, scale = add_norm(residual.clone(), delta, gain, 1e-5, tau, kept, real, in_bytes=in_bytes)
        assert scale is None
        assert 0 < int(kept) < 2 * width
        return rows

    assert_same(normed(in_bytes=True), normed(in_bytes=False))


@pytest.mark.parametrize("width", [40, 1100])
def test_gate(draw: Generator, device: torch.device, width: int) -> None:
    opened = torch.randn(2, 2 * width, generator=draw, device=device).bfloat16()
    tau, real = torch.tensor([0.05], device=device), torch.tensor([2], device=device, dtype=torch.int32)

    def made(*, in_bytes: bool) -> Tensor | InBytes:
        kept = torch.tensor([0], device=device, dtype=torch.int32)
        return gated(opened, tau, kept, real, gelu=False, in_bytes=in_bytes)[0]

    assert_same(made(in_bytes=True), made(in_bytes=False))


@pytest.mark.parametrize(("heads", "key_heads", "dim"), [(6, 2, 64), (4, 2, 128)])
@pytest.mark.parametrize("splits", [1, 4])
def test_attention(draw: Generator, device: torch.device, heads: int, key_heads: int, dim: int, splits: int) -> None:
    assert goes_in_bytes(heads, dim)
    pages = torch.randn(9, 2, key_heads, 16, dim, generator=draw, device=device).bfloat16()
    tables = torch.randperm(8, generator=draw, device=device).view(2, 4).int()
    q = (torch.randn(2, heads, dim, generator=draw, device=device) * dim**-0.5).bfloat16()
    positions = torch.tensor([50, 17], device=device, dtype=torch.int32)
    runs = torch.arange(2, device=device, dtype=torch.int32)
    scratch = DecodeScratch(2, heads, key_heads, dim, splits, device)
    tau, real = torch.tensor([0.02], device=device), torch.tensor([2], device=device, dtype=torch.int32)

    def mixed(*, in_bytes: bool) -> Tensor | InBytes:
        kept = torch.tensor([0], device=device, dtype=torch.int32)
        given = (positions, runs, tables, scratch, tau, kept, real)
        return decode_attention(q, pages, None, *given, in_bytes=in_bytes)

    assert_same(mixed(in_bytes=True), mixed(in_bytes=False))
