"""Signatures of desired documents: a node takes settings that it fetched only from someone who knows its admin token.

`v1,` and the base64 of HMAC-SHA256, as Standard Webhooks 1.0 writes them, over the document as canonical JSON (sorted keys, no
spaces). The fields of version 1 are fixed: what a newer control plane adds, an older node need not know to check the rest.
Nothing expires, since a node may be away for hours: generation and epoch keep an old document from being taken again.
"""

import base64
import hashlib
import hmac
import json

from inference_node.contract.messages import SettingsPush

_VERSION = "v1"
_FIELDS = {
    "node_id",
    "generation",
    "epoch",
    "revision",
    "config_hash",
    "settings",
    "bounds",
    "force",
    "lease_s",
    "fallback",
    "issued_at",
}


def signed(push: SettingsPush, admin_token: str) -> SettingsPush:
    """The same document with its signature."""
    return push.model_copy(update={"signature": _signature(push, admin_token)})


def is_signed(push: SettingsPush, admin_token: str) -> bool:
    """Whether one of its signatures (there may be several, separated by spaces) is by who knows the token."""
    expected = _signature(push, admin_token).encode()
    return any(hmac.compare_digest(given.encode(), expected) for given in (push.signature or "").split())


def _signature(push: SettingsPush, admin_token: str) -> str:
    document = push.model_dump(mode="json", include=_FIELDS)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    digest = hmac.new(admin_token.encode(), text.encode(), hashlib.sha256).digest()
    return f"{_VERSION},{base64.b64encode(digest).decode()}"
