"""A node as an operator meets it: a process that starts, says what is wrong, drains, dies and comes back."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import openai
import pytest

from inference_node.contract.settings import EngineSettings
from tests.support.fake_controlplane import ENROLMENT_TOKEN, fake_controlplane, push_of, wait_for
from tests.support.models import demo_model
from tests.support.node_process import NodeProcess, node_process

pytestmark = pytest.mark.model
SMALL = ("--kv-tokens", "4096", "--max-model-len", "256")


@contextmanager
def started(model: Path, data_dir: Path, *options: str, port: int = 0) -> Iterator[NodeProcess]:
    """A node that need not become ready."""
    node = NodeProcess(model, data_dir, *options, port=port)
    try:
        yield node
    finally:
        node.close()


def refusal(node: NodeProcess) -> str:
    """Why it could not start: one log line, exit code 2, no traceback, within the time of the test."""
    assert node.wait() == 2
    (entry,) = [entry for entry in node.log if entry["level"] == "error"]
    assert entry["event"] == "node_cannot_start"
    assert not any("Traceback" in line for line in [*node.stderr, json.dumps(node.log)]), node.stderr
    reason = str(entry["reason"])
    assert "\n" not in reason
    return reason


def broken_copy(folder: Path) -> Path:
    """The demo model with links instead of copies, to be damaged file by file."""
    source = demo_model()
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).symlink_to(file)
    return folder


class TestCannotStart:
    def test_on_an_unknown_folder(self, tmp_path: Path) -> None:
        with started(tmp_path / "no-such-model", tmp_path) as node:
            assert str(tmp_path / "no-such-model") in refusal(node)

    def test_on_a_folder_that_is_no_model(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with started(tmp_path / "empty", tmp_path) as node:
            assert "config.json" in refusal(node)

    @pytest.mark.parametrize("damage", ["cut", "length", "text"])
    def test_on_corrupt_safetensors(self, tmp_path: Path, damage: str) -> None:
        model = broken_copy(tmp_path / "model")
        weights = model / "model.safetensors"
        source = weights.resolve()
        weights.unlink()
        with source.open("rb") as handle:
            beginning = handle.read(1_000_000)
        weights.write_bytes(
            {"cut": beginning, "length": b"\xff" * 8 + beginning[8:], "text": b"not a model at all"}[damage]
        )
        with started(model, tmp_path) as node:
            assert "model.safetensors" in refusal(node)

    def test_on_a_config_of_an_unknown_architecture(self, tmp_path: Path) -> None:
        model = broken_copy(tmp_path / "model")
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").unlink()
        (model / "config.json").write_text(
            json.dumps(config | {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]})
        )
        with started(model, tmp_path) as node:
            assert "gpt2" in refusal(node).lower()

    def test_on_a_taken_port_before_the_model_is_even_looked_at(self, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with started(tmp_path / "no-such-model", tmp_path, port=port) as node:
                reason = refusal(node)
        assert f"127.0.0.1:{port}" in reason and "NODE_PORT" in reason

    def test_with_wrong_options(self, tmp_path: Path) -> None:
        with started(tmp_path, tmp_path, "--settings", '{"max_batch_size": 0}') as node:
            assert "max_batch_size" in refusal(node)

    def test_on_a_data_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with started(tmp_path, tmp_path / "file") as node:
            assert "NODE_DATA_DIR" in refusal(node)


class TestLife:
    def test_from_loading_to_a_clean_end(self, tmp_path: Path) -> None:
        with started(demo_model(), tmp_path, *SMALL) as node:
            # Alive, but not ready, while it loads.
            assert httpx2.get(f"{node.url}/livez").status_code == 200
            early = httpx2.get(f"{node.url}/readyz")
            assert early.status_code == 503 and early.json()["status"] == "starting"
            refused = httpx2.post(f"{node.url}/v1/completions", json={"prompt": "x"})
            assert refused.status_code == 503
            node.wait_ready()

            with openai.OpenAI(base_url=f"{node.url}/v1", api_key="x", max_retries=0) as client:
                answer = client.completions.create(
                    model=client.models.list().data[0].id,
                    prompt="The capital of France is",
                    max_tokens=2,
                    temperature=0,
                )
                assert answer.choices[0].text == " Paris."
                chat = client.chat.completions.create(
                    model="smollm2-135m-instruct",
                    messages=[{"role": "user", "content": "What is the capital of France? Answer in one word."}],
                    max_tokens=20,
                    temperature=0,
                    stream=True,
                )
                assert "Paris" in "".join(chunk.choices[0].delta.content or "" for chunk in chat)

                # SIGTERM in the middle of a stream: the stream ends whole, the process ends with 0.
                stream = client.completions.create(
                    model="smollm2-135m-instruct",
                    prompt="Once upon a time",
                    max_tokens=40,
                    temperature=0,
                    stream=True,
                    extra_body={"ignore_eos": True},
                )
                chunks = [next(iter(stream))]
                node.process.send_signal(signal.SIGTERM)
                chunks += list(stream)
                assert chunks[-1].choices[0].finish_reason == "length"
            assert node.wait() == 0
        events = [entry["event"] for entry in node.log]
        assert events[0] == "node_listening" and events[-1] == "node_stopped"
        assert not any("Traceback" in line for line in node.stderr), node.stderr

    def test_a_stop_while_loading_is_prompt_and_clean(self, tmp_path: Path) -> None:
        with started(demo_model(), tmp_path, *SMALL) as node:
            node.event("node_listening")
            assert node.stop(signal.SIGINT) == 0

    def test_killed_it_comes_back_under_its_last_settings(self, tmp_path: Path) -> None:
        pushed = EngineSettings(max_batch_size=3, max_queue=17)
        with fake_controlplane() as plane:
            environment = {"NODE_CONTROLPLANE_URL": plane.url, "NODE_ENROLMENT_TOKEN": ENROLMENT_TOKEN}
            with node_process(demo_model(), tmp_path, *SMALL, environment=environment) as node:
                wait_for(lambda: plane.heartbeats)
                plane.desired = push_of(pushed, 4, epoch=2)
                wait_for(lambda: plane.last_heartbeat.observed_generation == 4)
                registered = plane.registrations[-1]
                assert registered.url == node.url and registered.admin_token == node.admin_token
                assert registered.step_profile.cells and registered.hardware.threads == 1
                node.stop(signal.SIGKILL)
            plane.stop()
            # With the control plane gone, too.
            with node_process(demo_model(), tmp_path, *SMALL, environment=environment) as node:
                shown = httpx2.get(f"{node.url}/admin/v1/settings", headers=node.admin).json()
                assert (shown["generation"], shown["epoch_seen"], shown["drifted"]) == (4, 2, False)
                assert EngineSettings.model_validate(shown["settings"]) == pushed
                answer = httpx2.post(
                    f"{node.url}/v1/completions", json={"prompt": "Hello", "max_tokens": 2}, timeout=60
                )
                assert answer.status_code == 200
                stale = push_of(EngineSettings(), 5, epoch=1).model_dump(mode="json")
                refused = httpx2.put(f"{node.url}/admin/v1/settings", json=stale, headers=node.admin)
                assert refused.json()["code"] == "stale_epoch"
                plane.start()
                wait_for(lambda: plane.registrations[-1] is not registered, timeout_s=60)
                assert plane.registrations[-1].observed_generation == 4
                assert node.stop() == 0

    def test_is_idle_when_nobody_asks(self, tmp_path: Path) -> None:
        with node_process(demo_model(), tmp_path, *SMALL) as node:

            def cpu_s() -> float:
                fields = Path(f"/proc/{node.process.pid}/stat").read_text().rpartition(")")[2].split()
                return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

            time.sleep(1)
            before = cpu_s()
            time.sleep(4)
            assert cpu_s() - before < 0.4  # seconds of processor, whatever the machine is busy with
