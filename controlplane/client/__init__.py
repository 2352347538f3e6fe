"""A small typed client of the REST API, on which the `trimtab` command rests. Imports nothing of the control plane itself.

Answers are plain dictionaries whose shape type checkers know (`controlplane.client.types`), so that a newer control plane's
additional fields and words do no harm.
"""

from controlplane.client.client import Client
from controlplane.client.errors import ApiError, BadAddress, ClientError, NotTrimtab, Unreachable, WaitTimeout
from controlplane.client.stream import StreamEvent

__all__ = [
    "ApiError",
    "BadAddress",
    "Client",
    "ClientError",
    "NotTrimtab",
    "StreamEvent",
    "Unreachable",
    "WaitTimeout",
]
