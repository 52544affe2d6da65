"""The cost model of a 16-bit cache from kernel times that were measured on such a device by others."""

from __future__ import annotations

import math

from autokv.hardware.silicon import SiliconTables, Times
from autokv.serving.cost_model import CostModel, ModelShape
from autokv.serving.curves import Curve, Grid
from autokv.serving.kv_memory import SequenceBytes

ELEMENTWISE = 4
"""Operations of a layer beside its products and attention, as engines fuse them: two norms, rotation and storing of
keys, the MLP's gate."""
BEYOND = (2.0, 4.0, 8.0)
"""Multiples of the longest prompt in a table up to which attention within it is drawn on, as the square."""


def silicon_costs(
    tables: SiliconTables,
    shape: ModelShape,
    sequence: SequenceBytes,
    *,
    device: str,
    max_batch: int,
    kv_dtype: str = "bfloat16",
) -> CostModel | None:
    """What an engine's iterations cost by the tables: products, attention, and the bytes between them.

    A layer's elementwise operations read what a product wrote and write what the next one reads. The loop around
    iterations (scheduling, sampling, sending tokens) is not in the tables and is not counted.

    Args:
        tables: of the device.
        shape: of the model.
        sequence: bytes of a request.
        device: its name, for the sentence on where figures come from.
        max_batch: requests that decode at once, of which logits are wanted.
        kv_dtype: ``bfloat16``, or ``fp8`` for the engine's own fp8 cache.

    Returns:
        None where the tables do not have such a model: no 16-bit arithmetic, a mixture of experts, a head dimension
        that was not timed.
    """
    heads = shape.query_heads, shape.kv_heads, shape.head_dim
    if not shape.products or shape.dtype == "float32":
        return None
    prefill, decode = tables.prefill_attention(*heads), tables.decode_attention(*heads, kv_dtype=kv_dtype)
    if not prefill or not decode:
        return None
    return CostModel(
        rest=_rest(tables, shape, max_batch),
        prefill_attention=_prefill(prefill, shape),
        compress=Curve((1.0,), (0.0,)),
        decode_attention=_decode(decode, shape),
        sequence=sequence,
        predicted=f"Predicted for {device} from kernel times measured on {tables.words}; "
        "what the engine does between iterations is not counted",
        basis="silicon",
    )


def _rest(tables: SiliconTables, shape: ModelShape, max_batch: int) -> Curve:
    timed = [(product, Curve.fit(tables.gemm(product.outputs, product.inputs))) for product in shape.products]
    moved = sum(2 * (one.outputs + one.inputs) * one.count for one in shape.products if not one.head)
    asked = ELEMENTWISE * shape.layers * tables.launch

    def seconds(tokens: float) -> float:
        products = sum(
            product.count * curve(min(tokens, max_batch) if product.head else tokens) for product, curve in timed
        )
        return products + asked + tokens * moved / tables.bandwidth

    sizes = sorted({x for _, curve in timed for x in curve.x})
    return Curve.fit([(x, seconds(x)) for x in sizes])


def _prefill(times: Times, shape: ModelShape) -> Curve:
    longest, last = times[-1]
    full = Curve.fit([*times, *((longest * more, last * more**2) for more in BEYOND)], limit=longest)
    window = shape.window or math.inf

    def seconds(tokens: float) -> float:
        near = min(tokens, window)
        # Beyond the window every token attends to as many: the triangle goes on as a band.
        band = full(near) * (2 * tokens / near - 1)
        return (shape.layers - shape.sliding_layers) * full(tokens) + shape.sliding_layers * band

    return Curve.fit([(x, seconds(x)) for x in full.x], limit=longest)


def _decode(times: dict[float, Times], shape: ModelShape) -> Grid:
    timed = sorted((batch, Curve.fit(points)) for batch, points in times.items() if len(points) > 1)
    tokens = sorted({x for _, curve in timed for x in curve.x})
    window = shape.window or math.inf

    def seconds(curve: Curve, held: float) -> float:
        near = curve(min(held, window))
        return (shape.layers - shape.sliding_layers) * curve(held) + shape.sliding_layers * near

    batches = [2**power for power in range(12) if timed[0][0] <= 2**power <= timed[-1][0]]
    return Grid.fit([(batch, x, seconds(_at(timed, batch), x)) for batch in batches for x in tokens])


def _at(timed: list[tuple[float, Curve]], batch: int) -> Curve:
    """Between two batches that were timed, linear in the batch."""
    high = next(index for index, (many, _) in enumerate(timed) if many >= batch)
    many, curve = timed[high]
    if many == batch or not high:
        return curve
    fewer, below = timed[high - 1]
    share = (batch - fewer) / (many - fewer)
    return Curve.fit([(x, below(x) + (curve(x) - below(x)) * share) for x in sorted({*below.x, *curve.x})])
