"""OpenAI's endpoints: models, chat completions, completions; and vLLM's tokenize and detokenize."""

import hashlib
import math
import time
import uuid
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from inference_node.engine.errors import PromptTooLong
from inference_node.engine.requests import TokenDelta
from inference_node.engine.serving import ServingEngine
from inference_node.scheduling.sampling_params import SamplingParams
from inference_node.server.generation import Ask, Generation, Tallies, Wish, gather, unless_gone
from inference_node.server.glance import glancing_route
from inference_node.server.node import Node, NodeNotReady
from inference_node.server.openai_schemas import (
    MAX_CHOICES,
    ChatCompletionRequest,
    CompletionRequest,
    DetokenizeRequest,
    GenerationRequest,
    TokenizeRequest,
)
from inference_node.server.problems import BadRequest, ModelNotFound
from inference_node.server.prompts import Prompts
from inference_node.server.streaming import (
    Chunks,
    EventsResponse,
    MakeChoice,
    chat_logprobs,
    completion_logprobs,
    events,
)

DEADLINE_HEADER = "x-deadline-ms"
COMPLETION_TOKENS_DEFAULT = 16  # OpenAI's own for /v1/completions


def openai_router(node: Node) -> APIRouter:
    """All of OpenAI's paths for this node."""
    router = APIRouter(tags=["OpenAI"], route_class=glancing_route(node))
    cache: list[Prompts] = []

    def prompts_of(engine: ServingEngine) -> Prompts:
        if not cache:
            cache.append(Prompts(engine.tokenizer, engine.max_model_len))
        return cache[0]

    def engine_for(model: str | None) -> ServingEngine:
        engine = node.serving()
        if model is not None and model != engine.model_name:
            raise ModelNotFound(model, engine.model_name)
        return engine

    def engine_offered(model: str | None) -> ServingEngine:
        """The engine for a generation; one that is turned away while starting or draining is offered load too."""
        try:
            return engine_for(model)
        except NodeNotReady:
            node.metrics.on_request_offered(0)
            raise

    @router.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """The one model of this node."""
        return {"object": "list", "data": [_model_card(node.serving(), node)]}

    @router.get("/v1/models/{model:path}")
    async def show_model(model: str) -> dict[str, Any]:
        """The model, if this node serves it."""
        return _model_card(engine_for(model), node)

    @router.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatCompletionRequest, request: Request) -> Response:
        """An answer to a conversation, whole or streamed."""
        engine = engine_offered(body.model)
        tokens = await prompts_of(engine).from_chat(body.messages)
        wanted = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
        name = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
        room = _room(engine, tokens, wanted, name)
        asks = [Ask(tokens, _sampling(body, wanted if wanted is not None else room, body.num_logprobs))]
        head = _head("chatcmpl", "chat.completion", engine)
        generation = await _start(engine, head["id"], asks, body, _wish(body, request))
        if body.stream:
            opening = [
                {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
                for index in range(body.choices)
            ]
            return _stream(generation, head | {"object": "chat.completion.chunk"}, body, _chat_chunk, opening)
        tallies = Tallies(body.choices, len(generation))
        answers = await unless_gone(request, gather(generation, tallies))
        if answers is None:
            return Response(status_code=499)  # nobody is there to read it
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": "".join(answer.text), "refusal": None},
                "logprobs": chat_logprobs(answer.logprobs if body.logprobs else None),
                "finish_reason": answer.finish_reason,
                "stop_reason": answer.stop_reason,
            }
            for index, answer in enumerate(answers)
        ]
        return _whole(head, choices, tallies)

    @router.post("/v1/completions", response_model=None)
    async def complete(body: CompletionRequest, request: Request) -> Response:
        """Continuations of one or many prompts, whole or streamed."""
        engine = engine_offered(body.model)
        if len(body.prompt) * body.choices > MAX_CHOICES:
            raise BadRequest(f"prompts times n must be at most {MAX_CHOICES}", "n", "invalid_value")
        wanted = body.max_tokens if body.max_tokens is not None else COMPLETION_TOKENS_DEFAULT
        asks = []
        for prompt in body.prompt:
            encoder = prompts_of(engine)
            tokens = await encoder.from_text(prompt) if isinstance(prompt, str) else encoder.from_tokens(prompt)
            room = _room(engine, tokens, body.max_tokens, "max_tokens")
            asks.append(Ask(tokens, _sampling(body, min(wanted, room), body.logprobs)))
        head = _head("cmpl", "text_completion", engine)
        generation = await _start(engine, head["id"], asks, body, _wish(body, request))
        if body.stream:
            return _stream(generation, head, body, _completion_chunk)
        tallies = Tallies(body.choices, len(generation))
        answers = await unless_gone(request, gather(generation, tallies))
        if answers is None:
            return Response(status_code=499)
        choices = [
            {
                "index": index,
                "text": "".join(answer.text),
                "logprobs": completion_logprobs(answer.logprobs if body.logprobs is not None else None),
                "finish_reason": answer.finish_reason,
                "stop_reason": answer.stop_reason,
            }
            for index, answer in enumerate(answers)
        ]
        return _whole(head, choices, tallies)

    @router.post("/tokenize")
    async def tokenize(body: TokenizeRequest) -> dict[str, Any]:
        """Token ids of a text or of chat messages, as generation would see them."""
        engine = engine_for(body.model)
        encoder = prompts_of(engine)
        if body.prompt is not None:
            tokens = await encoder.from_text(body.prompt, special=body.add_special_tokens, is_prompt=False)
        else:
            tokens = await encoder.from_chat(
                body.messages or [], generation=body.add_generation_prompt, is_prompt=False
            )
        return {"count": len(tokens), "max_model_len": engine.max_model_len, "tokens": tokens}

    @router.post("/detokenize")
    async def detokenize(body: DetokenizeRequest) -> dict[str, Any]:
        """The text of token ids."""
        return {"prompt": await prompts_of(engine_for(body.model)).to_text(body.tokens)}

    return router


