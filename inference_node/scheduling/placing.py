"""Which replica of a node a request goes to: the one with least to do, where a prefix that it knows counts as done."""

from collections import OrderedDict
from collections.abc import Sequence as SequenceOf

# Beginnings that are remembered, as blocks: 16,384 of 32 tokens are half a million tokens, more than the caches of a usual node.
_MOST_BLOCKS = 16_384


class PrefixHomes:
    """Where prompts were sent, by the chained hashes of their blocks: a hint, since caches forget and requests are taken over.

    Hashes hold the arithmetic and the tenant's salt already (see BlockManager), so nothing is to be told when those change.
    """

    def __init__(self, num_replicas: int, most_blocks: int = _MOST_BLOCKS) -> None:
        self._num_replicas = num_replicas
        self._most_blocks = most_blocks
        self._homes: OrderedDict[bytes, int] = OrderedDict()  # a bit for each replica, the oldest in front

    def __len__(self) -> int:
        return len(self._homes)

    def blocks_at(self, chain: SequenceOf[bytes]) -> list[int]:
        """For each replica, how many leading blocks of a prompt were sent there before."""
        found, reaching = [0] * self._num_replicas, (1 << self._num_replicas) - 1
        for digest in chain:
            reaching &= self._homes.get(digest, 0)
            if not reaching:
                break
            for replica in range(self._num_replicas):
                found[replica] += reaching >> replica & 1
        return found

    def settle(self, chain: SequenceOf[bytes], replica: int) -> None:
        """A prompt with these blocks goes to that replica."""
        # Ends first, so that of one chain they are forgotten first, as in the cache.
        for digest in reversed(chain):
            self._homes[digest] = self._homes.get(digest, 0) | 1 << replica
            self._homes.move_to_end(digest)
        while len(self._homes) > self._most_blocks:
            self._homes.popitem(last=False)


def choose_replica(loads: SequenceOf[int], known_shares: SequenceOf[float]) -> int:
    """The replica that a request goes to.

    loads: requests that each has, running or waiting. known_shares: the share of the prompt, 0 to 1, that each has cached.
    A prompt that is known whole makes up for one request more; a shared prefix therefore spreads over replicas as soon as one of
    them has more than its part of the load.
    """
    costs = [load + 1.0 - known for load, known in zip(loads, known_shares, strict=True)]
    return min(range(len(costs)), key=lambda replica: (costs[replica], loads[replica], replica))
