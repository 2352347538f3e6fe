"""The node's log: structlog on standard error, one line an event; other libraries' lines come out the same way."""

import logging
import sys

import structlog
from structlog.typing import Processor


def configure_logs(level: str, *, as_json: bool) -> None:
    """Set up logging for the process. level is a name of the standard library's, say INFO."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Plain tracebacks only: structlog's richer ones show local variables, and with them prompts and tokens.
    render: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if as_json
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Their news is either ours already (server started) or of no use to an operator.
    for noisy in ("uvicorn", "httpx2", "httpcore2", "asyncio", "transformers"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # Logging is set up again once the settings are read; a cached logger would keep to the first set-up.
        cache_logger_on_first_use=False,
    )
