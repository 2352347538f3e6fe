"""Passwords: what is accepted, and how they are kept (argon2id, RFC 9106, its second recommended option: 64 MiB, 3 passes).

Each check takes 64 MiB and tens of milliseconds, so that only a few run at once: a burst of sign-ins waits, and cannot
take the machine's memory. For the same reason nothing here is called while a transaction is open.
"""

import threading
from functools import cache
from typing import NewType

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from controlplane.errors import Invalid

# NIST SP 800-63B-4 (2025), 3.1.1.2: 15 characters where the password stands alone; no rules of composition, no expiry.
MIN_LENGTH = 15
MAX_LENGTH = 256
MIN_DISTINCT = 5
AT_ONCE = 2

PasswordHash = NewType("PasswordHash", str)

_hasher = PasswordHasher()
_turns = threading.BoundedSemaphore(AT_ONCE)


class WeakPassword(Invalid):
    title = "The password is too easy to guess"


def check_strength(password: str, name: str) -> None:
    """Raises WeakPassword, which names the field `password`, for what is short, of few characters, or built on the name."""
    if len(password) < MIN_LENGTH:
        _refuse(f"at least {MIN_LENGTH} characters, which may be words with spaces; this has {len(password)}")
    if len(password) > MAX_LENGTH:
        _refuse(f"at most {MAX_LENGTH} characters; this has {len(password)}")
    if len(set(password)) < MIN_DISTINCT:
        _refuse("made of too few different characters")
    rest = password.casefold().replace(name.casefold(), "").replace("trimtab", "")
    if len(rest) < MIN_LENGTH // 2:
        _refuse("little is left of it without your name and the product's")


def prepare(password: str, name: str) -> PasswordHash:
    """The hash of a password that `check_strength` accepts, with its parameters and salt, to be stored."""
    check_strength(password, name)
    return rehash(password)


def rehash(password: str) -> PasswordHash:
    """The hash with today's parameters of a password that was accepted before."""
    with _turns:
        return PasswordHash(_hasher.hash(password))


def is_right(password: str, kept: str | None) -> bool:
    """Whether the password is the one kept. For None as much time is taken, so that a name that is not there is not told."""
    with _turns:
        try:
            return _hasher.verify(kept or _nobodys(), password) and kept is not None
        except (VerificationError, InvalidHashError):
            return False


def is_outdated(kept: str) -> bool:
    """Whether it was hashed with other parameters than today's."""
    return _hasher.check_needs_rehash(kept)


def _refuse(message: str) -> None:
    raise WeakPassword(f"password: {message}", errors=[{"field": "password", "message": message}])


@cache
def _nobodys() -> str:
    """A hash that is looked into for its cost alone."""
    return _hasher.hash("nobody's")
