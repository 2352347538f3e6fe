"""A model's weights in the layouts of the native kernels: bf16 panels, or the planes that int8 and int4 share.

Covers every family of `model.families`, if `why_not` finds nothing; fp32 and all else run from `weights.WeightStore`.
"""

import ctypes
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from inference_node.contract.settings import Precision
from inference_node.kernels.native.build import NativeUnavailable
from inference_node.kernels.native.library import LayerArgs, Library, LinearArgs, ModelArgs, PackedArgs, load
from inference_node.model import rope, tensors
from inference_node.model.checkpoint import Checkpoint
from inference_node.model.huge_pages import HugePages
from inference_node.model.rope import Rope
from inference_node.model.spec import Activation, ModelSpec
from inference_node.model.tensors import LayerTensors, ModelTensors
from inference_node.model.weights import Arithmetic

GROUP = 32  # inputs that share a zero and a factor: kWeightGroup of csrc/linear_q.h
CHANNELS = 64  # rows are padded to this: kChannels of csrc/common.h
_PANEL_EXACT, _PANEL_QUANTIZED = 32, 128
PRECISIONS = (Precision.BF16, Precision.INT8, Precision.INT4)
_QUANTIZED = (Precision.INT8, Precision.INT4)
# What a weight takes in memory. int8 and int4 share two planes, and each has a zero and a factor, a byte each, for 32 weights.
_BYTES_PER_WEIGHT = {Precision.BF16: 2.0, Precision.INT8: 1 + 4 / GROUP, Precision.INT4: 1 + 4 / GROUP}


def why_not(spec: ModelSpec) -> str | None:
    """Why the native step cannot run this model on this machine; None when it can."""
    library = load()
    if isinstance(library, NativeUnavailable):
        return str(library)
    if spec.foreign is not None:
        return spec.foreign.reason
    if spec.head_dim % 64:
        return f"the kernels take heads of a multiple of 64 channels, this model's have {spec.head_dim}"
    return None


def estimate_bytes(spec: ModelSpec, precision: Precision) -> int:
    """Memory that building a store takes at its peak: the store, and the largest matrix in passing."""
    ends = spec.vocab_size * spec.hidden_size
    return int(spec.num_weights * _BYTES_PER_WEIGHT[precision]) + 6 * ends


