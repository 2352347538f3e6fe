"""Signatures as in Standard Webhooks 1.0 (https://www.standardwebhooks.com): HMAC-SHA256 over id, time and body."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime

PREFIX = "whsec_"
SECRET_BYTES = 32  # the specification: 24 to 64


def new_signing_secret() -> str:
    """To be shown once; the receiver's library takes it as it is."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(delivery_id: str, at: datetime, body: bytes, signing_secrets: Sequence[str]) -> dict[str, str]:
    """The three headers of one attempt, with a signature for each secret, so that a receiver may know either while one
    replaces the other. `at` is the time of the attempt: receivers refuse what is older than some minutes."""
    timestamp = str(int(at.timestamp()))
    content = b".".join((delivery_id.encode(), timestamp.encode(), body))
    signatures = " ".join(f"v1,{_sign(secret, content)}" for secret in signing_secrets)
    return {"webhook-id": delivery_id, "webhook-timestamp": timestamp, "webhook-signature": signatures}


def _sign(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
