"""Building the kernels: what is kept, and what a machine is told that cannot build them."""

from pathlib import Path

import pytest

from inference_node.kernels.native.build import NativeUnavailable, build


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TRIMTAB_CACHE", str(folder))
    monkeypatch.delenv("CXX", raising=False)
    return folder


def compiler(folder: Path, script: str) -> Path:
    """A program in the compiler's place that notes each build and then does as `script` says."""
    file = folder / "fake-c++"
    file.write_text(
        f'#!/bin/sh\ncase "$1" in --version) echo "fake 1.0"; exit 0;; esac\necho built >>{folder}/builds\n{script}\n'
    )
    file.chmod(0o755)
    return file


WRITES_ITS_OUTPUT = 'while [ "$1" != "-o" ]; do shift; done; echo library >"$2"'


class TestBuild:
    def test_once_for_all_starts(self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CXX", str(compiler(tmp_path, WRITES_ITS_OUTPUT)))
        first, second = build(), build()
        assert first == second and first.read_text() == "library\n" and first.parent == cache / "kernels"
        assert (tmp_path / "builds").read_text() == "built\n"

    def test_without_a_compiler_the_way_out_is_named(
        self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(NativeUnavailable, match=r"no C\+\+ compiler was found: install g\+\+"):
            build()

    def test_a_compiler_that_fails_is_quoted(
        self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = 'echo "api.cpp: warning: odd" >&2; echo "api.cpp:1: error: no such flag" >&2; exit 1'
        monkeypatch.setenv("CXX", str(compiler(tmp_path, script)))
        with pytest.raises(NativeUnavailable, match=r"could not build the kernels.*error: no such flag"):
            build()
        assert list(cache.rglob("*.so")) == []

    def test_a_cache_that_cannot_be_written_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        taken = tmp_path / "file"
        taken.write_text("")
        monkeypatch.setenv("TRIMTAB_CACHE", str(taken))
        monkeypatch.setenv("CXX", str(compiler(tmp_path, WRITES_ITS_OUTPUT)))
        with pytest.raises(NativeUnavailable, match=f"cannot be kept in {taken}"):
            build()