def _model_card(engine: ServingEngine, node: Node) -> dict[str, Any]:
    created = int(time.time() - (time.monotonic() - node.started_s))
    return {
        "id": engine.model_name,
        "object": "model",
        "created": created,
        "owned_by": "trimtab",
        "max_model_len": engine.max_model_len,
    }


def _room(engine: ServingEngine, tokens: tuple[int, ...], wanted: int | None, name: str) -> int:
    """Tokens left for an answer, at least 1: a prompt that fills the model is left for the engine to refuse and to count.

    Raises BadRequest when prompt plus `wanted` do not fit.
    """
    limit, got = engine.max_model_len, len(tokens)
    if wanted is not None and got < limit < got + wanted:
        raise BadRequest(
            f"this model's context is {limit} tokens, but you asked for {got + wanted}: {got} in the prompt and "
            f"{wanted} in {name}; shorten one of them",
            name,
            "context_length_exceeded",
        )
    return max(1, limit - got)


def _sampling(body: GenerationRequest, max_tokens: int, logprobs: int | None) -> SamplingParams:
    """Raises SamplingInvalid, which names the parameter as the client knows it."""
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        top_k=0 if body.top_k is None or body.top_k == -1 else body.top_k,
        min_p=0.0 if body.min_p is None else body.min_p,
        seed=body.seed,
        stop=tuple(body.stop or ()),
        stop_token_ids=tuple(body.stop_token_ids or ()),
        ignore_eos=bool(body.ignore_eos),
        logprobs=logprobs,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
    )


def _wish(body: GenerationRequest, request: Request) -> Wish:
    """Raises BadRequest for a header that is no number."""
    deadline_ms, header = body.deadline_ms, request.headers.get(DEADLINE_HEADER)
    if deadline_ms is None and header is not None:
        try:
            deadline_ms = float(header)
        except ValueError:
            deadline_ms = 0.0
        if not 0 < deadline_ms < math.inf:
            raise BadRequest(
                f"the header {DEADLINE_HEADER} must be milliseconds above 0", DEADLINE_HEADER, "invalid_value"
            )
    salt = body.cache_salt or ""
    return Wish(
        priority=body.priority,
        deadline_s=None if deadline_ms is None else deadline_ms / 1e3,
        # Only whether two are equal matters: a hash has one length, and holds nothing that could upset what it is put into.
        cache_salt=salt and hashlib.blake2b(salt.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest(),
    )


async def _start(engine: ServingEngine, name: str, asks: list[Ask], body: GenerationRequest, wish: Wish) -> Generation:
    try:
        return await Generation.start(engine, name, asks, body.choices, wish)
    except PromptTooLong as error:
        raise BadRequest(
            str(error),
            "messages" if isinstance(body, ChatCompletionRequest) else "prompt",
            "context_length_exceeded",
        ) from None


def _head(prefix: str, kind: str, engine: ServingEngine) -> dict[str, Any]:
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": engine.model_name,
    }


def _whole(head: dict[str, Any], choices: list[dict[str, Any]], tallies: Tallies) -> Response:
    mark = {"system_fingerprint": tallies.fingerprint()}
    return JSONResponse({**head, **mark, "choices": choices, "usage": tallies.usage()})


def _stream(
    generation: Generation,
    head: dict[str, Any],
    body: GenerationRequest,
    make_choice: MakeChoice,
    opening: list[dict[str, Any]] | None = None,
) -> Response:
    tallies = Tallies(body.choices, len(generation))
    chunks = Chunks(
        head,
        make_choice,
        len(generation),
        with_usage=body.wants_usage,
        running_usage=body.wants_running_usage,
    )
    data = events(generation, chunks, tallies, opening or [])
    # Proxies that gather a response before they pass it on would undo the streaming.
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return EventsResponse(generation, data, headers)


def _chat_chunk(index: int, delta: TokenDelta, characters: int) -> dict[str, Any]:
    return {
        "index": index,
        "delta": {"content": delta.text} if delta.text or delta.finish_reason is None else {},
        "logprobs": chat_logprobs(delta.logprobs),
        "finish_reason": delta.finish_reason,
    }


def _completion_chunk(index: int, delta: TokenDelta, characters: int) -> dict[str, Any]:
    return {
        "index": index,
        "text": delta.text,
        "logprobs": completion_logprobs(delta.logprobs, characters),
        "finish_reason": delta.finish_reason,
    }
