"""The log's shape, and what never appears in it."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from inference_node.logs import configure_logs


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def fails(prompt: str) -> None:
    raise ValueError("it broke")


@pytest.mark.parametrize("as_json", [True, False])
class TestConfigureLogs:
    def test_goes_to_standard_error_one_line_an_event(self, capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
        configure_logs("INFO", as_json=as_json)
        structlog.get_logger("node").info("node_ready", port=1)
        logging.getLogger("other").warning("from a library")
        captured = capsys.readouterr()
        assert captured.out == ""
        lines = captured.err.splitlines()
        assert len(lines) == 2
        if as_json:
            first, second = map(json.loads, lines)
            assert (first["event"], first["port"], first["level"], first["logger"]) == ("node_ready", 1, "info", "node")
            assert second["event"] == "from a library" and first["timestamp"].endswith("Z")

    def test_tracebacks_do_not_show_local_variables(self, capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
        configure_logs("INFO", as_json=as_json)
        secret = "my private prompt"
        try:
            fails(secret)
        except ValueError as error:
            structlog.get_logger("node").error("crashed", exc_info=error)
        text = capsys.readouterr().err
        assert "it broke" in text and "in fails" in text
        assert secret not in text

    def test_below_its_level_nothing_is_said(self, capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
        configure_logs("WARNING", as_json=as_json)
        structlog.get_logger("node").info("quiet")
        assert capsys.readouterr().err == ""

    def test_a_logger_follows_when_logging_is_set_up_again(
        self, capsys: pytest.CaptureFixture[str], as_json: bool
    ) -> None:
        configure_logs("INFO", as_json=not as_json)
        log = structlog.get_logger("node")
        log.info("before the settings were read")
        first = capsys.readouterr().err
        configure_logs("INFO", as_json=as_json)
        log.info("after")
        second = capsys.readouterr().err
        assert first.startswith("{") != as_json and second.startswith("{") == as_json
