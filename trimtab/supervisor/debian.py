"""One program out of a Debian package, without root and without installing anything: downloaded by apt, which checks Debian's
signature and the package's hash, and unpacked below the data folder."""

import fcntl
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from trimtab.supervisor.steps import Outcome, run_step


class PackageUnavailable(Exception):
    """Why it cannot be had, in a few words."""


async def unpacked_program(package: str, program: str, folder: Path, tell: Callable[[str], None]) -> Path:
    """Path of `program` (relative to the root of `package`) below `folder`; fetched at the first call.

    The machine's own package lists are tried first; if they are missing or outdated, fresh ones are fetched into a private
    folder. Raises PackageUnavailable.
    """
    home = folder / "packages" / package
    target = home / program
    if os.access(target, os.X_OK):
        return target
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise PackageUnavailable(f"{platform.system()} without {tool}")
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{package}-", dir=home.parent) as work:
        archive = await _download(package, Path(work), tell)
        tell(f"unpacking {archive.name} ({archive.stat().st_size / 1e6:.0f} MB)")
        root = Path(work) / "root"
        outcome = await run_step("dpkg-deb", "-x", str(archive), str(root))
        if outcome.code != 0:
            raise PackageUnavailable(_last_line(outcome))
        if not os.access(root / program, os.X_OK):
            raise PackageUnavailable(f"the package holds no {program}")
        with (home.parent / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            shutil.rmtree(home, ignore_errors=True)
            root.chmod(0o755)
            root.rename(home)
    return target


async def _download(package: str, work: Path, tell: Callable[[str], None]) -> Path:
    downloads = work / "downloads"
    downloads.mkdir()
    for own_lists in (False, True):
        options = _options(work, own_lists=own_lists)
        if own_lists:
            tell("fetching Debian's package lists into the data folder (about 10 MB)")
            # Its exit code also counts third-party sources that are of no concern here; the download below decides.
            await run_step("apt-get", *options, "-q", "update")
        tell(f"downloading Debian's package {package}")
        outcome = await run_step("apt-get", *options, "-q", "download", package, cwd=downloads)
        archives = list(downloads.glob("*.deb"))
        if outcome.code == 0 and archives:
            return archives[0]
    raise PackageUnavailable(_last_line(outcome))


def _options(work: Path, *, own_lists: bool) -> list[str]:
    cache = work / "cache"
    (cache / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    # Empty sandbox user: apt would otherwise, as root, change to a user who may not write here.
    options = [f"Dir::Cache={cache}", "APT::Sandbox::User=", "Acquire::Languages=none", "Acquire::Retries=2"]
    if own_lists:
        lists = work / "state" / "lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        options += [f"Dir::State={work / 'state'}", "Dir::State::status=/var/lib/dpkg/status"]
    return [part for option in options for part in ("-o", option)]


def _last_line(outcome: Outcome) -> str:
    lines = [line for line in outcome.err.splitlines() if line.strip()]
    return lines[-1].removeprefix("E: ") if lines else f"exit code {outcome.code}"
