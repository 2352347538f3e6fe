"""Structured logs of every process: one line an event, on the error stream; JSON by setting, colours on a terminal.

The libraries' loggers (uvicorn, sqlalchemy, alembic, celery) end in the same stream and shape. Tokens are blotted out wherever
they stand, also inside other text.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

_SECRET_VALUE = re.compile(r"\b(?:tts?|ttn|whsec)_[A-Za-z0-9_-]{8,}|(?i:(?<=bearer )[A-Za-z0-9._~+/=-]{8,})")
_PASSWORD_IN_URL = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+(?=@)")
_SECRET_KEY = re.compile(r"(^|_)(token|secret|password|authorization|cookie|admin_token)$", re.IGNORECASE)
_BLOT = "[redacted]"
# Chatty below warning: each request or statement would be a line.
_QUIET = (
    "uvicorn.access",
    "sqlalchemy.engine",
    "sqlalchemy.pool",
    "httpx2",
    "httpcore2",
    "urllib3",
    "asyncio",
    "alembic",
)


def configure_logs(level: str = "INFO", *, as_json: bool = False, stream: TextIO | None = None) -> None:
    """Sets up logging of this process; called once, at its start. Raises ValueError for an unknown level."""
    stream = stream or sys.stderr
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"log level {level!r} is unknown: use DEBUG, INFO, WARNING or ERROR")
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if as_json:
        render: list[Processor] = [structlog.processors.dict_tracebacks, redact, structlog.processors.JSONRenderer()]
    else:
        render = [
            structlog.processors.format_exc_info,
            redact,
            structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback),
        ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.PositionalArgumentsFormatter()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in ("uvicorn", "uvicorn.error", "celery", "alembic"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # Logging is set up again once the settings are read; a cached logger would keep to the first set-up.
        cache_logger_on_first_use=False,
    )


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blots out values under telling keys, and token-like text anywhere."""
    return {key: _BLOT if _SECRET_KEY.search(key) and value else _clean(value) for key, value in event.items()}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _PASSWORD_IN_URL.sub(rf"\1:{_BLOT}", _SECRET_VALUE.sub(_BLOT, value))
    if isinstance(value, dict):
        return {k: _BLOT if isinstance(k, str) and _SECRET_KEY.search(k) and v else _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_clean, value)) if type(value) in {list, tuple} else value
    if isinstance(value, Exception):
        return _clean(repr(value))
    return value
