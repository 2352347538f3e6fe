"""Many nodes behind one port: each takes settings over HTTP by the rules of a real one, and remembers what it applied."""

import asyncio
import json
import time
from dataclasses import dataclass, field

from inference_node.contract.messages import AckOutcome, RejectCode, SettingsAck, SettingsPush, SettingsReject

MAX_BODY = 1_000_000


@dataclass(slots=True)
class SimulatedNode:
    """`applied` counts per generation how often its settings took effect: more than once would be a doubled effect."""

    generation: int = 0
    epoch: int = 0
    config_hash: str = ""
    applied: dict[int, int] = field(default_factory=dict)
    applied_at: dict[int, float] = field(default_factory=dict)
    stale: int = 0
    pushes: int = 0

    def put(self, push: SettingsPush, now: float) -> SettingsAck | SettingsReject:
        """control-plane design 2.4: an older epoch or generation is refused, the same again is no new effect."""
        self.pushes += 1
        if push.epoch < self.epoch or push.generation < self.generation:
            self.stale += 1
            code = RejectCode.STALE_EPOCH if push.epoch < self.epoch else RejectCode.STALE_GENERATION
            return SettingsReject(
                code=code, message="an older wish", observed_generation=self.generation, observed_epoch=self.epoch
            )
        outcome = AckOutcome.UNCHANGED
        if push.generation > self.generation:
            outcome = AckOutcome.APPLIED
            self.applied[push.generation] = self.applied.get(push.generation, 0) + 1
            self.applied_at[push.generation] = now
        self.generation, self.epoch, self.config_hash = push.generation, push.epoch, push.config_hash
        return SettingsAck(
            generation=push.generation, epoch=push.epoch, outcome=outcome, applied_step=1,
            config_hash=push.config_hash, settings=push.settings,
        )  # fmt: skip


class NodeServer:
    """Serves node k at `http://127.0.0.1:PORT/k`; everything happens in one event loop."""

    def __init__(self, count: int) -> None:
        self.nodes = [SimulatedNode() for _ in range(count)]
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def url(self, number: int) -> str:
        return f"http://127.0.0.1:{self.port}/{number}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """PUT /k/admin/v1/settings and nothing else; one request a connection, as a push is."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            length = next(int(line.split(":")[1]) for line in head if line.lower().startswith("content-length:"))
            body = await reader.readexactly(min(length, MAX_BODY))
            number = int(head[0].split(" ")[1].split("/")[1])
            answer = self.nodes[number].put(SettingsPush.model_validate_json(body), time.time())
            status = "200 OK" if isinstance(answer, SettingsAck) else "409 Conflict"
            content = answer.model_dump_json().encode()
        except (ValueError, LookupError, StopIteration, asyncio.IncompleteReadError) as error:
            status, content = "400 Bad Request", json.dumps({"error": str(error)}).encode()
        lines = (
            f"HTTP/1.1 {status}",
            "Content-Type: application/json",
            f"Content-Length: {len(content)}",
            "Connection: close",
        )
        writer.write("\r\n".join((*lines, "", "")).encode() + content)
        await writer.drain()
        writer.close()
