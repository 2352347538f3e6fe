"""Where the API is and who we are to it: from the environment, else from the data folder of a running `trimtab up`."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from trimtab.errors import CommandError, UsageError

FILE = "connection.json"
LOCAL_DATA_DIR = Path(".trimtab")
URL_VARIABLE, TOKEN_VARIABLE, DATA_DIR_VARIABLE = "TRIMTAB_URL", "TRIMTAB_TOKEN", "TRIMTAB_DATA_DIR"


@dataclass(frozen=True, slots=True)
class Connection:
    """Address and credentials of one control plane; `pid` is the supervisor's when it runs on this machine."""

    url: str
    token: str
    pid: int | None = None
    prometheus_url: str | None = None
    nodes: tuple[tuple[str, str], ...] = ()  # name, URL


def default_data_dir() -> Path:
    """`$TRIMTAB_DATA_DIR`, else `trimtab` in the user's data folder (XDG Base Directory Specification 0.8)."""
    if chosen := os.environ.get(DATA_DIR_VARIABLE):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_DATA_HOME", "")
    # The specification has relative paths ignored.
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "share"
    return root / "trimtab"


def write(data_dir: Path, connection: Connection) -> None:
    """Atomically, and readable by the owner only: it holds an admin token."""
    temporary = data_dir / f".{FILE}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        json.dump(asdict(connection), handle, indent=2)
    temporary.replace(data_dir / FILE)


def remove(data_dir: Path) -> None:
    (data_dir / FILE).unlink(missing_ok=True)


def read(data_dir: Path) -> Connection | None:
    """None when nothing runs on that folder. Raises CommandError for a file that cannot be read."""
    path = data_dir / FILE
    try:
        document = json.loads(path.read_text())
        nodes = tuple((str(name), str(url)) for name, url in document.get("nodes", ()))
        return Connection(
            str(document["url"]), str(document["token"]), document.get("pid"), document.get("prometheus_url"), nodes
        )
    except FileNotFoundError:
        return None
    except PermissionError:
        raise CommandError(f"{path} belongs to another user; set {URL_VARIABLE} and {TOKEN_VARIABLE} instead") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CommandError(
            f"{path} cannot be read ({type(error).__name__}); restart `trimtab up` on that data folder"
        ) from None


def resolve(data_dir: Path | None) -> Connection:
    """The connection that a reading command uses. `data_dir` as given on the command line beats the environment.

    Without either, `./.trimtab` (where `make run` keeps its data) is looked at before the default folder.
    Raises UsageError when none is configured.
    """
    if data_dir is None and (url := os.environ.get(URL_VARIABLE)):
        token = os.environ.get(TOKEN_VARIABLE)
        if not token:
            raise UsageError(f"{URL_VARIABLE} is set but {TOKEN_VARIABLE} is not: export an API token of {url}")
        return Connection(url.rstrip("/"), token)
    folders = [data_dir] if data_dir is not None else [LOCAL_DATA_DIR, default_data_dir()]
    for folder in folders:
        if (connection := read(folder)) is not None:
            return connection
    looked = " or ".join(str(folder) for folder in folders)
    raise UsageError(
        f"no running Trimtab found in {looked}: start one with `trimtab up`, name its folder with --data-dir, "
        f"or set {URL_VARIABLE} and {TOKEN_VARIABLE}"
    )
