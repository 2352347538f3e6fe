"""The clients: an open loop that keeps its times whatever becomes of the answers, and closed loops that find out what is carried.

They share the cores with the fleet, so an answer is read once, when it has ended.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from inference_node.bench.load import Target
from inference_node.bench.prompts import make_prompts
from inference_node.bench.wire import Address, record
from trimtab.surge_bench.answer import Outcome, outcome_of
from trimtab.surge_bench.load import Lengths, Planned

# The first second of a closed loop: its clients begin one after the other, or they would all wait for each other's prompts.
LEAD_S = 1.0


@dataclass(frozen=True, slots=True)
class Doors:
    """The nodes as clients know them. An answer that takes longer than `timeout_s` seconds is given up."""

    targets: tuple[Target, ...]

    @classmethod
    def of(cls, urls: Sequence[str], model: str, timeout_s: float) -> "Doors":
        extra = {"ignore_eos": True}  # so that an answer has the length that was asked for, at every level
        return cls(tuple(Target(Address.of(url), model, 1, extra, timeout_s) for url in urls))


class Balancer:
    """The node that has fewest of our requests in flight; among equals by turns."""

    def __init__(self, nodes: int) -> None:
        self._in_flight = [0] * nodes
        self._turns = itertools.count()

    def take(self) -> int:
        turn, nodes = next(self._turns), len(self._in_flight)
        node = min(range(nodes), key=lambda k: (self._in_flight[k], (k - turn) % nodes))
        self._in_flight[node] += 1
        return node

    def give_back(self, node: int) -> None:
        self._in_flight[node] -= 1


async def open_loop(doors: Doors, planned: Sequence[Planned], mark: str) -> list[Outcome]:
    """Sends each request at its time. mark: a word in front of every prompt, another in every run, so that no run finds what
    an earlier one left in the prefix cache."""
    balancer = Balancer(len(doors.targets))
    began_s = time.perf_counter()

    async def send(request: Planned) -> Outcome:
        node = balancer.take()
        try:
            prompt = f"{mark} {request.prompt}"
            return await _ask(doors.targets[node], prompt, request.answer, began_s=began_s, due_s=request.at_s)
        finally:
            balancer.give_back(node)

    tasks = []
    for request in planned:
        await asyncio.sleep(max(0.0, began_s + request.at_s - time.perf_counter()))
        tasks.append(asyncio.create_task(send(request)))
    return list(await asyncio.gather(*tasks))


async def closed_loops(doors: Doors, lengths: Lengths, clients: int, seconds: float, seed: str) -> list[Outcome]:
    """`clients` at each node, each sending its next request when the last has ended, until LEAD_S and `seconds` are over."""
    began_s, source = time.perf_counter(), random.Random(seed)

    async def client(target: Target, number: int) -> list[Outcome]:
        await asyncio.sleep(LEAD_S * number / clients)
        found: list[Outcome] = []
        while (now_s := time.perf_counter() - began_s) < LEAD_S + seconds:
            prompt = make_prompts(1, lengths.prompt.draw(source), 0, f"{seed}/{number}/{target.address.port}/{now_s}")[
                0
            ]
            found.append(await _ask(target, prompt, lengths.answer.draw(source), began_s=began_s, due_s=now_s))
        return found

    loops = [client(target, number) for target in doors.targets for number in range(clients)]
    return [outcome for part in await asyncio.gather(*loops) for outcome in part]


async def _ask(target: Target, prompt: str, answer: int, *, began_s: float, due_s: float) -> Outcome:
    request = replace(target, output_tokens=answer).request(prompt)
    recording = await record(target.address, request, target.timeout_s)
    return outcome_of(recording, began_s=began_s, due_s=due_s, asked=answer)
