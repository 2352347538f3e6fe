"""Answers as server-sent events, in OpenAI's chunks. What goes wrong on the way is an event too, never a silent end."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from json.encoder import encode_basestring
from typing import Any

import structlog
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from inference_node.engine.requests import TokenDelta, TokenLogprob, TopLogprob
from inference_node.errors import NodeError
from inference_node.server.generation import Generation, Tallies, disconnected, fingerprint
from inference_node.server.problems import error_body, problem_of

DONE = b"data: [DONE]\n\n"
# Deltas that may wait for a client that does not take them, above the 64 KiB and the socket's buffers that wait in front of them:
# some 300 KiB of memory a choice.
MAX_UNREAD = 1024
# Stands for a chunk's text while the rest is written; in no id and no model's name.
_PLACE = uuid.uuid4().hex

log = structlog.get_logger("server")

# (choice index, delta, characters of this choice before it) to the chunk's choice.
MakeChoice = Callable[[int, TokenDelta, int], dict[str, Any]]


def event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


class Chunks:
    """The chunks of one streamed response. `head` is what every one carries: id, object, created, model.

    with_usage as in OpenAI's stream_options.include_usage: a last chunk without choices carries it, the others null.
    running_usage as in vLLM's continuous_usage_stats: each delta is a chunk with the usage of its own choice so far, which
    numbers the tokens, so that a client can tell a lost or doubled one.
    """

    def __init__(
        self,
        head: dict[str, Any],
        make_choice: MakeChoice,
        choices: int,
        *,
        with_usage: bool,
        running_usage: bool = False,
    ) -> None:
        self._head = head
        self._make_choice = make_choice
        self._with_usage = with_usage
        self._running_usage = running_usage
        self._characters = [0] * choices
        # Nearly all chunks of a choice differ in their text alone: what stands around it is written once.
        self._around: dict[tuple[int, str], tuple[bytes, bytes]] = {}

    def of(self, index: int, delta: TokenDelta) -> bytes:
        """The chunk for a delta; empty when it has nothing to show."""
        text = delta.text
        if delta.logprobs is None and delta.finish_reason is None and not self._running_usage:
            if not text:
                return b""
            self._characters[index] += len(text)
            around = self._around.get((index, delta.numerics))
            if around is None:
                around = self._around[index, delta.numerics] = self._without_text(index, delta)
            return around[0] + encode_basestring(text).encode() + around[1]
        choice = self._make_choice(index, delta, self._characters[index])
        self._characters[index] += len(text)
        return self._written(delta.numerics, choice, _usage_so_far(delta) if self._running_usage else None)

    def opening(self, choice: dict[str, Any]) -> bytes:
        """A chunk before the first token."""
        return event({**self._head, "choices": [choice], **self._tail()})

    def usage(self, tallies: Tallies) -> bytes:
        """The last chunk, where it was asked for."""
        if not self._with_usage:
            return b""
        mark = {"system_fingerprint": tallies.fingerprint()}
        return event({**self._head, **mark, "choices": [], "usage": tallies.usage()})

    def _written(self, numerics: str, choice: dict[str, Any], usage: dict[str, int] | None = None) -> bytes:
        mark = {"system_fingerprint": fingerprint([numerics])}
        return event({**self._head, **mark, "choices": [choice], **self._tail(usage)})

    def _without_text(self, index: int, delta: TokenDelta) -> tuple[bytes, bytes]:
        choice = self._make_choice(index, delta._replace(text=_PLACE), 0)
        before, after = self._written(delta.numerics, choice).split(f'"{_PLACE}"'.encode())
        return before, after

    def _tail(self, usage: dict[str, int] | None = None) -> dict[str, Any]:
        return {"usage": usage} if self._with_usage else {}


def _usage_so_far(delta: TokenDelta) -> dict[str, int]:
    prompt, completion = delta.num_prompt_tokens, delta.num_generated_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


class EventsResponse(StreamingResponse):
    """Sends the events, and ends the generation however the sending ends: done, failed, or as the client left."""

    def __init__(self, generation: Generation, events: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._generation, self._events = generation, events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._generation.limit_unread(MAX_UNREAD)
        gone = asyncio.create_task(disconnected(receive))
        gone.add_done_callback(lambda _: self._generation.abandon())
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for data in self._events:
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            self._generation.cancel()


async def events(
    generation: Generation, chunks: Chunks, tallies: Tallies, opening: Iterable[dict[str, Any]] = ()
) -> AsyncIterator[bytes]:
    """The body of the response, one piece for all that a step brought. `opening` are the choices before the first token."""
    try:
        if first := b"".join(chunks.opening(choice) for choice in opening):
            yield first
        while batch := await generation.batch():
            pieces = []
            for index, delta in batch:
                tallies.choices[index].count(delta)
                pieces.append(chunks.of(index, delta))
            if data := b"".join(pieces):
                yield data
        yield chunks.usage(tallies) + DONE
    except NodeError as error:
        log.warning("stream_failed", problem=str(error))
        yield event(problem_of(error)[1]) + DONE
    except Exception as error:  # the headers are sent: only an event can tell the client now
        log.error("stream_crashed", problem=f"{type(error).__name__}: {error}", exc_info=error)
        text = "the node failed on this request; its log says why"
        yield event(error_body(text, "server_error", None, "internal_error")) + DONE


def chat_logprobs(tokens: Iterable[TokenLogprob] | None) -> dict[str, Any] | None:
    """A chat choice's logprobs object; None when they were not asked for."""
    if tokens is None:
        return None

    def entry(token: TopLogprob) -> dict[str, Any]:
        return {"token": token.token, "logprob": token.logprob, "bytes": list(token.token.encode())}

    content = [{**entry(token), "top_logprobs": [entry(candidate) for candidate in token.top]} for token in tokens]
    return {"content": content, "refusal": None}


def completion_logprobs(tokens: Iterable[TokenLogprob] | None, offset: int = 0) -> dict[str, Any] | None:
    """A completion choice's logprobs object; offset is the number of characters before these tokens."""
    if tokens is None:
        return None
    texts: list[str] = []
    offsets: list[int] = []
    chosen: list[float] = []
    top: list[dict[str, float]] = []
    for token in tokens:
        texts.append(token.token)
        offsets.append(offset)
        offset += len(token.token)
        chosen.append(token.logprob)
        top.append({candidate.token: candidate.logprob for candidate in token.top} | {token.token: token.logprob})
    return {"tokens": texts, "token_logprobs": chosen, "top_logprobs": top, "text_offset": offsets}
