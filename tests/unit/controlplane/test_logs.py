import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from controlplane.logs import configure_logs, redact

SECRET = "tt_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4"


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


class TestRedact:
    @pytest.mark.parametrize(
        "event",
        [
            {"event": f"refused {SECRET}"},
            {"event": "e", "token": "anything"},
            {"event": "e", "admin_token": "anything-at-all"},
            {"event": "e", "headers": {"Authorization": "anything"}},
            {"event": "e", "detail": ["Bearer anything-at-all"]},
            {"event": "e", "url": "postgresql://trimtab:anything@db/trimtab"},
            {"event": "e", "error": ValueError(f"bad {SECRET}")},
        ],
    )
    def test_blots_out_secrets_wherever_they_stand(self, event: dict[str, object]) -> None:
        text = str(redact(None, "info", event))
        assert "anything" not in text
        assert SECRET not in text
        assert "[redacted]" in text

    def test_leaves_the_rest_alone(self) -> None:
        event = {
            "event": "settings_pushed",
            "tokens": 512,
            "max_batched_tokens": 64,
            "url": "http://a/b",
            "ids": ("a",),
        }
        assert redact(None, "info", dict(event)) == event


class TestConfigureLogs:
    def test_writes_one_json_line_an_event_with_what_is_bound(self) -> None:
        stream = io.StringIO()
        configure_logs("INFO", as_json=True, stream=stream)
        with structlog.contextvars.bound_contextvars(trace_id="t-1"):
            structlog.get_logger("a").info("settings_pushed", node_id="n1", token=SECRET)
        line = json.loads(stream.getvalue())
        assert (line["event"], line["trace_id"], line["node_id"], line["level"]) == (
            "settings_pushed",
            "t-1",
            "n1",
            "info",
        )
        assert SECRET not in stream.getvalue()

    def test_takes_in_other_libraries_lines(self) -> None:
        stream = io.StringIO()
        configure_logs("INFO", as_json=True, stream=stream)
        logging.getLogger("uvicorn.error").warning("listening on %s with %s", "here", SECRET)
        line = json.loads(stream.getvalue())
        assert line["event"] == "listening on here with [redacted]"

    def test_traceback_of_an_exception_is_in_the_log(self) -> None:
        stream = io.StringIO()
        configure_logs("INFO", as_json=False, stream=stream)
        try:
            raise ValueError(f"bad {SECRET}")
        except ValueError:
            structlog.get_logger("a").exception("request_failed")
        assert "Traceback" in stream.getvalue()
        assert SECRET not in stream.getvalue()

    def test_an_unknown_level_is_named(self) -> None:
        with pytest.raises(ValueError, match="LOUD"):
            configure_logs("LOUD")
