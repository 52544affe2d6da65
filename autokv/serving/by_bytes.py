"""What a compressed cache changes of a 16-bit cost model, where its kernels were not timed: what its bytes say."""

from __future__ import annotations

from dataclasses import replace

from autokv.serving.cost_model import CostModel
from autokv.serving.curves import Curve, Grid
from autokv.serving.kv_memory import SequenceBytes

COMPRESS_LAUNCHES = 20
"""Operations of one layer that compress a prompt."""
WORDS = (
    "what the compressed format changes follows from its bytes, as if its kernels read memory as fast as 16-bit ones"
)


def by_bytes(full: CostModel, sequence: SequenceBytes, *, bandwidth: float, launch: float, layers: int) -> CostModel:
    """The cost model of a compressed cache.

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
        remark=WORDS,
    )
