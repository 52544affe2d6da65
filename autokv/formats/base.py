"""What every KV-cache format answers: which heads it holds, how many bytes they take, what attention reads back."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

Rotation = Literal["none", "hadamard"]


class KVFormat(BaseModel):
    """One side, keys or values, of one layer as an engine stores it.

    ``round_trip`` repeats the engine's own arithmetic in float32, value by value: 16-bit scales rounded as the engine
    rounds them, its clamps, its rule for ties. ``nbytes`` counts what the engine allocates for the tokens themselves:
    codes, scales, zero points and the padding inside a row, but not the padding of a last block nor a block table.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    title: ClassVar[str]
    """What a report calls it."""
    engines: ClassVar[tuple[str, ...]]
    """Engines that have it."""
    source: ClassVar[str]
    """The file that the arithmetic was read from, with its version or commit."""
    width_multiple: ClassVar[int] = 1
    """The width of a head is a multiple of this."""

    format: str

    @property
    def group_tokens(self) -> int | None:
        """Tokens that share scales, counted from the first token: 1 where none do, None where all do."""
        return 1

    @property
    def per_token(self) -> bool:
        """Whether a token's codes depend on that token alone, so that an engine can write it as it comes."""
        return self.group_tokens == 1

    def check(self, head_dim: int, heads: int | None = None) -> None:
        """Check that heads of ``head_dim`` channels can be held, and that per-head scales fit ``heads`` KV heads.

        Raises:
            ValueError: they cannot; the message says what could.
        """
        if head_dim % self.width_multiple:
            raise ValueError(
                f"{self.format} holds heads of a multiple of {self.width_multiple} channels; these have {head_dim}"
            )

    @abstractmethod
    def nbytes(self, tokens: int, heads: int, head_dim: int) -> int:
        """Bytes of one side of one layer for one sequence of ``tokens`` tokens and ``heads`` KV heads.

        Raises:
            ValueError: such heads cannot be held.
        """

    @abstractmethod
    def round_trip(self, x: Tensor) -> Tensor:
        """What attention reads after ``x`` was stored.

        Args:
            x: float32 ``[batch, kv_heads, tokens, head_dim]``, finite.

        Returns:
            Float32 of the same shape.

        Raises:
            ValueError: such heads cannot be held.
        """

    def append(self, held: Tensor, new: Tensor) -> Tensor:
        """What attention reads after ``new`` was written behind ``held``, which is what it read before.

        A group of tokens that is not full is read back and stored anew with the tokens that join it.

        Args:
            held: float32 ``[batch, kv_heads, older tokens, head_dim]``.
            new: float32 ``[batch, kv_heads, tokens, head_dim]``.

        Returns:
            Float32 ``[batch, kv_heads, older tokens + tokens, head_dim]``.

        Raises:
            ValueError: such heads cannot be held.
        """
        import torch

        full = held.shape[2] // self.group_tokens * self.group_tokens if self.group_tokens else 0
        return torch.cat([held[:, :, :full], self.round_trip(torch.cat([held[:, :, full:], new], 2))], 2)

    def query_round_trip(self, q: Tensor) -> Tensor:
        """What the engine's attention makes of queries before it multiplies them with keys of this format.

        Args:
            q: float32 ``[batch, heads, tokens, head_dim]``, finite; not yet divided by the root of ``head_dim``.

        Returns:
            Float32 of the same shape; ``q`` itself where the engine takes queries as they are.
        """
        return q

    def calibrated(self, x: Tensor) -> Self:
        """This format with its scales taken from ``x`` ``[batch, kv_heads, tokens, head_dim]`` and kept from then on.

        A format whose scales are part of what it stores, or are given, is returned as it is.
        """
        return self

    def bits_per_value(self, head_dim: int, *, tokens: int = 1024, heads: int = 8) -> float:
        """Bits that one value takes, scales included, averaged over ``tokens`` tokens and ``heads`` KV heads."""
        return 8 * self.nbytes(tokens, heads, head_dim) / (tokens * heads * head_dim)
