"""A model's weights in one format on the GPU: bf16, e4m3, or the planes that int8 and int4 share.

bf16 lies as [K, N], which one row's product skips rows of and cuBLAS takes as readily; e4m3 as [N, K], as its product asks for.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from inference_node.contract.settings import Precision
from inference_node.kernels.gpu.fp8 import FP8_MAX
from inference_node.kernels.gpu.planes import Planes, pack
from inference_node.model import rope, tensors
from inference_node.model.checkpoint import Checkpoint
from inference_node.model.gpu.device import beside_steps, here, wait_here
from inference_node.model.spec import ModelSpec
from inference_node.model.tensors import ModelTensors
from inference_node.model.weights import Arithmetic

_BF16 = torch.bfloat16
_ARITHMETIC = {
    Precision.BF16: Arithmetic(_BF16, _BF16, _BF16, 2.0),
    Precision.FP8: Arithmetic(torch.float8_e4m3fn, _BF16, _BF16, 1.0),
    # Two half bytes, and one scale of two bytes to 64 weights.
    Precision.INT8: Arithmetic(torch.int8, _BF16, _BF16, 1.04),
    Precision.INT4: Arithmetic(torch.int8, _BF16, _BF16, 1.04),
}
PRECISIONS = tuple(_ARITHMETIC)
_IN_PLANES = (Precision.INT8, Precision.INT4)


@dataclass(frozen=True, slots=True)
class Narrow:
    """weight: [N, K] e4m3; scale: [N] fp32, what each output lacks."""

    weight: Tensor
    scale: Tensor


@dataclass(frozen=True, slots=True)
class GpuMatrix:
    """weight: [K, N] bf16 (of any strides), Narrow or Planes; bias: [N] fp32 or None, which whoever takes the product adds."""

    weight: Tensor | Narrow | Planes
    bias: Tensor | None = None

    def keep_until_read(self) -> None:
        """Memory from another stream than that of the calling thread, where steps read it, is taken again only after them."""
        match self.weight:
            case Planes(high, low, scale):
                parts = [high, low, scale]
            case Narrow(weight, scale):
                parts = [weight, scale]
            case weight:
                parts = [weight]
        for part in parts:
            if part.is_cuda:
                part.record_stream(torch.cuda.current_stream())

    def nbytes(self, bits: int) -> int:
        match self.weight:
            case Planes():
                return self.weight.nbytes(bits)
            case Narrow():
                return self.weight.weight.nbytes + self.weight.scale.nbytes
            case _:
                return self.weight.nbytes


@dataclass(frozen=True, slots=True)
class GpuLayer:
    """Norms are fp32 gains; None where the family has none."""

    attention_norm: Tensor
    qkv: GpuMatrix
    q_norm: Tensor | None
    k_norm: Tensor | None
    output: GpuMatrix
    attention_out_norm: Tensor | None
    mlp_norm: Tensor
    gate_up: GpuMatrix
    down: GpuMatrix
    mlp_out_norm: Tensor | None

    def matrices(self) -> tuple[GpuMatrix, ...]:
        return (self.qkv, self.output, self.gate_up, self.down)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class GpuStore:
    """One format, ready to run.

    embedding: [V, C] bf16; turns, local_turns: [positions, 2, D/2] fp32, cosines and sines, the latter for layers with a window.
    """

    precision: Precision
    arithmetic: Arithmetic
    embedding: Tensor
    layers: tuple[GpuLayer, ...]
    norm: Tensor
    head: GpuMatrix
    turns: Tensor
    local_turns: Tensor

    @property
    def bits(self) -> int:
        return 4 if self.precision is Precision.INT4 else 8

    @property
    def nbytes(self) -> int:
        """What a step reads: every matrix once. The embedding counts as the head does where they are one."""
        return sum(m.nbytes(self.bits) for layer in self.layers for m in layer.matrices()) + self.head.nbytes(8)

    def in_precision(self, precision: Precision) -> "GpuStore":
        """The same planes, read in eight bits or in four. Takes no time and no memory."""
        assert {self.precision, precision} <= set(_IN_PLANES)
        return replace(self, precision=precision)


def arithmetic_of(precision: Precision) -> Arithmetic:
    return _ARITHMETIC[precision]


def estimate_bytes(spec: ModelSpec, precision: Precision) -> int:
    """Memory that building takes at its peak: the store, its embedding in bf16, and the largest matrix in passing."""
    ends = spec.vocab_size * spec.hidden_size
    largest = max(*spec.site_weights, ends)
    return int(spec.num_weights * _ARITHMETIC[precision].bytes_per_weight) + 2 * ends + 12 * largest


def build(
    checkpoint: Checkpoint,
    spec: ModelSpec,
    precision: Precision,
    progress: Callable[[float], None] = lambda share: None,
    resident: Iterable[GpuStore] = (),
) -> GpuStore:
    """Reads, uploads and converts all weights. `progress` may raise to give up midway. Raises ModelInvalid.

    Where bf16 is resident, other formats are made from it on the device.
    """
    for other in resident:
        if {other.precision, precision} <= set(_IN_PLANES):
            return other.in_precision(precision)
    exact = next((store for store in resident if store.precision is Precision.BF16), None)
    if exact is not None:
        return convert(exact, precision, progress)
    found, packer = ModelTensors(checkpoint, spec), Packer(precision)
    layers: list[GpuLayer] = []
    for index in range(spec.num_layers):
        progress(index / (spec.num_layers + 1))
        layers.append(packer.layer(found.layer(index)))
    embedding, head = packer.upload(found.embedding()), found.head()
    turns, local = turning_tables(spec)
    progress(1.0)
    return GpuStore(
        precision=precision,
        arithmetic=_ARITHMETIC[precision],
        embedding=embedding,
        layers=tuple(layers),
        norm=found.norm().to(here()),
        head=packer.head(embedding if head is None else packer.upload(head)),
        turns=turns,
        local_turns=local,
    )


def convert(exact: GpuStore, precision: Precision, progress: Callable[[float], None] = lambda share: None) -> GpuStore:
    """Another format of resident bf16 weights; norms, embedding and turning tables are shared with them.

    Some milliseconds of the device's time a layer, beside the steps that run there; `progress` is called between layers.
    """
    with beside_steps():
        made = _converted(exact, precision, progress)
    for matrix in (*(matrix for layer in made.layers for matrix in layer.matrices()), made.head):
        matrix.keep_until_read()
    return made


def _converted(exact: GpuStore, precision: Precision, progress: Callable[[float], None]) -> GpuStore:
    packer = Packer(precision)

    def packed(matrix: GpuMatrix) -> GpuMatrix:
        assert isinstance(matrix.weight, Tensor)
        done = replace(matrix, weight=packer.pack(matrix.weight.t()))
        # So that what a step of the engine shares the device with is one matrix at most.
        wait_here()
        return done

    layers: list[GpuLayer] = []
    for index, layer in enumerate(exact.layers):
        progress(index / (len(exact.layers) + 1))
        layers.append(
            replace(
                layer,
                qkv=packed(layer.qkv),
                output=packed(layer.output),
                gate_up=packed(layer.gate_up),
                down=packed(layer.down),
            )
        )
    assert isinstance(exact.head.weight, Tensor)
    head = packer.head(exact.head.weight.t())
    wait_here()
    progress(1.0)
    return replace(
        exact, precision=precision, arithmetic=_ARITHMETIC[precision],
        layers=tuple(layers), head=head,
    )  # fmt: skip


class Packer:
    """Brings matrices into one format, on the device."""

    def __init__(self, precision: Precision) -> None:
        self._precision = precision

    def layer(self, found: tensors.LayerTensors) -> GpuLayer:
        return GpuLayer(
            attention_norm=found.attention_norm.to(here()),
            qkv=self._matrix(found.qkv),
            q_norm=_there(found.q_norm),
            k_norm=_there(found.k_norm),
            output=self._matrix(found.output),
            attention_out_norm=_there(found.attention_out_norm),
            mlp_norm=found.mlp_norm.to(here()),
            gate_up=self._matrix(found.gate_up),
            down=self._matrix(found.down),
            mlp_out_norm=_there(found.mlp_out_norm),
        )

    def upload(self, weight: Tensor) -> Tensor:
        return weight.to(here()).to(_BF16)

    def head(self, weight: Tensor) -> GpuMatrix:
        """weight: [V, C]. In bf16 it stays as it lies, since it may be the embedding too."""
        return GpuMatrix(weight.t() if self._precision is Precision.BF16 else self.pack(weight))

    def pack(self, weight: Tensor) -> Tensor | Narrow | Planes:
        """weight: [N, K] bf16 on the device."""
        if self._precision is Precision.BF16:
            return weight.t().contiguous()
        if self._precision is Precision.FP8:
            scale = weight.abs().amax(dim=1).float().clamp_min(1e-12) / FP8_MAX
            return Narrow((weight / scale.unsqueeze(1)).to(torch.float8_e4m3fn).contiguous(), scale)
        if not weight.is_cuda:
            return pack(weight)
        # Triton is there on machines with a GPU only.
        from inference_node.kernels.gpu.planes_pack import pack_on_device  # noqa: PLC0415

        return pack_on_device(weight)

    def _matrix(self, matrix: tensors.Matrix) -> GpuMatrix:
        return GpuMatrix(self.pack(self.upload(matrix.weight)), _there(matrix.bias))


def turning_tables(spec: ModelSpec) -> tuple[Tensor, Tensor]:
    """For layers that see everything, and for those with a window."""
    whole = _turns(spec, spec.rope)
    return whole, whole if spec.local_rope is None else _turns(spec, spec.local_rope)


def _turns(spec: ModelSpec, given: rope.Rope) -> Tensor:
    speeds = rope.speeds(given, spec.head_dim)
    angles = torch.outer(torch.arange(spec.max_positions, dtype=torch.float32), speeds)
    size = torch.where(speeds > 0, rope.gain(given), 1.0)
    return torch.stack((angles.cos() * size, angles.sin() * size), dim=1).contiguous().to(here())


def _there(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.float().to(here())
