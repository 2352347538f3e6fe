"""The command line of a node: what is wrong with it is one line and exit code 2."""

import json
from pathlib import Path

import pytest
import structlog

from inference_node import __main__ as command
from inference_node.config import NodeConfig


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[NodeConfig]:
    """Configurations that would have been run."""
    seen: list[NodeConfig] = []

    def run_node(config: NodeConfig) -> int:
        seen.append(config)
        return 0

    monkeypatch.setattr(command, "run_node", run_node)
    monkeypatch.setattr(command, "configure_logs", lambda level, as_json: None)
    monkeypatch.delenv("NODE_MODEL", raising=False)
    return seen


class TestMain:
    def test_options_become_the_configuration(self, started: list[NodeConfig]) -> None:
        options = ["--model", "/m", "--port", "0", "--name", "n-1", "--settings", '{"max_queue": 3}', "--log-json"]
        assert command.main(options) == 0
        (config,) = started
        assert (config.model, config.port, config.name, config.log_json) == (Path("/m"), 0, "n-1", True)
        assert config.initial_settings().max_queue == 3

    def test_the_environment_speaks_where_no_option_does(
        self, started: list[NodeConfig], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NODE_MODEL", "/from/env")
        monkeypatch.setenv("NODE_ENROLMENT_TOKEN", "s3cret")
        assert command.main(["--pool", "p"]) == 0
        (config,) = started
        assert config.model == Path("/from/env") and config.pool == "p"
        assert "s3cret" not in repr(config)

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ([], "--model (NODE_MODEL): is needed"),
            (["--model", "/m", "--port", "99999"], "--port (NODE_PORT)"),
            (["--model", "/m", "--name", "No Spaces"], "--name (NODE_NAME)"),
            (["--model", "/m", "--settings", "{"], "settings"),
            (["--model", "/m", "--settings", json.dumps({"max_batch_size": 0})], "max_batch_size"),
        ],
    )
    def test_a_wrong_configuration_is_one_line(self, started: list[NodeConfig], options: list[str], named: str) -> None:
        with structlog.testing.capture_logs() as logs:
            assert command.main(options) == 2
        assert [entry["event"] for entry in logs] == ["node_cannot_start"]
        assert named in logs[0]["reason"] and "\n" not in logs[0]["reason"]
        assert started == []
