"""``CostModel``: what one iteration of an engine costs, for one configuration on one device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from pydantic import TypeAdapter

from autokv.serving.curves import Curve, Grid
from autokv.serving.kv_memory import SequenceBytes

Dtype = Literal["float32", "bfloat16", "float16"]
Basis = Literal["measured", "silicon", "fitted", "estimated"]
"""Where times come from: this device, tables of kernel times, a log of a server, or another device's times."""
COMPRESS_LAUNCHES = 20
"""Operations of one layer that compress a prompt."""
BY_BYTES = (
    "what the compressed format changes follows from its bytes, as if its kernels read memory as fast as 16-bit ones"
)


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


@dataclass(frozen=True)
class CostModel:
    """Times in seconds, all layers together. Every argument ``tokens`` counts tokens seen, evicted ones included.

    One iteration over ``batch`` decoding requests and chunks of prompts takes
    ``rest(batch + chunk tokens) + decode_attention(batch, mean tokens held) + prefill_attention(...)`` and, where it
    completes a prompt, ``compress(prompt tokens)``.
    """

    rest: Curve
    """Tokens of an iteration to seconds: everything but attention over earlier tokens (embeddings, projections, MLP,
    head, and the loop's own overhead)."""
    prefill_attention: Curve
    """Prompt tokens to seconds: causal attention of a whole prompt over itself. A chunk behind others costs the
    difference of two of its values."""
    compress: Curve
    """Prompt tokens to seconds: scoring, evicting, quantizing and factoring a prompt once; 0 for a 16-bit cache."""
    decode_attention: Grid
    """(Batch, tokens seen per sequence) to seconds: one decoding step's attention, appending included."""
    sequence: SequenceBytes
    predicted: str | None = None
    """How these figures were predicted, where they were not measured on the device that they are for."""
    basis: Basis = "measured"
    remark: str | None = None
    """What else a reader of this configuration's figures must know of how they were predicted."""

    def prefill(self, tokens: int) -> float:
        """Seconds of a lone prompt, compressed at its end: the time to first token of an idle engine."""
        return self.rest(tokens) + self.prefill_attention(tokens) + self.compress(tokens)

    def chunk_attention(self, start: int, tokens: int) -> float:
        """Seconds of attention of ``tokens`` prompt tokens behind ``start`` earlier ones."""
        return max(0.0, self.prefill_attention(start + tokens) - (self.prefill_attention(start) if start else 0.0))

    def decode(self, batch: int, tokens: float) -> float:
        """Seconds of an iteration that only decodes, over sequences that hold ``tokens`` each, on average."""
        return self.rest(batch) + self.decode_attention(batch, tokens)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        found: dict[str, Any] = _document().dump_python(self, mode="json")
        return found

    @staticmethod
    def from_dict(document: dict[str, Any]) -> CostModel:
        """The inverse of :meth:`to_dict`; a document that was written before there was a ``basis`` loads too."""
        basis = document.get("basis") or ("measured" if document["predicted"] is None else "estimated")
        return _document().validate_python({**document, "basis": basis})


@cache
def _document() -> TypeAdapter[CostModel]:
    return TypeAdapter(CostModel)


def by_bytes(full: CostModel, sequence: SequenceBytes, *, bandwidth: float, launch: float, layers: int) -> CostModel:
    """The cost model of a compressed cache whose kernels were not timed: what its bytes say.

    Attention over it costs what it would cost over as many bytes of a 16-bit cache. Compressing a prompt reads its 16
    bits and writes what is held, a launch for each of the operations; its arithmetic is not counted.

    Args:
        full: of the 16-bit cache.
        sequence: bytes of a request in the compressed cache.
        bandwidth: of memory, bytes per second.
        launch: seconds of an operation at least.
        layers: of the model.
    """
    plain = full.sequence
    fixed = max(0.0, sequence.per_sequence - plain.per_sequence)

    def alike(tokens: float) -> float:
        return min(tokens, (sequence.per_token * tokens + fixed) / plain.per_token)

    grid = full.decode_attention
    decode = [
        (batch, x, curve(alike(x))) for batch, curve in zip(grid.batches, grid.curves, strict=True) for x in curve.x
    ]
    moved = (plain.per_token + sequence.per_token) / bandwidth
    asked = COMPRESS_LAUNCHES * layers * launch
    return replace(
        full,
        decode_attention=Grid.fit(decode),
        compress=Curve.fit([(x, asked + x * moved) for x in full.prefill_attention.x]),
        sequence=sequence,
        remark=BY_BYTES,
    )
