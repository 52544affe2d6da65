"""``ModelShape``: what of a model decides the bytes and operations of an iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Product:
    """A matrix that every token is multiplied by."""

    outputs: int
    inputs: int
    count: int = 1
    """Matrices of this shape in the model."""
    head: bool = False
    """Only tokens whose logits are wanted pass it."""

    @property
    def parameters(self) -> int:
        """Of all matrices of this shape."""
        return self.outputs * self.inputs * self.count


@dataclass(frozen=True)
class ModelShape:
    """What of a model decides the bytes and operations of an iteration."""

    parameters: int
    """Parameters that one token uses."""
    weights_bytes: int
    layers: int
    query_heads: int
    kv_heads: int
    head_dim: int
    dtype: Dtype
    """That the model computes in."""
    products: tuple[Product, ...] = ()
    """Its matrices; none where they do not say what a pass costs, as in a mixture of experts."""
    sliding_layers: int = 0
    """Of :attr:`layers`, those that see :attr:`window` tokens."""
    window: int | None = None

    @property
    def kv_bytes_per_token(self) -> int:
        """16-bit bytes of one token, all layers."""
        return 4 * self.layers * self.kv_heads * self.head_dim
