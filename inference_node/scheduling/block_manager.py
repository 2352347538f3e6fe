"""Blocks of KV places: who holds them, which can be found again by their content, and which is given up first.

Every block is in exactly one of three states: used (referenced by sequences), cached (unreferenced, but its content can be found
by hash), free. Only numbers live here; the tensors are in `model.kv_cache`.
"""

import hashlib
from array import array
from collections import OrderedDict

from inference_node.scheduling.sequence import Sequence


class BlockManager:
    """Hands out block numbers 0 .. num_blocks-1, each of `block_size` tokens.

    Prefix reuse follows vLLM's automatic prefix caching (design document "Automatic Prefix Caching", 2024): the hash of a full
    block chains over its parent's. The chain begins with a seed: the numerics key, so that KV made by other arithmetic never
    matches, and the tenant's salt (vLLM's `cache_salt`), so that response times tell nobody what others have asked.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        assert num_blocks > 0 and block_size > 0
        self.num_blocks = num_blocks
        self.block_size = block_size
        # A stack, lowest number on top: few blocks in use stay close together in memory.
        self._free = list(range(num_blocks - 1, -1, -1))
        self._refs = [0] * num_blocks
        self._hash_of: dict[int, bytes] = {}
        self._by_hash: dict[bytes, int] = {}
        # Unreferenced blocks with a hash, the one to give up first in front.
        self._cached: OrderedDict[int, None] = OrderedDict()

    @property
    def num_free(self) -> int:
        """Blocks that nothing is known of."""
        return len(self._free)

    @property
    def num_cached(self) -> int:
        """Unreferenced blocks that may be found again."""
        return len(self._cached)

    @property
    def num_available(self) -> int:
        """Blocks that a sequence could get now."""
        return len(self._free) + len(self._cached)

    @property
    def num_used(self) -> int:
        return self.num_blocks - self.num_available

    def blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def can_grow(self, sequence: Sequence, num_tokens: int) -> bool:
        """Whether `grow` to that many tokens would succeed."""
        return self.blocks_for(num_tokens) - len(sequence.block_table) <= self.num_available

    def grow(self, sequence: Sequence, num_tokens: int) -> None:
        """Extends the block table to hold num_tokens. Ask `can_grow` first."""
        for _ in range(self.blocks_for(num_tokens) - len(sequence.block_table)):
            sequence.block_table.append(self._take())

    def release(self, sequence: Sequence) -> None:
        """Gives up all blocks of a sequence; its hashed ones stay findable. The sequence counts as uncomputed afterwards."""
        # Tail first, so that of one chain the end is evicted before the beginning it depends on.
        for block in reversed(sequence.block_table):
            self._unref(block)
        sequence.block_table.clear()
        sequence.block_hashes.clear()
        sequence.cache_seed = None
        sequence.num_computed = 0

    def cached_prefix_tokens(self, sequence: Sequence, seed: str) -> int:
        """How many leading tokens could be reused now. The last token never counts: its logits must be computed."""
        return len(self._match(sequence, seed)) * self.block_size

    def next_missing(self, sequence: Sequence, seed: str) -> bytes | None:
        """Hash of the first full block of its beginning that cannot be reused; None when all could be."""
        for index in range((len(sequence.tokens) - 1) // self.block_size):
            digest = self._digest(sequence, index, seed)
            if digest not in self._by_hash:
                return digest
        return None

    def hashes(self, sequence: Sequence, seed: str, start: int, end: int) -> list[bytes]:
        """Hashes of the blocks that are full once the tokens [start, end) are computed, and were not before."""
        full = range(start // self.block_size, end // self.block_size)
        return [self._digest(sequence, index, seed) for index in full]

    def chain(self, sequence: Sequence, seed: str) -> list[bytes]:
        """Hashes of the full blocks of its beginning that could be reused: all but one that holds the last token."""
        return [self._digest(sequence, index, seed) for index in range((len(sequence.tokens) - 1) // self.block_size)]

    def is_cached(self, digest: bytes) -> bool:
        """Whether a block of that hash could be reused now."""
        return digest in self._by_hash

    def adopt_prefix(self, sequence: Sequence, seed: str) -> int:
        """Gives a sequence without blocks the cached ones of its beginning; returns the tokens that saves."""
        assert not sequence.block_table
        for digest in self._match(sequence, seed):
            block = self._by_hash[digest]
            self._cached.pop(block, None)
            self._refs[block] += 1
            sequence.block_table.append(block)
            sequence.block_hashes.append(digest)
        sequence.cache_seed = seed
        sequence.num_computed = len(sequence.block_table) * self.block_size
        return sequence.num_computed

    def start_uncached(self, sequence: Sequence, seed: str) -> None:
        """Begins a sequence from its first token, under this arithmetic."""
        assert not sequence.block_table
        sequence.cache_seed = seed

    def record_computed(self, sequence: Sequence, seed: str) -> None:
        """Makes the blocks that are full by now findable, if all of the sequence was computed under one arithmetic."""
        if sequence.cache_seed != seed:
            sequence.cache_seed = None
            return
        hashes = sequence.block_hashes
        while (len(hashes) + 1) * self.block_size <= sequence.num_computed:
            index = len(hashes)
            digest = self._digest(sequence, index, seed)
            hashes.append(digest)
            block = sequence.block_table[index]
            # Two sequences may compute the same prefix at once; the first copy is the one that is found.
            if digest not in self._by_hash and block not in self._hash_of:
                self._by_hash[digest] = block
                self._hash_of[block] = digest

    def forget_cached(self) -> None:
        """Makes no block findable any more, say because the KV changed its format. References stay."""
        self._by_hash.clear()
        self._hash_of.clear()
        self._free.extend(reversed(self._cached))
        self._cached.clear()

    def used_blocks(self) -> list[int]:
        """Blocks referenced by sequences, in ascending order."""
        return [block for block, refs in enumerate(self._refs) if refs]

    def _match(self, sequence: Sequence, seed: str) -> list[bytes]:
        found: list[bytes] = []
        for index in range((len(sequence.tokens) - 1) // self.block_size):
            digest = self._digest(sequence, index, seed)
            if digest not in self._by_hash:
                break
            found.append(digest)
        return found

    def _digest(self, sequence: Sequence, index: int, seed: str) -> bytes:
        """Hash of full block `index` under this seed; those before it are asked for first."""
        if sequence.chain_seed != seed:
            sequence.chain, sequence.chain_seed = [], seed
        chain = sequence.chain
        while len(chain) <= index:
            start = len(chain) * self.block_size
            # Cryptographic, since a crafted collision would show one client's context to another; 128 bits, keyed by the seed,
            # which holds the tenant's salt.
            digest = hashlib.blake2b(chain[-1] if chain else seed.encode(), digest_size=16)
            digest.update(array("q", sequence.tokens[start : start + self.block_size]).tobytes())
            chain.append(digest.digest())
        return chain[index]

    def _take(self) -> int:
        if self._free:
            block = self._free.pop()
        else:
            block, _ = self._cached.popitem(last=False)
            del self._by_hash[self._hash_of.pop(block)]
        self._refs[block] = 1
        return block

    def _unref(self, block: int) -> None:
        assert self._refs[block] > 0, f"block {block} freed twice"
        self._refs[block] -= 1
        if self._refs[block]:
            return
        if block in self._hash_of:
            self._cached[block] = None
        else:
            self._free.append(block)
