"""Every error as OpenAI's clients expect it: `{"error": {message, type, param, code}}`. Their HTTP statuses live here only."""

import json
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from inference_node.contract.messages import NodeState
from inference_node.engine.errors import EngineStopped, PromptTooLong, QueueFull, RequestInvalid
from inference_node.errors import Conflict, Invalid, NodeError, NotFound, Unavailable
from inference_node.scheduling.sampling_params import SamplingInvalid
from inference_node.server.node import Node, NodeNotReady

log = structlog.get_logger("server")


class BadRequest(Invalid):
    """A request that breaks the API's rules. `param` names the part, `code` is for programs."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class ModelNotFound(NotFound):
    """A model that this node does not serve."""

    def __init__(self, asked: str, served: str) -> None:
        super().__init__(f"the model {asked!r} does not exist here; this node serves {served!r}")


class NotAuthorized(NodeError):
    """The bearer token of the admin API is missing or wrong."""


class GenerationFailed(NodeError):
    """The engine gave a request up; the text says why."""


class CutShort(Unavailable):
    """The node was shut down before the answer was whole."""


class ReaderTooSlow(NodeError):
    """The client took its answer so slowly that the rest of it was given up."""


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    # Both may quote what a client sent, lone surrogates too, which no JSON response could carry.
    clean = [text and text.encode(errors="replace").decode() for text in (message, param)]
    return {"error": {"message": clean[0], "type": kind, "param": clean[1], "code": code}}


def raw_problem(status: int, message: str) -> bytes:
    """A whole HTTP/1.1 response that tells it and closes, for where no application runs yet."""
    kind = "rate_limit_error" if status == HTTPStatus.TOO_MANY_REQUESTS else "invalid_request_error"
    body = json.dumps(error_body(message, kind, None, _HTTP_CODES.get(status))).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


def problem_of(error: NodeError) -> tuple[int, dict[str, Any], dict[str, str]]:
    """(status, body, headers) of an error that we raise on purpose."""
    text = str(error)
    match error:
        case QueueFull():
            retry = str(max(1, math.ceil(error.retry_after_s)))
            return 429, error_body(text, "rate_limit_error", None, "queue_full"), {"retry-after": retry}
        case PromptTooLong():
            return 400, error_body(text, "invalid_request_error", "prompt", "context_length_exceeded"), {}
        case BadRequest():
            return 400, error_body(text, "invalid_request_error", error.param, error.code), {}
        case SamplingInvalid() | RequestInvalid():
            return 400, error_body(text, "invalid_request_error", error.param, "invalid_value"), {}
        case ModelNotFound():
            return 404, error_body(text, "invalid_request_error", "model", "model_not_found"), {}
        case ReaderTooSlow():
            return 408, error_body(text, "invalid_request_error", None, "reader_too_slow"), {}
        case NotAuthorized():
            return 401, error_body(text, "authentication_error", None, "invalid_token"), {"www-authenticate": "Bearer"}
        case NotFound():
            return 404, error_body(text, "invalid_request_error", None, "not_found"), {}
        case Conflict():
            return 409, error_body(text, "invalid_request_error", None, "conflict"), {}
        case Invalid():
            return 400, error_body(text, "invalid_request_error", None, "invalid_value"), {}
        case Unavailable():
            return 503, error_body(text, "service_unavailable", None, "unavailable"), {"retry-after": "1"}
        case _:
            return 500, error_body(text, "server_error", None, "internal_error"), {}


def cause_of(error: NodeError) -> str | None:
    """Metric label of a 5xx that the engine has not counted itself; None when it has, or when it is no 5xx."""
    match error:
        case NodeNotReady():
            return "draining" if error.state is NodeState.DRAINING else "starting"
        case EngineStopped():
            return "draining"
        case GenerationFailed() | CutShort():
            return None
        case _:
            return "internal" if problem_of(error)[0] >= 500 else None


def install(app: FastAPI, node: Node) -> None:
    """Handlers for every way in which a request can fail."""

    async def on_node_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, NodeError)
        status, body, headers = problem_of(error)
        if (cause := cause_of(error)) and request.url.path.startswith("/v1/"):
            node.metrics.count_error(cause)
        return JSONResponse(body, status, headers)

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return JSONResponse(_http_body(request, error), error.status_code, error.headers)

    async def on_invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        message, param = describe(error.errors())
        return JSONResponse(error_body(message, "invalid_request_error", param, "invalid_value"), 400)

    async def on_bug(request: Request, error: Exception) -> JSONResponse:
        log.error("request_crashed", path=request.url.path, problem=f"{type(error).__name__}: {error}", exc_info=error)
        if request.url.path.startswith("/v1/"):
            node.metrics.count_error("internal")
        text = "the node failed on this request; its log says why"
        return JSONResponse(error_body(text, "server_error", None, "internal_error"), 500)

    app.add_exception_handler(NodeError, on_node_error)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(Exception, on_bug)


_HTTP_CODES: Mapping[int, str] = {
    400: "invalid_value",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    429: "too_many_connections",
    431: "headers_too_large",
}


def _http_body(request: Request, error: HTTPException) -> dict[str, Any]:
    match error.status_code:
        case 404:
            text = f"there is no {request.url.path} on this node"
        case 405:
            text = f"{request.method} is not allowed at {request.url.path}"
        case 413:
            text = "the request body is larger than 4 MB"
        case _:
            text = str(error.detail)
    return error_body(text, "invalid_request_error", None, _HTTP_CODES.get(error.status_code))


def describe(errors: Any) -> tuple[str, str | None]:
    """(message, param) of pydantic's first complaint, the parameter written as a path: messages[0].role."""
    first = errors[0]
    path, kind = [part for part in first["loc"] if part != "body"], first["type"]
    context = first.get("ctx") or {}
    param = context.get("param") or _path(path)
    if kind == "json_invalid":
        return f"the body is not valid JSON: {context.get('error', first['msg'])}", None
    if kind == "missing" and not path:
        return "the request needs a JSON body", None
    if kind in ("model_attributes_type", "dict_type", "model_type") and not path:
        return "the body must be a JSON object sent as application/json", None
    if kind == "missing":
        return f"you must provide {param}", param
    if kind == "extra_forbidden":
        return f"unrecognized request argument: {param}", param
    if param is None or "param" in context:  # our own complaints name it themselves
        return str(first["msg"]), param
    return f"{param}: {first['msg']}", param


def _path(parts: list[str | int]) -> str | None:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or None
