"""Secrets at rest: what must be read back to be used (signing secrets, credentials, node tokens) is sealed before it reaches SQL.

Fernet (AES-128-CBC with HMAC-SHA256, github.com/fernet/spec) by the `cryptography` package. The first of a process's keys
seals, all of them open: a key is replaced by putting the new one before the old, and resealing. What nobody must read back is
hashed instead. What was sealed by a key that is not there reads as empty, told once in the log: a lost key costs secrets only.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self, cast

import structlog
from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import JSON, Dialect, Text, TypeDecorator
from sqlalchemy.dialects.postgresql import JSONB

from controlplane.errors import Invalid
from controlplane.settings import ControlPlaneSettings

log = structlog.get_logger(__name__)
# Begins whatever is sealed; what does not begin so was written without a key.
SEALED = "sealed:1:"
_OPENED_KEPT = 8192


class KeyRing:
    """The keys of a process, the one that seals first. Safe from any thread. Raises Invalid for what is no key."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._fernets = [Fernet(key) for key in keys]
        except ValueError:
            raise Invalid("a key is 32 bytes in url-safe base64, as `trimtab secrets new-key` prints them") from None
        # Every node that is read has a token to open, tick by tick.
        self._open = lru_cache(maxsize=_OPENED_KEPT)(self._opened)
        self._has_told = False

    @classmethod
    def of(cls, settings: ControlPlaneSettings) -> Self:
        """Without keys where none are given. Raises Invalid."""
        text = "" if settings.secret_keys is None else settings.secret_keys.get_secret_value()
        if settings.secret_key_file is not None:
            text = _read(settings.secret_key_file)
        return cls(text.replace(",", " ").split())

    def __bool__(self) -> bool:
        return bool(self._fernets)

    def seal(self, secret: str) -> str:
        """As it is, without a key."""
        if not self._fernets or not secret:
            return secret
        return SEALED + self._fernets[0].encrypt(secret.encode()).decode()

    def open(self, kept: str) -> str | None:
        """None for what none of the keys opens."""
        return self._open(kept) if kept.startswith(SEALED) else kept

    def is_current(self, kept: str) -> bool:
        """Whether it is sealed by the key that seals now. True of what holds nothing, and for who has no key."""
        if not self._fernets or not kept:
            return True
        return kept.startswith(SEALED) and self._opened_by(0, kept) is not None

    def _opened(self, kept: str) -> str | None:
        for number in range(len(self._fernets)):
            if (secret := self._opened_by(number, kept)) is not None:
                return secret
        if not self._has_told:
            self._has_told = True
            log.error(
                "secret_sealed_by_unknown_key", do="give this process the CONTROLPLANE_SECRET_KEY_FILE of the others"
            )
        return None

    def _opened_by(self, number: int, kept: str) -> str | None:
        try:
            return self._fernets[number].decrypt(kept.removeprefix(SEALED)).decode()
        except InvalidToken:
            return None


NO_KEYS = KeyRing(())


def ring_of(dialect: Dialect) -> KeyRing:
    """The keys that the dialect's engine was made with."""
    return cast(KeyRing, getattr(dialect, "trimtab_keys", NO_KEYS))


def give_keys(dialect: Dialect, keys: KeyRing) -> None:
    """Columns are sealed and opened deep inside SQLAlchemy, where of ours there is but the engine's own dialect."""
    dialect.trimtab_keys = keys  # type: ignore[attr-defined]


class SealedText(TypeDecorator[str]):
    """Text that SQL holds sealed; empty where it cannot be opened."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else ring_of(dialect).seal(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else ring_of(dialect).open(value) or ""


class SealedList(TypeDecorator[list[dict[str, Any]]]):
    """A JSON list that SQL holds sealed, as a JSON string, and without a key as it is; empty where it cannot be opened."""

    impl = JSON().with_variant(JSONB(), "postgresql")
    cache_ok = True

    def process_bind_param(self, value: list[dict[str, Any]] | None, dialect: Dialect) -> Any:
        ring = ring_of(dialect)
        return ring.seal(json.dumps(value)) if ring and value else value

    def process_result_value(self, value: Any, dialect: Dialect) -> list[dict[str, Any]] | None:
        if not isinstance(value, str):
            return cast("list[dict[str, Any]] | None", value)
        opened = ring_of(dialect).open(value)
        return [] if opened is None else cast("list[dict[str, Any]]", json.loads(opened))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or "cannot be read") if isinstance(error, OSError) else "holds no keys"
        raise Invalid(f"CONTROLPLANE_SECRET_KEY_FILE {path}: {why}") from None
