"""Weights on disk: safetensors files, checked before a byte of them is used. Never unpickles anything."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from inference_node.model.errors import ModelInvalid, ModelNotFound

# The format's own limit (huggingface/safetensors, README, "Format").
_LARGEST_HEADER = 100_000_000
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_FLOATS = {"F32", "F16", "BF16"}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where one tensor lies, and what it is."""

    file: Path
    dtype: str
    shape: tuple[int, ...]


class Checkpoint:
    """All tensors of a model folder by name. Reading maps the file; what is not read costs no memory."""

    def __init__(self, entries: dict[str, TensorEntry]) -> None:
        self._entries = entries

    @classmethod
    def open(cls, folder: Path) -> "Checkpoint":
        """Finds and checks the folder's files. Raises ModelNotFound or ModelInvalid, naming the file."""
        entries: dict[str, TensorEntry] = {}
        for file in _files(folder):
            entries |= _read_header(file)
        return cls(entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return next(iter(self._entries.values())).file.parent

    @property
    def names(self) -> Iterable[str]:
        return self._entries.keys()

    @property
    def fingerprint(self) -> str:
        """Tells this checkpoint from another: names, shapes, file sizes and times. Not a proof of equal content."""
        files = sorted({entry.file for entry in self._entries.values()})
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        tensors = sorted((name, entry.dtype, entry.shape) for name, entry in self._entries.items())
        return hashlib.sha256(repr((tensors, stats)).encode()).hexdigest()[:16]

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """One tensor in its stored dtype. Raises ModelInvalid when it is absent, no float, or not of that shape."""
        entry = self._entries.get(name)
        if entry is None:
            raise ModelInvalid(f"the weights hold no tensor {name!r}; the folder does not fit its config.json")
        if entry.shape != shape:
            raise ModelInvalid(
                f"{entry.file}: {name!r} has shape {list(entry.shape)}, config.json asks for {list(shape)}"
            )
        if entry.dtype not in _FLOATS:
            raise ModelInvalid(f"{entry.file}: {name!r} is {entry.dtype}, expected one of {', '.join(sorted(_FLOATS))}")
        try:
            with safe_open(entry.file, framework="pt") as handle:
                tensor: Tensor = handle.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelInvalid(f"{entry.file}: {name!r} cannot be read: {error}") from None
        return tensor


def _files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise ModelInvalid(f"{index} is damaged: {error!r}") from None
        if any(not isinstance(name, str) or Path(name).name != name for name in names):
            raise ModelInvalid(f"{index} names files outside its folder")
        files = [folder / name for name in names]
    else:
        files = sorted(folder.glob("*.safetensors"))
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        what = ", ".join(missing) if missing else "*.safetensors"
        raise ModelNotFound(f"{folder} lacks {what}; weights are read from safetensors files only")
    return files


def _read_header(file: Path) -> dict[str, TensorEntry]:
    size = file.stat().st_size
    with file.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if size < 8 or not 2 <= length <= min(_LARGEST_HEADER, size - 8):
            raise ModelInvalid(f"{file} is no safetensors file, or was cut short: its header length is {length}")
        try:
            header = json.loads(handle.read(length))
        except ValueError:
            raise ModelInvalid(f"{file} is damaged: its header is not JSON") from None
    if not isinstance(header, dict):
        raise ModelInvalid(f"{file} is damaged: its header is no JSON object")
    header.pop("__metadata__", None)
    entries: dict[str, TensorEntry] = {}
    end_of_data = 0
    for name, body in header.items():
        entries[name], end = _entry(file, name, body)
        end_of_data = max(end_of_data, end)
    if end_of_data != size - 8 - length:
        raise ModelInvalid(
            f"{file} is damaged: it holds {size - 8 - length} bytes of data, its header names {end_of_data}"
        )
    return entries


def _entry(file: Path, name: str, body: Any) -> tuple[TensorEntry, int]:
    try:
        dtype, shape = str(body["dtype"]), tuple(int(n) for n in body["shape"])
        begin, end = (int(n) for n in body["data_offsets"])
        expected = _BYTES.get(dtype, 0)
        for extent in shape:
            expected *= extent
    except (KeyError, TypeError, ValueError):
        raise ModelInvalid(f"{file} is damaged: the entry of {name!r} is malformed") from None
    if dtype in _BYTES and (begin < 0 or min(shape, default=0) < 0 or end - begin != expected):
        raise ModelInvalid(f"{file} is damaged: {name!r} spans {end - begin} bytes, its shape takes {expected}")
    return TensorEntry(file, dtype, shape), end


def to_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy in that dtype that no longer leans on the mapped file."""
    return tensor.to(dtype) if tensor.dtype != dtype else tensor.clone()
