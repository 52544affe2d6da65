"""Prompts that begin alike share their blocks: which are held, by whom, and which go first.

A trace hashes blocks of its own size; each of them takes several blocks of KV memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import takewhile

from autokv.config import CompressionConfig, NoStage
from autokv.errors import RequestError
from autokv.workload import PrefixBlocks


def shareable(config: CompressionConfig) -> bool:
    """Whether a block's compressed form is the same whatever follows it: only then can requests share it.

    Evictions choose by what comes later, and low-rank factors are found from the whole prompt.
    """
    return isinstance(config.pipeline.eviction, NoStage) and isinstance(config.pipeline.low_rank, NoStage)


class PrefixCache:
    """Hashed blocks of prompts in KV memory. Those that nobody uses go first, the least recently used first.

    Without ``blocks``, the trace's hashes, nothing is shared.

    Raises:
        RequestError: hashed blocks are not whole blocks of KV memory.
    """

    def __init__(self, blocks: PrefixBlocks | None, block_size: int) -> None:
        self.hash_block_size = 0 if blocks is None else blocks.block_tokens
        if self.hash_block_size % block_size:
            raise RequestError(
                f"hashed blocks of {self.hash_block_size} tokens are not whole blocks of {block_size}",
                field="block_size",
                remedy=f"give a divisor of {self.hash_block_size}",
            )
        self.blocks_per_hash = self.hash_block_size // block_size
        self._blocks = blocks
        self._users: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def idle_blocks(self) -> int:
        """Blocks of KV memory that nobody uses: they can be taken at any time."""
        return len(self._idle) * self.blocks_per_hash

    def chain(self, request: int, tokens: int) -> list[int]:
        """Hashes of the whole hashed blocks among a prompt's first ``tokens``."""
        if self._blocks is None:
            return []
        chain: list[int] = self._blocks.of(request)[: tokens // self.hash_block_size].tolist()
        return chain

    def held(self, chain: Sequence[int]) -> int:
        """How many leading blocks of ``chain`` are in memory."""
        return sum(1 for _ in takewhile(self._users.__contains__, chain))

    def idle(self, chain: Sequence[int]) -> int:
        """How many blocks of ``chain`` are in memory and used by nobody."""
        return sum(block in self._idle for block in chain)

    def use(self, chain: Sequence[int]) -> int:
        """Let one more request use these blocks; those that are not in memory join it.

        Returns:
            How many joined: their blocks of KV memory are the caller's until then.
        """
        joined = 0
        for block in chain:
            users = self._users.get(block)
            if users is None:
                joined += 1
            elif not users:
                del self._idle[block]
            self._users[block] = (users or 0) + 1
        return joined

    def leave(self, chain: Sequence[int]) -> None:
        """A request uses these blocks no more. Deeper ones are the first to go: none is found without those before."""
        for block in reversed(chain):
            self._users[block] -= 1
            if not self._users[block]:
                self._idle[block] = None

    def evict(self) -> int:
        """Drop the least recently used hashed block that nobody uses; the blocks of KV memory that it frees."""
        block, _ = self._idle.popitem(last=False)
        del self._users[block]
        return self.blocks_per_hash
