"""Streamed answers as they come over a socket: HTTP/1.1 with server-sent events, cut into any pieces."""

import json
from collections.abc import Sequence
from typing import Any

from inference_node.bench.wire import Recording

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def events(documents: Sequence[Any], *, done: bool = True) -> bytes:
    """The body of a stream."""
    data = [json.dumps(document).encode() for document in documents] + ([b"[DONE]"] if done else [])
    return b"".join(b"data: " + line + b"\n\n" for line in data)


def chunked(body: bytes, sizes: Sequence[int]) -> bytes:
    """The answer in chunked coding, its chunks of these sizes and one for the rest."""
    parts, place = [], 0
    for size in [*sizes, len(body)]:
        if piece := body[place : place + size]:
            parts.append(b"%x\r\n%s\r\n" % (len(piece), piece))
        place += size
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(parts) + b"0\r\n\r\n"


def plain(body: bytes, head: bytes = HEAD) -> bytes:
    """The answer without a length: it ends with the connection."""
    return head + b"\r\n" + body


def recording(raw: bytes, cuts: Sequence[int] = ()) -> Recording:
    """As received in pieces that end at `cuts`, one second apart, the first at second 1; started at second 0."""
    ends = [*sorted(cut for cut in set(cuts) if 0 < cut < len(raw)), len(raw)]
    starts = [0, *ends[:-1]]
    return Recording(0.0, [(1.0 + i, raw[a:b]) for i, (a, b) in enumerate(zip(starts, ends, strict=True))])


def token(
    number: int, text: str = "x", numerics: str = "fp_bf16|model|0.0", finish: str | None = None
) -> dict[str, Any]:
    """A chunk with running usage, as vLLM's continuous_usage_stats has it."""
    return {
        "choices": [{"index": 0, "text": text, "finish_reason": finish}],
        "system_fingerprint": numerics,
        "usage": {"prompt_tokens": 4, "completion_tokens": number},
    }


def usage(tokens: int) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": tokens}}
