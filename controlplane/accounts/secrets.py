"""Secrets that we hand out: 256 random bits behind a prefix that scanners recognise, kept as SHA-256 only.

A slow password hash would add nothing: 256 random bits cannot be guessed (OWASP ASVS 5.0, 6.6 and 11.4 treat look-up secrets so).
"""

import hashlib
import hmac
import secrets

API_TOKEN = "tt_"  # noqa: S105 (prefixes, not secrets)
NODE_TOKEN = "ttn_"  # noqa: S105
SESSION = "tts_"
INVITATION = "tti_"
ENROLMENT = "tte_"


def new_secret(prefix: str) -> str:
    """Prefix and 32 random bytes in URL-safe base64. To be shown once and never stored as it is."""
    return prefix + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """SHA-256, 64 hex digits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def is_same(secret: str, other: str) -> bool:
    """Compares in constant time."""
    return hmac.compare_digest(secret.encode(), other.encode())