class ExactMatrix:
    """[N, K] in bf16 panels; reads of the library go to `panels`."""

    def __init__(
        self, library: Library, packer: int, pages: HugePages, weight: Tensor, order: Tensor, bias: Tensor | None
    ) -> None:
        self.outputs, self.inputs = weight.shape
        num_panels = -(-len(order) // _PANEL_EXACT)
        panel = -(-self.inputs // GROUP) * GROUP * _PANEL_EXACT
        self.panels = pages.empty((num_panels, panel), torch.bfloat16)
        self.bias = _padded(bias, order, num_panels * _PANEL_EXACT)
        self._places = len(order)
        source = weight.contiguous()
        library.call(
            "tt_pack_bf16",
            packer,
            source.data_ptr(),
            int(source.dtype == torch.float32),
            self.inputs,
            self._places,
            self._places,
            order.data_ptr(),
            self.panels.data_ptr(),
        )

    def args(self, precision: Precision) -> LinearArgs:
        return LinearArgs(
            quantized=0,
            inputs=self.inputs,
            outputs=self._places,
            weights=self.panels.data_ptr(),
            bias=_address(self.bias),
        )

    def nbytes(self, precision: Precision) -> int:
        return self.panels.nbytes


class QuantizedMatrix:
    """[N, K] as two planes of half bytes, with factors, zeros and column scales for eight bits and for four."""

    def __init__(
        self, library: Library, packer: int, pages: HugePages, weight: Tensor, order: Tensor, bias: Tensor | None
    ) -> None:
        self.outputs, self.inputs = weight.shape
        depth, num_panels = -(-self.inputs // GROUP) * GROUP, -(-len(order) // _PANEL_QUANTIZED)
        # A last panel that is at most half full has lines of half the length.
        halves = -(-len(order) // (_PANEL_QUANTIZED // 2))
        plane, scales = (depth, halves * 32), (2, num_panels, depth // GROUP, _PANEL_QUANTIZED)
        self.high, self.low = pages.empty(plane, torch.uint8), pages.empty(plane, torch.uint8)
        self.factor, self.zero = pages.empty(scales, torch.uint8), pages.empty(scales, torch.uint8)
        self.column = torch.empty(2, num_panels * _PANEL_QUANTIZED)
        self.bias = _padded(bias, order, num_panels * _PANEL_QUANTIZED)
        self._places = len(order)
        source = weight.contiguous()
        out = PackedArgs(
            high=self.high.data_ptr(),
            low=self.low.data_ptr(),
            factor=_pair(self.factor),
            zero=_pair(self.zero),
            column=_pair(self.column),
        )
        library.call(
            "tt_pack_q",
            packer,
            source.data_ptr(),
            int(source.dtype == torch.float32),
            self.inputs,
            self._places,
            self._places,
            order.data_ptr(),
            ctypes.byref(out),
        )

    def args(self, precision: Precision) -> LinearArgs:
        bits = 1 if precision is Precision.INT4 else 0
        return LinearArgs(
            quantized=1,
            inputs=self.inputs,
            outputs=self._places,
            weights=self.high.data_ptr(),
            low=None if bits else self.low.data_ptr(),
            factor=self.factor[bits].data_ptr(),
            zero=self.zero[bits].data_ptr(),
            column=self.column[bits].data_ptr(),
            bias=_address(self.bias),
        )

    def nbytes(self, precision: Precision) -> int:
        """What a step in this precision reads."""
        planes = self.high.nbytes + (0 if precision is Precision.INT4 else self.low.nbytes)
        return planes + (self.factor.nbytes + self.zero.nbytes + self.column.nbytes) // 2


Matrix = ExactMatrix | QuantizedMatrix


@dataclass(frozen=True, slots=True)
class NativeLayer:
    """Norms are fp32, padded with zeros to a multiple of 64 channels."""

    attention_norm: Tensor
    qkv: Matrix
    q_norm: Tensor | None
    k_norm: Tensor | None
    output: Matrix
    attention_out_norm: Tensor | None
    mlp_norm: Tensor
    gate_up: Matrix
    down: Matrix
    mlp_out_norm: Tensor | None


@dataclass(frozen=True, slots=True)
class NativeWeights:
    """What precisions can share: bf16 has its own, int8 and int4 read the same planes.

    embedding: [V, C] bf16, or None where it is read from the head that it is tied to.
    """

    layers: tuple[NativeLayer, ...]
    norm: Tensor
    head: Matrix
    embedding: Tensor | None

    def matrices(self) -> Iterable[Matrix]:
        for layer in self.layers:
            yield from (layer.qkv, layer.output, layer.gate_up, layer.down)
        yield self.head


class NativeStore:
    """One precision, ready to run. `handle` is the library's model; it lives as long as this object."""

    arithmetic = Arithmetic(torch.bfloat16, torch.bfloat16, torch.bfloat16, 2.0)

    def __init__(self, spec: ModelSpec, precision: Precision, weights: NativeWeights, turns: "Turns") -> None:
        self.precision, self.weights = precision, weights
        self.turns = turns
        self.nbytes = sum(matrix.nbytes(precision) for matrix in weights.matrices())
        if weights.embedding is not None:
            self.nbytes += weights.embedding.nbytes
        library = _library()
        self._layers = (LayerArgs * len(weights.layers))(
            *(
                _layer(layer, precision, turns.of(spec.window(index)), spec.window(index))
                for index, layer in enumerate(weights.layers)
            )
        )
        arguments = ModelArgs(
            hidden=spec.hidden_size,
            heads=spec.num_heads,
            key_heads=spec.num_key_heads,
            dim=spec.head_dim,
            middle=spec.intermediate_size,
            vocabulary=spec.vocab_size,
            num_layers=spec.num_layers,
            gelu=int(spec.activation is Activation.GELU_TANH),
            eps=spec.norm_eps,
            attention_scale=spec.attention_scale,
            # Rounded as the model was trained: 33.9 for Gemma 3's 1152 channels becomes 34.
            embedding_scale=float(torch.tensor(spec.embedding_scale, dtype=torch.bfloat16)),
            norm=weights.norm.data_ptr(),
            embedding=_address(weights.embedding),
            head=weights.head.args(precision),
            layers=self._layers,
        )
        self.handle = library.make("tt_model_new", ctypes.byref(arguments))
        weakref.finalize(self, library.free, "tt_model_free", self.handle)

    def in_precision(self, spec: ModelSpec, precision: Precision) -> "NativeStore":
        """The same planes, read as the other of int8 and int4. Takes no time and no memory worth naming."""
        assert {precision, self.precision} <= set(_QUANTIZED)
        return NativeStore(spec, precision, self.weights, self.turns)


def build(
    checkpoint: Checkpoint,
    spec: ModelSpec,
    precision: Precision,
    progress: Callable[[float], None] = lambda share: None,
) -> NativeStore:
    """Reads and packs all weights. `progress` may raise to give up midway. Raises ModelInvalid."""
    found, packer = ModelTensors(checkpoint, spec), _Packer(precision)
    layers: list[NativeLayer] = []
    for layer in range(spec.num_layers):
        progress(layer / (spec.num_layers + 1))
        layers.append(packer.layer(found.layer(layer)))
    progress(spec.num_layers / (spec.num_layers + 1))
    embedding, head = found.embedding(), found.head()
    weights = NativeWeights(
        layers=tuple(layers),
        norm=_channels(found.norm()),
        head=packer.matrix(tensors.Matrix(embedding if head is None else head)),
        # Tied, a token's row is read back from the head.
        embedding=None if head is None else embedding.to(torch.bfloat16, copy=True).contiguous(),
    )
    progress(1.0)
    return NativeStore(spec, precision, weights, Turns.of_model(spec))


class _Packer:
    """Brings tensors into panels, on threads of its own."""

    def __init__(self, precision: Precision) -> None:
        self._matrix_type = QuantizedMatrix if precision in _QUANTIZED else ExactMatrix
        self._panel = _PANEL_QUANTIZED if precision in _QUANTIZED else _PANEL_EXACT
        self._library, self._pages = _library(), HugePages()
        self._threads = self._library.make("tt_engine_new", torch.get_num_threads(), 0, -1.0)
        weakref.finalize(self, self._library.free, "tt_engine_free", self._threads)

    def layer(self, found: LayerTensors) -> NativeLayer:
        return NativeLayer(
            attention_norm=_channels(found.attention_norm),
            qkv=self.matrix(found.qkv),
            q_norm=found.q_norm,
            k_norm=found.k_norm,
            output=self.matrix(found.output),
            attention_out_norm=_channels_if(found.attention_out_norm),
            mlp_norm=_channels(found.mlp_norm),
            gate_up=self.matrix(found.gate_up, self._gates_beside(found.gate_up.weight.shape[0] // 2)),
            down=self.matrix(found.down),
            mlp_out_norm=_channels_if(found.mlp_out_norm),
        )

    def matrix(self, matrix: tensors.Matrix, order: Tensor | None = None) -> Matrix:
        if order is None:
            order = torch.arange(matrix.weight.shape[0], dtype=torch.int32)
        weight = matrix.weight if matrix.weight.dtype in (torch.bfloat16, torch.float32) else matrix.weight.float()
        return self._matrix_type(self._library, self._threads, self._pages, weight, order, matrix.bias)

    def _gates_beside(self, middle: int) -> Tensor:
        """Half of a panel gates, half what they open, so that one task has both: -1 where the matrix has ended."""
        half = self._panel // 2
        places = torch.arange(-(-middle // half) * half)
        gates = torch.where(places < middle, places, -1).view(-1, half)
        opened = torch.where(gates >= 0, gates + middle, -1)
        return torch.cat((gates, opened), dim=1).flatten().to(torch.int32)


def _library() -> Library:
    library = load()
    if isinstance(library, NativeUnavailable):
        raise library
    return library


def _channels(gain: Tensor) -> Tensor:
    return torch.nn.functional.pad(gain, (0, -len(gain) % CHANNELS)).contiguous()


def _channels_if(gain: Tensor | None) -> Tensor | None:
    return None if gain is None else _channels(gain)


@dataclass(frozen=True, slots=True)
class Turns:
    """Rotations of queries and keys, [positions, 2, D] fp32: cosines, then sines, of each pair of neighbours twice.

    local: of layers with a window, where those turn otherwise.
    """

    whole: Tensor
    local: Tensor

    @classmethod
    def of_model(cls, spec: ModelSpec) -> "Turns":
        whole = _turns(spec, spec.rope)
        return cls(whole, whole if spec.local_rope is None else _turns(spec, spec.local_rope))

    def of(self, window: int) -> Tensor:
        return self.local if window else self.whole


def _turns(spec: ModelSpec, turning: Rope) -> Tensor:
    speeds = rope.speeds(turning, spec.head_dim)
    angles = torch.outer(torch.arange(spec.max_positions, dtype=torch.float32), speeds)
    # Pairs that stand still stay what they are.
    gains = torch.where(speeds > 0, rope.gain(turning), 1.0)
    return torch.stack((angles.cos() * gains, angles.sin() * gains), dim=1).repeat_interleave(2, dim=-1).contiguous()


def _layer(layer: NativeLayer, precision: Precision, turns: Tensor, window: int) -> LayerArgs:
    return LayerArgs(
        attention_norm=layer.attention_norm.data_ptr(),
        mlp_norm=layer.mlp_norm.data_ptr(),
        attention_out_norm=_address(layer.attention_out_norm),
        mlp_out_norm=_address(layer.mlp_out_norm),
        turns=turns.data_ptr(),
        window=window,
        q_norm=_address(layer.q_norm),
        k_norm=_address(layer.k_norm),
        qkv=layer.qkv.args(precision),
        output=layer.output.args(precision),
        gate_up=layer.gate_up.args(precision),
        down=layer.down.args(precision),
    )


def _padded(bias: Tensor | None, order: Tensor, width: int) -> Tensor | None:
    if bias is None:
        return None
    placed = torch.zeros(width)
    real = order >= 0
    placed[: len(order)][real] = bias.float()[order[real].long()]
    return placed


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _pair(tensor: Tensor) -> "ctypes.Array[ctypes.c_void_p]":
    return (ctypes.c_void_p * 2)(tensor[0].data_ptr(), tensor[1].data_ptr())
