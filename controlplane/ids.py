"""Identifiers: UUID version 7 (RFC 9562, section 5.7), so that rows sort by the time they were made."""

import os
import time
from uuid import UUID


def new_id() -> str:
    """A fresh UUIDv7 in canonical text form: 48 bits of Unix milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76
    value |= ((random >> 62) & 0xFFF) << 64
    value |= 0b10 << 62
    value |= random & ((1 << 62) - 1)
    return str(UUID(int=value))
