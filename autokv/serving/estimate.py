"""What iterations would cost on a device that is not here: measured times, scaled by rooflines.

The roofline bound of a piece of work on a device is the longer of its bytes over the memory bandwidth and its
operations over the arithmetic rate (Williams, Waterman and Patterson, 2009). A measured time is its bound over the
efficiency that was reached; on the other device the same efficiency is assumed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from autokv.hardware import catalog
from autokv.hardware.profile import HardwareProfile, Rate
from autokv.serving.cost_model import COMPRESS_LAUNCHES, CostModel, ModelShape
from autokv.serving.curves import Curve, Grid

ATTAINED_BANDWIDTH = 0.85
ATTAINED_ARITHMETIC = 0.7
"""Shares of a data sheet's peaks that a copy and a matrix product reach, where one device was measured and the other
was not: an H100 copies at 3.0 of 3.35 TB/s and multiplies at about 0.7 of its peak, where power limits it."""
LAUNCH_US = {"cpu": 1.5, "cuda": 5.0, "rocm": 7.0}
"""Typical time of a trivial operation under PyTorch, where a device's own is not known."""
REST_LAUNCHES = 30
"""Operations of one layer outside attention, as transformers runs it: norms, projections, rotation, MLP."""
ATTENTION_LAUNCHES = 8


@dataclass(frozen=True)
class Work:
    """What a measured time was spent on."""

    bytes: float
    operations: float
    launches: int
    """Operations that are asked for one by one."""


def rest_work(shape: ModelShape, tokens: float) -> Work:
    """All weights are read once, and take part in a multiplication and an addition per token."""
    return Work(shape.weights_bytes, 2.0 * shape.parameters * tokens, REST_LAUNCHES * shape.layers)


def prefill_work(shape: ModelShape, tokens: float) -> Work:
    """Each token's scores and sums over half of the prompt, on average; 16-bit operands are read once."""
    operations = 2.0 * shape.layers * shape.query_heads * shape.head_dim * tokens**2
    moved = 4.0 * shape.layers * (shape.query_heads + shape.kv_heads) * shape.head_dim * tokens
    return Work(moved, operations, ATTENTION_LAUNCHES * shape.layers)


def compress_work(shape: ModelShape, tokens: float, held_per_token: float) -> Work:
    """Reads 16 bits and writes what is held; the arithmetic on them is small."""
    return Work(tokens * (shape.kv_bytes_per_token + held_per_token), 0.0, COMPRESS_LAUNCHES * shape.layers)


def decode_work(shape: ModelShape, batch: int, tokens: float, held_per_token: float, kept: float) -> Work:
    """Reads what each sequence holds; scores and sums over the share of its tokens that was kept."""
    operations = 4.0 * shape.layers * shape.query_heads * shape.head_dim * batch * tokens * kept
    return Work(batch * tokens * held_per_token, operations, ATTENTION_LAUNCHES * shape.layers)


@dataclass(frozen=True)
class Roofline:
    """What bounds a device: bytes and operations per second, and seconds of a launch."""

    bandwidth: float
    arithmetic: float
    launch: float

    def bound(self, work: Work) -> float:
        """Seconds that ``work`` takes at least."""
        return max(work.bytes / self.bandwidth, work.operations / self.arithmetic)


@dataclass(frozen=True)
class Scaling:
    """From one device to another."""

    measured: Roofline
    target: Roofline

    def overhead(self, seconds: float, work: Work) -> float:
        """The part of a measured time that went into launches: all of them, as far as the bound leaves room."""
        return min(work.launches * self.measured.launch, max(0.0, seconds - self.measured.bound(work)))

    def __call__(self, seconds: float, work: Work, there: Work | None = None) -> float:
        """Seconds on the target of what took ``seconds``: launches scale with a launch, the rest with its bound.

        Nothing stays nothing. ``there`` is what ``work`` is on the target, where that is other work.
        """
        bound = self.measured.bound(work)
        ratio = self.target.bound(there or work) / bound if bound else self.measured.bandwidth / self.target.bandwidth
        overhead = self.overhead(seconds, work)
        return overhead * self.target.launch / self.measured.launch + (seconds - overhead) * ratio


