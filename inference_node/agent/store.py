"""What a node must know again after a restart, on disk: its settings with generation and epoch, and its credentials.

Each file is written to a temporary one, flushed to the disk and renamed, twice: the second copy is what is read when the first
is torn. A document carries its own checksum, so a torn one is recognised and never believed.
"""

import fcntl
import hashlib
import json
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from inference_node.agent.desired import Observed
from inference_node.contract.messages import SettingsPush
from inference_node.contract.settings import EngineSettings, KnobBounds
from inference_node.errors import Conflict


class StoreInUse(Conflict):
    """Another process runs on this node's folder."""


log = structlog.get_logger("agent.store")


class StoredSettings(BaseModel):
    """State on disk. `desired` is newer than `generation` only when the node stopped in the middle of a change."""

    model_config = ConfigDict(frozen=True)

    settings: EngineSettings
    generation: int = 0
    epoch: int = 0
    epoch_seen: int = 0
    revision: int = 0
    config_hash: str = ""
    bounds: dict[str, KnobBounds] = {}
    drifted: bool = False
    lapsed: bool = False
    fallback: EngineSettings | None = None  # `settings` are an experiment's, which ends with its process at the latest
    desired: SettingsPush | None = None
    desired_retried: bool = False  # a change that was cut off is tried once more at start, not for ever

    def observed(self) -> Observed:
        """As the node's state right after its start."""
        return Observed(
            settings=self.settings,
            generation=self.generation,
            epoch=self.epoch,
            revision=self.revision,
            config_hash=self.config_hash,
            bounds=self.bounds,
            drifted=self.drifted,
            lapsed=self.lapsed,
        )

    def for_start(self) -> Self:
        """What a new process goes by: an experiment is not begun again, least of all one that ended the process before."""
        if self.fallback is None:
            return self
        return self.model_copy(update={"settings": self.fallback, "fallback": None, "drifted": False, "lapsed": True})


class Credentials(BaseModel):
    """Who the node is to its control plane. The token is stored readable by the owner only."""

    model_config = ConfigDict(frozen=True)

    controlplane_url: str
    node_id: str
    token: str


@dataclass(frozen=True, slots=True)
class NodeStore:
    """Files of one node under `folder`, made when needed. One process at a time: `lock` sees to that."""

    folder: Path

    def lock(self) -> IO[str]:
        """Hold the folder until the returned handle is closed or the process ends. Raises StoreInUse."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = (self.folder / "lock").open("w")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            raise StoreInUse(
                f"another node process uses {self.folder}. Stop it, or give this one another name (NODE_NAME) or data folder."
            ) from None
        for left_behind in self.folder.glob(".*.json.*"):  # by a process that was killed while it wrote
            left_behind.unlink(missing_ok=True)
        return handle

    def load_settings(self) -> StoredSettings | None:
        """Last saved settings, as a new process goes by them; None on a fresh node. A damaged copy is skipped and logged."""
        document = self._load("settings")
        try:
            return StoredSettings.model_validate(document).for_start() if document is not None else None
        except ValidationError as error:
            # Written by another version: start fresh, and the control plane's next answer heals it.
            log.warning("stored_settings_unreadable", folder=str(self.folder), problem=str(error.errors()[0]["msg"]))
            return None

    def save_settings(self, state: StoredSettings) -> None:
        self._save("settings", state.model_dump(mode="json"))

    def load_credentials(self, controlplane_url: str) -> Credentials | None:
        """Credentials for this control plane; None when there are none or they belong to another one."""
        document = self._load("credentials")
        try:
            credentials = Credentials.model_validate(document) if document is not None else None
        except ValidationError:
            return None
        return credentials if credentials and credentials.controlplane_url == controlplane_url else None

    def save_credentials(self, credentials: Credentials) -> None:
        self._save("credentials", credentials.model_dump(mode="json"))

    def admin_token(self) -> str:
        """Bearer of the node's admin API: made at the first start, kept in `admin_token` (mode 0600)."""
        path = self.folder / "admin_token"
        try:
            if len(token := path.read_text().strip()) >= 16:
                return token
        except FileNotFoundError:
            pass
        token = f"tn_{secrets.token_urlsafe(32)}"
        _write_atomically(path, token.encode())
        return token

    def _load(self, name: str) -> Any:
        copies = (self.folder / f"{name}.json", self.folder / f"{name}.last-good.json")
        for path in copies:
            try:
                document = json.loads(path.read_bytes())
                if document["checksum"] == _checksum(document["body"]):
                    return document["body"]
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError):
                pass
            log.warning("stored_file_damaged", file=str(path), falls_back_to="last good copy")
        return None

    def _save(self, name: str, body: Any) -> None:
        data = json.dumps({"checksum": _checksum(body), "body": body}, indent=1).encode()
        _write_atomically(self.folder / f"{name}.json", data)
        # Of the two, one must be on the disk when we return; flushing costs some milliseconds each.
        _write_atomically(self.folder / f"{name}.last-good.json", data, flush=False)


def _checksum(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _write_atomically(path: Path, data: bytes, *, flush: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            if flush:
                os.fsync(handle.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if not flush:
        return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the rename itself must survive a power loss
    finally:
        os.close(directory)
