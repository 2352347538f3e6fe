"""Secrets of a local fleet: made at the first start, kept in the data folder, readable by the owner only."""

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from controlplane.accounts.secrets import API_TOKEN, new_secret
from controlplane.sealing_key import new_key
from trimtab.errors import CommandError

FILE = "credentials.json"
ENROLMENT_TOKEN = "tte_"  # noqa: S105 (a prefix, not a secret)
REDIS_PASSWORD = "ttr_"  # noqa: S105
AUDIT_KEY = "ttk_"


@dataclass(frozen=True, slots=True)
class Credentials:
    """admin_token: of the REST API, role admin. enrolment_token: what a new node, and Prometheus, show the control plane.
    audit_key: signs the history. secret_key: seals secrets in the database."""

    admin_token: str
    enrolment_token: str
    redis_password: str
    audit_key: str = field(default_factory=lambda: new_secret(AUDIT_KEY))
    secret_key: str = field(default_factory=new_key)


# Added by later versions: a file of an older one gets them at its next start.
_LATER = {"audit_key", "secret_key"}


def ensure(folder: Path) -> Credentials:
    """Those of the folder, made if there are none. Raises CommandError for a file that cannot be used."""
    path = folder / FILE
    try:
        document = json.loads(path.read_text())
        missing = _LATER - set(document)
        names = [each.name for each in fields(Credentials) if each.name not in missing]
        credentials = Credentials(**{name: str(document[name]) for name in names})
        if missing:
            write_secret(path, json.dumps(asdict(credentials), indent=2))
        return credentials
    except FileNotFoundError:
        credentials = Credentials(new_secret(API_TOKEN), new_secret(ENROLMENT_TOKEN), new_secret(REDIS_PASSWORD))
        write_secret(path, json.dumps(asdict(credentials), indent=2))
        return credentials
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandError(
            f"{path} cannot be used ({type(error).__name__}: {error}): remove it, and new credentials are made. "
            "Nodes that run elsewhere must then enrol again"
        ) from None


def write_secret(path: Path, text: str) -> None:
    """Atomically, with mode 0600 from the first byte on."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
    temporary.replace(path)
