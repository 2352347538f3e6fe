"""Builds the library with the machine's own compiler, once, and keeps it: later starts load what is there."""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from inference_node.errors import NodeError

SOURCES = Path(__file__).parent / "csrc"
# What the kernels are written for. AMX is compiled in and asked for at run time; the rest a machine must have (see features.py).
_FLAGS = (
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-shared",
    "-pthread",
    *(f"-m{f}" for f in ("avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi", "avx512vbmi2")),
    *(f"-m{f}" for f in ("avx512vnni", "amx-tile", "amx-bf16", "amx-int8")),
)
# Instructions that are used where this machine has them, by their names in /proc/cpuinfo.
_OPTIONAL = {"avx512_bf16": "-mavx512bf16"}
# By GCC 12 a build takes 6 s (measured); a machine that swaps is slower.
_PATIENCE_S = 300.0


class NativeUnavailable(NodeError):
    """The library cannot be had on this machine; the text says why. Plain torch takes its place."""


def build() -> Path:
    """The library's file, compiled first if need be. Safe to call from several processes at once. Raises NativeUnavailable."""
    compiler = _compiler()
    folder = _cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"kernels-{_key(compiler)}.so"
        if path.is_file():
            return path
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.is_file():
                _compile(compiler, path)
    except OSError as error:
        raise NativeUnavailable(f"the kernels cannot be kept in {folder}: {error.strerror or error}") from None
    return path


def _cache() -> Path:
    if chosen := os.environ.get("TRIMTAB_CACHE"):
        return Path(chosen).expanduser() / "kernels"
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "trimtab" / "kernels"


def _compiler() -> str:
    for name in (os.environ.get("CXX"), "g++", "c++", "clang++"):
        if name and (found := shutil.which(name)):
            return found
    raise NativeUnavailable("no C++ compiler was found: install g++ (GCC 11 or newer) or set CXX")


def _flags() -> tuple[str, ...]:
    try:
        found = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    except OSError:
        found = []
    return (*_FLAGS, *(flag for name, flag in _OPTIONAL.items() if name in found))


def _key(compiler: str) -> str:
    digest = hashlib.sha256()
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    digest.update(repr((version.splitlines()[:1], _flags(), platform.machine())).encode())
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


def _compile(compiler: str, path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        made = Path(scratch) / path.name
        command = [compiler, *_flags(), str(SOURCES / "api.cpp"), "-o", str(made)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
        except subprocess.TimeoutExpired:
            raise NativeUnavailable(f"{compiler} had not built the kernels after {_PATIENCE_S:.0f} s") from None
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines()
            reason = next((line for line in lines if "error" in line), lines[-1] if lines else "no message")
            raise NativeUnavailable(f"{compiler} could not build the kernels (GCC 11 or newer is needed): {reason}")
        made.rename(path)
