"""Errors as `application/problem+json` (RFC 9457), whoever raises them: our rules, validation, routing, or a bug of ours."""

import re
from collections.abc import Callable
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from controlplane.errors import (
    Conflict,
    ControlPlaneError,
    Forbidden,
    Invalid,
    NotFound,
    PreconditionMissing,
    Stale,
    TooMany,
    Unauthorized,
    Unavailable,
)

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
STATUS: dict[type[ControlPlaneError], int] = {
    NotFound: 404,
    Stale: 412,
    Conflict: 409,
    PreconditionMissing: 428,
    Invalid: 422,
    Unauthorized: 401,
    Forbidden: 403,
    TooMany: 429,
    Unavailable: 503,
    ControlPlaneError: 500,
}
TITLES = {
    400: "Bad request",
    401: "Not signed in",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    412: "Changed in the meantime",
    413: "Body too large",
    415: "Unsupported media type",
    422: "Invalid",
    428: "Precondition required",
    429: "Too many requests",
    500: "Internal error",
    503: "Unavailable",
}


class FieldProblem(BaseModel):
    field: str = Field(description="path of the field in body, query or path")
    message: str


class Problem(BaseModel):
    """RFC 9457 problem details, with members of our own."""

    type: str
    title: str
    status: int
    detail: str
    trace_id: str | None = Field(default=None, description="finds this request in the log")
    errors: list[FieldProblem] | None = None


def problem(
    request: Request, status: int, detail: str, *, title: str | None = None, kind: str | None = None, **extra: Any
) -> Response:
    """An error answer. `kind` is the stable last part of `type`; by default it follows from the title."""
    title = title or TITLES.get(status, "Error")
    slug = kind or re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="trimtab"'
    if (retry_after_s := extra.get("retry_after_s")) is not None:
        headers["Retry-After"] = str(max(1, round(retry_after_s)))
    body = {"type": f"urn:trimtab:problem:{slug}", "title": title, "status": status, "detail": detail}
    trace_id = request.scope.get("trace_id")
    return JSONResponse(
        body | ({"trace_id": trace_id} if trace_id else {}) | extra, status, headers, media_type=MEDIA_TYPE
    )


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of routes that may answer with these statuses, for the API description."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": TITLES[status], "content": content} for status in statuses}


# What FastAPI says of a body that is no text in UTF-8, or JSON nested deeper than its parser goes.
_UNREADABLE_BODY = (400, "There was an error parsing the body")


def describe(api: dict[str, Any]) -> dict[str, Any]:
    """Puts problem documents in the place of FastAPI's own errors in an API description, and says that the database may be
    away, in place."""
    refused = declared(422)[422]
    for path, operations in api["paths"].items():
        for operation in operations.values():
            if path.startswith("/api/"):
                operation["responses"].setdefault("503", declared(503)[503])
            if "requestBody" in operation:
                operation["responses"] |= {str(status): answer for status, answer in declared(413, 422).items()}
            for status, answer in operation["responses"].items():
                if status == "422" and MEDIA_TYPE not in answer["content"]:
                    operation["responses"][status] = refused
    schemas = api["components"]["schemas"]
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    described = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= described.pop("$defs") | {"Problem": described}
    return api


def status_of(error: ControlPlaneError) -> int:
    return next(STATUS[family] for family in type(error).__mro__ if family in STATUS)


def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, ControlPlaneError)
    kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", type(error).__name__).lower()
    status = status_of(error)
    if status >= 500:
        log.warning("request_refused", status=status, detail=error.detail)
    return problem(request, status, error.detail, title=error.title, kind=kind, **error.extra)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [_field(e) for e in error.errors()]
    detail = "; ".join(f"{e['field']}: {e['message']}" if e["field"] else e["message"] for e in errors[:5])
    if len(errors) > 5:
        detail += f"; and {len(errors) - 5} more"
    return problem(request, 422, detail, errors=errors)


def _field(found: dict[str, Any]) -> dict[str, str]:
    if found["type"] == "json_invalid":
        return {"field": "", "message": f"the body is not JSON: {found.get('ctx', {}).get('error', found['msg'])}"}
    # Whether a field stands in body, query or path says little to who reads it.
    return {"field": ".".join(map(str, found["loc"][1:])), "message": found["msg"].removeprefix("Value error, ")}


def _http(request: Request, error: HTTPException) -> Response:
    detail = str(error.detail)
    if (error.status_code, detail) == _UNREADABLE_BODY:
        message = "the body is not JSON: send text in UTF-8, nested no deeper than it needs"
        return problem(request, 422, message, errors=[{"field": "", "message": message}])
    if error.status_code == 404:
        detail = f"nothing is at {request.url.path}: /openapi.json lists what there is"
    elif error.status_code == 405:
        detail = f"{request.method} is not possible at {request.url.path}"
    answer = problem(request, error.status_code, detail)
    answer.headers.update(error.headers or {})
    return answer


def _database(request: Request, error: Exception) -> Response:
    log.error("database_unavailable", exc_info=error)
    return problem(request, 503, "the database does not answer: try again in a moment", retry_after_s=2)


def _data(request: Request, error: Exception) -> Response:
    log.info("value_refused_by_database", error=str(error))
    return problem(request, 422, "a value cannot be stored or looked for: a zero byte in a text, or a number too large")


def internal(request: Request, error: Exception) -> Response:
    """Answer to a bug of ours: nothing of it but the id under which the log has it."""
    log.error("request_failed", exc_info=error)
    return problem(request, 500, "something went wrong on our side; the log has it under this trace_id")


def install(app: FastAPI, page_for: Callable[[Request, HTTPException], Response | None]) -> None:
    """Makes every error of the application a problem document; a bug's is made by the outer middleware.

    page_for: asked first where routing found nothing, since a browser's address may be one of the web app's pages.
    """

    def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return page_for(request, error) or _http(request, error)

    app.add_exception_handler(ControlPlaneError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(OperationalError, _database)
    app.add_exception_handler(InterfaceError, _database)
    app.add_exception_handler(DataError, _data)
