"""All replicas of a node as one: where a request goes, one set of settings for all, one sum of what they do."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from inference_node.engine.answer import Answer
from inference_node.engine.engine import Change
from inference_node.engine.replica import Deliver, Post, Replica
from inference_node.engine.serving import Applied, ReplicaStats
from inference_node.scheduling.placing import PrefixHomes, choose_replica


class Replicas:
    """`start` and `order` on the event loop; the rest from any thread."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.all = tuple(replicas)
        self._homes = PrefixHomes(len(self.all))

    def start(self, post: Post, deliver: Deliver) -> None:
        for replica in self.all:
            replica.start([other for other in self.all if other is not replica], post, deliver)

    @property
    def is_alive(self) -> bool:
        return any(replica.is_alive for replica in self.all)

    def stop(self) -> None:
        """Ends what is left, and the threads. Blocks until they have ended."""
        for replica in self.all:
            replica.stop()
        for replica in self.all:
            replica.join()

    def add(self, answer: Answer) -> None:
        """To the replica with the least to do, where a prefix that it knows counts as work that it has not got to do."""
        if len(self.all) == 1:
            self.all[0].add(answer)
            return
        scheduler, sequence = self.all[0].engine.scheduler, answer.sequence
        chain: list[bytes] = []
        if scheduler.settings.prefix_cache:
            chain = scheduler.blocks.chain(sequence, scheduler.seed_of(sequence))
        shares = [blocks * scheduler.blocks.block_size / sequence.num_tokens for blocks in self._homes.blocks_at(chain)]
        chosen = choose_replica([replica.load for replica in self.all], shares)
        self._homes.settle(chain, chosen)
        self.all[chosen].add(answer)

    def cancel(self, answer: Answer) -> None:
        """Wherever it is: it may be taken over at this very moment, so all are told, and the thief after it has it."""
        answer.is_cancelled = True
        for replica in self.all:
            replica.cancel(answer.request.request_id)

    def order(self, changes: Sequence[Change], forced: bool) -> asyncio.Future[Applied]:
        """One change for each replica, applied between two of its steps, behind what was ordered before.

        Done when all have applied it, with the step from which on every step runs under it; or, when one could not, with its
        error.
        """
        loop = asyncio.get_running_loop()
        each: list[asyncio.Future[Applied]] = [loop.create_future() for _ in self.all]
        for replica, change, applied in zip(self.all, changes, each, strict=True):
            replica.order(change, forced, applied)
        return each[0] if len(each) == 1 else asyncio.ensure_future(_all_of(each))

    def stats(self) -> tuple[ReplicaStats, ...]:
        return tuple(_stats(replica) for replica in self.all)


async def _all_of(each: Sequence[asyncio.Future[Applied]]) -> Applied:
    outcomes = await asyncio.gather(*each, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    applied = [outcome for outcome in outcomes if isinstance(outcome, Applied)]
    return replace(applied[0], step=max(one.step for one in applied))


def _stats(replica: Replica) -> ReplicaStats:
    engine, placement = replica.engine, replica.placement
    return ReplicaStats(
        number=replica.number,
        threads=placement.threads,
        cpus=() if placement.cpus is None else tuple(sorted(placement.cpus)),
        numa_node=placement.numa_node,
        is_bound=replica.is_bound,
        running=engine.scheduler.num_running,
        waiting=engine.scheduler.num_waiting,
        blocks_total=engine.blocks.num_blocks,
        blocks_used=engine.blocks.num_used,
        blocks_cached=engine.blocks.num_cached,
        batch_cap=engine.scheduler.batch_cap,
        steps=engine.num_steps,
        preemptions=engine.scheduler.num_preemptions,
        taken_over=engine.num_taken_over,
        failed_steps=engine.failed_steps,
        pruned_ratio=engine.runner.pruned_ratio,
        service_s=engine.service_s,
    )
