"""`python -m inference_node --model DIR`: serve one model until told to stop. Options win over `NODE_*` variables."""

import argparse
import sys
from typing import Any

import structlog
from pydantic import ValidationError

from inference_node.config import NodeConfig
from inference_node.logs import configure_logs
from inference_node.server.app import run_node

log = structlog.get_logger("node")


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 stopped in good order, 2 could not start."""
    given = _parser().parse_args(argv)
    options: dict[str, Any] = {name: value for name, value in vars(given).items() if value is not None}
    configure_logs(options.get("log_level", "INFO"), as_json=True)
    if "settings" in options:
        options["settings_json"] = options.pop("settings")
    try:
        config = NodeConfig(**options)
    except ValidationError as error:
        log.error("node_cannot_start", reason=_explain(error))
        return 2
    configure_logs(config.log_level, as_json=config.log_json)
    return run_node(config)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m inference_node", description=main.__doc__)
    for name, field in NodeConfig.model_fields.items():
        if name in ("settings_json", "enrolment_token", "log_json"):
            continue
        parser.add_argument(f"--{name.replace('_', '-')}", help=field.description)
    parser.add_argument("--settings", metavar="JSON", help="first EngineSettings; what is left out is default")
    parser.add_argument("--log-json", action=argparse.BooleanOptionalAction, help="log lines as JSON")
    parser.epilog = "The enrolment token is read from NODE_ENROLMENT_TOKEN only, so that no process list shows it."
    return parser


def _explain(error: ValidationError) -> str:
    """All that is wrong with the configuration, by the names that a person can set."""
    lines = []
    for problem in error.errors():
        name = str(problem["loc"][0]) if problem["loc"] else ""
        if name in NodeConfig.model_fields and name != "settings_json":
            where = f"--{name.replace('_', '-')} (NODE_{name.upper()})"
        else:  # EngineSettings are read inside, and complain in the names of knobs
            where = f"--settings (NODE_SETTINGS_JSON){f', {name}' if name else ''}"
        lines.append(f"{where}: {'is needed' if problem['type'] == 'missing' else problem['msg']}")
    return "; ".join(lines)


if __name__ == "__main__":
    sys.exit(main())
