"""KV memory in blocks: what a device has for it, and what a request takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from autokv.errors import RequestError


@dataclass(frozen=True)
class SequenceBytes:
    """Bytes that one request's cache takes, as an affine function of the tokens seen."""

    per_token: float
    """Bytes per token, all layers."""
    per_sequence: float = 0.0
    """Bytes on top, whatever the length: windows in 16 bits, bases, layers with a sliding window."""
    staged_per_token: float = 0.0
    """16-bit bytes per token while a prompt is prefilled in more than one chunk, before it is compressed; 0 where
    tokens are compressed as they come."""


@dataclass(frozen=True)
class KVMemory:
    """Blocks for one configuration on one device.

    Raises:
        RequestError: there is no room for a single block.
    """

    capacity_bytes: float
    sequence: SequenceBytes
    block_size: int

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise RequestError(
                f"{self.capacity_bytes / 1e6:.0f} MB are left for the KV cache, less than a block",
                field="memory",
                remedy="take a device with more memory, a smaller model, or a larger share for the cache",
            )

    @property
    def block_bytes(self) -> float:
        """Bytes of a block."""
        return self.block_size * self.sequence.per_token

    @property
    def blocks(self) -> int:
        """Whole blocks that fit."""
        return int(min(self.capacity_bytes / self.block_bytes, 2**62))

    @property
    def fixed_blocks(self) -> int:
        """Blocks of a request on top of its tokens'."""
        return math.ceil(self.sequence.per_sequence / self.block_bytes)

    def blocks_of(self, tokens: int) -> int:
        """Blocks of a request that holds ``tokens``."""
        return -(-tokens // self.block_size) + self.fixed_blocks

    def staged_blocks(self, tokens: int) -> int:
        """Blocks that a prompt of ``tokens`` takes while it is prefilled in chunks; never less than afterwards."""
        staged = math.ceil(tokens * self.sequence.staged_per_token / self.block_bytes)
        return max(staged, self.blocks_of(tokens))


def kv_capacity_bytes(
    memory_bytes: float, *, weights_bytes: float, activation_bytes: float, memory_share: float = 0.9
) -> float:
    """Bytes that a device has for KV caches: a share of its memory less weights and activations, at least 0."""
    return max(0.0, memory_bytes * memory_share - weights_bytes - activation_bytes)