def estimate(
    costs: CostModel,
    shape: ModelShape,
    measured: HardwareProfile,
    target: HardwareProfile,
    *,
    kept_share: float = 1.0,
    served: ModelShape | None = None,
) -> CostModel:
    """Scale ``costs`` from the device that they were measured on to another.

    Rates are compared like with like: two measurements, or two data sheets. Where one device was measured and the
    other is a data sheet, the measured one's own data sheet is taken from the catalog; without one, the data sheet's
    peaks are lowered to what is usually attained. A time below its bound, as small tensors in a cache can have, keeps
    its ratio to it.

    Args:
        costs: the measured times.
        shape: of the model.
        measured: the device that they were measured on.
        target: the device that they are wanted for.
        kept_share: share of the tokens seen that the configuration keeps and attends to.
        served: the model as the other device would run it, where that is in another dtype.

    Returns:
        ``costs`` unchanged where the devices are the same, else with ``predicted`` set to the basis of the figures.
    """
    if measured.fingerprint == target.fingerprint:
        return costs
    served = served or shape
    rates_of, rates_for, words = _comparable(measured, target)
    # A target that does not say what a launch takes is as fast as the measured device, if that is of its kind.
    launch = target.launch_us or (measured.launch_us if measured.kind == target.kind else None)
    scale = Scaling(_roofline(rates_of, shape, measured.launch_us), _roofline(rates_for, served, launch))
    if served.dtype != shape.dtype:
        words += f"; measured in {shape.dtype}, predicted for {served.dtype}"
    held = costs.sequence.per_token
    rest = [(x, y, rest_work(shape, x)) for x, y in _points(costs.rest)]
    prefill = [(x, y, prefill_work(shape, x)) for x, y in _points(costs.prefill_attention)]
    compress = [(x, y, compress_work(shape, x, held)) for x, y in _points(costs.compress)]
    decode = [
        (batch, x, y, decode_work(shape, batch, x, held, kept_share))
        for batch, curve in zip(costs.decode_attention.batches, costs.decode_attention.curves, strict=True)
        for x, y in _points(curve)
    ]
    pairs = [(y, work) for _, y, work in (*rest, *prefill, *compress)] + [(y, work) for _, _, y, work in decode]
    basis = f"Predicted for {target.name} from times measured on {measured.name} ({measured.cores} cores): {words}"
    return replace(
        costs,
        rest=Curve.fit([(x, scale(y, work, rest_work(served, x))) for x, y, work in rest], limit=costs.rest.limit),
        prefill_attention=Curve.fit(
            [(x, scale(y, work)) for x, y, work in prefill], limit=costs.prefill_attention.limit
        ),
        compress=Curve.fit([(x, scale(y, work)) for x, y, work in compress], limit=costs.compress.limit),
        decode_attention=Grid.fit([(batch, x, scale(y, work)) for batch, x, y, work in decode]),
        predicted=basis + (f"; before that: {costs.predicted}" if costs.predicted else ""),
        remark=_beyond(pairs, scale),
        basis="estimated",
    )


def _points(curve: Curve) -> list[tuple[float, float]]:
    return list(zip(curve.x, curve.y, strict=True))


def _comparable(measured: HardwareProfile, target: HardwareProfile) -> tuple[HardwareProfile, HardwareProfile, str]:
    """The rates of both to compare, and how the sentence on the basis goes on."""
    alike = "at equal efficiency"
    if measured.kind != target.kind:
        alike = f"as if {target.kind} kernels were as efficient as {measured.kind} kernels"
    how = f"each scaled by its roofline bound {alike}, with "
    if measured.source == target.source:
        return measured, target, f"{how}the {'measured' if target.source == 'measured' else 'data-sheet'} rates of both"
    ours, theirs = (one if one.source == "data sheet" else catalog.sheet_of(one) for one in (measured, target))
    if ours and theirs:
        return ours, theirs, f"{how}the data-sheet rates of both"
    ours, theirs = (one if one.source == "measured" else _attained(one) for one in (measured, target))
    shares = f"{ATTAINED_BANDWIDTH:.0%} of the bandwidth and {ATTAINED_ARITHMETIC:.0%} of the arithmetic"
    named = target if measured.source == "measured" else measured
    return ours, theirs, f"{how}{shares} of the data sheet of {named.name} beside the measured rates of the other"


def _attained(sheet: HardwareProfile) -> HardwareProfile:
    """A data sheet's rates, lowered to what is usually attained."""
    shares = {"copy_gb_per_s": ATTAINED_BANDWIDTH}
    shares |= dict.fromkeys(("float32_gflops", "bfloat16_gflops", "float16_gflops"), ATTAINED_ARITHMETIC)
    rates = {name: getattr(sheet, name) for name in shares}
    lowered: dict[str, Any] = {
        name: Rate(rate.median * shares[name], 0.0, 0) for name, rate in rates.items() if rate is not None
    }
    return replace(sheet, **lowered)


def _roofline(rates: HardwareProfile, shape: ModelShape, launch: Rate | None) -> Roofline:
    """Without a rate for 16-bit floats of its own, the device computes in bfloat16."""
    arithmetic: Rate = getattr(rates, f"{shape.dtype}_gflops") or rates.bfloat16_gflops
    return Roofline(
        bandwidth=rates.copy_gb_per_s.median * 1e9,
        arithmetic=arithmetic.median * 1e9,
        launch=(launch.median if launch else LAUNCH_US[rates.kind]) / 1e6,
    )


def _beyond(pairs: list[tuple[float, Work]], scale: Scaling) -> str | None:
    """What to say of times below their bound."""
    found = [
        scale.measured.bound(work) / seconds for seconds, work in pairs if 0 < seconds < scale.measured.bound(work)
    ]
    if not found:
        return None
    many = f"{len(found)} of {len(pairs)} times are faster than their roofline bound here"
    return f"{many}, by at most {max(found):.1f} times; the prediction keeps that ratio"
