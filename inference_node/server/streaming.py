"""Answers as server-sent events, in OpenAI's chunks. What goes wrong on the way is an event too, never a silent end."""

import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import structlog
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from inference_node.engine.requests import TokenDelta, TokenLogprob, TopLogprob
from inference_node.errors import NodeError
from inference_node.server.generation import Answers, Generation, fingerprint
from inference_node.server.problems import error_body, problem_of

DONE = b"data: [DONE]\n\n"

log = structlog.get_logger("server")

# (choice index, delta, characters of this choice before it) to the chunk's choice.
MakeChoice = Callable[[int, TokenDelta, int], dict[str, Any]]


def event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


class EventsResponse(StreamingResponse):
    """Sends the events, and ends the generation however the sending ends: done, failed, or cancelled as the client left."""

    def __init__(self, generation: Generation, chunks: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
        super().__init__(chunks, media_type="text/event-stream", headers=headers)
        self._generation = generation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # A generator that was never begun, or that waits at a yield, does not run its own `finally` in time.
            self._generation.cancel()


async def events(
    generation: Generation,
    head: dict[str, Any],
    choices_per_prompt: int,
    make_choice: MakeChoice,
    *,
    opening: Iterable[dict[str, Any]] = (),
    with_usage: bool,
) -> AsyncIterator[bytes]:
    """head is what every chunk carries (id, object, created, model), opening the choices of chunks before the first token.

    with_usage as in OpenAI's stream_options.include_usage: a last chunk without choices carries it, the others null.
    Closing the iterator, as the server does when the client goes away, cancels the generation.
    """
    answers = Answers(choices_per_prompt, len(generation))
    tail: dict[str, Any] = {"usage": None} if with_usage else {}
    try:
        for choice in opening:
            yield event({**head, "choices": [choice], **tail})
        characters = [0] * len(generation)
        async for index, delta in generation:
            answers.choices[index].add(delta)
            if delta.text or delta.logprobs or delta.finish_reason is not None:
                choice = make_choice(index, delta, characters[index])
                mark = {"system_fingerprint": fingerprint([delta.numerics])}
                yield event({**head, **mark, "choices": [choice], **tail})
                characters[index] += len(delta.text)
        if with_usage:
            mark = {"system_fingerprint": answers.fingerprint()}
            yield event({**head, **mark, "choices": [], "usage": answers.usage()})
    except NodeError as error:
        log.warning("stream_failed", problem=str(error))
        yield event(problem_of(error)[1])
    except Exception as error:  # the headers are sent: only an event can tell the client now
        log.error("stream_crashed", problem=f"{type(error).__name__}: {error}", exc_info=error)
        yield event(
            error_body("the node failed on this request; its log says why", "server_error", None, "internal_error")
        )
    finally:
        generation.cancel()
    yield DONE


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
