"""The demo model as GGUF files in other formats, for peers that read nothing else: made once from the packaged Q4_1 file."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference_node.contract.settings import Precision
from inference_node.demo_model import find_gguf
from inference_node.errors import Invalid

# OpenVINO refuses BF16 files. Matrices are in the format, vectors in fp32, as llama.cpp has it.
FORMATS: Mapping[Precision, str] = {Precision.BF16: "F16", Precision.INT8: "Q8_0", Precision.INT4: "Q4_1"}


def gguf_for(precision: Precision, cache: Path) -> Path:
    """The file for `precision`; written into `cache` at first use (a minute). Raises Invalid for a precision without a format."""
    if precision not in FORMATS:
        raise Invalid(f"there is no GGUF format for {precision.value}; there is one for {', '.join(FORMATS)}")
    source = find_gguf()
    if precision is Precision.INT4:
        return source
    target = cache / f"{source.stem}.{FORMATS[precision]}.gguf"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        half = target.with_suffix(".part")
        convert(source, half, FORMATS[precision])
        half.rename(target)
    return target


def convert(source: Path, target: Path, to: str) -> None:
    """Every matrix of `source` dequantised and written in format `to`; all metadata kept."""
    # It comes with the extra `node` only.
    import gguf  # noqa: PLC0415
    from gguf.quants import dequantize, quantize  # noqa: PLC0415

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    kind = gguf.GGMLQuantizationType[to]
    for name, entry in reader.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            _copy_field(writer, name, entry)
    writer.add_file_type(int(gguf.LlamaFileType[f"MOSTLY_{to}"]))
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        if len(tensor.shape) == 1:
            writer.add_tensor(tensor.name, values)
        else:
            writer.add_tensor(tensor.name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _copy_field(writer: Any, name: str, entry: Any) -> None:
    kind, *rest = entry.types
    writer.add_key_value(name, entry.contents(), kind, sub_type=rest[-1] if rest else None)


def main(argv: list[str] | None = None) -> int:
    """Print the file for a precision, made if need be."""
    parser = argparse.ArgumentParser(prog="python -m inference_node.bench.gguf_files", description=main.__doc__)
    parser.add_argument("precision", type=Precision, choices=tuple(FORMATS))
    parser.add_argument("cache", type=Path)
    arguments = parser.parse_args(argv)
    sys.stdout.write(f"{gguf_for(arguments.precision, arguments.cache)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
